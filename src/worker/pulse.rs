//! A task of the worker: whenever five minutes have ended, it takes the pulse of the queues, which
//! pages draw. Nothing depends on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::queue::pulse::{self, SLOT};

/// Settlements at the end of a slot have this time to be committed.
const AFTER: Duration = Duration::from_secs(1);

/// Takes the pulse after the end of each slot, until stopped.
pub(super) async fn take(pool: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(until_next())).await.is_some() {
        let taking = async { pulse::take(&mut *pool.acquire().await?).await };
        if let Some(Err(error)) = stop.run_until_cancelled(taking).await {
            tracing::warn!(%error, "the pulse of the queues could not be taken");
        }
    }
}

/// The time until a little after the present slot has ended.
fn until_next() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = SLOT.as_secs() - now.as_secs() % SLOT.as_secs();
    Duration::from_secs(left) + AFTER
}
