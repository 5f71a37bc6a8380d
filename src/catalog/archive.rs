//! Archives: the rows of old events, packed into the photo store. The steps are SQL functions
//! (`migrations/functions/archive.sql`, `restore.sql`). Here is what reads and writes the files.
//!
//! Each step can be done twice, and whoever dies leaves something that the next one goes on with:
//! [`Archivist::step`] looks at the archive's row, does one step, and that is all.

mod due;
mod give_up;
mod list;
mod manifest;
mod pack;
mod part;
mod receipts;
mod restore;
mod seal;
mod verify;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use uuid::Uuid;

use super::photo_store::{PhotoStore, StoreError};
use crate::{
    config::Config,
    database,
    ids::{ArchiveId, EventId, OrganisationId},
};

pub use due::{before, due, when_due};
pub(crate) use give_up::begin as begin_give_up;
pub use list::{Archive, Totals, Which, away, in_trouble, list, of_event, totals};
pub use receipts::receipt;
pub use seal::{BadKey, SigningKey};
pub use verify::{Signature, Verified};

/// Time for which an archive is taken; each step takes it anew.
const LEASE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 300_000_000 };
/// The rest of an archive that could not go on.
const PAUSE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 60_000_000 };
/// The rest of an archive whose files are not as they were written.
const LONG_PAUSE: PgInterval = PgInterval { months: 0, days: 0, microseconds: 1_800_000_000 };
/// Photos whose rows are deleted in one transaction.
const DELETED_AT_ONCE: i32 = 500;

/// Why an archive could not be packed, restored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The database refuses, or has trouble.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
    /// The store has trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not take a small file and give it back. Nothing was begun.
    #[error("the photo store does not work: {0}")]
    StoreDown(String),
    /// What is in the store is not what was written.
    #[error("archive {archive} is damaged: {what}")]
    Damaged {
        /// The archive.
        archive: ArchiveId,
        /// The file, and what is wrong with it.
        what: String,
    },
    /// The setting `archive_key` is not usable.
    #[error(transparent)]
    Key(#[from] BadKey),
}

impl ArchiveError {
    /// Whether the database says that there is no such event.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Database(error) => database::is_code(error, database::NOT_FOUND),
            Self::Store(_) | Self::StoreDown(_) | Self::Damaged { .. } | Self::Key(_) => false,
        }
    }
}

/// How far an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "archive_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its rows are read, and written into the store. They are all in the database.
    Packing,
    /// The store has them all, and they are deleted from the database.
    Deleting,
    /// The database does not have them any more.
    Archived,
    /// They are written into the database again.
    Restoring,
    /// The database has them, as before.
    Restored,
    /// Its packing was ended before anything was deleted.
    Stopped,
    /// Its files are lost or damaged, and what is left of it is deleted.
    GivingUp,
    /// Nothing is left of it but the books.
    GivenUp,
}

impl State {
    /// The state's name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packing => "packing",
            Self::Deleting => "deleting",
            Self::Archived => "archived",
            Self::Restoring => "restoring",
            Self::Restored => "restored",
            Self::Stopped => "stopped",
            Self::GivingUp => "giving_up",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether there is something to do.
    pub fn is_on_its_way(self) -> bool {
        match self {
            Self::Packing | Self::Deleting | Self::Restoring | Self::GivingUp => true,
            Self::Archived | Self::Restored | Self::Stopped | Self::GivenUp => false,
        }
    }
}

/// The archives whose files have rows that the database does not have, or not yet again: of one event,
/// of one organisation, or all.
///
/// # Errors
/// When the database has trouble.
pub async fn standing(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    event: Option<EventId>,
) -> sqlx::Result<Vec<ArchiveId>> {
    sqlx::query_scalar!(
        r#"SELECT archive_id AS "id: ArchiveId" FROM archive
           WHERE state IN ('deleting', 'archived', 'restoring')
             AND ($1::bigint IS NULL OR organisation_id = $1) AND ($2::bigint IS NULL OR event_id = $2)
           ORDER BY archive_id"#,
        organisation.map(|organisation| organisation.0),
        event.map(|event| event.0)
    )
    .fetch_all(db)
    .await
}

