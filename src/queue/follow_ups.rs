//! Queues photos for both operations: AI rotation first, then photo processing, photo by photo.

use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;

use super::{
    claim::interval,
    enqueue::{self, EnqueueError, NewJob, Priority, Row, Run},
};
use crate::ids::{EventId, RunId, UndoId};

/// How many photos are appended in one transaction.
const PHOTOS_AT_ONCE: i32 = 10_000;

/// How long a photo is ready before it is appended, while others of its event are awaited. Each
/// append is a run, and a row of the history, so they are not made one by one.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Enqueues photos of an event for both operations, in one transaction. Returns the result of each
/// operation, AI Rotation first.
///
/// A photo is queued for Photo Processing when its AI Rotation has ended, however it ended:
/// [`follow`] does that. A photo whose AI Rotation has ended before is queued at once.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn enqueue_both(
    db: &mut PgConnection,
    event: EventId,
    jobs: &[NewJob],
    actor: &str,
    priority: Priority,
) -> Result<Vec<Run>, EnqueueError> {
    enqueue::check(jobs)?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT r_run AS "run: RunId", r_queued AS "queued!", r_following AS "following!",
                  r_changed AS "changed!", r_repeated AS "repeated!", r_waiting AS "waiting!",
                  r_processed AS "processed!", r_undecided AS "undecided!", r_failed AS "failed!",
                  r_skipped AS "skipped!", r_available AS "available!", r_ahead AS "ahead!",
                  r_undo AS "undo: UndoId", r_woke AS "woke!", r_runs AS "runs!", r_open AS "open!"
           FROM enqueue_both($1, $2, $3, $4, $5, $6, $7)
           ORDER BY r_operation = 'photo_processing'"#,
        event.0,
        &enqueue::keys(jobs),
        &enqueue::fresh_ids(jobs),
        actor,
        enqueue::payloads(jobs) as Option<Vec<Option<Value>>>,
        enqueue::listed(jobs) as Option<Vec<Option<String>>>,
        priority.is_urgent()
    )
    .fetch_all(db)
    .await
    .map_err(|error| enqueue::refused(error, event, jobs))?;
    Ok(rows.into_iter().map(Run::from).collect())
}

/// Photos that were queued for Photo Processing, because their AI Rotation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// How many there were; 0 if nothing is due.
    pub photos: u32,
    /// They can be claimed, so the caller should wake the workers.
    pub woke: bool,
}

/// Queues the photos of one event whose AI Rotation has ended for Photo Processing. Call it again
/// until nothing is due. Photos wait up to `patience` for others of their event.
///
/// # Errors
/// When the database has trouble.
pub async fn follow(db: &mut PgConnection, patience: Duration) -> sqlx::Result<Followed> {
    let row = sqlx::query!(
        r#"SELECT r_followed AS "followed!", r_woke AS "woke!" FROM follow($1, $2)"#,
        PHOTOS_AT_ONCE,
        interval(patience)
    )
    .fetch_one(db)
    .await?;
    Ok(Followed { photos: row.followed.unsigned_abs(), woke: row.woke })
}
