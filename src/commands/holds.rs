//! Places holds on an event's queues, and lifts holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    ids::{EventId, HoldId, Operation, UndoId},
    queue::holds,
};

pub(super) const MAY_HOLD: &[Role] = &[Role::Operator, Role::Staff];

/// A hold to place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "operation": "ai_rotation",
    "note": "bad camera clock",
    "until": "2030-01-01T00:00:00Z"
}))]
pub struct NewHold {
    /// The operation whose queue is held. Null holds both queues of the event.
    pub operation: Option<Operation>,
    /// Why the queue is held: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub note: String,
    /// The time when the hold ends by itself. Null means that it stays until a person lifts it.
    pub until: Option<DateTime<Utc>>,
}

/// The holds that were placed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Held {
    /// The numbers of the holds, one for each queue.
    pub holds: Vec<HoldId>,
    /// The numbers by which they can be taken back.
    pub undo: Vec<UndoId>,
}

/// The result of lifting a hold.
#[derive(Debug, Clone, Copy)]
pub struct LiftedHold {
    /// The event whose queue was held.
    pub event: EventId,
    /// False if the hold was lifted before.
    pub lifted: bool,
}

impl Commands {
    /// Holds an event's queues. No more of their photos are claimed until the hold is lifted or
    /// ends. A top-up does not change that.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn hold(
        &self,
        caller: &Caller,
        event: EventId,
        new: &NewHold,
    ) -> Result<Held, CommandError> {
        caller.must_be(MAY_HOLD)?;
        if new.until.is_some_and(|until| until <= Utc::now()) {
            let detail = "this time is in the past: give a later time, or leave it out";
            return Err(CommandError::invalid("/until", detail));
        }
        let found = self.event_seen_by(caller, event).await?;
        let operations = new.operation.map_or(Operation::ALL.to_vec(), |one| vec![one]);
        let held = transaction!(self, tx, {
            let mut held = Held { holds: Vec::new(), undo: Vec::new() };
            for operation in &operations {
                let (actor, note) = (&caller.actor, &new.note);
                let done = holds::hold(&mut tx, event, *operation, actor, note, new.until).await?;
                held.holds.push(done.hold);
                held.undo.extend(done.undo);
            }
            let detail = json!({
                "operation": new.operation, "note": new.note, "until": new.until,
                "holds": held.holds,
            });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "queue.hold", &subject, detail).await?;
            held
        })?;
        Ok(held)
    }

    /// Lifts every hold that stands on an event's queues, or on one of them: all, or none. Returns
    /// those it lifted.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn lift_holds(
        &self,
        caller: &Caller,
        event: EventId,
        operation: Option<Operation>,
    ) -> Result<Vec<HoldId>, CommandError> {
        caller.must_be(MAY_HOLD)?;
        let found = self.event_seen_by(caller, event).await?;
        let (lifted, woke) = transaction!(self, tx, {
            let (mut lifted, mut woke) = (Vec::new(), false);
            for hold in holds::standing(&mut tx, event, operation).await? {
                let done = holds::lift(&mut tx, hold, &caller.actor).await?;
                if done.lifted {
                    lifted.push(hold);
                }
                woke |= done.woke;
            }
            if !lifted.is_empty() {
                let detail = json!({ "holds": lifted });
                let (whose, subject) = (Some(found.organisation), format!("event {event}"));
                audit_log::record(&mut tx, caller, whose, "queue.lift", &subject, detail).await?;
            }
            (lifted, woke)
        })?;
        if woke {
            self.wake.send().await;
        }
        Ok(lifted)
    }

    /// Lifts one hold. Other holds on the same queue stay, and so does a pause.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn lift_hold(
        &self,
        caller: &Caller,
        hold: HoldId,
    ) -> Result<LiftedHold, CommandError> {
        caller.must_be(MAY_HOLD)?;
        let missing = || CommandError::NotFound(format!("hold {hold}"));
        let event = holds::event_of(&mut *self.database.acquire().await?, hold).await?;
        let event = event.ok_or_else(missing)?;
        let seen = self.event_seen_by(caller, event).await;
        if matches!(seen, Err(CommandError::Denied(_))) {
            // The caller is not told that the event exists.
            return Err(missing());
        }
        let found = seen?;
        let lifted = transaction!(self, tx, {
            let lifted = holds::lift(&mut tx, hold, &caller.actor).await?;
            if lifted.lifted {
                let detail = json!({ "hold": hold });
                let (whose, subject) = (Some(found.organisation), format!("event {event}"));
                audit_log::record(&mut tx, caller, whose, "queue.lift", &subject, detail).await?;
            }
            lifted
        })?;
        if lifted.woke {
            self.wake.send().await;
        }
        Ok(LiftedHold { event, lifted: lifted.lifted })
    }
}
