//! Sessions: browsers that are logged in.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::{
    Caller, Role, Secret, hash,
    people::{NOBODYS, is_password},
};
use crate::ids::{OrganisationId, PersonId, SessionId};

/// The time after which a session ends.
pub const SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// Maximum number of sessions of a person or a token. The next one ends the oldest.
pub const SESSIONS_MAX: i64 = 20;
/// The minutes in which the code of the second factor must come after the password.
const CODE_MINUTES: i32 = 10;
/// Maximum number of characters that are kept of a browser's own description.
const BROWSER_MAX: usize = 200;

/// What a session was begun with, so that its owner can recognise it.
#[derive(Debug, Clone)]
pub struct Device {
    address: String,
    browser: String,
}

impl Device {
    /// `browser` is what the browser says that it is (`User-Agent`), and may be anything.
    pub fn new(address: IpAddr, browser: &str) -> Self {
        let browser = browser.chars().filter(|letter| !letter.is_control()).take(BROWSER_MAX);
        Self { address: address.to_string(), browser: browser.collect() }
    }
}

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
/// the password. Returns the new session, or `None` if the login is refused. If the person has a
/// second factor, the session waits for its code. Sessions end that are older than the newest
/// [`SESSIONS_MAX`] of the person or token.
///
/// # Errors
/// When the database has trouble.
pub async fn log_in(
    pool: &PgPool,
    email: &str,
    password: &str,
    device: &Device,
) -> sqlx::Result<Option<Begun>> {
    let email = email.trim().to_lowercase();
    let (mut tx, person, token) = if email.is_empty() {
        let mut tx = pool.begin().await?;
        let token = sqlx::query_scalar!(
            "SELECT token_id FROM token WHERE hash = $1 AND revoked_at IS NULL
               AND expires_at > now() FOR NO KEY UPDATE",
            hash(password)
        );
        let Some(token) = token.fetch_optional(&mut *tx).await? else { return Ok(None) };
        (tx, None, Some(token))
    } else {
        let found = sqlx::query!(
            "SELECT person_id, password FROM person WHERE email = $1 AND disabled_at IS NULL",
            email
        );
        // Hashing is slow, so no database connection is held during it.
        let found = found.fetch_optional(pool).await?;
        let hashed = found.as_ref().map_or(NOBODYS.as_str(), |found| &found.password);
        let (true, Some(found)) = (is_password(password, hashed).await, &found) else {
            return Ok(None);
        };
        // While it was hashed, the password may have been changed, or the person disabled. That
        // has ended the sessions, and no new one may begin after it.
        let mut tx = pool.begin().await?;
        let person = sqlx::query_scalar!(
            "SELECT person_id FROM person
             WHERE person_id = $1 AND password = $2 AND disabled_at IS NULL FOR NO KEY UPDATE",
            found.person_id,
            found.password
        );
        let Some(person) = person.fetch_optional(&mut *tx).await? else { return Ok(None) };
        (tx, Some(person), None)
    };
    let session = Secret::new("");
    let awaits_code = sqlx::query_scalar!(
        r#"INSERT INTO session
               (hash, person_id, token_id, expires_at, address, browser, awaits_code)
           VALUES ($1, $2, $3, $4, $5, $6, EXISTS (
               SELECT FROM second_factor WHERE person_id = $2 AND confirmed_at IS NOT NULL))
           RETURNING awaits_code"#,
        hash(&session.0),
        person,
        token,
        Utc::now() + SESSION,
        device.address,
        device.browser
    )
    .fetch_one(&mut *tx)
    .await?;
    end_the_oldest(&mut tx, person, token, awaits_code).await?;
    tx.commit().await?;
    Ok(Some(Begun { secret: session, awaits_code }))
}

/// A session that has just begun.
#[derive(Debug)]
pub struct Begun {
    /// The secret of the session.
    pub secret: Secret,
    /// Whether it waits for the code of a second factor.
    pub awaits_code: bool,
}

/// The second step of a login is done: the session does not wait for a code any more, and has a new
/// secret. `None`: it has ended, or did not wait. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn prove_session(
    tx: &mut PgConnection,
    session: &str,
    person: PersonId,
) -> sqlx::Result<Option<Secret>> {
    let secret = Secret::new("");
    let proven = sqlx::query!(
        "UPDATE session SET awaits_code = false, hash = $3
         WHERE hash = $1 AND person_id = $2 AND awaits_code",
        hash(session),
        person.0,
        hash(&secret.0)
    );
    let proven = proven.execute(&mut *tx).await?.rows_affected() == 1;
    end_the_oldest(tx, Some(person.0), None, false).await?;
    Ok(proven.then_some(secret))
}

/// Deletes a few sessions that are over, and those of this person or token that are too many. Those
/// that wait for a code are counted by themselves: who only knows the password ends no other. The
/// caller has the person or the token locked, so that two logins do not count past each other.
async fn end_the_oldest(
    tx: &mut PgConnection,
    person: Option<i64>,
    token: Option<i64>,
    awaits_code: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM session WHERE hash IN (
             SELECT hash FROM session WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED)"
    )
    .execute(&mut *tx)
    .await?;
    let ended = sqlx::query!(
        "DELETE FROM session WHERE hash IN (
             SELECT hash FROM session
             WHERE (person_id = $1 OR token_id = $2) AND awaits_code = $4
             ORDER BY session_id DESC OFFSET $3)",
        person,
        token,
        SESSIONS_MAX,
        awaits_code
    )
    .execute(tx)
    .await?
    .rows_affected();
    if ended > 0 {
        tracing::info!(person, token, ended, "sessions ended, because newer ones were begun");
    }
    Ok(())
}

