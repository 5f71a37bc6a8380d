//! Skips waiting photos, and restores skipped ones.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, retry::MAY_RETRY};
use crate::{
    access::{Caller, audit_log},
    bounded,
    ids::{EventId, Operation, PhotoId},
    queue::{
        enqueue::PHOTOS_MAX,
        skips::{self, Restored, Skipped},
    },
};

/// Chosen photos in a queue of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(
    as = Chosen,
    example = json!({
        "operation": "photo_processing",
        "photos": ["0193a1c0-0000-7000-8000-000000000000"]
    })
)]
pub struct ChosenPhotos {
    /// The operation whose queue the photos are in.
    pub operation: Operation,
    /// The IDs of the photos: at most 10,000.
    #[serde(deserialize_with = "bounded::list::<PHOTOS_MAX, _, _>")]
    pub photos: Vec<PhotoId>,
}

impl Commands {
    /// Takes waiting photos out of their queue, so that they cost nothing.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn skip(
        &self,
        caller: &Caller,
        event: EventId,
        chosen: &ChosenPhotos,
    ) -> Result<Skipped, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let ChosenPhotos { operation, photos } = chosen;
        let skipped = transaction!(self, tx, {
            let skipped = skips::skip(&mut tx, event, *operation, photos, &caller.actor).await?;
            let detail = json!({ "operation": operation, "photos": skipped.photos });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "photos.skip", &subject, detail).await?;
            skipped
        })?;
        Ok(skipped)
    }

    /// Puts skipped photos back into their queue.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn restore(
        &self,
        caller: &Caller,
        event: EventId,
        chosen: &ChosenPhotos,
    ) -> Result<Restored, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let ChosenPhotos { operation, photos } = chosen;
        let done = transaction!(self, tx, {
            let done = skips::restore(&mut tx, event, *operation, photos, &caller.actor).await?;
            if done.photos > 0 {
                self.quotas.check_photos(&mut tx, found.organisation).await?;
            }
            let detail = json!({ "operation": operation, "photos": done.photos });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "photos.restore", &subject, detail).await?;
            done
        })?;
        if done.woke {
            self.wake.send().await;
        }
        Ok(done)
    }
}
