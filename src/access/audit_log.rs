//! The audit log: what people and programs changed, and who was looked for by face. An entry is
//! written in the transaction of the change, and sealed by the database.

mod verify;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{access::Caller, ids::OrganisationId};

pub use verify::{Verified, verify};

/// An entry of the audit log: one change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEntry {
    /// The entry's number. To get the next page, pass the last one as `below`.
    pub id: i64,
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// Who made the change: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: String,
    /// The organisation that was affected; `None` if it was not a single one.
    pub organisation: Option<OrganisationId>,
    /// What was done, as `queue.hold`.
    pub action: String,
    /// What was changed, as `event 4711`.
    pub subject: String,
    /// Details of the change, as JSON.
    pub detail: serde_json::Value,
}

/// Writes an entry to the audit log, and a line to the log. `tx` must be the transaction of the
/// change. It must be the last step: whoever writes of the same organisation waits for its end.
///
/// # Errors
/// When the database has trouble.
pub async fn record(
    tx: &mut PgConnection,
    caller: &Caller,
    organisation: Option<OrganisationId>,
    action: &str,
    subject: &str,
    detail: serde_json::Value,
) -> sqlx::Result<()> {
    // The span of a request adds its ID and the client's address. A subject may be what a stranger
    // has written. It is told before the commit: the audit log itself says what has happened.
    tracing::info!(actor = ?caller.actor, action, ?subject, "a change");
    sqlx::query!(
        "INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
         VALUES ($1, $2, $3, $4, $5)",
        caller.actor,
        organisation.map(|organisation| organisation.0),
        action,
        subject,
        detail
    )
    .execute(tx)
    .await
    .map(|_| ())
}

/// Lists the audit log of one organisation, or of all, newest first. Only entries with numbers
/// below `below` are listed, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<AuditEntry>> {
    sqlx::query_as!(
        AuditEntry,
        r#"SELECT entry_id AS id, at, actor, organisation_id AS "organisation: _", action, subject,
                  detail
           FROM audit_log
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND entry_id < $2
           ORDER BY entry_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}
