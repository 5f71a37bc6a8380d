//! Alerts: what an organisation, or the staff, want to be told of before it is too late.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{
    ids::{AlertId, OrganisationId},
    queue::claim::interval,
};

/// What an alert measures.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, clap::ValueEnum, ToSchema,
)]
#[sqlx(type_name = "alert_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[schema(as = AlertKind)]
pub enum Kind {
    /// Available credits: raised below the threshold, in the transaction that takes them.
    LowBalance,
    /// Hours until no credits are available, at the rate of the last hour: raised below.
    TimeToZero,
    /// Failed photos in percent, of runs that began in the last day: raised above, if there are at
    /// least 20 photos.
    Failures,
    /// Credits that floors of events promise and that are not there: raised above.
    FloorShort,
    /// Minutes until the next hold of a queue ends: raised below.
    HoldEnds,
    /// Rows of the books that break an invariant, as the last checks have found: raised above. For the
    /// staff, in the transaction that ends the check.
    BooksDrift,
    /// Hours that the oldest purchase waits for approval: raised above. For the staff.
    PurchaseWaits,
}

impl Kind {
    /// What an organisation, or the staff, may be alerted of.
    pub fn of(organisation: OrganisationId) -> &'static [Self] {
        if organisation == OrganisationId::STAFF {
            return &[Self::BooksDrift, Self::PurchaseWaits];
        }
        &[Self::LowBalance, Self::TimeToZero, Self::Failures, Self::FloorShort, Self::HoldEnds]
    }

    /// What it means, with its threshold.
    pub fn says(self, threshold: Decimal) -> String {
        let threshold = threshold.normalize();
        match self {
            Self::LowBalance => format!("fewer than {threshold} credits are available"),
            Self::TimeToZero => format!("credits last for less than {threshold} hours"),
            Self::Failures => format!("more than {threshold} % of the photos of a day fail"),
            Self::FloorShort => format!("floors of events lack more than {threshold} credits"),
            Self::HoldEnds => format!("a hold ends within {threshold} minutes"),
            Self::BooksDrift => format!("more than {threshold} rows of the books do not agree"),
            Self::PurchaseWaits => {
                format!("a purchase waits for approval for more than {threshold} hours")
            }
        }
    }
}

/// A rule, and whether it is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// The alert's number.
    pub id: AlertId,
    /// The organisation that is told; 0: the staff.
    pub organisation: OrganisationId,
    /// What it measures.
    pub kind: Kind,
    /// Where it is raised: credits, hours, percent or minutes. It is cleared when that is over by a
    /// fifth.
    #[schema(value_type = String, example = "500")]
    pub threshold: Decimal,
    /// Since when it is raised; null: it is not.
    pub raised_at: Option<DateTime<Utc>>,
    /// What was measured when it was raised or cleared last.
    #[schema(value_type = Option<String>)]
    pub measured: Option<Decimal>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The alerts of an organisation (`None`: of all), or the one with this number. Raised ones first.
///
/// # Errors
/// An error of the database.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    id: Option<AlertId>,
) -> sqlx::Result<Vec<Alert>> {
    sqlx::query_as!(
        Alert,
        r#"SELECT alert_id AS "id: AlertId", organisation_id AS "organisation: OrganisationId",
                  kind AS "kind: Kind", threshold, raised_at, measured, created_by, created_at
           FROM alert
           WHERE ($1::bigint IS NULL OR organisation_id = $1)
               AND ($2::bigint IS NULL OR alert_id = $2)
           ORDER BY raised_at IS NULL, alert_id LIMIT 1000"#,
        organisation.map(|organisation| organisation.0),
        id.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}

/// Adds an alert, or finds the same one. False: it was there already.
///
/// # Errors
/// An error of the database, also if the organisation has twenty.
pub async fn add(
    db: &mut PgConnection,
    organisation: OrganisationId,
    kind: Kind,
    threshold: Decimal,
    actor: &str,
) -> sqlx::Result<(AlertId, bool)> {
    let row = sqlx::query!(
        r#"SELECT r_alert AS "id!: AlertId", r_is_new AS "is_new!" FROM add_alert($1, $2, $3, $4)"#,
        organisation.0,
        kind as Kind,
        threshold,
        actor
    )
    .fetch_one(db)
    .await?;
    Ok((row.id, row.is_new))
}

/// Removes an alert. False if it is gone already.
///
/// # Errors
/// An error of the database.
pub async fn remove(db: &mut PgConnection, id: AlertId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT remove_alert($1) AS "removed!""#, id.0).fetch_one(db).await
}

/// Judges alerts that were not looked at for this time. Returns how many changed.
///
/// # Errors
/// An error of the database.
pub async fn judge(db: &mut PgConnection, every: Duration) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT judge_due_alerts($1) AS "n!""#, interval(every))
        .fetch_one(db)
        .await
}
