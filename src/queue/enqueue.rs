//! A photo is queued. Idempotent per photo and operation: whatever is sent twice costs nothing the second time.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    catalog::photo_store::{Key, KeyError},
    ids::{EventId, Operation, PhotoId, RunId},
    ledger::credits::Credits,
};

/// Photos in one call. A call is one transaction and one lock of the event's queue; 10,000 photos take about a second.
pub const PHOTOS_MAX: usize = 10_000;

/// What became of an enqueue call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// To ask for it later.
    pub run: RunId,
    /// Photos that were taken, in the order given.
    pub queued: u32,
    /// Photos that were not, and why.
    pub skipped: Skipped,
    /// Credits of the organisation, now.
    pub available: Credits,
    /// What is missing to finish everything the organisation has waiting, this run included. 0: it all can be done.
    pub shortfall: Credits,
    /// The queue was drained before: workers should be told.
    #[serde(skip)]
    pub woke: bool,
}

/// Why photos were skipped, in numbers of photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// The same key twice in this call.
    pub repeated: u32,
    /// Waiting or in progress already.
    pub already_queued: u32,
    /// Done, and paid for, already.
    pub already_processed: u32,
    /// Failed and refunded: only a person's retry queues them again.
    pub failed_before: u32,
    /// Taken out of the queue by a person: only a person restores them.
    pub skipped_before: u32,
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.repeated += other.repeated;
        self.already_queued += other.already_queued;
        self.already_processed += other.already_processed;
        self.failed_before += other.failed_before;
        self.skipped_before += other.skipped_before;
    }
}

/// Why an enqueue call was refused. Nothing was queued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// More than [`PHOTOS_MAX`].
    #[error("{0} photos in one call: send at most {PHOTOS_MAX}, and the rest in further calls")]
    TooMany(usize),
    /// A key that names no place in the store.
    #[error("photo {number} of the call: {error}")]
    Key {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        error: KeyError,
    },
    /// There is no such event.
    #[error("there is no event {0}")]
    NoEvent(EventId),
    /// The database has trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Checks keys that came from outside, however many.
///
/// # Errors
/// [`EnqueueError::Key`] for the first that is none.
pub fn check_keys(keys: &[String]) -> Result<(), EnqueueError> {
    for (at, key) in keys.iter().enumerate() {
        Key::parse(key).map_err(|error| EnqueueError::Key { number: at + 1, error })?;
    }
    Ok(())
}

/// Queues photos of an event for an operation: one transaction, whatever their number.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn enqueue(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    keys: &[String],
    actor: &str,
) -> Result<Run, EnqueueError> {
    if keys.len() > PHOTOS_MAX {
        return Err(EnqueueError::TooMany(keys.len()));
    }
    check_keys(keys)?;
    let ids: Vec<Uuid> = keys.iter().map(|_| Uuid::now_v7()).collect();
    let row = sqlx::query!(
        r#"SELECT r_run AS "run!: RunId", r_queued AS "queued!", r_repeated AS "repeated!", r_waiting AS "waiting!", r_processed AS "processed!",
                  r_failed AS "failed!", r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!", r_woke AS "woke!"
           FROM enqueue($1, $2, $3, $4, $5)"#,
        event.0,
        operation as Operation,
        keys,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Run {
        run: row.run,
        queued: row.queued.unsigned_abs(),
        skipped: Skipped {
            repeated: row.repeated.unsigned_abs(),
            already_queued: row.waiting.unsigned_abs(),
            already_processed: row.processed.unsigned_abs(),
            failed_before: row.failed.unsigned_abs(),
            skipped_before: row.skipped.unsigned_abs(),
        },
        available: Credits(row.available),
        shortfall: Credits((row.ahead - row.available).max(0)),
        woke: row.woke,
    })
}

/// What queueing photos would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Photos that would be queued.
    pub queued: u32,
    /// Photos that would not be, and why.
    pub skipped: Skipped,
    /// Credits of the organisation, now.
    pub available: Credits,
    /// Credits that everything would take that would wait then, these photos included.
    pub ahead: Credits,
}

