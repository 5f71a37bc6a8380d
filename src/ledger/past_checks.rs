//! Reads the results of past checks of the books, and how long the ledgers are.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::OrganisationId;

/// A check of the books that has ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reconciliation {
    /// The number of the check.
    pub id: i64,
    /// `incremental`: the cheap check, whose cost does not grow with the ledger. `full`: the check
    /// of everything.
    pub kind: String,
    /// The time when the check began.
    pub started_at: DateTime<Utc>,
    /// The time when the check ended.
    pub ended_at: DateTime<Utc>,
    /// Number of rows that broke an invariant. Anything but 0 is an alarm.
    pub violations: i64,
    /// The broken invariants, with their organisations and rows.
    pub broken: Option<serde_json::Value>,
}

/// Returns the last checks that ended, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn latest(db: &mut PgConnection, most: i64) -> sqlx::Result<Vec<Reconciliation>> {
    sqlx::query_as!(
        Reconciliation,
        r#"SELECT reconciliation_id AS id, kind::text AS "kind!", started_at,
                  ended_at AS "ended_at!", violations AS "violations!", broken
           FROM reconciliation WHERE ended_at IS NOT NULL ORDER BY reconciliation_id DESC LIMIT $1"#,
        most
    )
    .fetch_all(db)
    .await
}

/// The checks of one day, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The day.
    pub day: NaiveDate,
    /// Number of checks. Cheap checks that found nothing are forgotten after a week.
    pub checks: i64,
    /// Number of checks that found something.
    pub wrong: i64,
}

/// Counts the checks of the last so many days, today's included, the oldest day first.
///
/// # Errors
/// When the database has trouble.
pub async fn days(db: &mut PgConnection, days: i32) -> sqlx::Result<Vec<Day>> {
    // Both kinds are named, so that the index with the kind in front is read.
    sqlx::query_as!(
        Day,
        r#"WITH today AS (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day)
           SELECT d.day::date AS "day!", count(r.started_at) AS "checks!",
                  count(*) FILTER (WHERE r.violations > 0) AS "wrong!"
           FROM today t, generate_series(t.day - ($1::integer - 1), t.day, interval '1 day') d (day)
           LEFT JOIN (
               SELECT started_at, violations, (started_at AT TIME ZONE 'UTC')::date AS day
               FROM reconciliation
               WHERE kind IN ('incremental', 'full') AND ended_at IS NOT NULL
                 AND started_at >= clock_timestamp() - make_interval(days => $1::integer + 1)) r
               ON r.day = d.day::date
           GROUP BY d.day ORDER BY d.day"#,
        days
    )
    .fetch_all(db)
    .await
}

/// Returns the last checks that found something, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn wrong(db: &mut PgConnection, most: i64) -> sqlx::Result<Vec<Reconciliation>> {
    sqlx::query_as!(
        Reconciliation,
        r#"SELECT reconciliation_id AS id, kind::text AS "kind!", started_at,
                  ended_at AS "ended_at!", violations AS "violations!", broken
           FROM reconciliation WHERE violations > 0 ORDER BY reconciliation_id DESC LIMIT $1"#,
        most
    )
    .fetch_all(db)
    .await
}

/// The length of a ledger, or of all ledgers together.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Number of ledger entries.
    pub entries: i64,
    /// The hash of the last link of the organisation's chain, in hexadecimal. `None` for all
    /// organisations together, because each has a chain of its own.
    pub head: Option<String>,
}

/// Returns the length of the ledger of one organisation, or of all ledgers together.
///
/// # Errors
/// When the database has trouble.
pub async fn extent(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Extent> {
    sqlx::query_as!(
        Extent,
        r#"SELECT coalesce(sum(entries), 0)::bigint AS "entries!",
                  (SELECT encode(hash, 'hex') FROM link WHERE organisation_id = $1
                   ORDER BY last_entry DESC LIMIT 1) AS head
           FROM account WHERE $1::bigint IS NULL OR organisation_id = $1"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}
