//! Adds and removes alerts of an organisation, or of the staff.

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands, Created};
use crate::{
    access::{Caller, Role, audit_log},
    changes::alerts::{self, Alert, Kind},
    ids::{AlertId, OrganisationId},
};

/// Who decides of what an organisation is alerted.
pub(super) const MAY_CHANGE_ALERTS: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];
/// Who sees alerts.
pub(super) const MAY_SEE_ALERTS: &[Role] =
    &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// An alert to add.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "kind": "low_balance", "threshold": "500" }))]
pub struct NewAlert {
    /// What it measures.
    pub kind: Kind,
    /// Where it is raised: credits, hours, percent, minutes or rows, with two decimals at most.
    #[schema(value_type = String, example = "500")]
    pub threshold: Decimal,
}

impl Commands {
    /// Adds an alert. If what it measures is bad already, it is raised at once. The same alert again
    /// is found.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn add_alert(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        new: &NewAlert,
    ) -> Result<Created<Alert>, CommandError> {
        caller.must_be(MAY_CHANGE_ALERTS)?;
        caller.must_see(organisation)?;
        let threshold = new.threshold.normalize();
        if !Kind::of(organisation).contains(&new.kind) {
            let detail = "the staff (organisation 0) are alerted of books_drift and purchase_waits, \
                          organisations of the other kinds";
            return Err(CommandError::invalid("/kind", detail));
        }
        let may_be_zero = !matches!(new.kind, Kind::LowBalance | Kind::TimeToZero | Kind::HoldEnds);
        let bounds = Decimal::ZERO..=Decimal::from(1_000_000_000);
        if threshold.scale() > 2
            || !bounds.contains(&threshold)
            || threshold.is_zero() && !may_be_zero
        {
            let detail = "the threshold is a number from 0.01 to 1,000,000,000, with two decimals \
                          at most";
            return Err(CommandError::invalid("/threshold", detail));
        }
        let mut tx = self.database.begin().await?;
        let (id, is_new) =
            alerts::add(&mut tx, organisation, new.kind, threshold, &caller.actor).await?;
        if is_new {
            let (whose, subject) = (Some(organisation), format!("alert {id}"));
            let detail = json!({ "kind": new.kind, "threshold": threshold });
            audit_log::record(&mut tx, caller, whose, "alert.add", &subject, detail).await?;
        }
        let value = alerts::list(&mut tx, None, Some(id)).await?.pop();
        let value = value.ok_or_else(|| CommandError::NotFound(format!("alert {id}")))?;
        tx.commit().await?;
        Ok(Created { value, is_new })
    }

    /// Removes an alert.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn remove_alert(&self, caller: &Caller, id: AlertId) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE_ALERTS)?;
        let missing = || CommandError::NotFound(format!("alert {id}"));
        let mut tx = self.database.begin().await?;
        let alert = alerts::list(&mut tx, None, Some(id)).await?.pop().ok_or_else(missing)?;
        caller.must_see(alert.organisation).map_err(|_| missing())?;
        if alerts::remove(&mut tx, id).await? {
            let (whose, subject) = (Some(alert.organisation), format!("alert {id}"));
            let detail = json!({ "kind": alert.kind, "threshold": alert.threshold });
            audit_log::record(&mut tx, caller, whose, "alert.remove", &subject, detail).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
