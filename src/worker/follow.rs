//! A task of the worker: once a second, it queues photos for photo processing whose AI rotation has
//! ended.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    notify::wake::Wake,
    queue::follow_ups::{self, PATIENCE},
};

const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Queues what is due, until stopped. Several workers do it at the same time, and each photo is
/// queued once.
pub(super) async fn follow(pool: PgPool, wake: Wake, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FOLLOW_EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(follow_all(&pool, &wake)).await {
            tracing::warn!(%error, "photos could not be queued yet after their AI Rotation");
        }
    }
}

async fn follow_all(pool: &PgPool, wake: &Wake) -> sqlx::Result<()> {
    loop {
        let followed = follow_ups::follow(&mut *pool.acquire().await?, PATIENCE).await?;
        if followed.photos == 0 {
            return Ok(());
        }
        tracing::debug!(photos = followed.photos, "photos follow their AI Rotation");
        if followed.woke {
            wake.send().await;
        }
    }
}
