//! What a worker has claimed and not settled.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::queue::claim::Reservation;

/// The photos in hand of one incarnation, by their fences. Cheap to clone: all clones are of the
/// same photos.
#[derive(Debug, Clone, Default)]
pub struct InHand(Arc<Mutex<HashSet<(i64, i32)>>>);

impl InHand {
    fn all(&self) -> MutexGuard<'_, HashSet<(i64, i32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, claimed: &[Reservation]) {
        self.all().extend(claimed.iter().map(Reservation::fence));
    }

    pub(super) fn give_up<'a>(&self, settled: impl Iterator<Item = &'a Reservation>) {
        let mut all = self.all();
        for reservation in settled {
            all.remove(&reservation.fence());
        }
    }

    pub(super) fn number(&self) -> usize {
        self.all().len()
    }

    pub(super) fn jobs(&self) -> Vec<i64> {
        self.all().iter().map(|(job, _)| *job).collect()
    }
}
