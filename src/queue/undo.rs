//! Takes back what a person did to an event's queues, for a short time. It is the exact inverse, or
//! it is refused.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::claim::interval;
use crate::ids::{EventId, Operation, RunId, UndoId};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "undo_act", rename_all = "snake_case")]
#[schema(as = UndoableAct)]
pub enum Act {
    /// Photos were queued.
    Queue,
    /// Failed photos were queued again.
    Retry,
    /// Photos were skipped.
    Skip,
    /// Skipped photos were put back.
    Restore,
    /// A run was cancelled.
    Cancel,
    /// A run was moved to the front.
    First,
    /// A queue was held.
    Hold,
    /// A hold was lifted.
    Lift,
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queue => "queued",
            Self::Retry => "retried",
            Self::Skip => "skipped",
            Self::Restore => "restored",
            Self::Cancel => "cancelled",
            Self::First => "moved to the front",
            Self::Hold => "held",
            Self::Lift => "lifted",
        })
    }
}

impl Act {
    /// More photos may wait when it was taken back.
    #[must_use]
    pub fn may_add_photos(self) -> bool {
        match self {
            Self::Skip | Self::Cancel => true,
            Self::Queue | Self::Retry | Self::Restore | Self::First | Self::Hold | Self::Lift => {
                false
            }
        }
    }
}

/// Something that can be taken back.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Undoable)]
pub struct Open {
    /// The number by which it is taken back.
    pub id: UndoId,
    /// What was done.
    pub act: Act,
    /// The operation whose queue it was done to. Null if photos were queued for both.
    pub operation: Option<Operation>,
    /// Who did it.
    pub actor: String,
    /// The time when it was done.
    pub at: DateTime<Utc>,
    /// Until when it can be taken back.
    pub until: DateTime<Utc>,
    /// Number of photos that it concerns. Null for holds and lifts.
    pub photos: Option<i64>,
    /// The runs that it concerns, if any.
    pub runs: Vec<RunId>,
}

/// The result of taking something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// What was taken back.
    pub act: Act,
    /// Number of photos that it concerns.
    pub photos: i64,
    /// Photos can be claimed, so the caller should wake the workers.
    pub woke: bool,
}

/// Takes something back that was done at most `within` ago.
///
/// # Errors
/// `PG002` if there is no such number, `PG010` if it cannot be taken back any more, or trouble with
/// the database.
pub async fn undo(
    db: &mut PgConnection,
    undo: UndoId,
    actor: &str,
    within: Duration,
) -> sqlx::Result<Undone> {
    sqlx::query_as!(
        Undone,
        r#"SELECT r_act AS "act!: Act", r_photos AS "photos!", r_woke AS "woke!"
           FROM undo($1, $2, $3)"#,
        undo.0,
        actor,
        interval(within)
    )
    .fetch_one(db)
    .await
}

/// Locks several acts, in an order of their own. A transaction that takes all of them back must do
/// this first.
///
/// # Errors
/// When the database has trouble.
pub async fn lock(db: &mut PgConnection, acts: &[UndoId]) -> sqlx::Result<()> {
    let acts: Vec<_> = acts.iter().map(|id| id.0).collect();
    sqlx::query!("SELECT lock_acts($1)", &acts).execute(db).await.map(|_| ())
}

/// Returns what can be taken back in an event, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn open(
    db: &mut PgConnection,
    event: EventId,
    within: Duration,
) -> sqlx::Result<Vec<Open>> {
    sqlx::query_as!(
        Open,
        r#"SELECT u.undo_id AS "id: _", u.act AS "act: _",
                  CASE WHEN cardinality(u.runs) > 1 OR u.act = 'queue' AND u.follow_ups IS NOT NULL THEN NULL
                       WHEN u.runs <> '{}' THEN (
                           SELECT operation FROM run JOIN queue USING (queue_id) WHERE run_id = u.runs[1])
                       ELSE q.operation END
                  AS "operation: Operation",
                  u.actor, u.at, u.at + $2 AS "until!",
                  CASE WHEN u.act NOT IN ('hold', 'lift') THEN coalesce(
                      number_of(u.positions),
                      (SELECT coalesce(sum(r.queued), 0) FROM run r WHERE r.run_id = ANY (u.runs))
                      + coalesce(cardinality(u.follow_ups), 0)) END AS photos,
                  coalesce(u.runs, '{}') AS "runs!: Vec<RunId>"
           FROM undo u JOIN event e USING (event_id) JOIN queue q USING (queue_id)
           WHERE u.event_id = $1 AND u.at > clock_timestamp() - $2 AND u.undone_at IS NULL
             AND e.deleted_at IS NULL
           ORDER BY u.at DESC LIMIT 50"#,
        event.0,
        interval(within)
    )
    .fetch_all(db)
    .await
}

/// Returns the event in which something was done. `None` if there is no such number.
///
/// # Errors
/// When the database has trouble.
pub async fn event_of(db: &mut PgConnection, undo: UndoId) -> sqlx::Result<Option<(EventId, Act)>> {
    let row = sqlx::query!(
        r#"SELECT event_id AS "event: EventId", act AS "act: Act" FROM undo WHERE undo_id = $1"#,
        undo.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.event, row.act)))
}

/// Ties what one call did together, in its transaction, so that it is taken back as one. Returns
/// the number of all of it; `None` if there is nothing.
///
/// # Errors
/// When the database has trouble.
pub async fn tie(db: &mut PgConnection, acts: &[UndoId]) -> sqlx::Result<Option<UndoId>> {
    let acts: Vec<_> = acts.iter().map(|id| id.0).collect();
    sqlx::query_scalar!(r#"SELECT tie_acts($1) AS "bulk: UndoId""#, &acts).fetch_one(db).await
}

/// Returns what one call did and what was not taken back yet, by its number.
///
/// # Errors
/// When the database has trouble.
pub async fn of_bulk(db: &mut PgConnection, bulk: UndoId) -> sqlx::Result<Vec<UndoId>> {
    sqlx::query_scalar!(
        r#"SELECT undo_id AS "id: UndoId" FROM undo JOIN event e USING (event_id)
           WHERE bulk_id = $1 AND undone_at IS NULL AND e.deleted_at IS NULL ORDER BY undo_id"#,
        bulk.0
    )
    .fetch_all(db)
    .await
}

/// What one call did to several queues, and what can be taken back as one.
#[derive(Debug, Clone)]
pub struct OpenBulk {
    /// The number by which it is taken back.
    pub id: UndoId,
    /// What was done.
    pub act: Act,
    /// Number of queues that it was done to.
    pub queues: i64,
    /// Until when it can be taken back.
    pub until: DateTime<Utc>,
}

/// Returns what somebody did to several queues at once and can take back, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn open_bulks(
    db: &mut PgConnection,
    actor: &str,
    within: Duration,
) -> sqlx::Result<Vec<OpenBulk>> {
    sqlx::query_as!(
        OpenBulk,
        r#"SELECT u.bulk_id AS "id!: _", u.act AS "act: _",
                  count(DISTINCT u.queue_id) AS "queues!", min(u.at) + $2 AS "until!"
           FROM undo u JOIN event e USING (event_id)
           WHERE u.at > clock_timestamp() - $2 AND u.bulk_id IS NOT NULL AND u.actor = $1
             AND u.undone_at IS NULL AND e.deleted_at IS NULL
           GROUP BY u.bulk_id, u.act ORDER BY u.bulk_id DESC LIMIT 3"#,
        actor,
        interval(within)
    )
    .fetch_all(db)
    .await
}
