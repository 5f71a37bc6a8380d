//! Quotas: how much an organisation may have, so that it cannot fill the database; for how long it
//! may take something back; and where its webhooks may lead.

use std::time::Duration;

use sqlx::PgConnection;

use super::CommandError;
use crate::{catalog::start_list, config::Config, database, ids::OrganisationId};

/// How much an organisation may have, and what it may do.
#[derive(Debug, Clone, Copy)]
pub struct Quotas {
    unpaid_photos: i64,
    events: i64,
    start_list: usize,
    #[cfg(feature = "vision")]
    upload_files: i64,
    #[cfg(feature = "vision")]
    upload_bytes: i64,
    undo_within: Duration,
    webhooks_to_private_addresses: bool,
}

impl From<&Config> for Quotas {
    fn from(config: &Config) -> Self {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            unpaid_photos: number(config.unpaid_photos_max),
            events: number(config.events_max),
            start_list: config.start_list_max,
            #[cfg(feature = "vision")]
            upload_files: number(config.upload_files_max),
            #[cfg(feature = "vision")]
            upload_bytes: number(config.upload_gigabytes_max.saturating_mul(1_000_000_000)),
            undo_within: Duration::from_secs(config.undo_seconds),
            webhooks_to_private_addresses: config.webhooks_to_private_addresses,
        }
    }
}

impl Quotas {
    /// Refuses photos that were just queued, if too many wait now without credits. `tx` is their
    /// transaction. Calls at the same time do not see each other, so each may pass the limit once.
    pub(super) async fn check_photos(
        &self,
        tx: &mut PgConnection,
        organisation: OrganisationId,
    ) -> Result<(), CommandError> {
        sqlx::query!("SELECT check_unpaid_photos($1, $2)", organisation.0, self.unpaid_photos)
            .execute(tx)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(said) if database::is_code(&error, database::LIMIT_REACHED) => {
                    limit_reached(said.message().to_owned())
                }
                _ => error.into(),
            })?;
        Ok(())
    }

    /// Refuses a file of so many bytes, if the organisation has uploaded enough in the last 24 hours.
    #[cfg(feature = "vision")]
    pub(super) async fn check_uploads(
        &self,
        db: &mut PgConnection,
        organisation: OrganisationId,
        bytes: u64,
    ) -> Result<(), CommandError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let (files_max, bytes_max) = (self.upload_files, self.upload_bytes);
        sqlx::query!(
            "SELECT check_uploads($1, $2, $3, $4)",
            organisation.0,
            bytes,
            files_max,
            bytes_max
        )
        .execute(db)
        .await?;
        Ok(())
    }

    /// What a pipeline is held to, because its calls do not come through here.
    pub(super) fn unpaid_photos(&self) -> i64 {
        self.unpaid_photos
    }

    /// For how long something can be taken back.
    pub(super) fn undo_within(&self) -> Duration {
        self.undo_within
    }

    /// Whether webhooks may lead into our own networks.
    pub(super) fn webhooks_to_private_addresses(&self) -> bool {
        self.webhooks_to_private_addresses
    }

    /// Refuses an event that was just created, if there are too many now.
    pub(super) async fn check_events(
        &self,
        tx: &mut PgConnection,
        organisation: OrganisationId,
    ) -> Result<(), CommandError> {
        let events = sqlx::query_scalar!(
            r#"SELECT count(*) AS "events!" FROM event
               WHERE organisation_id = $1 AND deleted_at IS NULL"#,
            organisation.0
        )
        .fetch_one(tx)
        .await?;
        if events <= self.events {
            return Ok(());
        }
        Err(limit_reached(format!(
            "an organisation has at most {} events: delete some, or ask support",
            self.events
        )))
    }

    /// Reads the numbers of a start list from a file; an empty file has none. It takes a part of a
    /// second, so other requests do not wait for it.
    pub(super) async fn start_list(&self, file: Vec<u8>) -> Result<Vec<String>, CommandError> {
        if file.is_empty() {
            return Ok(Vec::new());
        }
        let most = self.start_list;
        let read = tokio::task::spawn_blocking(move || start_list::parse(&file, most));
        Ok(read.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
    }
}

fn limit_reached(detail: String) -> CommandError {
    CommandError::Conflict { code: "limit_reached", detail }
}
