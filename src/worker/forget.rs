//! A task of the worker: it looks every ten seconds for deletions of findings that were
//! interrupted, and finishes them.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::catalog::events;

/// How often a worker looks for deletions that were interrupted.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Finishes interrupted deletions of findings, until stopped.
pub async fn forget(pool: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(forget_all(&pool)).await {
            tracing::warn!(%error, "an interrupted deletion of findings could not go on yet");
        }
    }
}

async fn forget_all(pool: &PgPool) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    while let Some(event) = events::forget_what_is_left(&mut db).await? {
        tracing::info!(%event, "an interrupted deletion of findings goes on");
    }
    Ok(())
}
