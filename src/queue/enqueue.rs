//! Enqueues photos. Enqueueing is idempotent for each photo and
//! operation: a photo that is sent twice is queued once, and costs nothing the second time.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    catalog::key::{Key, KeyError},
    database,
    ids::{EventId, Operation, PhotoId, RunId, UndoId},
    ledger::credits::Credits,
};

/// Largest number of photos in one call. A call is one transaction, and other enqueues of the queue
/// wait for it. 10,000 photos take about a second.
pub const PHOTOS_MAX: usize = 10_000;

/// Largest payload, in bytes of its JSON text. Every claim reads it, so it is small.
pub const PAYLOAD_MAX: usize = 4096;

/// A photo to enqueue.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The photo's key.
    pub key: Key,
    /// What the worker gets beside the key. At most [`PAYLOAD_MAX`] bytes.
    pub payload: Option<Value>,
    /// What the store's listing says of the file, if this is a sync: another text means that the file
    /// has changed.
    pub listed: Option<String>,
}

/// When the photos of a run are claimed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Priority {
    /// In their turn: after those that wait in the event already.
    #[default]
    Normal,
    /// Before the others of their event, and after urgent ones that were queued earlier.
    Urgent,
}

impl Priority {
    /// True for [`Self::Urgent`].
    #[must_use]
    pub fn is_urgent(self) -> bool {
        self == Self::Urgent
    }
}

/// Runs of photos that were queued before: at most [`RUNS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Before {
    /// Those with photos of this call that are not done, the latest first.
    pub open: Vec<RunId>,
    /// The others, the latest first.
    pub done: Vec<RunId>,
    /// There are more.
    pub more: bool,
}

/// The largest number of runs that an answer names beside its own.
pub const RUNS_MAX: usize = 100;

impl Before {
    /// From what SQL says: one more than there may be, the first `open` of them are open.
    fn of(mut runs: Vec<i64>, open: i32) -> Self {
        let more = runs.len() > RUNS_MAX;
        runs.truncate(RUNS_MAX);
        let open = usize::try_from(open).unwrap_or_default().min(runs.len());
        let done = runs.split_off(open).into_iter().map(RunId).collect();
        Self { open: runs.into_iter().map(RunId).collect(), done, more }
    }
}

/// The result of an enqueue call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The run's number, to ask for its progress later; `None` if nothing was queued.
    pub run: Option<RunId>,
    /// The runs of the photos that were not queued.
    pub before: Before,
    /// Number of photos that were queued, in the given order.
    pub queued: u32,
    /// How many of these are queued later, when their AI Rotation has ended.
    pub following: u32,
    /// How many of these had ended before, and their files have changed since.
    pub changed: u32,
    /// Number of photos that were not queued, by reason.
    pub skipped: Skipped,
    /// The organisation's available credits now.
    pub available: Credits,
    /// Credits that are missing to process all waiting photos of the organisation, including this
    /// run. 0 if nothing is missing.
    pub shortfall: Credits,
    /// The number by which this can be taken back; `None` if nothing was queued.
    pub undo: Option<UndoId>,
    /// The photos can be claimed, so the caller should wake the workers.
    #[serde(skip)]
    pub woke: bool,
}

/// How many photos were not queued, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// Photos whose key is in this call more than once.
    pub repeated: u32,
    /// Photos that are already waiting or in progress.
    pub already_queued: u32,
    /// Photos that were already processed and paid for, or that have the content of one that was.
    pub already_processed: u32,
    /// Photos of which AI Rotation could not decide which way is up, and which were refunded. They are
    /// asked for again only by a retry that names the reason `undecided`.
    pub undecided_before: u32,
    /// Photos that failed before and were refunded. Only a person's retry queues them again.
    pub failed_before: u32,
    /// Photos that a person skipped before. Only a person can restore them.
    pub skipped_before: u32,
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.repeated += other.repeated;
        self.already_queued += other.already_queued;
        self.already_processed += other.already_processed;
        self.undecided_before += other.undecided_before;
        self.failed_before += other.failed_before;
        self.skipped_before += other.skipped_before;
    }
}

/// Why an enqueue call was refused. Nothing was queued.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The call has more than [`PHOTOS_MAX`] photos.
    #[error("{0} photos are too many for one call: send at most {PHOTOS_MAX} in each call")]
    TooMany(usize),
    /// A key is not valid.
    #[error("photo {number} of the call: {error}")]
    Key {
        /// The position of the photo in the call, counted from 1.
        number: usize,
        /// What is wrong with the key.
        error: KeyError,
    },
    /// A payload is too large.
    #[error("the payload of {key} has {bytes} bytes of JSON: send at most {PAYLOAD_MAX}")]
    LargePayload {
        /// The photo's key.
        key: Key,
        /// The length of the payload's JSON text.
        bytes: usize,
    },
    /// PostgreSQL cannot keep a payload.
    #[error(
        "a payload cannot be kept: leave out NUL characters, numbers with very many \
         digits, and very deep nesting"
    )]
    OddPayload,
    /// The event does not exist.
    #[error("there is no event {0}")]
    NoEvent(EventId),
    /// The database has trouble, or refused the call.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
}

