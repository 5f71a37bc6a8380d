//! The checks of the books that were made, and what they found.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::OrganisationId;

/// A check that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reconciliation {
    /// Its number.
    pub id: i64,
    /// `incremental`, at a cost that does not grow; or `full`, over everything.
    pub kind: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Rows that broke an invariant: anything but 0 is an alarm.
    pub violations: i64,
    /// Which, with organisations and rows.
    pub broken: Option<serde_json::Value>,
}

/// The last checks that ended, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn latest(db: &mut PgConnection, most: i64) -> sqlx::Result<Vec<Reconciliation>> {
    sqlx::query_as!(
        Reconciliation,
        r#"SELECT reconciliation_id AS id, kind::text AS "kind!", started_at, ended_at AS "ended_at!", violations AS "violations!", broken
           FROM reconciliation WHERE ended_at IS NOT NULL ORDER BY started_at DESC LIMIT $1"#,
        most
    )
    .fetch_all(db)
    .await
}

/// How far the ledgers reach.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Entries.
    pub entries: i64,
    /// The newest link of an organisation's chain, in hexadecimal; `None` for all organisations: each has its own.
    pub head: Option<String>,
}

/// How far the ledger of an organisation reaches, or all of them.
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
                  (SELECT encode(hash, 'hex') FROM link WHERE organisation_id = $1 ORDER BY last_entry DESC LIMIT 1) AS head
           FROM account WHERE $1::bigint IS NULL OR organisation_id = $1"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}
