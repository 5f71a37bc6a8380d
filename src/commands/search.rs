//! Searches by a face. A face is biometric data, so each search stands in the audit log.

use photogate_jobs::Embedding;
use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        events::Event,
        search::{self, ByFace},
    },
    ids::EventId,
};

/// No pipeline: its token lies on a machine, and whoever finds it must not find people.
pub(super) const MAY_SEARCH_FACES: &[Role] = &[Role::Organiser, Role::Staff];

impl Commands {
    /// Checks that the caller may search the event's photos for a face, before the face is looked
    /// at.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn may_search_faces(
        &self,
        caller: &Caller,
        event: EventId,
    ) -> Result<Event, CommandError> {
        caller.must_be(MAY_SEARCH_FACES)?;
        let found = self.event_seen_by(caller, event).await?;
        if found.face_search {
            return Ok(found);
        }
        Err(CommandError::Conflict {
            code: "face_search_off",
            detail: "face search is off for this event: switch it on, and process its photos"
                .into(),
        })
    }

    /// Finds the event's photos that show a face, and writes into the audit log that somebody
    /// looked for one. The face itself is not kept.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn search_face(
        &self,
        caller: &Caller,
        event: EventId,
        face: &Embedding,
        score_min: f32,
    ) -> Result<Vec<ByFace>, CommandError> {
        let of = self.may_search_faces(caller, event).await?;
        let mut tx = self.database.begin().await?;
        let found = search::by_face(&mut tx, event, face, score_min).await?;
        let detail = json!({ "found": found.len(), "score_min": score_min });
        let (whose, subject) = (Some(of.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "photos.search_face", &subject, detail).await?;
        tx.commit().await?;
        Ok(found)
    }
}
