//! Lets logins of PostgreSQL queue photos of an organisation, and revokes that.

use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{self, Caller, Role, audit_log},
    ids::{OrganisationId, PipelineId},
};

/// A login of the database is the business of whoever runs photogate.
const MAY_ALLOW: &[Role] = &[Role::Staff];

impl Commands {
    /// Lets a login queue photos of an organisation, up to the limit of unpaid photos that is set
    /// here. If it may already, only the limit is set.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn allow_pipeline(
        &self,
        caller: &Caller,
        login: &str,
        organisation: OrganisationId,
    ) -> Result<PipelineId, CommandError> {
        caller.must_be(MAY_ALLOW)?;
        let unpaid = self.quotas.unpaid_photos();
        let mut tx = self.database.begin().await?;
        let id =
            access::allow_pipeline(&mut tx, login, organisation, unpaid, &caller.actor).await?;
        let (whose, subject) = (Some(organisation), format!("pipeline {id}"));
        let detail = json!({ "login": login, "unpaid_photos_max": unpaid });
        audit_log::record(&mut tx, caller, whose, "pipeline.allow", &subject, detail).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Revokes what was allowed: the login's calls are refused from now on. Returns its name.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn revoke_pipeline(
        &self,
        caller: &Caller,
        pipeline: PipelineId,
    ) -> Result<String, CommandError> {
        caller.must_be(MAY_ALLOW)?;
        let mut tx = self.database.begin().await?;
        let (login, organisation) = access::revoke_pipeline(&mut tx, pipeline)
            .await?
            .ok_or_else(|| CommandError::NotFound(format!("pipeline {pipeline}")))?;
        let (whose, subject) = (Some(organisation), format!("pipeline {pipeline}"));
        let detail = json!({ "login": login });
        audit_log::record(&mut tx, caller, whose, "pipeline.revoke", &subject, detail).await?;
        tx.commit().await?;
        Ok(login)
    }
}
