//! Opens the finders of events to athletes, and closes them.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, events::MAY_CHANGE};
use crate::{
    access::{Caller, audit_log},
    catalog::finders::{self, Finder, FinderAccess},
    ids::EventId,
};

/// Who can open the finder of an event from now on.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"access": "link"}))]
pub struct FinderChange {
    /// Who can open it. When it is switched off, its link ends for good.
    pub access: FinderAccess,
    /// Whether it gets another link. The old one leads nowhere at once.
    #[serde(default)]
    pub replace_link: bool,
}

impl Commands {
    /// Returns the finder of an event. Its link is for those who may hand it out.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn finder(&self, caller: &Caller, event: EventId) -> Result<Finder, CommandError> {
        caller.must_be(MAY_CHANGE)?;
        self.event_seen_by(caller, event).await?;
        Ok(finders::of_event(&mut *self.database.acquire().await?, event).await?)
    }

    /// Sets who can open the finder of an event.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_finder(
        &self,
        caller: &Caller,
        event: EventId,
        change: FinderChange,
    ) -> Result<Finder, CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let of = self.event_seen_by(caller, event).await?;
        let FinderChange { access, replace_link } = change;
        transaction!(self, tx, {
            let changed = finders::set(&mut tx, event, access, replace_link, &caller.actor).await?;
            let finder = finders::of_event(&mut tx, event).await?;
            if changed {
                // Not the link: more people read the audit log than may hand it out.
                let detail = json!({ "access": access, "replace_link": replace_link });
                let (whose, subject) = (Some(of.organisation), format!("event {event}"));
                audit_log::record(&mut tx, caller, whose, "event.finder", &subject, detail).await?;
            }
            finder
        })
    }
}
