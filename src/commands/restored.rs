//! After a restore of the database: the workers of before are ended.

use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    queue::claim,
};

impl Commands {
    /// Ends all workers that the database knows, and hands back what they have: nothing that they
    /// still do has an effect. Workers that run notice it, and begin anew. Returns how many there
    /// were.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn retire_all_workers(&self, caller: &Caller) -> Result<i32, CommandError> {
        caller.must_be(&[Role::Staff])?;
        caller.must_run_photogate()?;
        let workers = transaction!(self, tx, {
            let workers = claim::retire_all(&mut tx).await?;
            let detail = json!({ "workers": workers });
            audit_log::record(&mut tx, caller, None, "workers.retire", "all workers", detail)
                .await?;
            workers
        })?;
        self.wake.send().await;
        Ok(workers)
    }
}
