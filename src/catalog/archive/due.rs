//! Archives events when their time has come, and goes on with what was interrupted. The service does
//! it beside its requests, and not the workers: workers read no findings.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ArchiveError, Archivist, DUE_EVERY, LOOK_EVERY};
use crate::{
    config::Config,
    ids::{ArchiveId, EventId},
};

/// Events that are begun at a time. The next ones come when these are done.
const AT_ONCE: i32 = 20;

/// The instant so many months ago: an event that is due has moved last before it. It is that of the
/// books' clock, which is checked; this machine's may have jumped.
///
/// # Errors
/// When the database has trouble.
pub async fn before(pool: &PgPool, months: u32) -> sqlx::Result<DateTime<Utc>> {
    let months = i32::try_from(months).unwrap_or(i32::MAX);
    sqlx::query_scalar!(r#"SELECT clock() - make_interval(months => $1) AS "at!""#, months)
        .fetch_one(pool)
        .await
}

/// Returns events that are due to be archived, at most 20.
///
/// # Errors
/// When the database has trouble.
pub async fn due(pool: &PgPool, before: DateTime<Utc>) -> sqlx::Result<Vec<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT d AS "event!: EventId" FROM archives_due($1, $2) d"#,
        before,
        AT_ONCE
    )
    .fetch_all(pool)
    .await
}

impl Archivist {
    /// Archives an event in which nothing has moved for so many months. `None`: there is none. An
    /// event that cannot be archived is passed over, and told in the log.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn archive_a_due_one(
        &self,
        months: u32,
        actor: &str,
    ) -> Result<Option<EventId>, ArchiveError> {
        let before = before(&self.pool, months).await?;
        for event in due(&self.pool, before).await? {
            self.must_have_a_store().await?;
            // Something may have moved since.
            match self.begin(actor, event, before).await {
                Ok(archive) => match self.go_on(archive).await {
                    Ok(_) => return Ok(Some(event)),
                    // It goes on later, or was given up.
                    Err(error) => tracing::warn!(%event, %error, "an event is not archived yet"),
                },
                Err(error) => tracing::warn!(%event, %error, "an event could not be archived"),
            }
        }
        Ok(None)
    }

    async fn begin(
        &self,
        actor: &str,
        event: EventId,
        before: DateTime<Utc>,
    ) -> sqlx::Result<ArchiveId> {
        let mut tx = self.pool.begin().await?;
        let archive = super::begin(&mut tx, event, actor, Some(before)).await?;
        tx.commit().await?;
        Ok(archive)
    }
}

/// Goes on with archives, deletes files that nobody needs, and once a day archives what is due,
/// until stopped.
pub async fn when_due(config: Config, pool: PgPool, stop: CancellationToken) {
    let archivist = match Archivist::open(&config, pool) {
        Ok(archivist) => archivist,
        Err(error) => return tracing::error!(%error, "nothing is archived"),
    };
    let mut looked: Option<Instant> = None;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let is_time = looked.is_none_or(|looked| looked.elapsed() >= DUE_EVERY);
        let work = async {
            // One that fails rests for a while, so the others have their turn.
            while let Some((archive, went)) = archivist.go_on_with_any().await? {
                match went {
                    Ok(state) => {
                        tracing::info!(%archive, state = state.name(), "an archive went on");
                    }
                    Err(error) => tracing::warn!(%archive, %error, "an archive cannot go on yet"),
                }
            }
            archivist.clear().await?;
            let months = config.archive_after_months;
            if is_time && months > 0 {
                // One at a time: what has to be restored meanwhile does not wait for all of them.
                match archivist.archive_a_due_one(months, "System").await? {
                    Some(event) => tracing::info!(%event, "an event was archived"),
                    None => looked = Some(Instant::now()),
                }
            }
            Ok::<_, ArchiveError>(())
        };
        if let Some(Err(error)) = stop.run_until_cancelled(work).await {
            tracing::warn!(%error, "archives could not go on yet");
        }
    }
}