/// Begins to archive an event, with its line of the audit log. With `before`, only if nothing has
/// moved since. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such event, `PG010` if it cannot be archived now, or trouble with the
/// database.
pub(crate) async fn begin(
    tx: &mut PgConnection,
    event: EventId,
    actor: &str,
    before: Option<DateTime<Utc>>,
) -> sqlx::Result<ArchiveId> {
    sqlx::query_scalar!(
        r#"SELECT begin_archive($1, $2, $3) AS "id!: ArchiveId""#,
        event.0,
        actor,
        before
    )
    .fetch_one(tx)
    .await
}

/// Begins to restore an event; or gives its packing up. `None`: it is not archived. `tx` must be a
/// transaction.
///
/// # Errors
/// When the database has trouble.
pub(crate) async fn begin_restore(
    tx: &mut PgConnection,
    event: EventId,
    actor: &str,
) -> sqlx::Result<Option<ArchiveId>> {
    sqlx::query_scalar!(r#"SELECT begin_restore($1, $2) AS "id: ArchiveId""#, event.0, actor)
        .fetch_one(tx)
        .await
}

/// The organisation of an event, also of one that was deleted.
///
/// # Errors
/// When the database has trouble.
pub(crate) async fn organisation_of(
    db: &mut PgConnection,
    event: EventId,
) -> sqlx::Result<Option<OrganisationId>> {
    sqlx::query_scalar!(
        r#"SELECT organisation_id AS "id: OrganisationId" FROM event WHERE event_id = $1"#,
        event.0
    )
    .fetch_optional(db)
    .await
}

/// What a step looks at.
#[derive(Debug)]
struct Row {
    id: ArchiveId,
    event: EventId,
    organisation: OrganisationId,
    state: State,
    directory: Uuid,
    stage: String,
    reached: String,
    manifest: Option<Vec<u8>>,
    restored_part: i32,
    restored_lines: i32,
    parts: i64,
}

impl Row {
    async fn read(db: &mut PgConnection, id: ArchiveId) -> sqlx::Result<Self> {
        sqlx::query_as!(
            Row,
            r#"SELECT archive_id AS "id: _", event_id AS "event: _",
                      organisation_id AS "organisation: _", state AS "state: _", directory, stage,
                      reached, manifest, restored_part, restored_lines,
                      (SELECT count(*) FROM archive_part p WHERE p.archive_id = a.archive_id)
                      AS "parts!"
               FROM archive a WHERE archive_id = $1"#,
            id.0
        )
        .fetch_one(db)
        .await
    }

    fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { archive: self.id, what: what.into() }
    }
}

/// Makes the steps of archives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archivist {
    pool: PgPool,
    store: PhotoStore,
    key: Option<SigningKey>,
}

