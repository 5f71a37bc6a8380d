//! What a worker does with a claimed photo, and who is told of the result. Both are traits, so that
//! a program can build a worker of its own on the gate. See `examples/certificates.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio_util::sync::CancellationToken;

use super::verdict::Verdict;
use crate::{
    notify::progress::{Progress, Step},
    queue::claim::Reservation,
    telemetry::panics,
};

/// The work on a claimed photo.
///
/// The worker has claimed the photo and reserved its credit. It settles the photo by the verdict. A
/// panic is the verdict [`Verdict::Crashed`].
///
/// The work can happen twice for one photo: a worker may die after the work and before it has
/// settled. The credit is charged once all the same.
pub trait Work: Send + Sync + 'static {
    /// If false, the worker calls [`perform`](Self::perform) for as many photos at the same time as
    /// it has slots. If true, it calls it for all photos that it has claimed, also those that it
    /// has claimed ahead. Then `perform` can fetch what it needs first, and must wait for a slot of
    /// its own.
    const WAITS_FOR_ITS_SLOT: bool = false;

    /// Works on one photo. Never fails, because an error is a verdict too.
    ///
    /// `drain` is cancelled when the worker must come to an end. Work that takes long may stop
    /// then, with the verdict [`Verdict::HandedBack`]. When [`Stop::now`](super::Stop) is cancelled,
    /// this future is dropped; `photogate work` does that after `drain_seconds`.
    fn perform(
        &self,
        reservation: &Reservation,
        drain: &CancellationToken,
    ) -> impl Future<Output = Verdict> + Send;

    /// Returns how many of its own slots are idle for want of photos, if it [waits for its
    /// slot](Self::WAITS_FOR_ITS_SLOT). While there are some, and the worker has claimed as much as
    /// it may, it claims further ahead.
    fn idle_slots(&self) -> usize {
        0
    }

    /// Whether the work could be done now. During an outage, the worker asks again and again, and
    /// claims nothing until the answer is yes. See [`Verdict::Retry`].
    fn is_ready(&self) -> impl Future<Output = Result<(), NotReady>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Why no photo can be worked on now.
#[derive(Debug, Clone)]
pub struct NotReady {
    /// The reason, as a stable code.
    pub reason: &'static str,
    /// More about the reason, as text for people.
    pub detail: String,
}

/// Is told of every photo that a worker has settled, when that is on disk.
///
/// It is told at most once of each verdict, and not at all if the worker dies in between. So it
/// suits progress and caches, and nothing that must not be missed.
pub trait Observer: Send + Sync + 'static {
    /// Takes note of a settled photo. All photos of the worker wait for this call: it must return
    /// at once, and leave what takes longer to a task of its own.
    fn settled(&self, reservation: &Reservation, verdict: &Verdict);
}

impl<F: Fn(&Reservation, &Verdict) + Send + Sync + 'static> Observer for F {
    fn settled(&self, reservation: &Reservation, verdict: &Verdict) {
        self(reservation, verdict);
    }
}

impl Observer for Progress {
    fn settled(&self, reservation: &Reservation, verdict: &Verdict) {
        let step = Step {
            job: reservation.job(),
            photo: reservation.photo(),
            operation: reservation.operation(),
            state: match verdict {
                Verdict::Processed(_) => "processed",
                Verdict::Undecided { .. } => "undecided",
                Verdict::Failed { .. } => "failed",
                Verdict::Retry { .. } | Verdict::Crashed { .. } | Verdict::HandedBack => "waiting",
            }
            .into(),
        };
        self.tell(reservation.organisation(), reservation.event(), step);
    }
}

/// Everybody who is told of settled photos.
#[derive(Default)]
pub struct Observers(Vec<Box<dyn Observer>>);

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observers").field(&self.0.len()).finish()
    }
}

impl Observers {
    /// Adds an observer.
    pub(super) fn add(&mut self, observer: impl Observer) {
        self.0.push(Box::new(observer));
    }

    /// Tells all observers. A panic of one of them is logged, because it must not stop the worker.
    pub(super) fn tell(&self, reservation: &Reservation, verdict: &Verdict) {
        for observer in &self.0 {
            let told = AssertUnwindSafe(|| observer.settled(reservation, verdict));
            if let Err(panic) = catch_unwind(told) {
                tracing::error!(error = panics::message(&*panic), "an observer panicked");
            }
        }
    }
}
