//! A worker extends its lease, says whether it claims, and lifts holds whose time is over.
//!
//! Photos of dead workers are not handled here. The claiming task adopts them, with
//! [`adopt`](crate::queue::claim::adopt), so that photos come in at one place only.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::Shift;
use crate::{
    database,
    queue::claim::{self, GateError, Incarnation, interval},
    telemetry::LEASE_RENEWED,
};

/// Extends the worker's lease until stopped. It sends five heartbeats in the length of the lease.
/// It also says whether the worker claims, and lifts holds whose time is over.
///
/// # Errors
/// Only [`GateError::LeaseLost`]. If the database has trouble, it tries again, until another worker
/// takes the lease away.
pub(super) async fn keep_alive(
    shift: Arc<Shift>,
    stop: CancellationToken,
) -> Result<(), GateError> {
    let Shift { pool, me, lease, outage, .. } = &*shift;
    // `None`: it is not known what the database was told.
    let mut told = Some(None);
    let mut beat = tokio::time::interval(*lease / 5);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        match heartbeat(pool, *me, *lease).await {
            Ok(true) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                metrics::gauge!(LEASE_RENEWED).set(now.unwrap_or_default().as_secs_f64());
            }
            Ok(false) => return Err(GateError::LeaseLost),
            Err(error) => tracing::warn!(%error, "a heartbeat failed"),
        }
        let reason = outage.reason();
        if told != Some(reason) {
            let telling =
                async { claim::tell_stopped(&mut *pool.acquire().await?, *me, reason).await };
            match database::in_time(Duration::from_secs(1), telling).await {
                Ok(()) => told = Some(reason),
                Err(error) => {
                    told = None;
                    tracing::warn!(%error, "the worker could not say whether it claims");
                }
            }
        }
        if let Err(error) = expire_purchases(pool).await {
            tracing::warn!(%error, "purchase requests could not be checked for their end");
        }
        match expire_holds(pool).await {
            Ok(0) => {}
            Ok(holds) => tracing::info!(holds, "holds that had reached their end were lifted"),
            Err(error) => tracing::warn!(%error, "holds could not be checked for their end"),
        }
    }
    Ok(())
}

/// Extends the lease. Returns false if another worker has declared this one dead, which is final.
pub(crate) async fn heartbeat(
    pool: &PgPool,
    me: Incarnation,
    lease: Duration,
) -> sqlx::Result<bool> {
    let beat =
        sqlx::query_scalar!(r#"SELECT heartbeat($1, $2) AS "alive!""#, me.key(), interval(lease));
    database::in_time(lease, beat.fetch_one(pool)).await
}

async fn expire_holds(pool: &PgPool) -> sqlx::Result<i32> {
    let expired = sqlx::query_scalar!(r#"SELECT expire_holds() AS "lifted!""#);
    database::in_time(Duration::from_secs(1), expired.fetch_one(pool)).await
}

async fn expire_purchases(pool: &PgPool) -> sqlx::Result<i32> {
    let expired = sqlx::query_scalar!(r#"SELECT expire_purchases() AS "expired!""#);
    database::in_time(Duration::from_secs(1), expired.fetch_one(pool)).await
}
