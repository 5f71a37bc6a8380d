//! Rehearsals: work that does nothing, for benchmarks, drills and tests. The photo's key says what
//! should happen. Keys that are not below `rehearsal/` fail, so that no customer pays for a
//! rehearsal.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    catalog::findings::Findings,
    queue::claim::Reservation,
    worker::{verdict::Verdict, work::Work},
};

/// A worker's rehearsal. It takes only photos whose key is below `rehearsal/`.
#[derive(Debug, Clone, Copy)]
pub struct Rehearsal;

impl Work for Rehearsal {
    async fn perform(&self, reservation: &Reservation, _: &CancellationToken) -> Verdict {
        perform(reservation.key(), reservation.retries()).await
    }
}

/// Does what the key says:
///
/// - `rehearsal/ok/…` succeeds.
/// - `rehearsal/fail/…` fails.
/// - `rehearsal/unsure/…` finds no answer.
/// - `rehearsal/retry/…` always asks for an automatic retry, `rehearsal/retry-2/…` only twice.
/// - `rehearsal/panic/…` panics.
/// - `rehearsal/crash/…` aborts the process.
/// - `rehearsal/slow-500/…` succeeds after 500 milliseconds.
async fn perform(key: &str, retries: u32) -> Verdict {
    let done = Verdict::Processed(Findings::Nothing);
    let mut parts = key.split('/');
    let (Some("rehearsal"), Some(act)) = (parts.next(), parts.next()) else {
        return Verdict::Failed {
            reason: "not_a_rehearsal",
            detail: "this worker only rehearses: start a worker without --rehearse".into(),
        };
    };
    match act.split_once('-') {
        Some(("slow", milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(100))).await;
            done
        }
        Some(("retry", times)) if retries >= times.parse().unwrap_or(1) => done,
        Some(("retry", _)) => trouble(),
        _ => match act {
            "unsure" => {
                Verdict::Undecided { findings: Findings::Nothing, detail: "rehearsed".into() }
            }
            "fail" => Verdict::Failed { reason: "corrupt", detail: "rehearsed".into() },
            "retry" => trouble(),
            "panic" => panic!("rehearsed"),
            // Ends the process without unwinding, as a bug in a decoder would.
            "crash" => std::process::abort(),
            _ => done,
        },
    }
}

fn trouble() -> Verdict {
    Verdict::Retry {
        reason: "photo_missing",
        detail: "rehearsed".into(),
        after: Duration::from_millis(100),
        outage: false,
    }
}
