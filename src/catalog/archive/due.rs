//! Archives events when their time has come, and goes on with what was interrupted. The service does
//! it beside its requests, and not the workers: workers read no findings.

use chrono::{DateTime, Months, Utc};
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

/// The instant so many months ago: an event that is due has moved last before it.
pub fn before(months: u32) -> DateTime<Utc> {
    Utc::now().checked_sub_months(Months::new(months)).unwrap_or(DateTime::<Utc>::MIN_UTC)
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
    /// Archives all events in which nothing has moved for so many months. Returns how many. An event
    /// that cannot be archived is passed over, and told in the log.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn archive_due(&self, months: u32, actor: &str) -> Result<usize, ArchiveError> {
        let before = before(months);
        let mut archived = 0;
        loop {
            let mut moved = false;
            for event in due(&self.pool, before).await? {
                self.must_have_a_store().await?;
                // Something may have moved since.
                match self.begin(actor, event, before).await {
                    Ok(archive) => {
                        moved = true;
                        self.go_on(archive).await?;
                        archived += 1;
                    }
                    Err(error) => tracing::warn!(%event, %error, "an event could not be archived"),
                }
            }
            if !moved {
                return Ok(archived);
            }
        }
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
            while let Some((archive, state)) = archivist.go_on_with_any().await? {
                tracing::info!(%archive, state = state.name(), "an archive went on");
            }
            archivist.clear().await?;
            if is_time && config.archive_after_months > 0 {
                // If this fails, what was begun goes on every minute, and the others come tomorrow.
                looked = Some(Instant::now());
                let archived = archivist.archive_due(config.archive_after_months, "System").await?;
                if archived > 0 {
                    tracing::info!(events = archived, "events were archived");
                }
            }
            Ok::<_, ArchiveError>(())
        };
        if let Some(Err(error)) = stop.run_until_cancelled(work).await {
            tracing::warn!(%error, "archives could not go on yet");
        }
    }
}
