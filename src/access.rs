//! Who may use the service: people with a password, programs with a token. Secrets are hashed at rest, and shown once.

use std::{fmt, sync::LazyLock};

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use chrono::{DateTime, Utc};
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{
    database,
    ids::{OrganisationId, TokenId},
};

/// What somebody may do. Pipelines and organisers belong to an organisation; operators, finance and staff may belong to one, and then
/// see nothing else, or to none, and then run photogate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, clap::ValueEnum, ToSchema,
)]
#[sqlx(type_name = "access_role", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Role {
    /// A program that queues photos.
    Pipeline,
    /// Whoever runs an organisation's events, and buys its credits.
    Organiser,
    /// Whoever keeps queues running: looks at all, holds, lifts, retries; moves no credit in.
    Operator,
    /// Whoever checks the books: reads.
    Finance,
    /// Support: everything, and the only one to grant and adjust.
    Staff,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pipeline, Self::Organiser, Self::Operator, Self::Finance, Self::Staff];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipeline => "pipeline",
            Self::Organiser => "organiser",
            Self::Operator => "operator",
            Self::Finance => "finance",
            Self::Staff => "staff",
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As it stands in the books: an address, or the name of a token.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// The only organisation they see; `None`: all.
    pub organisation: Option<OrganisationId>,
}

/// A secret, on its way to whoever keeps it. Not printed by `{:?}`, not kept anywhere.
#[derive(Clone, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// 256 random bits of the operating system.
    fn new(prefix: &str) -> Self {
        let mut bytes = [0; 32];
        // Without randomness there are no secrets: nothing good could follow.
        #[expect(
            clippy::unwrap_used,
            reason = "the operating system has random bits, or nothing works"
        )]
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap();
        Self(bytes.iter().fold(prefix.to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

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

/// Why nobody was let in, or made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A pipeline or an organiser without an organisation, or staff with one.
    #[error(
        "pipelines and organisers belong to an organisation, and staff to none: {0} does not fit"
    )]
    Belongs(Role),
    /// No such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// The address has an account.
    #[error("{0} has an account already")]
    Known(String),
    /// Too short to be safe, or too long to be hashed.
    #[error("a password has 12 to 200 characters")]
    Password,
    /// No e-mail address.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// Too long, or nothing.
    #[error("a token's name has 1 to 100 characters: say what it is for")]
    Name,
    /// Trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AccessError {
    fn from(error: sqlx::Error, role: Role, organisation: Option<OrganisationId>) -> Self {
        let constraint = error
            .as_database_error()
            .and_then(|error| error.constraint().map(str::to_owned))
            .unwrap_or_default();
        match (organisation, constraint.as_str()) {
            (
                _,
                "person_belongs" | "token_belongs" | "person_staff" | "token_staff"
                | "person_role_check",
            ) => Self::Belongs(role),
            (Some(organisation), name) if name.ends_with("organisation_id_fkey") => {
                Self::NoOrganisation(organisation)
            }
            _ => Self::Database(error),
        }
    }
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

/// Gives somebody an account.
///
/// # Errors
/// See [`AccessError`].
pub async fn create_person(
    db: &mut PgConnection,
    email: &str,
    password: &str,
    role: Role,
    organisation: Option<OrganisationId>,
) -> Result<(), AccessError> {
    let email = email.trim().to_lowercase();
    let is_address = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !email.contains(char::is_whitespace)
    });
    if !is_address || email.len() > 200 {
        return Err(AccessError::Address(email));
    }
    if !(12..=200).contains(&password.chars().count()) {
        return Err(AccessError::Password);
    }
    let hashed = hash_password(password).await;
    let made = sqlx::query!(
        "INSERT INTO person (email, password, role, organisation_id) VALUES ($1, $2, $3, $4) ON CONFLICT (email) DO NOTHING",
        email,
        hashed,
        role as Role,
        organisation.map(|organisation| organisation.0)
    )
    .execute(db)
    .await
    .map_err(|error| AccessError::from(error, role, organisation))?;
    if made.rows_affected() == 0 { Err(AccessError::Known(email)) } else { Ok(()) }
}

