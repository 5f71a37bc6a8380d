//! Programs, and people who log in with a token instead of a password.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{AccessError, Caller, Role, Secret, hash};
use crate::ids::{OrganisationId, TokenId};

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Token {
    /// Its number.
    pub id: TokenId,
    /// How it begins.
    pub hint: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only organisation it sees.
    pub organisation: Option<OrganisationId>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// It is of no use since.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a token; its secret is told here and never again.
///
/// # Errors
/// See [`AccessError`].
pub async fn create_token(
    db: &mut PgConnection,
    name: &str,
    role: Role,
    organisation: Option<OrganisationId>,
    actor: &str,
) -> Result<(TokenId, Secret), AccessError> {
    if name.trim().is_empty() || name.chars().count() > 100 {
        return Err(AccessError::Name);
    }
    let secret = Secret::new("pg_");
    let hint: String = secret.0.chars().take(9).collect();
    let id = sqlx::query_scalar!(
        r#"INSERT INTO token (hash, hint, name, role, organisation_id, created_by) VALUES ($1, $2, $3, $4, $5, $6) RETURNING token_id AS "id: TokenId""#,
        hash(&secret.0),
        hint,
        name.trim(),
        role as Role,
        organisation.map(|organisation| organisation.0),
        actor
    )
    .fetch_one(db)
    .await
    .map_err(|error| AccessError::from(error, role, organisation))?;
    Ok((id, secret))
}

/// The tokens of an organisation, or all; newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn tokens(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Vec<Token>> {
    sqlx::query_as!(
        Token,
        r#"SELECT token_id AS "id: _", hint, name, role AS "role: _", organisation_id AS "organisation: _", created_by, created_at, last_used_at, revoked_at
           FROM token WHERE $1::bigint IS NULL OR organisation_id = $1 ORDER BY token_id DESC LIMIT 1000"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await
}

/// Makes a token useless, and every session that was begun with it. `None`: there is no such token within `organisation`.
///
/// # Errors
/// When the database has trouble.
pub async fn revoke_token(
    tx: &mut PgConnection,
    token: TokenId,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Option<Option<OrganisationId>>> {
    let found = sqlx::query!(
        r#"UPDATE token SET revoked_at = coalesce(revoked_at, clock_timestamp())
           WHERE token_id = $1 AND ($2::bigint IS NULL OR organisation_id = $2) RETURNING organisation_id AS "organisation: OrganisationId""#,
        token.0,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_optional(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM session WHERE token_id = $1 AND $2", token.0, found.is_some())
        .execute(tx)
        .await?;
    Ok(found.map(|row| row.organisation))
}

/// Who has this token. `None`: nobody, or not any more.
///
/// # Errors
/// When the database has trouble.
pub async fn caller_with_token(
    db: &mut PgConnection,
    secret: &str,
) -> sqlx::Result<Option<Caller>> {
    let found = sqlx::query!(
        r#"SELECT token_id, name, role AS "role: Role", organisation_id AS "organisation: OrganisationId",
                  coalesce(last_used_at < now() - interval '1 minute', true) AS "stale!"
           FROM token WHERE hash = $1 AND revoked_at IS NULL"#,
        hash(secret)
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(found) = found else { return Ok(None) };
    if found.stale {
        // Whoever else is just doing that does it for us.
        sqlx::query!(
            "UPDATE token SET last_used_at = now() WHERE token_id = (SELECT token_id FROM token WHERE token_id = $1 FOR UPDATE SKIP LOCKED)",
            found.token_id
        )
        .execute(db)
        .await?;
    }
    Ok(Some(Caller {
        actor: format!("token {} ({})", found.token_id, found.name),
        role: found.role,
        organisation: found.organisation,
    }))
}