impl Archivist {
    /// Opens the store, and reads the key that signs archives.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn open(config: &Config, pool: PgPool) -> Result<Self, ArchiveError> {
        let store = PhotoStore::open(&config.store_url, &config.store_options)?;
        let key = config.archive_key.as_deref().map(SigningKey::parse).transpose()?;
        Ok(Self { pool, store, key })
    }

    /// Does one step of an archive: packs a part, or deletes or restores a batch. Returns the state
    /// afterwards. The caller has taken it, or nobody else is there; if somebody is, one of the two
    /// changes nothing.
    ///
    /// # Errors
    /// See [`ArchiveError`]. The same step can be done again.
    pub async fn step(&self, archive: ArchiveId) -> Result<State, ArchiveError> {
        let row = Row::read(&mut *self.pool.acquire().await?, archive).await?;
        match row.state {
            State::Packing => self.pack_or_give_up(&row).await?,
            State::Deleting => {
                self.delete_rows(archive).await?;
            }
            State::Restoring => self.restore(&row).await?,
            State::GivingUp => self.give_up(&row).await?,
            State::Archived | State::Restored | State::Stopped | State::GivenUp => {}
        }
        Ok(Row::read(&mut *self.pool.acquire().await?, archive).await?.state)
    }

    /// Deletes a batch of its rows. Returns whether none is left.
    async fn delete_rows(&self, archive: ArchiveId) -> sqlx::Result<bool> {
        let done = sqlx::query_scalar!(
            r#"SELECT delete_archived($1, $2, $3) AS "done!""#,
            archive.0,
            DELETED_AT_ONCE,
            LEASE
        );
        done.fetch_one(&mut *self.pool.acquire().await?).await
    }

    /// Does all steps of an archive that nobody else has. Returns its state afterwards; it is on its
    /// way if somebody else has it.
    ///
    /// # Errors
    /// See [`ArchiveError`]. The service goes on with it after a minute.
    pub async fn go_on(&self, archive: ArchiveId) -> Result<State, ArchiveError> {
        match self.take(Some(archive)).await? {
            Some(archive) => self.all_steps(archive).await,
            None => Ok(Row::read(&mut *self.pool.acquire().await?, archive).await?.state),
        }
    }

    /// Goes on with any archive that waits for it, and says how it went. `None`: there is none.
    ///
    /// # Errors
    /// When the database has trouble.
    pub async fn go_on_with_any(
        &self,
    ) -> Result<Option<(ArchiveId, Result<State, ArchiveError>)>, ArchiveError> {
        let Some(archive) = self.take(None).await? else { return Ok(None) };
        Ok(Some((archive, self.all_steps(archive).await)))
    }

    /// Asks whether the store works, before something begins: while an archive waits for the store,
    /// its event takes no photos.
    ///
    /// # Errors
    /// [`ArchiveError::StoreDown`].
    pub async fn must_have_a_store(&self) -> Result<(), ArchiveError> {
        let now = tokio::time::Instant::now();
        self.store.probe(now).await.map_err(ArchiveError::StoreDown)
    }

    /// Whether there is anything in the store. A directory that is not mounted is empty.
    ///
    /// # Errors
    /// When the store has trouble.
    pub async fn store_has_files(&self) -> Result<bool, ArchiveError> {
        Ok(!self.store.is_empty().await?)
    }

    async fn take(&self, archive: Option<ArchiveId>) -> Result<Option<ArchiveId>, ArchiveError> {
        let mut db = self.pool.acquire().await?;
        let taken = sqlx::query_scalar!(
            r#"SELECT take_archive($1, $2) AS "id: ArchiveId""#,
            archive.map(|archive| archive.0),
            LEASE
        );
        Ok(taken.fetch_one(&mut *db).await?)
    }

    async fn all_steps(&self, archive: ArchiveId) -> Result<State, ArchiveError> {
        let done = loop {
            match self.step(archive).await {
                Ok(state) if state.is_on_its_way() => {}
                done => break done,
            }
        };
        let trouble = done.as_ref().err().map(ToString::to_string);
        // Each try reads all of it again.
        let is_damaged = matches!(done, Err(ArchiveError::Damaged { .. }));
        let pause = if is_damaged { LONG_PAUSE } else { PAUSE };
        let mut db = self.pool.acquire().await?;
        if let Err(ArchiveError::Damaged { what, .. }) = &done {
            sqlx::query!("SELECT archive_is_verified($1, $2)", archive.0, what)
                .execute(&mut *db)
                .await?;
        }
        sqlx::query!("SELECT leave_archive($1, $2, $3)", archive.0, trouble, pause)
            .execute(&mut *db)
            .await?;
        done
    }

    /// Deletes the files of archives that nobody needs any more. Returns how many archives.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn clear(&self) -> Result<usize, ArchiveError> {
        for cleared in 0.. {
            let mut db = self.pool.acquire().await?;
            let next = sqlx::query!("SELECT r_archive, r_directory FROM archive_to_clear()")
                .fetch_one(&mut *db)
                .await?;
            let (Some(archive), Some(directory)) = (next.r_archive, next.r_directory) else {
                return Ok(cleared);
            };
            self.store.delete_below(&super::key::Key::archive(directory)).await?;
            sqlx::query!("SELECT archive_is_cleared($1)", archive).execute(&mut *db).await?;
        }
        Ok(0)
    }
}

/// How often the service looks for archives to go on with, and for events that are due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const DUE_EVERY: Duration = Duration::from_secs(86_400);
