//! Creates, changes and deletes events, and sets their start lists.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, Created};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        events::{self, Event},
        finders::{self, FinderAccess},
        start_list,
    },
    ids::{EventId, OrganisationId},
    ledger::spending::{self, Class},
};

pub(super) const MAY_CREATE: &[Role] = &[Role::Organiser, Role::Pipeline, Role::Staff];
pub(super) const MAY_CHANGE: &[Role] = &[Role::Organiser, Role::Staff];

/// An event to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "City Marathon", "bib_search": true, "face_search": false}))]
pub struct NewEvent {
    /// The event's name: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// The ID that the caller has for the event: 1 to 200 characters. If an event of the
    /// organisation has it already, that one is returned as it is, and no event is created.
    #[schema(min_length = 1, max_length = 200)]
    pub reference: Option<String>,
    /// The organisation that pays for the photos. A caller who belongs to one organisation can
    /// leave it out.
    pub organisation: Option<OrganisationId>,
    /// Whether bib numbers are read. The default is true.
    #[serde(default = "yes")]
    pub bib_search: bool,
    /// Whether people can search photos by a face. The default is false. Embeddings are biometric
    /// data, so `face_consent` must be true. No pipeline can switch it on.
    #[serde(default)]
    pub face_search: bool,
    /// True says that the people on the photos agreed to the search for faces. It is kept who said
    /// so, and when.
    #[serde(default)]
    pub face_consent: bool,
    /// Delete faces and bib numbers so many days after the last photo was processed: 1 to 3,650.
    /// The default is to keep them until the event is deleted.
    #[schema(minimum = 1, maximum = 3650)]
    pub keep_findings_days: Option<i32>,
}

impl NewEvent {
    /// An event of an organisation, whose bib numbers are read, without face search.
    pub fn new(name: &str, organisation: OrganisationId) -> Self {
        Self {
            name: name.to_owned(),
            reference: None,
            organisation: Some(organisation),
            bib_search: true,
            face_search: false,
            face_consent: false,
            keep_findings_days: None,
        }
    }

    /// Creates the event only if the organisation has none with this reference.
    #[must_use]
    pub fn with_reference(self, reference: &str) -> Self {
        Self { reference: Some(reference.to_owned()), ..self }
    }
}

fn yes() -> bool {
    true
}

/// The changes to an event. A value that is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"face_search": false}))]
pub struct EventChange {
    /// A new name: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// Whether bib numbers are read. It applies to photos that are processed from now on.
    pub bib_search: Option<bool>,
    /// Whether people can search photos by a face. Switching it off deletes the event's embeddings.
    /// To switch it on, `face_consent` must be true.
    pub face_search: Option<bool>,
    /// True says that the people on the photos agreed to the search for faces. It is kept who said
    /// so, and when.
    #[serde(default)]
    pub face_consent: bool,
    /// Delete faces and bib numbers so many days after the last photo was processed: 1 to 3,650. 0:
    /// keep them until the event is deleted.
    #[schema(minimum = 0, maximum = 3650)]
    pub keep_findings_days: Option<i32>,
    /// How urgent the event is, where its organisation's order is `priority`.
    pub class: Option<Class>,
    /// A start list, as [`Commands::set_start_list`] takes it. Programs send it to an endpoint of
    /// its own.
    #[serde(skip)]
    pub start_list: Option<Vec<u8>>,
}

/// Checks that face search is switched on by somebody who may, and who says that people agreed.
fn may_search_faces(caller: &Caller, consent: bool) -> Result<(), CommandError> {
    caller.must_be(MAY_CHANGE)?;
    if consent {
        return Ok(());
    }
    let detail = "faces are biometric data: say that the people on the photos agreed to be searched \
                  for (face_consent; on the command line --consent)";
    Err(CommandError::invalid("/face_consent", detail))
}

/// Checks for how many days findings are kept.
fn check_days(days: i32, least: i32) -> Result<(), CommandError> {
    if (least..=3650).contains(&days) {
        return Ok(());
    }
    let detail = format!("findings are kept for {least} to 3650 days");
    Err(CommandError::invalid("/keep_findings_days", detail))
}

