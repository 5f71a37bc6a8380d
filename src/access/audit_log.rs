//! What people and programs changed: the audit trail. A deed is written in the transaction of its change.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{access::Caller, ids::OrganisationId};

/// Something that was done.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Deed {
    /// Its number; the next page begins below it.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// Whose things it concerned.
    pub organisation: Option<OrganisationId>,
    /// What, as in `queue.hold`.
    pub action: String,
    /// To what, as in `event 4711`.
    pub subject: String,
    /// With what.
    pub detail: serde_json::Value,
}

/// Writes down a deed; `tx` is the transaction of the change.
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
    sqlx::query!(
        "INSERT INTO deed (actor, organisation_id, action, subject, detail) VALUES ($1, $2, $3, $4, $5)",
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

/// What was done, newest first: of an organisation, or all; below a number.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Deed>> {
    sqlx::query_as!(
        Deed,
        r#"SELECT deed_id AS id, at, actor, organisation_id AS "organisation: _", action, subject, detail FROM deed
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deed_id < $2 ORDER BY deed_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}
