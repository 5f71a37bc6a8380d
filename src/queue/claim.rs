//! A batch is claimed, and with it paid for: the claim is the reservation.

use std::time::Duration;

use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::{
    database,
    ids::{Attempt, EventId, JobId, Operation, OrganisationId, PhotoId, WorkerId},
};

/// A photo that this worker holds and has paid for: a receipt, not a flag. Only the gate makes one, and settling takes
/// it away; what was never reserved cannot be settled.
#[derive(Debug)]
#[must_use = "a reservation that is dropped waits for its worker to die"]
pub struct Reservation {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    organisation: OrganisationId,
    event: EventId,
    operation: Operation,
    photo: PhotoId,
    key: String,
    bib_search: bool,
    face_search: bool,
    retries: i16,
    crashes: i16,
}

impl Reservation {
    /// The job; also its transaction in the ledger.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Who pays.
    pub fn organisation(&self) -> OrganisationId {
        self.organisation
    }

    /// Whose photo it is.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// What is to be done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// To which photo.
    pub fn photo(&self) -> PhotoId {
        self.photo
    }

    /// Where the photo is in the store.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the event wants bib numbers.
    pub fn bib_search(&self) -> bool {
        self.bib_search
    }

    /// Whether the event wants embeddings.
    pub fn face_search(&self) -> bool {
        self.face_search
    }

    /// How often transient trouble has sent it back.
    pub fn retries(&self) -> u32 {
        u32::from(self.retries.unsigned_abs())
    }

    /// What settling is fenced by, beside the worker: another owner has another attempt.
    pub(crate) fn fence(&self) -> (i64, i32) {
        (self.job.0, self.attempt.0)
    }

    /// Two workers died with it in hand: it is worked on while no other such photo is.
    pub fn is_suspect(&self) -> bool {
        self.crashes > 1
    }
}

/// Why the gate refused a worker.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The lease is gone: this incarnation of the worker is over.
    #[error("the worker's lease is gone")]
    LeaseLost,
    /// The database has trouble; ask again.
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

/// Takes up to `most` photos and with each a credit, beginning with the organisations after `cursor`. May be empty
/// although work is left: ask again.
///
/// `async_commit`: do not wait for the disk. A crash of PostgreSQL may then undo the claim as a whole, never a part.
///
/// # Errors
/// See [`GateError`].
pub async fn claim(
    db: &mut PgConnection,
    worker: WorkerId,
    most: usize,
    cursor: OrganisationId,
    async_commit: bool,
) -> Result<Vec<Reservation>, GateError> {
    sqlx::query_as!(
        Reservation,
        r#"SELECT r_job AS "job!: _", r_attempt AS "attempt!: _", r_organisation AS "organisation!: _", r_event AS "event!: _",
                  r_operation AS "operation!: _", r_photo AS "photo!: _", r_key AS "key!", r_bib_search AS "bib_search!", r_face_search AS "face_search!",
                  0::smallint AS "retries!", 0::smallint AS "crashes!"
           FROM claim($1, $2, $3, $4)"#,
        worker.0,
        i32::try_from(most).unwrap_or(i32::MAX),
        cursor.0,
        async_commit
    )
    .fetch_all(db)
    .await
    .map_err(GateError::from)
}

/// True when photos wait that could be claimed now. After an empty claim it means that others held every lock: an
/// enqueue keeps its queue's lock until it has committed.
///
/// # Errors
/// When the database has trouble.
pub async fn is_claimable(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM queue q JOIN account a USING (organisation_id)
                          WHERE q.blocked = 0 AND a.available > 0) AS "claimable!""#
    )
    .fetch_one(db)
    .await
}

/// Declares dead the workers whose lease ran out, refunds what has crashed `crashes_max` times, and takes up to `most`
/// of the photos that nobody has and that are due: the same reservation, the next attempt. Of those that were in hand
/// when two workers died, at most `suspects`.
///
/// # Errors
/// See [`GateError`].
pub async fn adopt(
    db: &mut PgConnection,
    worker: WorkerId,
    most: usize,
    suspects: usize,
    crashes_max: i16,
) -> Result<Vec<Reservation>, GateError> {
    sqlx::query_as!(
        Reservation,
        r#"SELECT r_job AS "job!: _", r_attempt AS "attempt!: _", r_organisation AS "organisation!: _", r_event AS "event!: _",
                  r_operation AS "operation!: _", r_photo AS "photo!: _", r_key AS "key!", r_bib_search AS "bib_search!", r_face_search AS "face_search!",
                  r_retries AS "retries!", r_crashes AS "crashes!"
           FROM adopt($1, $2, $3, $4)"#,
        worker.0,
        i32::try_from(most).unwrap_or(i32::MAX),
        i32::try_from(suspects).unwrap_or(i32::MAX),
        crashes_max
    )
    .fetch_all(db)
    .await
    .map_err(GateError::from)
}

/// Registers an incarnation of a worker under a name never used before.
///
/// # Errors
/// When the database has trouble.
pub async fn register(
    db: &mut PgConnection,
    name: &str,
    slots: usize,
    lease: Duration,
) -> sqlx::Result<WorkerId> {
    sqlx::query_scalar!(
        r#"SELECT register_worker($1, $2, $3) AS "id!: WorkerId""#,
        name,
        i32::try_from(slots).unwrap_or(i32::MAX),
        interval(lease)
    )
    .fetch_one(db)
    .await
}

/// Hands back what the books say this worker has and it does not know of: an answer of the gate was lost on its way.
/// Returns how many photos.
///
/// # Errors
/// When the database has trouble.
pub async fn hand_back_unknown(
    db: &mut PgConnection,
    worker: WorkerId,
    known: &[i64],
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT hand_back_unknown($1, $2) AS "photos!""#, worker.0, known)
        .fetch_one(db)
        .await
}

/// Says that a worker claims nothing more, and finishes what it has; for whoever looks at the workers.
///
/// # Errors
/// When the database has trouble.
pub async fn drain(db: &mut PgConnection, worker: WorkerId) -> sqlx::Result<()> {
    sqlx::query!("SELECT drain_worker($1)", worker.0).execute(db).await.map(|_| ())
}

/// Ends an incarnation; whatever it still has is handed back.
///
/// # Errors
/// When the database has trouble.
pub async fn retire(db: &mut PgConnection, worker: WorkerId) -> sqlx::Result<()> {
    sqlx::query!("SELECT retire_worker($1)", worker.0).execute(db).await.map(|_| ())
}

pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
