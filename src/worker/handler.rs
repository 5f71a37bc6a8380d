//! The handler of one claimed photo: it does the work and settles the photo.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use super::{RETRIES_MAX, Shift, claimer::Claimed, settle::Settler, verdict::Verdict, work::Work};
use crate::{
    queue::claim::Reservation,
    telemetry::{panics, traces},
};

/// The wait of a photo that was handed back by work that need not stop.
const SECOND: Duration = Duration::from_secs(1);

/// Works on one photo and settles it.
pub(super) async fn handle<W: Work>(
    shift: Arc<Shift>,
    work: Arc<W>,
    settler: Settler,
    claimed: Claimed,
) {
    let Claimed { reservation, trace, .. } = &claimed;
    let span = traces::work(reservation, trace.as_deref());
    let began = OnceLock::new();
    let working = perform(&shift, &*work, reservation, &began).instrument(span.clone());
    let verdict = tokio::select! {
        biased;
        () = shift.stop.now.cancelled() => Verdict::HandedBack,
        done = AssertUnwindSafe(working).catch_unwind() => {
            done.unwrap_or_else(|panic| {
                Verdict::Crashed { detail: panics::message(&*panic).to_owned() }
            })
        }
    };
    if let Some(began) = began.get() {
        metrics::histogram!("photogate_work_duration_seconds").record(began.elapsed());
    }
    let verdict = bounded(verdict, reservation, shift.stop.is_asked());
    span.record("photogate.verdict", verdict.name());
    drop(span);
    let Claimed { reservation, room: _room, alone, .. } = claimed;
    if let Verdict::Retry { outage: true, reason, detail, after } = &verdict {
        // Before the permits are free: otherwise the worker claims the next photos at once.
        shift.outage.begin(reason, detail, *after);
    }
    settler.settle(reservation, verdict).await;
    if alone.is_some() {
        // Wake the claiming task, so that the next suspect is adopted at once.
        drop(alone);
        shift.ear.nudge();
    }
}

/// Does the work, in a slot. A photo that still waits for a slot when the worker drains is handed
/// back.
async fn perform<W: Work>(
    shift: &Shift,
    work: &W,
    reservation: &Reservation,
    began: &OnceLock<Instant>,
) -> Verdict {
    let _slot = if W::WAITS_FOR_ITS_SLOT {
        None
    } else {
        tokio::select! {
            biased;
            () = shift.stop.drain.cancelled() => return Verdict::HandedBack,
            slot = shift.slots.acquire() => slot.ok(),
        }
    };
    began.get_or_init(Instant::now);
    work.perform(reservation, &shift.stop.drain).await
}

/// Limits how often a photo comes back, so that no credit stays reserved for ever and no photo goes
/// round without a pause.
fn bounded(verdict: Verdict, reservation: &Reservation, is_stopping: bool) -> Verdict {
    let verdict = if matches!(verdict, Verdict::HandedBack) && !is_stopping {
        let detail = "the work handed the photo back although the worker does not stop".into();
        Verdict::Retry { reason: "handed_back", detail, after: SECOND, outage: false }
    } else {
        verdict
    };
    if let Verdict::Retry { reason, detail, .. } = &verdict
        && reservation.retries() >= RETRIES_MAX
    {
        return Verdict::Failed { reason, detail: detail.clone() };
    }
    verdict
}
