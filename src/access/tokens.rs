//! Tokens: secrets of programs that call the API. People can also log in with a token.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{AccessError, Caller, Role, Secret, alone, hash, invitations::withdraw_links_by};
use crate::ids::{OrganisationId, TokenId};

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Token {
    /// The number of the token.
    pub id: TokenId,
    /// The first characters of the secret, to recognise the token.
    pub hint: String,
    /// The token's name, which says what it is for.
    pub name: String,
    /// What the token may do.
    pub role: Role,
    /// The only organisation that the token sees; `None`: all organisations.
    pub organisation: Option<OrganisationId>,
    /// Who created the token: an e-mail address, or the name of a token.
    pub created_by: String,
    /// The time when the token was created.
    pub created_at: DateTime<Utc>,
    /// The time from which the token is not valid any more.
    pub expires_at: DateTime<Utc>,
    /// The time of the last use, to the minute; `None` if it was never used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time when the token was revoked; `None` if it was not.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// The days for which a token is valid if nobody says otherwise.
pub const TOKEN_DAYS: i32 = 365;
/// The most days for which a token can be valid: two years. Whoever forgets it has forgotten why.
const TOKEN_DAYS_MAX: i32 = 730;
/// Maximum number of valid tokens of an organisation: each has a share of the service's memory.
const TOKENS_MAX: i64 = 100;

/// Creates a token that is valid for so many days. The secret is returned here only; it cannot be
/// read again. `tx` must be a transaction.
///
/// # Errors
/// See [`AccessError`].
pub async fn create_token(
    tx: &mut PgConnection,
    name: &str,
    role: Role,
    organisation: Option<OrganisationId>,
    days: i32,
    actor: &str,
) -> Result<(TokenId, Secret), AccessError> {
    if name.trim().is_empty() || name.chars().count() > 100 || name.contains(char::is_control) {
        return Err(AccessError::Name);
    }
    if !(1..=TOKEN_DAYS_MAX).contains(&days) {
        return Err(AccessError::Days);
    }
    if let Some(organisation) = organisation {
        let valid = sqlx::query_scalar!(
            r#"SELECT count(*) AS "tokens!" FROM token
               WHERE organisation_id = $1 AND revoked_at IS NULL AND expires_at > now()"#,
            organisation.0
        );
        alone(&mut *tx, organisation).await?;
        if valid.fetch_one(&mut *tx).await? >= TOKENS_MAX {
            return Err(AccessError::TooManyTokens(organisation));
        }
    }
    let secret = Secret::new("pg_");
    let hint: String = secret.0.chars().take(9).collect();
    let id = sqlx::query_scalar!(
        r#"INSERT INTO token (hash, hint, name, role, organisation_id, created_by, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
           RETURNING token_id AS "id: TokenId""#,
        hash(&secret.0),
        hint,
        name.trim(),
        role as Role,
        organisation.map(|organisation| organisation.0),
        actor,
        days
    )
    .fetch_one(tx)
    .await
    .map_err(|error| AccessError::from(error, role, organisation))?;
    Ok((id, secret))
}

/// Lists the tokens of one organisation, or of all, newest first. Only those with numbers below
/// `below` are listed, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn tokens(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Token>> {
    sqlx::query_as!(
        Token,
        r#"SELECT token_id AS "id: _", hint, name, role AS "role: _",
                  organisation_id AS "organisation: _", created_by, created_at, expires_at,
                  last_used_at, revoked_at
           FROM token WHERE ($1::bigint IS NULL OR organisation_id = $1) AND token_id < $2
           ORDER BY token_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}

/// Revokes a token, ends every session that was begun with it, and withdraws the links for passwords
/// that it has made. Returns the token's role and
/// organisation, or `None` if `organisation` has no such token. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn revoke_token(
    tx: &mut PgConnection,
    token: TokenId,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Option<(Role, Option<OrganisationId>)>> {
    let found = sqlx::query!(
        r#"UPDATE token SET revoked_at = coalesce(revoked_at, clock_timestamp())
           WHERE token_id = $1 AND ($2::bigint IS NULL OR organisation_id = $2)
           RETURNING name, role AS "role: Role", organisation_id AS "organisation: OrganisationId""#,
        token.0,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_optional(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM session WHERE token_id = $1 AND $2", token.0, found.is_some())
        .execute(&mut *tx)
        .await?;
    let Some(found) = found else { return Ok(None) };
    end_access_by(tx, &actor(token.0, &found.name)).await?;
    Ok(Some((found.role, found.organisation)))
}

/// Ends what somebody has made who may not come in any more, and what was made with that: links, and
/// tokens that can do more than a pipeline, with their sessions. Uploads go on. `tx` must be a
/// transaction.
///
/// # Errors
/// When the database has trouble.
pub(super) async fn end_access_by(tx: &mut PgConnection, by: &str) -> sqlx::Result<()> {
    let ended = sqlx::query!(
        r#"WITH RECURSIVE made AS (
               SELECT token_id, 'token ' || token_id || ' (' || name || ')' AS actor FROM token
               WHERE created_by = $1 AND role <> 'pipeline' AND revoked_at IS NULL
               UNION
               SELECT t.token_id, 'token ' || t.token_id || ' (' || t.name || ')'
               FROM made m JOIN token t ON t.created_by = m.actor
               WHERE t.role <> 'pipeline' AND t.revoked_at IS NULL)
           UPDATE token t SET revoked_at = clock_timestamp() FROM made m
           WHERE t.token_id = m.token_id
           RETURNING t.token_id, m.actor AS "actor!""#,
        by
    )
    .fetch_all(&mut *tx)
    .await?;
    let tokens: Vec<_> = ended.iter().map(|row| row.token_id).collect();
    sqlx::query!("DELETE FROM session WHERE token_id = ANY ($1)", &tokens)
        .execute(&mut *tx)
        .await?;
    for actor in ended.iter().map(|row| row.actor.as_str()).chain([by]) {
        withdraw_links_by(&mut *tx, actor).await?;
    }
    Ok(())
}

/// Makes sure that whoever asks may still come in: the request may have been sent before, and its
/// end after. Whoever disables the person or revokes the token meanwhile waits for this transaction,
/// and sees what it has made.
///
/// # Errors
/// [`AccessError::Ended`], or trouble with the database.
pub async fn must_still_be(tx: &mut PgConnection, caller: &Caller) -> Result<(), AccessError> {
    let person = sqlx::query_scalar!(
        r#"SELECT disabled_at IS NOT NULL AS "ended!" FROM person WHERE email = $1 FOR SHARE"#,
        caller.actor
    );
    let number = caller.actor.strip_prefix("token ").and_then(|rest| rest.split(' ').next());
    let number = number.and_then(|number| number.parse::<i64>().ok());
    let token = sqlx::query_scalar!(
        r#"SELECT revoked_at IS NOT NULL AS "ended!" FROM token WHERE token_id = $1 FOR SHARE"#,
        number
    );
    let ended = person.fetch_optional(&mut *tx).await? == Some(true)
        || token.fetch_optional(&mut *tx).await? == Some(true);
    if ended { Err(AccessError::Ended) } else { Ok(()) }
}

/// The name of a token in the audit log.
fn actor(token: i64, name: &str) -> String {
    format!("token {token} ({name})")
}

/// Returns the caller of a token. `None`: there is no such token, or it was revoked, or it has expired.
///
/// # Errors
/// When the database has trouble.
pub async fn caller_with_token(
    db: &mut PgConnection,
    secret: &str,
) -> sqlx::Result<Option<Caller>> {
    let found = sqlx::query!(
        r#"SELECT token_id, name, role AS "role: Role",
                  organisation_id AS "organisation: OrganisationId",
                  coalesce(last_used_at < now() - interval '1 minute', true) AS "stale!"
           FROM token WHERE hash = $1 AND revoked_at IS NULL AND expires_at > now()"#,
        hash(secret)
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(found) = found else { return Ok(None) };
    if found.stale {
        // If another request has the row locked, that request writes the time.
        sqlx::query!(
            "UPDATE token SET last_used_at = now()
             WHERE token_id = (SELECT token_id FROM token WHERE token_id = $1
                               FOR UPDATE SKIP LOCKED)",
            found.token_id
        )
        .execute(db)
        .await?;
    }
    Ok(Some(Caller {
        actor: actor(found.token_id, &found.name),
        role: found.role,
        organisation: found.organisation,
    }))
}