/// As [`enqueue`], but nothing is written, and nobody waits: what would happen if it was called now.
///
/// # Errors
/// See [`EnqueueError`].
pub async fn plan(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    keys: &[String],
) -> Result<Plan, EnqueueError> {
    let row = sqlx::query!(
        r#"SELECT r_queued AS "queued!", r_repeated AS "repeated!", r_waiting AS "waiting!", r_processed AS "processed!", r_failed AS "failed!",
                  r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!"
           FROM plan_enqueue($1, $2, $3)"#,
        event.0,
        operation as Operation,
        keys
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Plan {
        queued: row.queued.unsigned_abs(),
        skipped: Skipped {
            repeated: row.repeated.unsigned_abs(),
            already_queued: row.waiting.unsigned_abs(),
            already_processed: row.processed.unsigned_abs(),
            failed_before: row.failed.unsigned_abs(),
            skipped_before: row.skipped.unsigned_abs(),
        },
        available: Credits(row.available),
        ahead: Credits(row.ahead),
    })
}

/// What became of a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Retry {
    /// To ask for it later.
    pub run: RunId,
    /// Photos that were queued again. Each reserves a credit anew.
    pub queued: u32,
    /// Photos that had not failed, or are not of this event.
    pub skipped: u32,
    /// Credits of the organisation, now.
    pub available: Credits,
    /// What is missing to finish everything the organisation has waiting.
    pub shortfall: Credits,
    /// The queue was drained before: workers should be told.
    #[serde(skip)]
    pub woke: bool,
}

/// Queues failed photos again because a person asked. At most [`PHOTOS_MAX`] a call.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn retry(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    photos: &[PhotoId],
    actor: &str,
) -> Result<Retry, EnqueueError> {
    let ids = ids(photos)?;
    let row = sqlx::query!(
        r#"SELECT r_run AS "run!: RunId", r_queued AS "queued!", r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!", r_woke AS "woke!"
           FROM retry($1, $2, $3, $4)"#,
        event.0,
        operation as Operation,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Retry {
        run: row.run,
        queued: row.queued.unsigned_abs(),
        skipped: row.skipped.unsigned_abs(),
        available: Credits(row.available),
        shortfall: Credits((row.ahead - row.available).max(0)),
        woke: row.woke,
    })
}

/// Takes waiting photos out of their queue: they are not claimed, and cost nothing. Returns how many; what was claimed
/// meanwhile, or skipped before, is not among them. At most [`PHOTOS_MAX`] a call.
///
/// # Errors
/// See [`EnqueueError`]; nothing is skipped then.
pub async fn skip(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    photos: &[PhotoId],
    actor: &str,
) -> Result<u32, EnqueueError> {
    let ids = ids(photos)?;
    sqlx::query_scalar!(
        r#"SELECT skip_photos($1, $2, $3, $4) AS "skipped!""#,
        event.0,
        operation as Operation,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map(i32::unsigned_abs)
    .map_err(|error| no_event(error, event))
}

/// What became of photos that were to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Restored {
    /// Photos that wait again.
    pub restored: u32,
    /// The queue was drained before: workers should be told.
    #[serde(skip)]
    pub woke: bool,
}

/// Puts skipped photos back: where they stood, or, if the claims have passed that, at the end. At most [`PHOTOS_MAX`] a
/// call.
///
/// # Errors
/// See [`EnqueueError`]; nothing is restored then.
pub async fn restore(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    photos: &[PhotoId],
    actor: &str,
) -> Result<Restored, EnqueueError> {
    let ids = ids(photos)?;
    let row = sqlx::query!(
        r#"SELECT r_restored AS "restored!", r_woke AS "woke!" FROM restore_photos($1, $2, $3, $4)"#,
        event.0,
        operation as Operation,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Restored { restored: row.restored.unsigned_abs(), woke: row.woke })
}

fn ids(photos: &[PhotoId]) -> Result<Vec<Uuid>, EnqueueError> {
    if photos.len() > PHOTOS_MAX {
        return Err(EnqueueError::TooMany(photos.len()));
    }
    Ok(photos.iter().map(|photo| photo.0).collect())
}

fn no_event(error: sqlx::Error, event: EventId) -> EnqueueError {
    if crate::database::is_code(&error, crate::database::NOT_FOUND) {
        EnqueueError::NoEvent(event)
    } else {
        error.into()
    }
}
