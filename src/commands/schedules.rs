//! Schedules photos for a later time, and changes or cancels that.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{
    CommandError, Commands, Enqueue, FundingPlan, OnInsufficient, Payloads, Which, enqueue,
};
use crate::{
    access::{Caller, Denied, Role, audit_log},
    catalog::events::Event,
    database,
    ids::{EventId, Operations, ScheduleId},
    queue::{
        enqueue::{EnqueueError, Priority},
        schedules::{self, Schedule},
    },
};

/// The roles that change or cancel what somebody else has scheduled. A pipeline does so only with
/// what it has scheduled itself.
pub(super) const MAY_CHANGE_SCHEDULES: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];

/// Photos to schedule.
#[derive(Debug)]
pub struct NewSchedule<'a> {
    /// The operation to queue them for, or both.
    pub operation: Operations,
    /// The photos. Keys and photos of the store are those of now; all photos of the event are those
    /// that it has when they are due.
    pub photos: Which<'a>,
    /// What the worker gets beside the keys, for any of the photos.
    pub payloads: Payloads,
    /// When they are queued.
    pub not_before: DateTime<Utc>,
    /// Whether they are claimed before the others of the event.
    pub priority: Priority,
}

impl Commands {
    /// Schedules photos: they are queued at that time, or as soon after it as a worker runs. The same
    /// call again, by the same caller, returns the schedule that waits.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn schedule(
        &self,
        caller: &Caller,
        event: EventId,
        new: &NewSchedule<'_>,
    ) -> Result<Schedule, CommandError> {
        caller.must_be(enqueue::MAY_ENQUEUE)?;
        let found = self.event_seen_by(caller, event).await?;
        let under = self.photos_under(caller, found.organisation).await?;
        let jobs = if matches!(new.photos, Which::All) {
            if !new.payloads.is_empty() {
                let detail = "the photos are not known yet: name them by their keys";
                return Err(CommandError::invalid("/payloads", detail));
            }
            None
        } else {
            let mut jobs = self.jobs(&found, &new.photos, &under).await?;
            enqueue::put_payloads(&mut jobs, &new.payloads)?;
            Some(jobs)
        };
        if jobs.as_ref().is_some_and(Vec::is_empty) {
            return Err(no_photos());
        }
        transaction!(self, tx, {
            let (at, actor, jobs) = (new.not_before, &caller.actor, jobs.as_deref());
            let (operation, priority) = (new.operation, new.priority);
            let (id, is_new) =
                schedules::schedule(&mut tx, event, operation, at, jobs, actor, priority)
                    .await
                    .map_err(bad_time)?;
            if is_new {
                let photos = jobs.map(<[_]>::len);
                let detail = json!({
                    "operation": new.operation, "schedule": id, "not_before": at, "photos": photos,
                    "priority": priority,
                });
                self.record_schedule(&mut tx, caller, &found, "schedule.create", detail).await?;
            }
            self.schedule_with(&mut tx, id).await?
        })
    }

    /// Tells what queueing these photos would need if it was done now. It changes nothing, and refuses
    /// what [`schedule`](Self::schedule) would refuse.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn plan_schedule(
        &self,
        caller: &Caller,
        event: EventId,
        new: &NewSchedule<'_>,
    ) -> Result<FundingPlan, CommandError> {
        let now = Enqueue {
            operation: new.operation,
            photos: new.photos,
            payloads: new.payloads.clone(),
            dry_run: true,
            on_insufficient: OnInsufficient::Wait,
            priority: new.priority,
        };
        let plan = self.enqueue(caller, event, &now).await?;
        if plan.photos == 0 && !matches!(new.photos, Which::All) {
            return Err(no_photos());
        }
        let mut db = self.database.acquire().await?;
        schedules::check_time(&mut db, new.not_before)
            .await
            .map_err(|error| bad_time(error.into()))?;
        Ok(plan)
    }

    /// Changes when a schedule is due. The caller answers for it from then on.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn move_schedule(
        &self,
        caller: &Caller,
        id: ScheduleId,
        not_before: DateTime<Utc>,
    ) -> Result<Schedule, CommandError> {
        let event = self.event_of_schedule(caller, id).await?;
        transaction!(self, tx, {
            let changed = schedules::change(&mut tx, id, not_before, &caller.actor).await;
            if !changed.map_err(|error| bad_time(error.into()))? {
                return Err(has_ended(id));
            }
            let detail = json!({ "schedule": id, "not_before": not_before });
            self.record_schedule(&mut tx, caller, &event, "schedule.change", detail).await?;
            self.schedule_with(&mut tx, id).await?
        })
    }

    /// Cancels a schedule. What of it was queued already stays queued.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn cancel_schedule(
        &self,
        caller: &Caller,
        id: ScheduleId,
    ) -> Result<Schedule, CommandError> {
        let event = self.event_of_schedule(caller, id).await?;
        transaction!(self, tx, {
            if !schedules::cancel(&mut tx, id, &caller.actor).await? {
                return Err(has_ended(id));
            }
            let detail = json!({ "schedule": id });
            self.record_schedule(&mut tx, caller, &event, "schedule.cancel", detail).await?;
            self.schedule_with(&mut tx, id).await?
        })
    }

    /// Returns the event of a schedule that the caller may change.
    async fn event_of_schedule(
        &self,
        caller: &Caller,
        id: ScheduleId,
    ) -> Result<Event, CommandError> {
        let may_change_all = MAY_CHANGE_SCHEDULES.contains(&caller.role);
        if !may_change_all {
            caller.must_be(enqueue::MAY_ENQUEUE)?;
        }
        let missing = || CommandError::NotFound(format!("schedule {id}"));
        let found = {
            let mut db = self.database.acquire().await?;
            self.schedule_with(&mut db, id).await?
        };
        // The caller is not told that the event exists.
        let event = match self.event_seen_by(caller, found.event).await {
            Err(CommandError::Denied(_)) => return Err(missing()),
            seen => seen?,
        };
        if !may_change_all && found.actor != caller.actor {
            let detail = "a program changes and cancels only what it has scheduled itself";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        Ok(event)
    }

    async fn schedule_with(
        &self,
        db: &mut sqlx::PgConnection,
        id: ScheduleId,
    ) -> Result<Schedule, CommandError> {
        let which = schedules::Which { id: Some(id), ..schedules::Which::default() };
        let found = schedules::list(db, which, 1).await?.pop();
        found.ok_or_else(|| CommandError::NotFound(format!("schedule {id}")))
    }

    async fn record_schedule(
        &self,
        tx: &mut sqlx::PgConnection,
        caller: &Caller,
        event: &Event,
        action: &str,
        detail: serde_json::Value,
    ) -> sqlx::Result<()> {
        let (whose, subject) = (Some(event.organisation), format!("event {}", event.id));
        audit_log::record(tx, caller, whose, action, &subject, detail).await
    }
}

fn no_photos() -> CommandError {
    CommandError::invalid("/keys", "there are no such photos: nothing would be queued")
}

/// What the database refuses of a schedule is its time: the photos were checked before.
fn bad_time(error: EnqueueError) -> CommandError {
    if let EnqueueError::Database(refused) = &error
        && database::is_code(refused, database::BAD_ARGUMENT)
    {
        return CommandError::invalid("/not_before", database::sentence(refused));
    }
    error.into()
}

fn has_ended(id: ScheduleId) -> CommandError {
    CommandError::Conflict {
        code: "schedule_ended",
        detail: format!("schedule {id} has ended: its photos were queued, or it was cancelled"),
    }
}
