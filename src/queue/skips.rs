//! Takes photos out of their queue before they are claimed, and puts them back.

use sqlx::PgConnection;

use super::enqueue::{EnqueueError, ids, no_event};
use crate::ids::{EventId, Operation, PhotoId, UndoId};

/// The result of a skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Number of photos that were skipped.
    pub photos: u32,
    /// The number by which this can be taken back; `None` if nothing was skipped.
    pub undo: Option<UndoId>,
}

/// Takes waiting photos out of their queue, so that they are not claimed and cost nothing. At most
/// [`PHOTOS_MAX`](super::enqueue::PHOTOS_MAX) photos in one call.
///
/// Photos that were claimed in the meantime, or skipped before, do not count.
///
/// # Errors
/// See [`EnqueueError`]; nothing is skipped then.
pub async fn skip(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    photos: &[PhotoId],
    actor: &str,
) -> Result<Skipped, EnqueueError> {
    let ids = ids(photos)?;
    let row = sqlx::query!(
        r#"SELECT r_skipped AS "skipped!", r_undo AS "undo: UndoId"
           FROM skip_photos($1, $2, $3, $4)"#,
        event.0,
        operation as Operation,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Skipped { photos: row.skipped.unsigned_abs(), undo: row.undo })
}

/// The result of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Number of photos that wait in their queue again.
    pub photos: u32,
    /// The number by which this can be taken back; `None` if nothing was restored.
    pub undo: Option<UndoId>,
    /// The photos can be claimed, so the caller should wake the workers.
    pub woke: bool,
}

/// Puts skipped photos back into their queue. At most [`PHOTOS_MAX`](super::enqueue::PHOTOS_MAX)
/// photos in one call.
///
/// A photo stands where it stood. If photos after it were claimed meanwhile, it is one of the next.
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
        r#"SELECT r_restored AS "restored!", r_woke AS "woke!", r_undo AS "undo: UndoId"
           FROM restore_photos($1, $2, $3, $4)"#,
        event.0,
        operation as Operation,
        &ids,
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| no_event(error, event))?;
    Ok(Restored { photos: row.restored.unsigned_abs(), undo: row.undo, woke: row.woke })
}
