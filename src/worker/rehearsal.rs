//! Work that does nothing: for benchmarks, drills and tests. The key says what shall happen, and only keys under
//! `rehearsal/` are taken, so that no customer ever pays for it.

use std::time::Duration;

use crate::{catalog::findings::Findings, worker::settle::Verdict};

/// `rehearsal/ok/…` succeeds, `rehearsal/fail/…` fails, `rehearsal/retry/…` has transient trouble for ever,
/// `rehearsal/retry-2/…` twice, `rehearsal/panic/…` panics, `rehearsal/crash/…` takes the process down,
/// `rehearsal/slow-500/…` takes half a second.
pub(crate) async fn perform(key: &str, retries: u32) -> Verdict {
    let done = Verdict::Processed(Findings::Nothing);
    let mut parts = key.split('/');
    let (Some("rehearsal"), Some(act)) = (parts.next(), parts.next()) else {
        return Verdict::Failed {
            reason: "not_a_rehearsal",
            detail: "this worker only rehearses; start one without --rehearse".into(),
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
            "fail" => Verdict::Failed { reason: "corrupt", detail: "rehearsed".into() },
            "retry" => trouble(),
            "panic" => panic!("rehearsed"),
            // As a bug in a codec would: no unwinding, no goodbye.
            "crash" => std::process::abort(),
            _ => done,
        },
    }
}

fn trouble() -> Verdict {
    Verdict::Retry {
        reason: "store_unavailable",
        detail: "rehearsed".into(),
        after: Duration::from_millis(100),
    }
}
