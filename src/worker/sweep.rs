//! The worker's pulse, and what others left: heartbeats, holds whose time is over, deletions that did not come to an end. (What dead workers left is taken up
//! by the claiming task itself, with [`gate::adopt`](crate::queue::claim::adopt): there is one place where photos come in.)

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::events,
    database,
    ids::WorkerId,
    queue::claim::{GateError, interval},
};

/// How often a worker looks for what was to be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Extends the worker's lease, five times in its length, until stopped. Ends with an error when it is gone.
///
/// # Errors
/// [`GateError::LeaseLost`] only: trouble with the database is waited out, as long as nobody takes the lease away.
pub async fn keep_alive(
    pool: PgPool,
    worker: WorkerId,
    lease: Duration,
    stop: CancellationToken,
) -> Result<(), GateError> {
    let mut beat = tokio::time::interval(lease / 5);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        match heartbeat(&pool, worker, lease).await {
            Ok(true) => {}
            Ok(false) => return Err(GateError::LeaseLost),
            Err(error) => tracing::warn!(%error, "a heartbeat was missed"),
        }
        match expire_holds(&pool).await {
            Ok(0) => {}
            Ok(holds) => tracing::info!(holds, "holds whose time was over were lifted"),
            Err(error) => tracing::warn!(%error, "holds could not be checked"),
        }
    }
    Ok(())
}

/// Extends the lease. False: it was taken away, for good.
pub(crate) async fn heartbeat(
    pool: &PgPool,
    worker: WorkerId,
    lease: Duration,
) -> sqlx::Result<bool> {
    let beat =
        sqlx::query_scalar!(r#"SELECT heartbeat($1, $2) AS "alive!""#, worker.0, interval(lease));
    database::in_time(lease, beat.fetch_one(pool)).await
}

/// Deletes what somebody wanted forgotten and did not finish, until stopped.
pub async fn forget(pool: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(forget_all(&pool)).await {
            tracing::warn!(%error, "what was to be forgotten could not be deleted yet");
        }
    }
}

async fn forget_all(pool: &PgPool) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    while let Some(event) = events::forget_what_is_left(&mut db).await? {
        tracing::info!(%event, "what was to be forgotten is being deleted");
    }
    Ok(())
}

async fn expire_holds(pool: &PgPool) -> sqlx::Result<i32> {
    let expired = sqlx::query_scalar!(r#"SELECT expire_holds() AS "lifted!""#);
    database::in_time(Duration::from_secs(1), expired.fetch_one(pool)).await
}
