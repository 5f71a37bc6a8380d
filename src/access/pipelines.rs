//! Pipelines: logins of PostgreSQL whose programs queue photos of an organisation in transactions of
//! their own. The login itself is made by whoever runs the server.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{AccessError, alone};
use crate::ids::{OrganisationId, PipelineId};

/// A login that may queue photos of an organisation.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    /// The pipeline's number.
    pub id: PipelineId,
    /// The name of the login in PostgreSQL.
    pub login: String,
    /// The organisation whose photos it may queue.
    pub organisation: OrganisationId,
    /// The photos of the organisation that may wait without credits; its calls are refused above.
    pub unpaid_photos_max: i64,
    /// Who let it in.
    pub created_by: String,
    /// The time when it was let in.
    pub created_at: DateTime<Utc>,
    /// The time when it was revoked; `None` if it was not.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Whether the login exists, and is a member of the role `photogate_pipeline`.
    pub can_connect: bool,
}

/// Maximum number of pipelines of an organisation.
const PIPELINES_MAX: i64 = 100;
/// The longest name of a login, in bytes. PostgreSQL cuts longer names.
const LOGIN_MAX: usize = 63;

/// Lets a login queue photos of an organisation. If it may already, only its limit is set. `tx` must
/// be a transaction.
///
/// # Errors
/// See [`AccessError`].
pub async fn allow_pipeline(
    tx: &mut PgConnection,
    login: &str,
    organisation: OrganisationId,
    unpaid_photos_max: i64,
    actor: &str,
) -> Result<PipelineId, AccessError> {
    if !(1..=LOGIN_MAX).contains(&login.len()) || login.contains(char::is_control) {
        return Err(AccessError::Login);
    }
    alone(&mut *tx, organisation).await?;
    let id = sqlx::query_scalar!(
        r#"INSERT INTO pipeline (login, organisation_id, unpaid_photos_max, created_by)
           SELECT $1, organisation_id, $3, $4 FROM organisation WHERE organisation_id = $2
           ON CONFLICT (login, organisation_id) WHERE revoked_at IS NULL
           DO UPDATE SET unpaid_photos_max = EXCLUDED.unpaid_photos_max
           RETURNING pipeline_id AS "id: PipelineId""#,
        login,
        organisation.0,
        unpaid_photos_max,
        actor
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(AccessError::NoOrganisation(organisation))?;
    let allowed = sqlx::query_scalar!(
        r#"SELECT count(*) AS "pipelines!" FROM pipeline
           WHERE organisation_id = $1 AND revoked_at IS NULL"#,
        organisation.0
    );
    if allowed.fetch_one(tx).await? > PIPELINES_MAX {
        return Err(AccessError::TooManyPipelines(organisation));
    }
    Ok(id)
}

/// Lists the pipelines of one organisation, or of all, newest first. Only those with numbers below
/// `below` are listed, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn pipelines(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Pipeline>> {
    sqlx::query_as!(
        Pipeline,
        r#"SELECT pipeline_id AS "id: _", login, organisation_id AS "organisation: _",
                  unpaid_photos_max, created_by, created_at, revoked_at,
                  EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login AND r.rolcanlogin
                          AND pg_has_role(r.oid, 'photogate_pipeline', 'MEMBER')) AS "can_connect!"
           FROM pipeline WHERE ($1::bigint IS NULL OR organisation_id = $1) AND pipeline_id < $2
           ORDER BY pipeline_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}

/// Revokes a pipeline: calls that begin from now on are refused. A transaction in which the login
/// has called already may still commit. Returns the login and its organisation; `None` if there is
/// no such pipeline. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn revoke_pipeline(
    tx: &mut PgConnection,
    pipeline: PipelineId,
) -> sqlx::Result<Option<(String, OrganisationId)>> {
    let found = sqlx::query!(
        r#"UPDATE pipeline SET revoked_at = coalesce(revoked_at, clock_timestamp())
           WHERE pipeline_id = $1
           RETURNING login, organisation_id AS "organisation: OrganisationId""#,
        pipeline.0
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.map(|found| (found.login, found.organisation)))
}
