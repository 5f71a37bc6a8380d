//! Archives events, and restores them. Only those who run photogate do: it is about their database.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::archive,
    database,
    ids::{ArchiveId, EventId},
};

pub(super) const MAY_ARCHIVE: &[Role] = &[Role::Staff];

impl Commands {
    /// Begins to archive an event: from then on nothing is queued or changed. With `before`, only if
    /// nothing has moved since. The steps are those of [`archive::Archivist`].
    ///
    /// # Errors
    /// See [`CommandError`]; it says what must end first.
    pub async fn archive_event(
        &self,
        caller: &Caller,
        event: EventId,
        before: Option<DateTime<Utc>>,
    ) -> Result<ArchiveId, CommandError> {
        caller.must_be(MAY_ARCHIVE)?;
        let begun = transaction!(self, tx, {
            archive::begin(&mut tx, event, &caller.actor, before).await?
        });
        match begun {
            Err(CommandError::Database(error)) if database::is_code(&error, database::MOVED_ON) => {
                Err(CommandError::invalid("/event", database::sentence(&error)))
            }
            begun => begun,
        }
    }

    /// Begins to restore an event, or gives its packing up. The steps are those of
    /// [`archive::Archivist`].
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn restore_event(
        &self,
        caller: &Caller,
        event: EventId,
    ) -> Result<ArchiveId, CommandError> {
        caller.must_be(MAY_ARCHIVE)?;
        transaction!(self, tx, {
            let found = archive::begin_restore(&mut tx, event, &caller.actor).await?;
            let Some(archive) = found else {
                let detail = format!("the event {event} is not archived");
                return Err(CommandError::invalid("/event", detail));
            };
            let subject = format!("event {event}");
            let whose = archive::organisation_of(&mut tx, event).await?;
            let detail = json!({ "archive": archive });
            audit_log::record(&mut tx, caller, whose, "event.restore", &subject, detail).await?;
            archive
        })
    }
}
