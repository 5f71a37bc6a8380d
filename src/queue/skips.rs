//! Takes photos out of their queue before they are claimed, and puts them back.

use serde::Serialize;
use sqlx::PgConnection;

use super::enqueue::{EnqueueError, ids, no_event};
use crate::ids::{EventId, Operation, PhotoId};

/// Takes waiting photos out of their queue, so that they are not claimed and cost nothing. At most
/// [`PHOTOS_MAX`](super::enqueue::PHOTOS_MAX) photos in one call.
///
/// Returns the number of photos that were skipped. Photos that were claimed in the meantime, or
/// skipped before, do not count.
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

/// The result of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Restored {
    /// Number of photos that wait in their queue again.
    pub restored: u32,
    /// The photos can be claimed, so the caller should wake the workers.
    #[serde(skip)]
    pub woke: bool,
}

/// Puts skipped photos back into their queue. At most [`PHOTOS_MAX`](super::enqueue::PHOTOS_MAX)
/// photos in one call.
///
/// A photo gets its old position back. If the queue's head has passed that position, the photo goes
/// to the end of the queue.
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
        r#"SELECT r_restored AS "restored!", r_woke AS "woke!"
           FROM restore_photos($1, $2, $3, $4)"#,
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
