//! Erases what was found of one person, and makes erasures again after a restore.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, events::MAY_CHANGE};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        erasures::{self, Erased, FaceOf, Record},
        start_list,
    },
    ids::EventId,
};

/// Most faces of one erasure: as many as a search finds.
const FACES_MAX: usize = 1000;

/// The person to erase from an event's findings.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "faces": [{ "photo": "01930c2e-5f6b-7a31-9d4a-7f1f0f9f2b11", "face": 0 }],
    "bib": "1482",
}))]
pub struct NewErasure {
    /// The person's faces, as a search by a selfie finds them: at most 1,000.
    #[serde(default, deserialize_with = "crate::bounded::list::<FACES_MAX, _, _>")]
    #[schema(max_items = 1000)]
    pub faces: Vec<FaceOf>,
    /// The person's bib number. It is not found on photos that are processed later either.
    pub bib: Option<String>,
}

impl Commands {
    /// Deletes the faces of a person, and what was read of a bib number, from an event's findings.
    /// The photos themselves stay, because photogate did not write them.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn erase_person(
        &self,
        caller: &Caller,
        event: EventId,
        new: &NewErasure,
    ) -> Result<Erased, CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let found = self.event_seen_by(caller, event).await?;
        let bib = new.bib.as_deref().map(|bib| {
            start_list::number(bib).ok_or_else(|| {
                CommandError::invalid("/bib", "a bib number is at most ten letters and digits")
            })
        });
        let bib = bib.transpose()?;
        if new.faces.len() > FACES_MAX {
            let detail = format!("an erasure names at most {FACES_MAX} faces: send several");
            return Err(CommandError::invalid("/faces", detail));
        }
        if new.faces.is_empty() && bib.is_none() {
            let detail = "name a bib number, or faces that a search by a selfie has found";
            return Err(CommandError::invalid("/faces", detail));
        }
        transaction!(self, tx, {
            let (faces, actor) = (&new.faces, &caller.actor);
            let erased =
                erasures::erase_person(&mut tx, event, faces, bib.as_deref(), actor).await?;
            // The number is personal data too, and the audit log is for ever.
            let detail = json!({
                "erasure": erased.id, "faces": erased.faces, "bibs": erased.bibs,
            });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "photos.erase", &subject, detail).await?;
            erased
        })
    }

    /// Makes an erasure again that came after the backup from which the database was restored.
    /// Returns false if there is nothing to do.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn erase_again(
        &self,
        caller: &Caller,
        record: &Record,
    ) -> Result<bool, CommandError> {
        caller.must_be(&[Role::Staff])?;
        let again = transaction!(self, tx, {
            let again = erasures::erase_again(&mut tx, record).await?;
            if again {
                let detail = json!({ "erasure": record.id, "kind": record.kind, "at": record.at });
                let subject = format!("event {}", record.event);
                audit_log::record(&mut tx, caller, None, "erasure.again", &subject, detail).await?;
            }
            again
        })?;
        if again {
            self.forget(record.event).await;
        }
        Ok(again)
    }
}
