//! Retries failed photos.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::away,
    ids::{EventId, Operation, PhotoId, RunId, UndoId},
    ledger::credits::{self, Credits},
    queue::{
        enqueue::PHOTOS_MAX,
        failures::{self, Filter},
        retry,
    },
};

/// Pipelines may not retry, because a retry costs a credit again.
pub(super) const MAY_RETRY: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];

/// A request to retry failed photos.
#[derive(Debug)]
pub struct Retry<'a> {
    /// The operation to retry.
    pub operation: Operation,
    /// Only photos that failed for this reason. `None` means any reason. The reason
    /// [`undecided`](failures::UNDECIDED) takes photos that did not fail, too.
    pub reason: Option<&'a str>,
    /// True for a dry run: it only tells what the retry would cost.
    pub dry_run: bool,
}

/// The result of a retry or of its dry run, with the credits that it needs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// Number of photos that can be retried: at most 10,000 in one call.
    pub photos: u64,
    /// Credits that the retry needs: each photo reserves a credit again.
    pub credits: Credits,
    /// The organisation's available credits.
    pub available: Credits,
    /// The run of the retry. Null for a dry run, or if no photo can be retried.
    pub run: Option<RunId>,
    /// Number of photos that were queued again. 0 for a dry run.
    pub queued: u32,
    /// The number by which this can be taken back. Null if nothing was queued.
    pub undo: Option<UndoId>,
}

impl Commands {
    /// Retries failed photos, at most 10,000, or tells in a dry run what that would cost.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn retry(
        &self,
        caller: &Caller,
        event: EventId,
        asked: &Retry<'_>,
    ) -> Result<Retried, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let filter = Filter { operation: Some(asked.operation), reason: asked.reason };
        let most = i64::try_from(PHOTOS_MAX).unwrap_or(i64::MAX);
        let mut db = self.database.acquire().await?;
        // A dry run too, and before the photos are looked for.
        away::must_not_be_archived(&mut db, event).await?;
        let failed = failures::list(&mut db, event, filter, most).await?;
        let photos: Vec<PhotoId> = failed.into_iter().map(|failure| failure.photo).collect();
        let balance = credits::balance(&mut db, found.organisation).await?;
        drop(db);
        let mut retried = Retried {
            photos: photos.len() as u64,
            credits: Credits(i64::try_from(photos.len()).unwrap_or(i64::MAX)),
            available: balance.map_or(Credits(0), |balance| balance.available),
            run: None,
            queued: 0,
            undo: None,
        };
        if asked.dry_run || photos.is_empty() {
            return Ok(retried);
        }
        let run = transaction!(self, tx, {
            let undecided = asked.reason == Some(failures::UNDECIDED);
            let run =
                retry::retry(&mut tx, event, asked.operation, &photos, undecided, &caller.actor)
                    .await?;
            if run.queued > 0 {
                self.quotas.check_photos(&mut tx, found.organisation).await?;
            }
            let detail = json!({
                "operation": asked.operation, "reason": asked.reason,
                "run": run.run, "queued": run.queued,
            });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "photos.retry", &subject, detail).await?;
            run
        })?;
        if run.woke {
            self.wake.send().await;
        }
        retried.run = run.run;
        retried.queued = run.queued;
        retried.undo = run.undo;
        retried.available = run.available;
        Ok(retried)
    }
}
