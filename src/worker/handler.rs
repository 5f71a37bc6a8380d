//! The handler of one claimed photo: it does the work and settles the photo.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tracing::Instrument;

use super::{Shift, claimer::Claimed, settle::Settler, verdict::Verdict, work::Work};
use crate::{
    queue::claim::Reservation,
    telemetry::{panics, traces},
};

/// Works on one photo and settles it.
pub(super) async fn handle<W: Work>(
    shift: Arc<Shift>,
    work: Arc<W>,
    settler: Settler,
    claimed: Claimed,
) {
    let Claimed { reservation, trace, .. } = &claimed;
    let fence = reservation.fence();
    let span = traces::work(reservation, trace.as_deref());
    let working = perform(&shift, &*work, reservation).instrument(span.clone());
    let verdict = tokio::select! {
        biased;
        () = shift.stop.now.cancelled() => Verdict::HandedBack,
        done = AssertUnwindSafe(working).catch_unwind() => {
            done.unwrap_or_else(|panic| {
                Verdict::Crashed { detail: panics::message(&*panic).to_owned() }
            })
        }
    };
    span.record("photogate.verdict", verdict.name());
    drop(span);
    let Claimed { reservation, room: _room, alone, .. } = claimed;
    let outage = match &verdict {
        Verdict::Retry { outage: true, after, .. } => Some(*after),
        Verdict::Processed(_)
        | Verdict::Failed { .. }
        | Verdict::Retry { .. }
        | Verdict::Crashed { .. }
        | Verdict::HandedBack => None,
    };
    settler.settle(reservation, verdict).await;
    shift.in_hand().remove(&fence);
    if let Some(after) = outage {
        // No photo can be worked on now. Keep the permits for a while, so that the worker does not
        // claim the whole backlog and reserve credits for it.
        shift.stop.drain.run_until_cancelled(tokio::time::sleep(after)).await;
    }
    if alone.is_some() {
        // Wake the claiming task, so that the next suspect is adopted at once.
        drop(alone);
        shift.ear.nudge();
    }
}

/// Does the work, in a slot. A photo that still waits for a slot when the worker drains is handed
/// back.
async fn perform<W: Work>(shift: &Shift, work: &W, reservation: &Reservation) -> Verdict {
    let _slot = if W::WAITS_FOR_ITS_SLOT {
        None
    } else {
        tokio::select! {
            biased;
            () = shift.stop.drain.cancelled() => return Verdict::HandedBack,
            slot = shift.slots.acquire() => slot.ok(),
        }
    };
    let began = tokio::time::Instant::now();
    let verdict = work.perform(reservation, &shift.stop.drain).await;
    metrics::histogram!("photogate_work_duration_seconds").record(began.elapsed());
    verdict
}
