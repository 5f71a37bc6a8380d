//! Takes back what was done to an event's queues.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, enqueue::MAY_ENQUEUE, holds::MAY_HOLD, retry::MAY_RETRY};
use crate::{
    access::{Caller, Role, audit_log},
    bounded, database,
    ids::{EventId, UndoId},
    queue::undo::{self, Act, Open, OpenBulk},
};

/// Most acts that one call takes back: those of a call that queued 100,000 photos.
const ACTS_MAX: usize = 20;

/// What to take back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "undo": [17] }))]
pub struct Undo {
    /// The numbers that the answers gave as `undo`, at most 20: all are taken back, or none.
    #[serde(deserialize_with = "bounded::list::<ACTS_MAX, _, _>")]
    pub undo: Vec<UndoId>,
}

/// The result of taking something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UndoneActs {
    /// What was taken back.
    pub acts: Vec<Act>,
    /// Number of photos that this concerns.
    pub photos: i64,
}

/// Who may take it back: whoever may do it.
fn may_undo(act: Act) -> &'static [Role] {
    match act {
        Act::Queue => MAY_ENQUEUE,
        Act::Retry | Act::Skip | Act::Restore | Act::Cancel | Act::First => MAY_RETRY,
        Act::Hold | Act::Lift => MAY_HOLD,
    }
}

impl Commands {
    /// Takes acts back that are not too old: all of them, or none. It is the exact inverse, or it is
    /// refused, and the error says what has happened since.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn undo(&self, caller: &Caller, asked: &Undo) -> Result<UndoneActs, CommandError> {
        if asked.undo.is_empty() {
            return Err(CommandError::invalid("/undo", "name at least one number"));
        }
        self.undo_all(caller, &asked.undo).await
    }

    /// Takes back what one call did to several queues: all of it, or nothing.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn undo_bulk(
        &self,
        caller: &Caller,
        bulk: UndoId,
    ) -> Result<UndoneActs, CommandError> {
        let acts = undo::of_bulk(&mut *self.database.acquire().await?, bulk).await?;
        if acts.is_empty() {
            return Err(CommandError::NotFound(format!("act {bulk} that could be undone")));
        }
        self.undo_all(caller, &acts).await
    }

    async fn undo_all(&self, caller: &Caller, acts: &[UndoId]) -> Result<UndoneActs, CommandError> {
        let mut subjects = Vec::new();
        for id in acts {
            let missing = || CommandError::NotFound(format!("act {id} that could be undone"));
            let found = undo::event_of(&mut *self.database.acquire().await?, *id).await?;
            let (event, act) = found.ok_or_else(missing)?;
            let seen = self.event_seen_by(caller, event).await;
            if matches!(seen, Err(CommandError::Denied(_))) {
                // The caller is not told that it exists.
                return Err(missing());
            }
            caller.must_be(may_undo(act))?;
            subjects.push((*id, seen?));
        }
        // The order of the audit log's chains, and the latest act first: it may stand on the others.
        subjects.sort_by_key(|(id, event)| (event.organisation, std::cmp::Reverse(*id)));
        let (done, woke) = transaction!(self, tx, {
            let (mut done, mut woke) = (Vec::new(), false);
            undo::lock(&mut tx, acts).await?;
            for (id, _) in &subjects {
                let one = undo::undo(&mut tx, *id, &caller.actor, self.quotas.undo_within())
                    .await
                    .map_err(refused)?;
                woke |= one.woke;
                done.push(one);
            }
            for ((id, event), one) in subjects.iter().zip(&done) {
                if one.act.may_add_photos() {
                    self.quotas.check_photos(&mut tx, event.organisation).await?;
                }
                let detail = json!({ "undo": id, "act": one.act, "photos": one.photos });
                let (whose, subject) = (Some(event.organisation), format!("event {}", event.id));
                audit_log::record(&mut tx, caller, whose, "undo", &subject, detail).await?;
            }
            (done, woke)
        })?;
        if woke {
            self.wake.send().await;
        }
        Ok(UndoneActs {
            acts: done.iter().map(|one| one.act).collect(),
            photos: done.iter().map(|one| one.photos).sum(),
        })
    }

    /// Returns what the caller has done to several queues at once and can take back, newest first.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn undoable_bulks(&self, caller: &Caller) -> Result<Vec<OpenBulk>, CommandError> {
        let mut db = self.database.acquire().await?;
        let open = undo::open_bulks(&mut db, &caller.actor, self.quotas.undo_within()).await?;
        Ok(open.into_iter().filter(|one| caller.must_be(may_undo(one.act)).is_ok()).collect())
    }

    /// Returns what of an event can be taken back, newest first.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn undoable(
        &self,
        caller: &Caller,
        event: EventId,
    ) -> Result<Vec<Open>, CommandError> {
        self.event_seen_by(caller, event).await?;
        let mut db = self.database.acquire().await?;
        let open = undo::open(&mut db, event, self.quotas.undo_within()).await?;
        Ok(open.into_iter().filter(|one| caller.must_be(may_undo(one.act)).is_ok()).collect())
    }
}

/// What cannot be taken back any more is a conflict.
fn refused(error: sqlx::Error) -> CommandError {
    match error.as_database_error() {
        Some(said) if database::is_code(&error, database::MOVED_ON) => {
            CommandError::Conflict { code: "moved_on", detail: said.message().to_owned() }
        }
        _ => error.into(),
    }
}
