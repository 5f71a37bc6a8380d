//! Events are created, changed, deleted, and given a start list.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        events::{self, Event},
        start_list,
    },
    ids::{EventId, OrganisationId},
};

pub(super) const MAY_CREATE: &[Role] = &[Role::Organiser, Role::Pipeline, Role::Staff];
pub(super) const MAY_CHANGE: &[Role] = &[Role::Organiser, Role::Staff];

/// A new event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "City Marathon", "bib_search": true, "face_search": false}))]
pub struct NewEvent {
    /// As people call it: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// The organisation that pays for it. Callers who belong to one organisation may leave it out.
    pub organisation: Option<OrganisationId>,
    /// Whether bib numbers are read.
    #[serde(default = "yes")]
    pub bib_search: bool,
    /// Whether photos can be searched by a face. Embeddings are biometric data: switch it on only where people agreed.
    #[serde(default)]
    pub face_search: bool,
}

fn yes() -> bool {
    true
}

/// What to change; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"face_search": false}))]
pub struct EventChange {
    /// As people call it: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// Whether bib numbers are read, on photos processed from now on.
    pub bib_search: Option<bool>,
    /// Whether photos can be searched by a face. Switching it off deletes the embeddings.
    pub face_search: Option<bool>,
}

impl Commands {
    /// Creates an event, with a queue for each operation.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_event(
        &self,
        caller: &Caller,
        new: &NewEvent,
    ) -> Result<Event, CommandError> {
        caller.must_be(MAY_CREATE)?;
        let organisation = new
            .organisation
            .or(caller.organisation)
            .ok_or_else(|| CommandError::invalid("/organisation", "say whose event it is"))?;
        caller.must_see(organisation)?;
        let (bibs, faces) = (new.bib_search, new.face_search);
        let mut tx = self.database.begin().await?;
        let event = events::create(&mut tx, organisation, &new.name, bibs, faces).await?;
        let detail = json!({ "name": new.name, "bib_search": bibs, "face_search": faces });
        let subject = format!("event {event}");
        audit_log::record(&mut tx, caller, Some(organisation), "event.create", &subject, detail)
            .await?;
        let made = caller.must_see_event(event, events::find(&mut tx, event).await?)?;
        tx.commit().await?;
        Ok(made)
    }

    /// Changes an event's settings. Returns the event, and of how many faces the embedding was deleted.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn change_event(
        &self,
        caller: &Caller,
        event: EventId,
        change: &EventChange,
    ) -> Result<(Event, u64), CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let found = self.event_seen_by(caller, event).await?;
        let mut tx = self.database.begin().await?;
        events::change(&mut tx, event, change.name.as_deref(), change.bib_search).await?;
        if let Some(on) = change.face_search.filter(|on| *on != found.face_search) {
            events::flag_face_search(&mut tx, event, on).await?;
        }
        let detail = json!({
            "name": change.name, "bib_search": change.bib_search, "face_search": change.face_search,
        });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "event.change", &subject, detail).await?;
        tx.commit().await?;
        let mut db = self.database.acquire().await?;
        // The embeddings are out of reach already. If this does not come to its end, a worker deletes them.
        let forgotten = events::forget(&mut db, event).await?;
        let changed = caller.must_see_event(event, events::find(&mut db, event).await?)?;
        Ok((changed, forgotten))
    }

    /// Deletes an event: what was seen on its photos is deleted, and nothing more of it runs. The books and the photos
    /// stay.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn delete_event(&self, caller: &Caller, event: EventId) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let found = self.event_seen_by(caller, event).await?;
        let mut tx = self.database.begin().await?;
        events::flag_deleted(&mut tx, event, &caller.actor).await?;
        let detail = json!({ "name": found.name });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "event.delete", &subject, detail).await?;
        tx.commit().await?;
        events::forget(&mut *self.database.acquire().await?, event).await?;
        Ok(())
    }

    /// Replaces an event's start list, given as a file; an empty file: the event has none. Returns how many numbers it
    /// has.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_start_list(
        &self,
        caller: &Caller,
        event: EventId,
        file: &[u8],
    ) -> Result<i32, CommandError> {
        caller.must_be(MAY_CREATE)?;
        let found = self.event_seen_by(caller, event).await?;
        let numbers = if file.is_empty() { Vec::new() } else { start_list::parse(file)? };
        let mut tx = self.database.begin().await?;
        let numbers = start_list::set(&mut tx, event, &numbers).await?;
        let detail = json!({ "numbers": numbers });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "event.start_list", &subject, detail).await?;
        tx.commit().await?;
        Ok(numbers)
    }
}
