//! The usage and the top-ups of an organisation by month, in its own time zone. They are computed
//! from the month openings, so the cost does not grow with the ledger.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{ids::OrganisationId, ledger::credits::Credits};

/// The summary of one month of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Month {
    /// The first day of the month.
    pub month: NaiveDate,
    /// The time when the month begins in the organisation's time zone.
    pub begins_at: DateTime<Utc>,
    /// The time when the next month begins.
    pub ends_at: DateTime<Utc>,
    /// True for the current month, which is not over.
    pub current: bool,
    /// Available credits when the month began.
    pub opening: Credits,
    /// Credits that were reserved, minus credits that were refunded.
    pub usage: Credits,
    /// Credits from top-ups of every kind. Adjustments may make it negative.
    pub added: Credits,
    /// The change of the balance: `added` minus `usage`.
    pub net: Credits,
    /// Number of rows of the history.
    pub transactions: i64,
    /// Available credits when the month ended; now, if it is not over.
    pub closing: Credits,
}

/// Returns the current month and `before` months before it, newest first. Empty if there is no such
/// organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn latest(
    db: &mut PgConnection,
    organisation: OrganisationId,
    before: i32,
) -> sqlx::Result<Vec<Month>> {
    let rows = sqlx::query!(
        r#"WITH edges AS (
               SELECT o.organisation_id, o.time_zone, n,
                      (month_of(greatest(clock(), a.moved_at), o.time_zone)
                       - make_interval(months => n))::date AS month
               FROM organisation o
               JOIN account a USING (organisation_id), generate_series(0, $2::integer) n
               WHERE o.organisation_id = $1),
           instants AS (
               SELECT e.*, day_begins(month, time_zone) AS begins_at,
                      day_begins((month + interval '1 month')::date, time_zone) AS ends_at
               FROM edges e)
           SELECT i.month AS "month!", i.begins_at AS "begins_at!", i.ends_at AS "ends_at!",
                  i.n = 0 AS "current!",
                  o.available AS "opening!: Credits", c.available AS "closing!: Credits",
                  (c.funded - c.available) - (o.funded - o.available) AS "usage!: Credits",
                  c.funded - o.funded AS "added!: Credits",
                  (SELECT count(*) FROM top_up t
                   WHERE t.organisation_id = $1 AND t.shown_at >= i.begins_at
                     AND t.shown_at < i.ends_at)
                  + (SELECT count(*) FROM usage u
                     WHERE u.organisation_id = $1 AND u.first_claimed_at IS NOT NULL
                       AND u.day >= i.month AND u.day < (i.month + interval '1 month')::date)
                  + (SELECT count(*) FROM usage u
                     WHERE u.organisation_id = $1 AND u.first_refunded_at IS NOT NULL
                       AND u.day >= i.month AND u.day < (i.month + interval '1 month')::date)
                  AS "transactions!"
           FROM instants i, opening_of($1, i.month) o,
                opening_of($1, (i.month + interval '1 month')::date) c
           ORDER BY i.n"#,
        organisation.0,
        before
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Month {
            month: row.month,
            begins_at: row.begins_at,
            ends_at: row.ends_at,
            current: row.current,
            opening: row.opening,
            usage: row.usage,
            added: row.added,
            net: Credits(row.added.0 - row.usage.0),
            transactions: row.transactions,
            closing: row.closing,
        })
        .collect())
}
