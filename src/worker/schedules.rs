//! A task of the worker. It looks every second for photos that were scheduled and are due, and
//! queues them. Claims find them by themselves.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    database,
    ids::{OrganisationId, ScheduleId},
    queue::schedules,
};

/// How often a worker looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Queues scheduled photos that are due, until stopped.
pub(super) async fn watch(pool: PgPool, unpaid_photos_max: i64, stop: CancellationToken) {
    let mut last = OrganisationId(0);
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let queueing = queue_what_is_due(&pool, unpaid_photos_max, &mut last);
        if let Some(Err(error)) = stop.run_until_cancelled(queueing).await {
            tracing::warn!(%error, "scheduled photos could not be looked for");
        }
    }
}

/// One part of one organisation after the other, until nothing is due.
async fn queue_what_is_due(
    pool: &PgPool,
    unpaid_photos_max: i64,
    last: &mut OrganisationId,
) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    while let Some((organisation, schedule)) = schedules::next_due(&mut db, *last).await? {
        *last = organisation;
        match schedules::enqueue_next(&mut db, schedule, unpaid_photos_max).await {
            Ok(Some(queued)) => tracing::info!(%schedule, queued, "scheduled photos were queued"),
            // Another worker has it: this one looks again in a second.
            Ok(None) => return Ok(()),
            Err(error) => put_off(&mut db, schedule, &error).await?,
        }
    }
    Ok(())
}

/// What the database refuses is said, and tried again after a minute. Others come first.
async fn put_off(
    db: &mut sqlx::PgConnection,
    schedule: ScheduleId,
    error: &sqlx::Error,
) -> sqlx::Result<()> {
    let trouble = if database::is_code(error, database::LOCKED) {
        "somebody keeps the event's queue locked".to_owned()
    } else {
        let unknown = || "the database did not take them; support can see why".to_owned();
        database::own_sentence(error).unwrap_or_else(unknown)
    };
    tracing::warn!(%schedule, %error, "scheduled photos could not be queued yet");
    schedules::put_off(db, schedule, &trouble).await
}
