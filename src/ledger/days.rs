//! What an organisation used, day by day of its own time zone; from the running totals that its chain carries.

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{ids::OrganisationId, ledger::credits::Credits};

/// A day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Day {
    /// In the organisation's time zone.
    pub day: NaiveDate,
    /// Credits that were reserved, less those that came back.
    pub usage: Credits,
}

/// The days from `first` on, so many; today and later ones included, with 0 where nothing was used.
///
/// # Errors
/// When the database has trouble.
pub async fn days(
    db: &mut PgConnection,
    organisation: OrganisationId,
    first: NaiveDate,
    days: i32,
) -> sqlx::Result<Vec<Day>> {
    // What is reserved or spent at an instant, less what it was a day before, is what the day used.
    sqlx::query_as!(
        Day,
        r#"WITH edge AS (
               SELECT n, (SELECT l.reserved + l.spent FROM link l
                          WHERE l.organisation_id = o.organisation_id AND l.at < ($2::date + n)::timestamp AT TIME ZONE o.time_zone
                          ORDER BY l.at DESC, l.last_entry DESC LIMIT 1) AS used
               FROM organisation o, generate_series(0, $3::integer) n WHERE o.organisation_id = $1)
           SELECT ($2::date + n) AS "day!", (coalesce(lead(used) OVER (ORDER BY n), 0) - coalesce(used, 0)) AS "usage!: Credits"
           FROM edge ORDER BY n LIMIT $3"#,
        organisation.0,
        first,
        days
    )
    .fetch_all(db)
    .await
}