/// Checks keys, and makes a job without a payload of each. There is no limit to their number.
///
/// # Errors
/// [`EnqueueError::Key`] for the first key that is not valid.
pub fn jobs(keys: &[String]) -> Result<Vec<NewJob>, EnqueueError> {
    let job = |(at, key): (usize, &String)| match Key::parse(key) {
        Ok(key) => Ok(NewJob { key, payload: None, listed: None }),
        Err(error) => Err(EnqueueError::Key { number: at + 1, error }),
    };
    keys.iter().enumerate().map(job).collect()
}

/// Enqueues photos of an event for an operation, in one transaction. They are claimed in their turn.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn enqueue(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    jobs: &[NewJob],
    actor: &str,
) -> Result<Run, EnqueueError> {
    enqueue_with(db, event, operation, jobs, actor, Priority::Normal).await
}

/// Enqueues photos of an event for an operation, in one transaction.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn enqueue_with(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    jobs: &[NewJob],
    actor: &str,
    priority: Priority,
) -> Result<Run, EnqueueError> {
    check(jobs)?;
    let row = sqlx::query_as!(
        Row,
        r#"SELECT r_run AS "run: RunId", r_queued AS "queued!", 0 AS "following!",
                  r_changed AS "changed!", r_repeated AS "repeated!", r_waiting AS "waiting!",
                  r_processed AS "processed!", r_undecided AS "undecided!", r_failed AS "failed!",
                  r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!",
                  r_undo AS "undo: UndoId", r_woke AS "woke!", r_runs AS "runs!", r_open AS "open!"
           FROM enqueue($1, $2, $3, $4, $5, $6, $7, $8)"#,
        event.0,
        operation as Operation,
        &keys(jobs),
        &fresh_ids(jobs),
        actor,
        payloads(jobs) as Option<Vec<Option<Value>>>,
        listed(jobs) as Option<Vec<Option<String>>>,
        priority.is_urgent()
    )
    .fetch_one(db)
    .await
    .map_err(|error| refused(error, event, jobs))?;
    Ok(row.into())
}

/// What the SQL functions say of a run.
pub(super) struct Row {
    pub(super) run: Option<RunId>,
    pub(super) queued: i32,
    pub(super) following: i32,
    pub(super) changed: i32,
    pub(super) repeated: i32,
    pub(super) waiting: i32,
    pub(super) processed: i32,
    pub(super) undecided: i32,
    pub(super) failed: i32,
    pub(super) skipped: i32,
    pub(super) available: i64,
    pub(super) ahead: i64,
    pub(super) undo: Option<UndoId>,
    pub(super) woke: bool,
    pub(super) runs: Vec<i64>,
    pub(super) open: i32,
}

impl From<Row> for Run {
    fn from(row: Row) -> Self {
        Self {
            run: row.run,
            before: Before::of(row.runs, row.open),
            queued: row.queued.unsigned_abs(),
            following: row.following.unsigned_abs(),
            changed: row.changed.unsigned_abs(),
            skipped: Skipped {
                repeated: row.repeated.unsigned_abs(),
                already_queued: row.waiting.unsigned_abs(),
                already_processed: row.processed.unsigned_abs(),
                undecided_before: row.undecided.unsigned_abs(),
                failed_before: row.failed.unsigned_abs(),
                skipped_before: row.skipped.unsigned_abs(),
            },
            available: Credits(row.available),
            shortfall: Credits((row.ahead - row.available).max(0)),
            undo: row.undo,
            woke: row.woke,
        }
    }
}

/// The result of a dry run: what an enqueue call would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The runs of the photos that would not be queued.
    pub before: Before,
    /// Number of photos that would be queued.
    pub queued: u32,
    /// How many of these would be queued later, when their AI Rotation has ended.
    pub following: u32,
    /// How many of these have ended before, and their files have changed since.
    pub changed: u32,
    /// Number of photos that would not be queued, by reason.
    pub skipped: Skipped,
    /// The organisation's available credits now.
    pub available: Credits,
    /// Credits that all waiting photos of the organisation would need then, including these photos.
    pub ahead: Credits,
}

