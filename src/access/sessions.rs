//! Sessions: browsers that are logged in.

use std::{net::IpAddr, time::Duration};

use chrono::Utc;
use sqlx::{PgConnection, PgPool};

use super::{
    Caller, Role, Secret, hash,
    people::{NOBODYS, is_password},
};
use crate::ids::OrganisationId;

/// The time after which a session ends.
pub const SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// Where somebody logs in from: a network that counts as one client, and the wider one around it.
#[derive(Debug, Clone, Copy)]
pub struct Networks {
    /// An IPv4 address, or the /64 network of an IPv6 address.
    pub narrow: IpAddr,
    /// The /48 network around an IPv6 address; of IPv4, the address again.
    pub wide: IpAddr,
}

/// Counts a try to log in, before it is made. False: there were too many. `account` is the e-mail
/// address, or empty for a token.
///
/// # Errors
/// When the database has trouble.
pub async fn may_log_in(pool: &PgPool, from: Networks, account: &str) -> sqlx::Result<bool> {
    let (wide, narrow) = (from.wide.to_string(), from.narrow.to_string());
    sqlx::query_scalar!(r#"SELECT may_log_in($1, $2, $3) AS "may!""#, wide, narrow, account)
        .fetch_one(pool)
        .await
}

/// Takes the try back, and resets the count of the account from this network, after a successful
/// login.
///
/// # Errors
/// When the database has trouble.
pub async fn has_logged_in(pool: &PgPool, from: Networks, account: &str) -> sqlx::Result<()> {
    let (wide, narrow) = (from.wide.to_string(), from.narrow.to_string());
    sqlx::query!("SELECT has_logged_in($1, $2, $3)", wide, narrow, account)
        .execute(pool)
        .await
        .map(|_| ())
}

/// Logs in with an e-mail address and a password, or with an empty address and a token in place of
/// the password. Returns the secret of the new session, or `None` if the login is refused.
///
/// # Errors
/// When the database has trouble.
pub async fn log_in(pool: &PgPool, email: &str, password: &str) -> sqlx::Result<Option<Secret>> {
    let (person, token) = if email.trim().is_empty() {
        let token = sqlx::query_scalar!(
            "SELECT token_id FROM token WHERE hash = $1 AND revoked_at IS NULL",
            hash(password)
        );
        let Some(token) = token.fetch_optional(pool).await? else { return Ok(None) };
        (None, Some(token))
    } else {
        let found = sqlx::query!(
            "SELECT person_id, password FROM person WHERE email = $1 AND disabled_at IS NULL",
            email.trim().to_lowercase()
        );
        // Hashing is slow, so no database connection is held during it.
        let found = found.fetch_optional(pool).await?;
        let hashed = found.as_ref().map_or(NOBODYS.as_str(), |found| &found.password);
        let (true, Some(found)) = (is_password(password, hashed).await, &found) else {
            return Ok(None);
        };
        (Some(found.person_id), None)
    };
    let session = Secret::new("");
    sqlx::query!("DELETE FROM session WHERE expires_at < now()").execute(pool).await?;
    sqlx::query!(
        "INSERT INTO session (hash, person_id, token_id, expires_at) VALUES ($1, $2, $3, $4)",
        hash(&session.0),
        person,
        token,
        Utc::now() + SESSION
    )
    .execute(pool)
    .await?;
    Ok(Some(session))
}

/// Returns the caller of a session. `None`: there is no such session, or it has ended.
///
/// # Errors
/// When the database has trouble.
pub async fn caller_with_session(
    db: &mut PgConnection,
    session: &str,
) -> sqlx::Result<Option<Caller>> {
    let found = sqlx::query!(
        r#"SELECT coalesce(p.email, 'token ' || t.token_id || ' (' || t.name || ')') AS "actor!",
                  coalesce(p.role, t.role) AS "role!: Role",
                  coalesce(p.organisation_id, t.organisation_id) AS "organisation: OrganisationId"
           FROM session s LEFT JOIN person p USING (person_id) LEFT JOIN token t USING (token_id)
           WHERE s.hash = $1 AND s.expires_at > now() AND p.disabled_at IS NULL
             AND t.revoked_at IS NULL"#,
        hash(session)
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| Caller { actor: row.actor, role: row.role, organisation: row.organisation }))
}

/// Logs out: deletes the session.
///
/// # Errors
/// When the database has trouble.
pub async fn log_out(db: &mut PgConnection, session: &str) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM session WHERE hash = $1", hash(session)).execute(db).await.map(|_| ())
}

/// Computes the key that each form of a session carries. It depends on the session's secret, so
/// another site cannot forge a form.
pub fn form_key(session: &str) -> String {
    hex::encode(hash(&format!("form {session}")))
}
