//! The usage of an organisation by day, in its own time zone. It is computed from the running
//! totals in the links of the hash chain.

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{ids::OrganisationId, ledger::credits::Credits};

/// The usage of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Day {
    /// The date, in the organisation's time zone.
    pub day: NaiveDate,
    /// Credits that were reserved, minus credits that were refunded.
    pub usage: Credits,
}

/// Returns the usage of `days` days, from `first` on. It is 0 for days without usage and for future
/// days.
///
/// # Errors
/// When the database has trouble.
pub async fn days(
    db: &mut PgConnection,
    organisation: OrganisationId,
    first: NaiveDate,
    days: i32,
) -> sqlx::Result<Vec<Day>> {
    // A day's usage is reserved + spent at its end, minus reserved + spent at its beginning.
    sqlx::query_as!(
        Day,
        r#"WITH edge AS (
               SELECT n, (SELECT l.reserved + l.spent FROM link l
                          WHERE l.organisation_id = o.organisation_id
                            AND l.at < ($2::date + n)::timestamp AT TIME ZONE o.time_zone
                          ORDER BY l.at DESC, l.last_entry DESC LIMIT 1) AS used
               FROM organisation o, generate_series(0, $3::integer) n WHERE o.organisation_id = $1)
           SELECT ($2::date + n) AS "day!",
                  (coalesce(lead(used) OVER (ORDER BY n), 0) - coalesce(used, 0))
                  AS "usage!: Credits"
           FROM edge ORDER BY n LIMIT $3"#,
        organisation.0,
        first,
        days
    )
    .fetch_all(db)
    .await
}
