//! An outage: something that all photos need is away, for example the store. While it lasts, the
//! worker claims nothing. It would only reserve credits for photos that come back.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::work::{NotReady, Work};

/// The longest pause between two questions whether the outage is over.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The pause before the first question after an outage that was found at the start.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the log says that the same outage goes on.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whether there is an outage, and since when. The tasks of a worker incarnation share it.
#[derive(Debug)]
pub(super) struct Outage {
    now: watch::Sender<Option<Standing>>,
}

/// An outage that is not over.
#[derive(Debug, Clone)]
struct Standing {
    reason: &'static str,
    /// The pause before the first question whether it is over.
    pause: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self { now: watch::Sender::new(None) }
    }
}

impl Outage {
    /// The work of a photo met the outage. From now on, the worker claims nothing. (A worker that
    /// drains claims nothing anyhow, and nobody watches for the end.)
    pub(super) fn begin(&self, reason: &'static str, detail: &str, pause: Duration) {
        if self.now.receiver_count() == 0 {
            return;
        }
        self.now.send_if_modified(|now| {
            let begins = now.is_none();
            if begins {
                tracing::warn!(reason, detail, "this worker claims no photos for now");
                metrics::gauge!("photogate_claims_stopped", "reason" => reason).set(1.0);
                *now = Some(Standing { reason, pause });
            }
            begins
        });
    }

    /// The reason of the outage, if there is one.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.now.borrow().as_ref().map(|outage| outage.reason)
    }

    /// Waits until there is no outage, or the worker drains.
    pub(super) async fn over(&self, drain: &CancellationToken) {
        let mut now = self.now.subscribe();
        let over = now.wait_for(Option::is_none);
        // The sender is in `self`, so this does not fail.
        let _ = drain.run_until_cancelled(over).await;
    }

    fn end(&self) {
        if let Some(outage) = self.now.send_replace(None) {
            tracing::info!(reason = outage.reason, "this worker claims photos again");
            metrics::gauge!("photogate_claims_stopped", "reason" => outage.reason).set(0.0);
        }
    }
}

/// Asks before the first claim whether the work could be done: a store that never worked is an
/// outage, and no photo need be claimed to find out.
pub(super) async fn ask_first(outage: &Outage, work: &impl Work, drain: &CancellationToken) {
    let asked = drain.run_until_cancelled(work.is_ready()).await;
    if let Some(Err(NotReady { reason, detail })) = asked {
        outage.begin(reason, &detail, PAUSE);
    }
}

/// Waits for outages, and asks the work of each whether it is over. Ends when the worker drains. It
/// sees every outage that begins after this call.
pub(super) fn watch<W: Work>(
    outage: Arc<Outage>,
    work: Arc<W>,
    drain: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let mut now = outage.now.subscribe();
    async move {
        let asking = async {
            loop {
                let standing = now.wait_for(Option::is_some).await.ok().and_then(|now| now.clone());
                let mut pause = standing.map_or(PAUSE_MAX, |outage| outage.pause).min(PAUSE_MAX);
                let mut told = None;
                loop {
                    // Jitter: all workers meet the same outage.
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
                    let Err(trouble) = work.is_ready().await else { break };
                    tell_again(&mut told, trouble);
                    pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                }
                outage.end();
            }
        };
        drain.run_until_cancelled(asking).await;
        outage.end();
    }
}

/// Logs that an outage goes on: once a minute, and when it becomes another one.
fn tell_again(told: &mut Option<(Instant, String)>, NotReady { reason, detail }: NotReady) {
    let is_known =
        told.as_ref().is_some_and(|(at, known)| *known == detail && at.elapsed() < TELL_EVERY);
    if !is_known {
        tracing::warn!(reason, detail, "this worker still claims no photos");
        *told = Some((Instant::now(), detail));
    }
}
