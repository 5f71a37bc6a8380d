//! Cancels runs, and moves them to the front of their queue.

use serde_json::json;

use super::{CommandError, Commands, retry::MAY_RETRY};
use crate::{
    access::{Caller, audit_log},
    ids::RunId,
    queue::runs::{self, Cancelled, MovedFirst, Run},
};

impl Commands {
    /// Cancels a run: its photos that wait are taken out of the queue, and cost nothing. Photos that
    /// are in progress are finished.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn cancel_run(&self, caller: &Caller, run: RunId) -> Result<Cancelled, CommandError> {
        let found = self.run_to_change(caller, run).await?;
        transaction!(self, tx, {
            let done = runs::cancel(&mut tx, run, &caller.actor).await?;
            let detail = json!({
                "run": run, "photos": done.cancelled, "in_progress": done.in_progress,
            });
            let (whose, subject) = (Some(found.organisation), format!("event {}", found.event));
            audit_log::record(&mut tx, caller, whose, "run.cancel", &subject, detail).await?;
            done
        })
    }

    /// Moves a run to the front: its photos that wait are claimed before all others of their queue.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn put_run_first(
        &self,
        caller: &Caller,
        run: RunId,
    ) -> Result<MovedFirst, CommandError> {
        let found = self.run_to_change(caller, run).await?;
        transaction!(self, tx, {
            let done = runs::put_first(&mut tx, run, &caller.actor).await?;
            let detail = json!({ "run": run, "photos": done.moved });
            let (whose, subject) = (Some(found.organisation), format!("event {}", found.event));
            audit_log::record(&mut tx, caller, whose, "run.first", &subject, detail).await?;
            done
        })
    }

    async fn run_to_change(&self, caller: &Caller, run: RunId) -> Result<Run, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = runs::find(&mut *self.database.acquire().await?, run).await?;
        found
            .filter(|found| caller.organisation.is_none_or(|own| own == found.organisation))
            .ok_or_else(|| CommandError::NotFound(format!("run {run}")))
    }
}
