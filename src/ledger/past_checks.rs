//! Reads the results of past checks of the books, and how long the ledgers are.

use chrono::{DateTime, Utc};
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
