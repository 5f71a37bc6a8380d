//! Searches by a face. A face is biometric data, so each search stands in the audit log.

use photogate_jobs::Embedding;
use serde_json::json;
use sqlx::PgConnection;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        away,
        events::Event,
        finders,
        search::{self, ByFace, SAME_PERSON},
    },
    ids::{EventId, OrganisationId},
};

/// Who searched, in the audit log, where it was a visitor of a finder. Nothing else is known of them.
const VISITOR: &str = "a visitor of the finder";

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
            // Before somebody looks at the face in vain.
            away::must_be_here(&mut *self.database.acquire().await?, event).await?;
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
        let of = self.may_search_faces(caller, event).await?.organisation;
        let mut tx = self.database.begin().await?;
        let found = by_face(&mut tx, caller, (event, of), face, score_min).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// As [`Self::search_face`], for a visitor of the event's finder, who has no account and agreed
    /// to it. The caller limits how often that is: each search is a line of the audit log.
    ///
    /// # Errors
    /// `NotFound` if there is no such finder any more, or the event's face search is off.
    pub async fn search_face_as_visitor(
        &self,
        key: &finders::Key,
        face: &Embedding,
    ) -> Result<Vec<ByFace>, CommandError> {
        let mut tx = self.database.begin().await?;
        let open = finders::open(&mut tx, key).await?.filter(|open| open.face_search);
        let open = open.ok_or_else(|| CommandError::NotFound("page like this".into()))?;
        let visitor = Caller {
            actor: VISITOR.to_owned(),
            role: Role::Organiser,
            organisation: Some(open.organisation),
        };
        let of = (open.event, open.organisation);
        let found = by_face(&mut tx, &visitor, of, face, SAME_PERSON).await?;
        tx.commit().await?;
        Ok(found)
    }
}

/// Searches, and writes into the audit log that somebody did.
async fn by_face(
    tx: &mut PgConnection,
    caller: &Caller,
    (event, organisation): (EventId, OrganisationId),
    face: &Embedding,
    score_min: f32,
) -> Result<Vec<ByFace>, CommandError> {
    let found = search::by_face(tx, event, face, score_min).await?;
    let detail = json!({ "found": found.len(), "score_min": score_min });
    let (whose, subject) = (Some(organisation), format!("event {event}"));
    audit_log::record(tx, caller, whose, "photos.search_face", &subject, detail).await?;
    Ok(found)
}