/// Who is logged in with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The person or the token.
    pub caller: Caller,
    /// Whether the password was right, and the code of the second factor has not come yet.
    pub awaits_code: bool,
    /// Whether it is a person without a second factor.
    pub only_password: bool,
}

/// Returns the caller of a session. `None`: there is no such session, or it has ended, or nothing
/// was asked for in it for the time `idle`. `is_asking` is false for what happens without the
/// person: then the session's end comes no later.
///
/// # Errors
/// When the database has trouble.
pub async fn caller_with_session(
    db: &mut PgConnection,
    session: &str,
    idle: Duration,
    is_asking: bool,
) -> sqlx::Result<Option<LoggedIn>> {
    let found = sqlx::query!(
        r#"SELECT coalesce(p.email, 'token ' || t.token_id || ' (' || t.name || ')') AS "actor!",
                  coalesce(p.role, t.role) AS "role!: Role",
                  coalesce(p.organisation_id, t.organisation_id) AS "organisation: OrganisationId",
                  s.last_seen_at < now() - interval '1 minute' AS "stale!", s.awaits_code,
                  s.person_id IS NOT NULL AND NOT EXISTS (
                      SELECT FROM second_factor f
                      WHERE f.person_id = s.person_id AND f.confirmed_at IS NOT NULL
                  ) AS "only_password!"
           FROM session s LEFT JOIN person p USING (person_id) LEFT JOIN token t USING (token_id)
           WHERE s.hash = $1 AND s.expires_at > now()
             AND s.last_seen_at > now() - make_interval(secs => $2)
             AND (NOT s.awaits_code OR s.created_at > now() - make_interval(mins => $3))
             AND p.disabled_at IS NULL AND t.revoked_at IS NULL
             AND coalesce(t.expires_at > now(), true)"#,
        hash(session),
        idle.as_secs_f64(),
        CODE_MINUTES
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(found) = found else { return Ok(None) };
    if found.stale && is_asking {
        // If another request has the row locked, that request writes the time.
        sqlx::query!(
            "UPDATE session SET last_seen_at = now()
             WHERE hash = (SELECT hash FROM session WHERE hash = $1 FOR UPDATE SKIP LOCKED)",
            hash(session)
        )
        .execute(db)
        .await?;
    }
    let caller = Caller { actor: found.actor, role: found.role, organisation: found.organisation };
    let (awaits_code, only_password) = (found.awaits_code, found.only_password);
    Ok(Some(LoggedIn { caller, awaits_code, only_password }))
}

/// Returns the time zone that the person of a session has chosen for the pages.
///
/// # Errors
/// When the database has trouble.
pub async fn zone_of_session(db: &mut PgConnection, session: &str) -> sqlx::Result<Option<String>> {
    let found = sqlx::query_scalar!(
        "SELECT p.time_zone FROM session s JOIN person p USING (person_id) WHERE s.hash = $1",
        hash(session)
    );
    Ok(found.fetch_optional(db).await?.flatten())
}

/// A session, as its owner sees it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The number of the session.
    pub id: SessionId,
    /// The time of the login.
    pub created_at: DateTime<Utc>,
    /// The time when a page was last asked for, to the minute.
    pub last_seen_at: DateTime<Utc>,
    /// The address that logged in.
    pub address: String,
    /// What the browser said that it is. A stranger may have written it.
    pub browser: String,
    /// Whether it is the session that asks.
    pub is_this: bool,
}

/// Lists the sessions of the person or token that this session belongs to, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn sessions(
    db: &mut PgConnection,
    session: &str,
    idle: Duration,
) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as!(
        Session,
        r#"SELECT o.session_id AS "id: _", o.created_at, o.last_seen_at, o.address, o.browser,
                  o.hash = s.hash AS "is_this!"
           FROM session s
           JOIN session o ON o.person_id = s.person_id OR o.token_id = s.token_id
           WHERE s.hash = $1 AND o.expires_at > now() AND NOT o.awaits_code
             AND o.last_seen_at > now() - make_interval(secs => $2)
           ORDER BY o.session_id DESC LIMIT 100"#,
        hash(session),
        idle.as_secs_f64()
    )
    .fetch_all(db)
    .await
}

/// Ends one session of the person or token that this session belongs to, or without a number all
/// but this one. Returns how many have ended.
///
/// # Errors
/// When the database has trouble.
pub async fn end_sessions(
    db: &mut PgConnection,
    session: &str,
    which: Option<SessionId>,
) -> sqlx::Result<u64> {
    sqlx::query!(
        "DELETE FROM session o USING session s
         WHERE s.hash = $1 AND (o.person_id = s.person_id OR o.token_id = s.token_id)
           AND CASE WHEN $2::bigint IS NULL THEN o.hash <> s.hash ELSE o.session_id = $2 END",
        hash(session),
        which.map(|id| id.0)
    )
    .execute(db)
    .await
    .map(|ended| ended.rows_affected())
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