impl Commands {
    /// Creates an event with one queue for each operation; or finds it by its reference.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_event(
        &self,
        caller: &Caller,
        new: &NewEvent,
    ) -> Result<Created<Event>, CommandError> {
        caller.must_be(MAY_CREATE)?;
        let organisation = new
            .organisation
            .or(caller.organisation)
            .ok_or_else(|| CommandError::invalid("/organisation", "an organisation is required"))?;
        caller.must_see(organisation)?;
        CommandError::check_reference(new.reference.as_deref())?;
        let (bibs, faces) = (new.bib_search, new.face_search);
        if faces {
            may_search_faces(caller, new.face_consent)?;
        }
        if let Some(days) = new.keep_findings_days {
            check_days(days, 1)?;
        }
        let mut tx = self.database.begin().await?;
        let (event, is_new) = match &new.reference {
            Some(reference) => {
                let (db, name, actor) = (&mut tx, &new.name, &caller.actor);
                events::find_or_create(db, organisation, name, bibs, faces, actor, reference)
                    .await?
            }
            None => {
                let (db, name, actor) = (&mut tx, &new.name, &caller.actor);
                (events::create(db, organisation, name, bibs, faces, actor).await?, true)
            }
        };
        if !is_new {
            let value = caller.must_see_event(event, events::find(&mut tx, event).await?)?;
            return Ok(Created { value, is_new });
        }
        self.quotas.check_events(&mut tx, organisation).await?;
        if new.keep_findings_days.is_some() {
            events::set_retention(&mut tx, event, new.keep_findings_days).await?;
        }
        let detail = json!({
            "name": new.name, "reference": new.reference, "bib_search": bibs, "face_search": faces,
            "keep_findings_days": new.keep_findings_days,
        });
        let subject = format!("event {event}");
        audit_log::record(&mut tx, caller, Some(organisation), "event.create", &subject, detail)
            .await?;
        let value = caller.must_see_event(event, events::find(&mut tx, event).await?)?;
        tx.commit().await?;
        Ok(Created { value, is_new })
    }

    /// Changes an event's settings. Returns the event, and the number of faces whose embedding was
    /// deleted.
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
        let numbers = match &change.start_list {
            Some(file) => Some(self.quotas.start_list(file.clone()).await?),
            None => None,
        };
        if let Some(days) = change.keep_findings_days {
            check_days(days, 0)?;
        }
        transaction!(self, tx, {
            events::change(&mut tx, event, change.name.as_deref(), change.bib_search).await?;
            // Read again under the lock that the change took: what was read before may be old.
            let locked = caller.must_see_event(event, events::find(&mut tx, event).await?)?;
            if let Some(on) = change.face_search.filter(|on| *on != locked.face_search) {
                if on {
                    may_search_faces(caller, change.face_consent)?;
                }
                events::flag_face_search(&mut tx, event, on, &caller.actor).await?;
            }
            if let Some(days) = change.keep_findings_days {
                events::set_retention(&mut tx, event, Some(days).filter(|days| *days > 0)).await?;
            }
            if let Some(class) = change.class {
                spending::set_class(&mut tx, event, class, &caller.actor).await?;
            }
            let mut detail = json!({
                "name": change.name, "bib_search": change.bib_search,
                "face_search": change.face_search, "keep_findings_days": change.keep_findings_days,
                "class": change.class,
            });
            if let Some(numbers) = &numbers {
                start_list::set(&mut tx, event, numbers).await?;
                detail["numbers"] = numbers.len().into();
            }
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "event.change", &subject, detail).await?;
        })?;
        let forgotten = self.forget(event).await;
        let mut db = self.database.acquire().await?;
        let changed = caller.must_see_event(event, events::find(&mut db, event).await?)?;
        Ok((changed, forgotten))
    }

    /// Deletes an event: deletes the findings on its photos, and stops its queues. The ledger and
    /// the photos in the store stay.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn delete_event(&self, caller: &Caller, event: EventId) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let found = self.event_seen_by(caller, event).await?;
        transaction!(self, tx, {
            events::flag_deleted(&mut tx, event, &caller.actor).await?;
            finders::set(&mut tx, event, FinderAccess::Off, false, &caller.actor).await?;
            let detail = json!({ "name": found.name });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "event.delete", &subject, detail).await?;
        })?;
        self.forget(event).await;
        Ok(())
    }

    /// Deletes what an event's change, which is committed, says is to be deleted: nobody can search
    /// it any more. If this does not come to its end, a worker finishes it. Returns the number of
    /// faces.
    pub(super) async fn forget(&self, event: EventId) -> u64 {
        let forgotten = async { events::forget(&mut *self.database.acquire().await?, event).await };
        forgotten.await.unwrap_or_else(|error| {
            tracing::warn!(
                %event,
                %error,
                "a deletion of findings was interrupted; a worker finishes it"
            );
            0
        })
    }

    /// Replaces an event's start list with the one in a file. An empty file removes the start list.
    /// Returns the number of bib numbers in the list.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_start_list(
        &self,
        caller: &Caller,
        event: EventId,
        file: Vec<u8>,
    ) -> Result<usize, CommandError> {
        caller.must_be(MAY_CREATE)?;
        let found = self.event_seen_by(caller, event).await?;
        let numbers = self.quotas.start_list(file).await?;
        let mut tx = self.database.begin().await?;
        start_list::set(&mut tx, event, &numbers).await?;
        let detail = json!({ "numbers": numbers.len() });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "event.start_list", &subject, detail).await?;
        tx.commit().await?;
        Ok(numbers.len())
    }
}
