//! Schedules photos for a later time, and changes or cancels that.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{CommandError, Commands, Payloads, Which, enqueue};
use crate::{
    access::{Caller, audit_log},
    catalog::events::Event,
    ids::{EventId, Operation, ScheduleId},
    queue::schedules::{self, Schedule},
};

/// Photos to schedule.
#[derive(Debug)]
pub struct NewSchedule<'a> {
    /// The operation to queue them for.
    pub operation: Operation,
    /// The photos. Keys and photos of the store are those of now; all photos of the event are those
    /// that it has when they are due.
    pub photos: Which<'a>,
    /// What the worker gets beside the keys, for any of the photos.
    pub payloads: Payloads,
    /// When they are queued.
    pub not_before: DateTime<Utc>,
}

impl Commands {
    /// Schedules photos: they are queued at that time, or as soon after it as a worker runs.
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
            let mut jobs = self.jobs(event, &new.photos, &under).await?;
            enqueue::put_payloads(&mut jobs, &new.payloads)?;
            Some(jobs)
        };
        if jobs.as_ref().is_some_and(Vec::is_empty) {
            let detail = "there are no such photos: nothing would be queued";
            return Err(CommandError::invalid("/keys", detail));
        }
        transaction!(self, tx, {
            let (at, actor) = (new.not_before, &caller.actor);
            let id = schedules::schedule(&mut tx, event, new.operation, at, jobs.as_deref(), actor)
                .await?;
            let photos = jobs.as_ref().map(Vec::len);
            let detail = json!({
                "operation": new.operation, "schedule": id, "not_before": at, "photos": photos,
            });
            self.record_schedule(&mut tx, caller, &found, "schedule.create", detail).await?;
            self.schedule_with(&mut tx, id).await?
        })
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
            if !schedules::change(&mut tx, id, not_before, &caller.actor).await? {
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
        caller.must_be(enqueue::MAY_ENQUEUE)?;
        let missing = || CommandError::NotFound(format!("schedule {id}"));
        let found = {
            let mut db = self.database.acquire().await?;
            self.schedule_with(&mut db, id).await?
        };
        // The caller is not told that the event exists.
        match self.event_seen_by(caller, found.event).await {
            Err(CommandError::Denied(_)) => Err(missing()),
            seen => seen,
        }
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

fn has_ended(id: ScheduleId) -> CommandError {
    CommandError::Conflict {
        code: "schedule_ended",
        detail: format!("schedule {id} has ended: its photos were queued, or it was cancelled"),
    }
}
