//! Archives events, restores them, and gives archives up. Only those who run photogate do: it is about their database.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{archive, away},
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
        begun.map_err(not_now)
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
                away::must_not_be_archived(&mut tx, event).await?;
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

    /// Begins to give the archive of an event up, because it is lost or damaged: what its photos had is
    /// gone for ever, and what was paid stays in the books. The caller has verified that it is. The
    /// steps are those of [`archive::Archivist`].
    ///
    /// # Errors
    /// See [`CommandError`]. It is none if the archive was given up before.
    pub async fn give_up_archive(
        &self,
        caller: &Caller,
        event: EventId,
        why: &str,
    ) -> Result<ArchiveId, CommandError> {
        caller.must_be(MAY_ARCHIVE)?;
        let why = why.trim();
        if !(1..=1000).contains(&why.chars().count()) {
            return Err(CommandError::invalid("/reason", "a reason has 1 to 1000 characters"));
        }
        let begun = transaction!(self, tx, {
            let (archive, begun) =
                archive::begin_give_up(&mut tx, event, &caller.actor, why).await?;
            if begun {
                let subject = format!("event {event}");
                let whose = archive::organisation_of(&mut tx, event).await?;
                let detail = json!({ "archive": archive, "reason": why });
                audit_log::record(&mut tx, caller, whose, "event.give_up", &subject, detail)
                    .await?;
            }
            archive
        });
        begun.map_err(not_now)
    }
}

/// What the database says when an event is not as it must be.
fn not_now(error: CommandError) -> CommandError {
    if let CommandError::Database(refused) = &error
        && database::is_code(refused, database::MOVED_ON)
    {
        return CommandError::invalid("/event", database::sentence(refused));
    }
    error
}
