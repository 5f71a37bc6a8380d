//! Queues failed photos again, because a person asked for it.

use serde::Serialize;
use sqlx::PgConnection;

use super::enqueue::{EnqueueError, ids, no_event};
use crate::{
    ids::{EventId, Operation, PhotoId, RunId, UndoId},
    ledger::credits::Credits,
};

/// The result of a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Retry {
    /// The run's number, to ask for its progress later; `None` if nothing was queued.
    pub run: Option<RunId>,
    /// Number of photos that were queued again. Each will reserve a credit again.
    pub queued: u32,
    /// Number of photos that were not queued: they had not failed, or belong to another event.
    pub skipped: u32,
    /// The organisation's available credits now.
    pub available: Credits,
    /// Credits that are missing to process all waiting photos of the organisation.
    pub shortfall: Credits,
    /// The number by which this can be taken back; `None` if nothing was queued.
    pub undo: Option<UndoId>,
    /// The photos can be claimed, so the caller should wake the workers.
    #[serde(skip)]
    pub woke: bool,
}

/// Queues failed photos again, as new jobs, because a person asked for it; with `undecided`, also
/// photos of which AI Rotation could not decide. At most
/// [`PHOTOS_MAX`](super::enqueue::PHOTOS_MAX) photos in one call.
///
/// # Errors
/// See [`EnqueueError`]; nothing is queued then.
pub async fn retry(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    photos: &[PhotoId],
    undecided: bool,
    actor: &str,
) -> Result<Retry, EnqueueError> {
    let ids = ids(photos)?;
    let row = sqlx::query!(
        r#"SELECT r_run AS "run: RunId", r_queued AS "queued!", r_skipped AS "skipped!",
                  r_available AS "available!", r_ahead AS "ahead!", r_woke AS "woke!",
                  r_undo AS "undo: UndoId"
           FROM retry($1, $2, $3, $4, $5)"#,
        event.0,
        operation as Operation,
        &ids,
        actor,
        undecided
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
        undo: row.undo,
        woke: row.woke,
    })
}
