//! Runs: the photos that one call queued, and their progress.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::{EventId, Operation, OrganisationId, RunId, UndoId};

/// The result of cancelling a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cancelled {
    /// Number of photos that waited, and were taken back. They cost nothing.
    pub cancelled: i64,
    /// Number of photos that are in progress: they are finished.
    pub in_progress: i64,
    /// The number by which this can be taken back. Null if no photo waited.
    pub undo: Option<UndoId>,
}

/// The result of moving a run to the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct MovedFirst {
    /// Number of photos that wait, and are claimed before all others of their queue now.
    pub moved: i64,
    /// The number by which this can be taken back. Null if no photo waited.
    pub undo: Option<UndoId>,
}

/// A run: the photos that one enqueue or retry call queued. The counts are photos.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Run {
    /// The run's number.
    pub id: RunId,
    /// The organisation that pays for the photos.
    pub organisation: OrganisationId,
    /// The event that the photos belong to.
    pub event: EventId,
    /// The operation that they were queued for.
    pub operation: Operation,
    /// Who queued them: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: String,
    /// The time of the call.
    pub at: DateTime<Utc>,
    /// Photos that the call queued.
    pub queued: i64,
    /// The time when the run was taken back, before any of its photos was claimed.
    pub undone_at: Option<DateTime<Utc>>,
    /// Who took it back.
    pub undone_by: Option<String>,
    /// Photos that are not claimed yet.
    pub waiting: i64,
    /// Photos that a person took out of the queue.
    pub skipped: i64,
    /// Photos that are claimed and not settled yet. Each has a reserved credit.
    pub in_progress: i64,
    /// Photos that were processed. Each cost one credit.
    pub processed: i64,
    /// Photos of which AI Rotation could not decide which way is up. Their credits were refunded.
    pub undecided: i64,
    /// Photos with the content of one that was paid for before. Their credits were refunded.
    pub duplicates: i64,
    /// Photos that failed. Their credits were refunded.
    pub failed: i64,
}

/// Cancels a run.
///
/// # Errors
/// `PG002` if there is no such run, or trouble with the database.
pub async fn cancel(db: &mut PgConnection, run: RunId, actor: &str) -> sqlx::Result<Cancelled> {
    sqlx::query_as!(
        Cancelled,
        r#"SELECT r_cancelled AS "cancelled!", r_in_progress AS "in_progress!",
                  r_undo AS "undo: UndoId"
           FROM cancel_run($1, $2)"#,
        run.0,
        actor
    )
    .fetch_one(db)
    .await
}

/// Moves a run to the front of its queue.
///
/// # Errors
/// `PG002` if there is no such run, or trouble with the database.
pub async fn put_first(db: &mut PgConnection, run: RunId, actor: &str) -> sqlx::Result<MovedFirst> {
    sqlx::query_as!(
        MovedFirst,
        r#"SELECT r_moved AS "moved!", r_undo AS "undo: UndoId" FROM put_run_first($1, $2)"#,
        run.0,
        actor
    )
    .fetch_one(db)
    .await
}

/// The newest run of a queue of which photos wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// The run's number.
    pub run: RunId,
    /// Number of its photos that wait.
    pub waiting: i64,
    /// Number of photos that are claimed before them.
    pub ahead: i64,
}

/// Returns the newest run of a queue of which photos wait. `None`: no photo waits.
///
/// # Errors
/// When the database has trouble.
pub async fn newest(db: &mut PgConnection, queue: i64) -> sqlx::Result<Option<Newest>> {
    let row = sqlx::query!(
        r#"SELECT r_run AS "run: RunId", r_waiting AS waiting, r_ahead AS ahead
           FROM newest_run($1)"#,
        queue
    )
    .fetch_one(db)
    .await?;
    Ok(row.run.zip(row.waiting).zip(row.ahead).map(|((run, waiting), ahead)| Newest {
        run,
        waiting,
        ahead,
    }))
}

/// Returns a run and its progress. `None` if there is no such run, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn find(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Run>> {
    Ok(read(db, &[run.0]).await?.pop())
}

/// Returns the latest runs of an event of which photos wait, oldest first: at most 20.
///
/// # Errors
/// When the database has trouble.
pub async fn waiting(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Run>> {
    let runs = sqlx::query_scalar!(
        r#"SELECT w.run_id AS "run!" FROM queue q CROSS JOIN LATERAL (
               -- A run that waits is one of the latest. Each is counted, so only so many are looked at.
               SELECT r.run_id, r.queued, r.queue_id FROM run r
               WHERE r.queue_id = q.queue_id AND r.undone_at IS NULL
               ORDER BY r.run_id DESC LIMIT 200) w
           WHERE q.event_id = $1 AND NOT q.drained
             AND w.queued > (SELECT coalesce(sum(u.claimed), 0) FROM usage u
                             WHERE u.run_id = w.run_id)
           ORDER BY w.run_id DESC LIMIT 20"#,
        event.0
    )
    .fetch_all(&mut *db)
    .await?;
    let found = read(db, &runs).await?;
    Ok(found.into_iter().filter(|run| run.waiting > 0).collect())
}

async fn read(db: &mut PgConnection, runs: &[i64]) -> sqlx::Result<Vec<Run>> {
    sqlx::query_as!(
        Run,
        r#"SELECT r.run_id AS "id: _", r.organisation_id AS "organisation: _",
                  r.event_id AS "event: _", q.operation AS "operation: _",
                  r.actor, r.created_at AS at,
                  r.queued::bigint AS "queued!", r.undone_at, r.undone_by,
                  CASE WHEN r.undone_at IS NULL THEN r.queued - u.claimed - s.skipped ELSE 0 END
                  AS "waiting!", s.skipped AS "skipped!",
                  u.claimed - u.committed - u.refunded AS "in_progress!",
                  u.committed AS "processed!", u.undecided AS "undecided!",
                  u.duplicates AS "duplicates!",
                  u.refunded - u.undecided - u.duplicates AS "failed!"
           FROM run r JOIN queue q USING (queue_id) JOIN event e ON e.event_id = r.event_id
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed,
                                      coalesce(sum(committed), 0) AS committed,
                                      coalesce(sum(refunded), 0) AS refunded,
                                      coalesce(sum(undecided), 0) AS undecided,
                                      coalesce(sum(duplicates), 0) AS duplicates
                               FROM usage WHERE usage.run_id = r.run_id) u
           CROSS JOIN LATERAL (SELECT skipped_of_run(r) AS skipped) s
           WHERE r.run_id = ANY ($1) AND e.deleted_at IS NULL ORDER BY r.run_id"#,
        runs
    )
    .fetch_all(db)
    .await
}
