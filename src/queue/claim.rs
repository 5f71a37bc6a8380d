//! Claims batches of photos. The claim is also the reservation: one transaction takes the photos
//! and one credit for each.

use std::{fmt, time::Duration};

use serde::de::DeserializeOwned;
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use crate::{
    database,
    ids::{Attempt, EventId, JobId, Operation, OrganisationId, PhotoId, WorkerId},
};

/// A claimed photo, with the credit that is reserved for it.
///
/// Only a claim or an adoption creates this value, and settling consumes it. So the compiler makes
/// sure that a photo without a reservation cannot be settled.
#[derive(Debug)]
#[must_use = "a dropped reservation stays open until its worker has left"]
pub struct Reservation {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    organisation: OrganisationId,
    event: EventId,
    operation: Operation,
    photo: PhotoId,
    key: String,
    payload: Option<String>,
    bib_search: bool,
    face_search: bool,
    retries: i16,
    crashes: i16,
}

impl Reservation {
    /// The job's number. It is also the number of the transaction in the ledger.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The organisation that pays for the photo.
    pub fn organisation(&self) -> OrganisationId {
        self.organisation
    }

    /// The event that the photo belongs to.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// The operation to perform on the photo.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The photo's ID.
    pub fn photo(&self) -> PhotoId {
        self.photo
    }

    /// The photo's key: its path in the store.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the enqueuer sent beside the key, for the worker. Without a payload, it is read as null.
    ///
    /// It is JSON from outside, so it is read only here. What cannot be read must fail this photo
    /// alone, and not the claim that it came in.
    ///
    /// # Errors
    /// When the payload is no `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.payload.as_deref().unwrap_or("null"))
    }

    /// Whether bib numbers are read on the event's photos.
    pub fn bib_search(&self) -> bool {
        self.bib_search
    }

    /// Whether face search is on for the event, so that embeddings are computed.
    pub fn face_search(&self) -> bool {
        self.face_search
    }

    /// How many automatic retries the photo has had.
    pub fn retries(&self) -> u32 {
        u32::from(self.retries.unsigned_abs())
    }

    /// The fence: the job and the attempt. Together with the worker, they must match when the photo
    /// is settled. A new owner has a new attempt.
    pub(crate) fn fence(&self) -> (i64, i32) {
        (self.job.0, self.attempt.0)
    }

    /// True if the photo has crashed twice or more. A worker works on one suspect at a time.
    pub fn is_suspect(&self) -> bool {
        self.crashes > 1
    }
}

/// A worker incarnation of this process. Only the process that registered it has its key, and the
/// database asks for the key in each call.
#[derive(Debug, Clone, Copy)]
pub struct Incarnation {
    /// Its number, which the books name.
    pub worker: WorkerId,
    key: Key,
}

/// The key of an incarnation. It is not shown.
#[derive(Clone, Copy)]
struct Key(Uuid);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

impl Incarnation {
    /// A worker that is not registered anywhere.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self { worker: WorkerId(0), key: Key(Uuid::nil()) }
    }

    /// Whoever has the key can settle the photos of this worker.
    pub fn key(self) -> Uuid {
        self.key.0
    }
}

/// Why the database refused a call of a worker.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The worker has lost its lease: this incarnation is over.
    #[error("the worker has lost its lease")]
    LeaseLost,
    /// The database has trouble. The worker tries again.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for GateError {
    fn from(error: sqlx::Error) -> Self {
        if database::is_code(&error, database::LEASE_LOST) {
            Self::LeaseLost
        } else {
            Self::Database(error)
        }
    }
}

/// Claims up to `most` photos and reserves one credit for each. Begins with the organisations after
/// `cursor`.
///
/// The result can be empty although photos wait: other transactions may hold the locks. Then call
/// it again.
///
/// With `async_commit`, the claim does not wait for the disk. A crash of PostgreSQL may then undo
/// the whole claim, but never a part of it.
///
/// # Errors
/// See [`GateError`].
pub async fn claim(
    db: &mut PgConnection,
    me: Incarnation,
    most: usize,
    cursor: OrganisationId,
    async_commit: bool,
) -> Result<Vec<Reservation>, GateError> {
    sqlx::query_as!(
        Reservation,
        r#"SELECT r_job AS "job!: _", r_attempt AS "attempt!: _",
                  r_organisation AS "organisation!: _", r_event AS "event!: _",
                  r_operation AS "operation!: _", r_photo AS "photo!: _", r_key AS "key!",
                  r_payload::text AS payload, r_bib_search AS "bib_search!", r_face_search AS "face_search!",
                  0::smallint AS "retries!", 0::smallint AS "crashes!"
           FROM claim($1, $2, $3, $4)"#,
        me.key(),
        i32::try_from(most).unwrap_or(i32::MAX),
        cursor.0,
        async_commit
    )
    .fetch_all(db)
    .await
    .map_err(GateError::from)
}

