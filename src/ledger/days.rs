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
    /// Credits that were refunded on this day.
    pub refunded: Credits,
    /// Available credits when the day ended; now, if it is not over.
    pub closing: Credits,
}

/// Returns `days` days, from `first` on. The usage is 0 for days without usage and for future days.
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
               SELECT n, l.used, l.available
               FROM organisation o CROSS JOIN generate_series(0, $3::integer) n
               LEFT JOIN LATERAL (
                   SELECT l.reserved + l.spent AS used, l.available FROM link l
                   WHERE l.organisation_id = o.organisation_id
                     AND l.at < day_begins($2::date + n, o.time_zone)
                   ORDER BY l.at DESC, l.last_entry DESC LIMIT 1) l ON true
               WHERE o.organisation_id = $1)
           SELECT ($2::date + n) AS "day!",
                  (coalesce(lead(used) OVER (ORDER BY n), 0) - coalesce(used, 0))
                  AS "usage!: Credits",
                  (SELECT coalesce(sum(u.refunded), 0) FROM usage u
                   WHERE u.organisation_id = $1 AND u.first_refunded_at IS NOT NULL
                     AND u.day = $2::date + n) AS "refunded!: Credits",
                  coalesce(lead(available) OVER (ORDER BY n), 0) AS "closing!: Credits"
           FROM edge ORDER BY n LIMIT $3"#,
        organisation.0,
        first,
        days
    )
    .fetch_all(db)
    .await
}