/// Returns what [`enqueue`] would do if it was called now; with `both`, what
/// [`enqueue_both`](super::follow_ups::enqueue_both) would do for this operation. It writes nothing,
/// and takes no locks that others wait for.
///
/// # Errors
/// See [`EnqueueError`].
pub async fn plan(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    jobs: &[NewJob],
    both: bool,
) -> Result<Plan, EnqueueError> {
    let row = sqlx::query!(
        r#"SELECT r_queued AS "queued!", r_changed AS "changed!", r_following AS "following!",
                  r_repeated AS "repeated!", r_waiting AS "waiting!",
                  r_processed AS "processed!", r_undecided AS "undecided!",
                  r_failed AS "failed!", r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!",
                  r_runs AS "runs!", r_open AS "open!"
           FROM plan_enqueue($1, $2, $3, $4, $5)"#,
        event.0,
        operation as Operation,
        &keys(jobs),
        listed(jobs) as Option<Vec<Option<String>>>,
        both
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Plan {
        before: Before::of(row.runs, row.open),
        queued: row.queued.unsigned_abs(),
        following: row.following.unsigned_abs(),
        changed: row.changed.unsigned_abs(),
        skipped: Skipped {
            repeated: row.repeated.unsigned_abs(),
            already_queued: row.waiting.unsigned_abs(),
            already_processed: row.processed.unsigned_abs(),
            undecided_before: row.undecided.unsigned_abs(),
            failed_before: row.failed.unsigned_abs(),
            skipped_before: row.skipped.unsigned_abs(),
        },
        available: Credits(row.available),
        ahead: Credits(row.ahead),
    })
}

pub(super) fn keys(jobs: &[NewJob]) -> Vec<String> {
    jobs.iter().map(|job| job.key.to_string()).collect()
}

/// An ID for each job, for the photos that are new. They grow with time.
pub(super) fn fresh_ids(jobs: &[NewJob]) -> Vec<Uuid> {
    jobs.iter().map(|_| Uuid::now_v7()).collect()
}

/// Checks the jobs of one call: their number and their payloads.
pub(super) fn check(jobs: &[NewJob]) -> Result<(), EnqueueError> {
    if jobs.len() > PHOTOS_MAX {
        return Err(EnqueueError::TooMany(jobs.len()));
    }
    check_payloads(jobs)
}

/// Checks the payloads of jobs: their size, and that they can be read again.
///
/// # Errors
/// [`EnqueueError::LargePayload`] or [`EnqueueError::OddPayload`] for the first that is refused.
pub fn check_payloads(jobs: &[NewJob]) -> Result<(), EnqueueError> {
    for NewJob { key, payload, .. } in jobs {
        let Some(payload) = payload else { continue };
        let text = payload.to_string();
        if text.len() > PAYLOAD_MAX {
            return Err(EnqueueError::LargePayload { key: key.clone(), bytes: text.len() });
        }
        // PostgreSQL has no NUL in a text. What is nested too deeply cannot be read again.
        if text.contains("\\u0000") || serde_json::from_str::<Value>(&text).is_err() {
            return Err(EnqueueError::OddPayload);
        }
    }
    Ok(())
}

fn has_payloads(jobs: &[NewJob]) -> bool {
    jobs.iter().any(|job| job.payload.is_some())
}

/// The payloads of the jobs. `None` if no job has one, as is usual.
pub(super) fn payloads(jobs: &[NewJob]) -> Option<Vec<Option<Value>>> {
    has_payloads(jobs).then(|| jobs.iter().map(|job| job.payload.clone()).collect())
}

/// The listings of the jobs. `None` if this is no sync.
pub(super) fn listed(jobs: &[NewJob]) -> Option<Vec<Option<String>>> {
    jobs.iter()
        .any(|job| job.listed.is_some())
        .then(|| jobs.iter().map(|job| job.listed.clone()).collect())
}

/// The IDs of the photos of one call.
pub(super) fn ids(photos: &[PhotoId]) -> Result<Vec<Uuid>, EnqueueError> {
    if photos.len() > PHOTOS_MAX {
        return Err(EnqueueError::TooMany(photos.len()));
    }
    Ok(photos.iter().map(|photo| photo.0).collect())
}

/// Tells apart a payload that cannot be kept, and that there is no such event.
pub(super) fn refused(error: sqlx::Error, event: EventId, jobs: &[NewJob]) -> EnqueueError {
    if has_payloads(jobs) && database::is_refusal(&error) {
        EnqueueError::OddPayload
    } else {
        no_event(error, event)
    }
}

/// Tells apart that there is no such event.
pub(super) fn no_event(error: sqlx::Error, event: EventId) -> EnqueueError {
    if crate::database::is_code(&error, crate::database::NOT_FOUND) {
        EnqueueError::NoEvent(event)
    } else {
        error.into()
    }
}
