//! Places and lifts holds, with which a person stops a queue. A top-up does not lift a hold.
//! Lifting one hold does not lift another.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::ids::{EventId, HoldId, Operation, UndoId};

/// The result of placing a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The hold's number.
    pub hold: HoldId,
    /// The number by which this can be taken back; `None` if the event was deleted meanwhile.
    pub undo: Option<UndoId>,
}

/// Places a hold on an event's queue for an operation. The hold ends at `until`, or (`None`) when a
/// person lifts it.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn hold(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    owner: &str,
    note: &str,
    until: Option<DateTime<Utc>>,
) -> sqlx::Result<Held> {
    sqlx::query_as!(
        Held,
        r#"SELECT r_hold AS "hold!: HoldId", r_undo AS "undo: UndoId"
           FROM hold_queue($1, $2, $3, $4, $5)"#,
        event.0,
        operation as Operation,
        owner,
        note,
        until
    )
    .fetch_one(db)
    .await
}

/// Places a hold on an event's queue, unless a hold stands on it: `None` then. Of two who call this at
/// once, one places a hold.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn hold_if_free(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    owner: &str,
    note: &str,
    until: Option<DateTime<Utc>>,
) -> sqlx::Result<Option<Held>> {
    let row = sqlx::query!(
        r#"SELECT r_hold AS "hold: HoldId", r_undo AS "undo: UndoId"
           FROM hold_free_queue($1, $2, $3, $4, $5)"#,
        event.0,
        operation as Operation,
        owner,
        note,
        until
    )
    .fetch_one(db)
    .await?;
    Ok(row.hold.map(|hold| Held { hold, undo: row.undo }))
}

/// The result of lifting a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifted {
    /// False if the hold was lifted before.
    pub lifted: bool,
    /// The number by which this can be taken back; `None` if the hold was lifted before.
    pub undo: Option<UndoId>,
    /// The queue runs again, so the caller should wake the workers.
    pub woke: bool,
}

/// Lifts one hold. Other holds on the same queue stay.
///
/// # Errors
/// `PG002` if there is no such hold, or trouble with the database.
pub async fn lift(db: &mut PgConnection, hold: HoldId, actor: &str) -> sqlx::Result<Lifted> {
    sqlx::query_as!(
        Lifted,
        r#"SELECT r_lifted AS "lifted!", r_undo AS "undo: UndoId", r_woke AS "woke!"
           FROM lift_hold($1, $2)"#,
        hold.0,
        actor
    )
    .fetch_one(db)
    .await
}

/// Returns the holds on an event's queues that are not lifted, queue by queue and oldest first.
/// With `operation`, only the holds on its queue.
///
/// # Errors
/// When the database has trouble.
pub async fn standing(
    db: &mut PgConnection,
    event: EventId,
    operation: Option<Operation>,
) -> sqlx::Result<Vec<HoldId>> {
    sqlx::query_scalar!(
        r#"SELECT h.hold_id AS "id: _" FROM hold h JOIN queue q USING (queue_id)
           WHERE q.event_id = $1 AND h.lifted_at IS NULL
             AND ($2::operation IS NULL OR q.operation = $2)
           ORDER BY h.queue_id, h.hold_id"#,
        event.0,
        operation as Option<Operation>
    )
    .fetch_all(db)
    .await
}

/// A hold that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The hold's number.
    pub id: HoldId,
    /// The number of the queue that it holds.
    pub queue: i64,
    /// Who placed it.
    pub owner: String,
    /// Why; may be empty.
    pub note: String,
    /// The time when it ends by itself. `None`: when a person lifts it.
    pub until: Option<DateTime<Utc>>,
}

/// Returns the holds on these queues that are not lifted, oldest first.
///
/// # Errors
/// When the database has trouble.
pub async fn standing_on(db: &mut PgConnection, queues: &[i64]) -> sqlx::Result<Vec<Standing>> {
    sqlx::query_as!(
        Standing,
        r#"SELECT hold_id AS "id: _", queue_id AS queue, owner, note, until FROM hold
           WHERE queue_id = ANY ($1) AND lifted_at IS NULL AND NOT for_good ORDER BY hold_id"#,
        queues
    )
    .fetch_all(db)
    .await
}

/// Returns the event of a hold, also of a hold that was lifted. `None` if there is no such hold.
///
/// # Errors
/// When the database has trouble.
pub async fn event_of(db: &mut PgConnection, hold: HoldId) -> sqlx::Result<Option<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT q.event_id AS "event: EventId"
           FROM hold h JOIN queue q USING (queue_id) WHERE h.hold_id = $1"#,
        hold.0
    )
    .fetch_optional(db)
    .await
}