/// Argon2id with the library's defaults (19 MiB, two passes), off the threads that answer others.
async fn hash_password(password: &str) -> String {
    let password = password.to_owned();
    tokio::task::spawn_blocking(move || hashed(&password)).await.unwrap_or_else(|_| "!".into())
}

/// A password of bounded length and a salt of the library's own are always hashed; if not, nobody logs in with it.
fn hashed(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_or_else(|_| "!".into(), |hash| hash.to_string())
}

async fn is_password(password: &str, hashed: &str) -> bool {
    let (password, hashed) = (password.to_owned(), hashed.to_owned());
    let verified = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hashed)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    });
    verified.await.unwrap_or(false)
}

/// What nobody has for a password: whoever has no account waits as long as whoever has.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hashed(&Secret::new("").0));

/// How long a browser stays logged in.
const SESSION: chrono::TimeDelta = chrono::TimeDelta::hours(12);

/// Logs somebody in, with an address and a password, or with a token in the password's place. `None`: no.
///
/// # Errors
/// When the database has trouble.
pub async fn log_in(
    db: &mut PgConnection,
    email: &str,
    password: &str,
) -> sqlx::Result<Option<Secret>> {
    let (person, token) = if email.trim().is_empty() {
        let token = sqlx::query_scalar!(
            "SELECT token_id FROM token WHERE hash = $1 AND revoked_at IS NULL",
            hash(password)
        );
        let Some(token) = token.fetch_optional(&mut *db).await? else { return Ok(None) };
        (None, Some(token))
    } else {
        let found = sqlx::query!(
            "SELECT person_id, password FROM person WHERE email = $1 AND disabled_at IS NULL",
            email.trim().to_lowercase()
        );
        let found = found.fetch_optional(&mut *db).await?;
        let hashed = found.as_ref().map_or(NOBODYS.as_str(), |found| &found.password);
        let (true, Some(found)) = (is_password(password, hashed).await, &found) else {
            return Ok(None);
        };
        (Some(found.person_id), None)
    };
    let session = Secret::new("");
    sqlx::query!("DELETE FROM session WHERE expires_at < now()").execute(&mut *db).await?;
    sqlx::query!(
        "INSERT INTO session (hash, person_id, token_id, expires_at) VALUES ($1, $2, $3, $4)",
        hash(&session.0),
        person,
        token,
        Utc::now() + SESSION
    )
    .execute(db)
    .await?;
    Ok(Some(session))
}

/// Who is logged in with this session. `None`: nobody, or not any more.
///
/// # Errors
/// When the database has trouble.
pub async fn caller_with_session(
    db: &mut PgConnection,
    session: &str,
) -> sqlx::Result<Option<Caller>> {
    let found = sqlx::query!(
        r#"SELECT coalesce(p.email, 'token ' || t.token_id || ' (' || t.name || ')') AS "actor!", coalesce(p.role, t.role) AS "role!: Role",
                  coalesce(p.organisation_id, t.organisation_id) AS "organisation: OrganisationId"
           FROM session s LEFT JOIN person p USING (person_id) LEFT JOIN token t USING (token_id)
           WHERE s.hash = $1 AND s.expires_at > now() AND p.disabled_at IS NULL AND t.revoked_at IS NULL"#,
        hash(session)
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| Caller { actor: row.actor, role: row.role, organisation: row.organisation }))
}

/// Logs out.
///
/// # Errors
/// When the database has trouble.
pub async fn log_out(db: &mut PgConnection, session: &str) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM session WHERE hash = $1", hash(session)).execute(db).await.map(|_| ())
}

/// What a form of this session carries, so that no other site can send it: nobody without the session's secret knows it.
pub fn form_key(session: &str) -> String {
    hash(&format!("form {session}"))
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// True for the error of a role that must or must not belong to an organisation, or one that is not there.
pub fn is_callers_fault(error: &AccessError) -> bool {
    match error {
        AccessError::Database(error) => database::is_refusal(error),
        AccessError::Belongs(_)
        | AccessError::NoOrganisation(_)
        | AccessError::Known(_)
        | AccessError::Password
        | AccessError::Address(_)
        | AccessError::Name => true,
    }
}
