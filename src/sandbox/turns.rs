//! The slots of the pool, and whose turn it is. A process that has looked at a photo of one
//! organisation never sees one of another, and a new process costs more than a photo. So a slot
//! first goes on with the same organisation, for a while.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::ids::OrganisationId;

/// So many photos of one organisation may come before the photo of another that has waited for
/// longer.
const IN_A_ROW_MAX: u32 = 16;

/// The slots.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    free: usize,
    /// Who waits, in the order in which they came.
    queue: VecDeque<(OrganisationId, oneshot::Sender<Slot>)>,
}

/// A slot of the pool. When this value is dropped, it goes to whoever waits.
#[derive(Debug)]
pub struct Slot {
    turns: Turns,
    pub(super) organisation: OrganisationId,
    in_a_row: u32,
}

impl Turns {
    pub(super) fn new(slots: usize) -> Self {
        Self(Arc::new(Mutex::new(Waiting { free: slots, queue: VecDeque::new() })))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn free(&self) -> usize {
        self.waiting().free
    }

    /// Waits for a slot for a photo of this organisation, and takes it.
    pub(super) async fn slot(&self, organisation: OrganisationId) -> Slot {
        let turn = {
            let mut waiting = self.waiting();
            if waiting.free > 0 {
                waiting.free -= 1;
                return Slot { turns: self.clone(), organisation, in_a_row: 1 };
            }
            let (give, turn) = oneshot::channel();
            waiting.queue.push_back((organisation, give));
            turn
        };
        match turn.await {
            Ok(slot) => slot,
            // Nobody drops a sender that waits without using it.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Takes whoever is next after a photo of this organisation.
    fn next(&self, after: OrganisationId, in_a_row: u32) -> Option<(Slot, oneshot::Sender<Slot>)> {
        let mut waiting = self.waiting();
        let same = waiting.queue.iter().position(|(organisation, _)| *organisation == after);
        let at = same.filter(|_| in_a_row < IN_A_ROW_MAX).unwrap_or(0);
        let Some((organisation, give)) = waiting.queue.remove(at) else {
            waiting.free += 1;
            return None;
        };
        let in_a_row = if organisation == after { in_a_row + 1 } else { 1 };
        Some((Slot { turns: self.clone(), organisation, in_a_row }, give))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((slot, give)) = self.turns.next(self.organisation, self.in_a_row) {
            // If nobody waits for it any more, it comes back and is dropped: then it goes on.
            drop(give.send(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const ANNA: OrganisationId = OrganisationId(1);
    const BEN: OrganisationId = OrganisationId(2);

    #[tokio::test]
    async fn a_slot_goes_on_with_the_same_organisation_for_a_while() {
        let turns = Turns::new(1);
        let mut slot = turns.slot(ANNA).await;
        let mut ben = Box::pin(turns.slot(BEN));
        assert!((&mut ben).now_or_never().is_none());
        let mut annas: Vec<_> = (0..20).map(|_| Box::pin(turns.slot(ANNA))).collect();
        for anna in &mut annas {
            assert!(anna.now_or_never().is_none());
        }

        for mut anna in annas.drain(..15) {
            drop(slot);
            slot = (&mut anna).now_or_never().expect("her photos come first");
        }
        drop(slot);
        let slot = ben.now_or_never().expect("then it is his turn");
        assert_eq!(slot.organisation, BEN);
        drop(slot);
        assert!(annas.remove(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_slot_is_not_lost_with_whoever_does_not_wait_any_more() {
        let turns = Turns::new(1);
        let slot = turns.slot(ANNA).await;
        let mut gone: Vec<_> = (0..3).map(|_| Box::pin(turns.slot(BEN))).collect();
        for one in &mut gone {
            assert!(one.now_or_never().is_none());
        }
        drop(gone);
        let mut waits = Box::pin(turns.slot(BEN));
        assert!((&mut waits).now_or_never().is_none());

        drop(slot);

        assert!(waits.now_or_never().is_some());
        assert!(turns.slot(ANNA).now_or_never().is_some(), "and it is free afterwards");
    }
}