/// What an empty claim means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// Photos wait that can be claimed now, or will be in a moment: other transactions held the locks
    /// (another claim, or an enqueue that is about to commit), or it is the turn of others.
    pub claimable: bool,
    /// Where the next claim begins.
    pub cursor: OrganisationId,
}

/// Returns what it means that a claim of `most` photos after `cursor` found nothing.
///
/// # Errors
/// When the database has trouble.
pub async fn after_empty(
    db: &mut PgConnection,
    most: usize,
    cursor: OrganisationId,
) -> sqlx::Result<Empty> {
    sqlx::query_as!(
        Empty,
        r#"SELECT r_claimable AS "claimable!", r_cursor AS "cursor!: _"
           FROM after_empty_claim($1, $2)"#,
        cursor.0,
        i32::try_from(most).unwrap_or(i32::MAX)
    )
    .fetch_one(db)
    .await
}

/// Adopts up to `most` photos that no worker has and that are due, at most `suspects` of them
/// suspects. Each photo keeps its reservation, and gets the next attempt.
///
/// Before that, it declares workers dead whose lease ran out, and refunds photos that have crashed
/// `crashes_max` times.
///
/// # Errors
/// See [`GateError`].
pub async fn adopt(
    db: &mut PgConnection,
    me: Incarnation,
    most: usize,
    suspects: usize,
    crashes_max: i16,
) -> Result<Vec<Reservation>, GateError> {
    sqlx::query_as!(
        Reservation,
        r#"SELECT r_job AS "job!: _", r_attempt AS "attempt!: _",
                  r_organisation AS "organisation!: _", r_event AS "event!: _",
                  r_operation AS "operation!: _", r_photo AS "photo!: _", r_key AS "key!",
                  r_payload::text AS payload, r_bib_search AS "bib_search!", r_face_search AS "face_search!",
                  r_retries AS "retries!", r_crashes AS "crashes!"
           FROM adopt($1, $2, $3, $4)"#,
        me.key(),
        i32::try_from(most).unwrap_or(i32::MAX),
        i32::try_from(suspects).unwrap_or(i32::MAX),
        crashes_max
    )
    .fetch_all(db)
    .await
    .map_err(GateError::from)
}

/// Registers a worker incarnation. `name` must never have been used before.
///
/// # Errors
/// When the database has trouble.
pub async fn register(
    db: &mut PgConnection,
    name: &str,
    slots: usize,
    lease: Duration,
) -> sqlx::Result<Incarnation> {
    let row = sqlx::query!(
        r#"SELECT r_worker AS "worker!: WorkerId", r_key AS "key!"
           FROM register_worker($1, $2, $3)"#,
        name,
        i32::try_from(slots).unwrap_or(i32::MAX),
        interval(lease)
    )
    .fetch_one(db)
    .await?;
    Ok(Incarnation { worker: row.worker, key: Key(row.key) })
}

/// Hands back the photos that this worker has in the database but does not know of. This happens if
/// the answer to a claim was lost.
///
/// `known` are the jobs that the worker knows of. Returns the number of photos.
///
/// # Errors
/// When the database has trouble.
pub async fn hand_back_unknown(
    db: &mut PgConnection,
    me: Incarnation,
    known: &[i64],
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT hand_back_unknown($1, $2) AS "photos!""#, me.key(), known)
        .fetch_one(db)
        .await
}

/// Records that a worker is draining. This is only for the list of workers that people see.
///
/// # Errors
/// When the database has trouble.
pub async fn drain(db: &mut PgConnection, me: Incarnation) -> sqlx::Result<()> {
    sqlx::query!("SELECT drain_worker($1)", me.key()).execute(db).await.map(|_| ())
}

/// Records why a worker claims nothing for now, or that it claims again (`None`). This is for the
/// people who ask why nothing goes on.
///
/// # Errors
/// When the database has trouble.
pub async fn tell_stopped(
    db: &mut PgConnection,
    me: Incarnation,
    reason: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT tell_stopped($1, $2)", me.key(), reason).execute(db).await.map(|_| ())
}

/// Ends a worker incarnation, and hands back all photos that it still has.
///
/// # Errors
/// When the database has trouble.
pub async fn retire(db: &mut PgConnection, me: Incarnation) -> sqlx::Result<()> {
    sqlx::query!("SELECT retire_worker($1)", me.key()).execute(db).await.map(|_| ())
}

/// Ends all worker incarnations, and hands back all photos that they have. For after a restore.
/// Returns how many there were.
///
/// # Errors
/// When the database has trouble.
pub async fn retire_all(db: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT retire_all_workers() AS "n!""#).fetch_one(db).await
}

pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
