//! People and their passwords.

use std::{num::NonZeroUsize, sync::LazyLock};

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{
    AccessError, Role, Secret, invitations::withdraw_password_links, tokens::end_access_by,
    weakness::weakness,
};
use crate::ids::{OrganisationId, PersonId};

/// A person who can log in.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Person {
    /// The number of the person.
    pub id: PersonId,
    /// The e-mail address that the person logs in with.
    pub email: String,
    /// What the person may do.
    pub role: Role,
    /// The only organisation that the person sees; `None`: all organisations.
    pub organisation: Option<OrganisationId>,
    /// The time when the person was created.
    pub created_at: DateTime<Utc>,
    /// Whether the person needs a code of an app to log in.
    pub has_second_factor: bool,
    /// The time since when the person cannot log in; `None` if they can.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Lists the people of one organisation, or of all, newest first. Only those with numbers below
/// `below` are listed, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn people(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Person>> {
    sqlx::query_as!(
        Person,
        r#"SELECT person_id AS "id: _", email, role AS "role: _",
                  organisation_id AS "organisation: _", created_at,
                  EXISTS (SELECT FROM second_factor f WHERE f.person_id = p.person_id
                          AND confirmed_at IS NOT NULL) AS "has_second_factor!", disabled_at
           FROM person p
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND person_id < $2
           ORDER BY person_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}

/// Finds a person by number or e-mail address. Returns `None` if there is no such person.
///
/// # Errors
/// When the database has trouble.
pub async fn find_person(db: &mut PgConnection, who: &str) -> sqlx::Result<Option<Person>> {
    sqlx::query_as!(
        Person,
        r#"SELECT person_id AS "id: _", email, role AS "role: _",
                  organisation_id AS "organisation: _", created_at,
                  EXISTS (SELECT FROM second_factor f WHERE f.person_id = p.person_id
                          AND confirmed_at IS NOT NULL) AS "has_second_factor!", disabled_at
           FROM person p
           WHERE person_id::text = $1 OR email = $2"#,
        who,
        who.trim().to_lowercase()
    )
    .fetch_optional(db)
    .await
}

/// Disables a person's login, or enables it again. Ends the person's sessions, and withdraws the
/// links for the password. Who is disabled keeps no way in: links that the person has made for
/// others end too, and tokens that can log in as more than a pipeline. `tx` must be a
/// transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn disable_person(
    tx: &mut PgConnection,
    person: &Person,
    disabled: bool,
) -> sqlx::Result<()> {
    withdraw_password_links(&mut *tx, person.id).await?;
    sqlx::query!(
        "UPDATE person SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END
         WHERE person_id = $1",
        person.id.0,
        disabled
    )
    .execute(&mut *tx)
    .await?;
    if disabled {
        // After the person is locked: whoever makes a link or a token looks at the person first.
        end_access_by(&mut *tx, &person.email).await?;
    }
    end_sessions(tx, person.id).await
}

/// Sets the time zone in which pages show times to a person. `None`: that of the organisation.
/// Returns false if there is no such zone.
///
/// # Errors
/// When the database has trouble.
pub async fn set_time_zone(
    db: &mut PgConnection,
    person: PersonId,
    zone: Option<&str>,
) -> sqlx::Result<bool> {
    sqlx::query!(
        "UPDATE person SET time_zone = $2 WHERE person_id = $1
           AND ($2::text IS NULL OR EXISTS (SELECT FROM pg_timezone_names WHERE name = $2))",
        person.0,
        zone
    )
    .execute(db)
    .await
    .map(|set| set.rows_affected() == 1)
}

/// Changes a person's password, ends their sessions, and withdraws the links for it. A second factor
/// that somebody has begun, and not confirmed, is forgotten. False: the password is not `instead_of`
/// any more, and nothing changed. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn set_password(
    tx: &mut PgConnection,
    person: PersonId,
    password: &Hashed,
    instead_of: Option<&Hashed>,
) -> sqlx::Result<bool> {
    // The links come first, as everywhere: whoever uses one has it before the person.
    withdraw_password_links(&mut *tx, person).await?;
    let changed = sqlx::query!(
        "UPDATE person SET password = $2
         WHERE person_id = $1 AND ($3::text IS NULL OR password = $3 AND disabled_at IS NULL)",
        person.0,
        password.0,
        instead_of.map(|old| old.0.as_str())
    );
    if changed.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "DELETE FROM second_factor WHERE person_id = $1 AND confirmed_at IS NULL",
        person.0
    )
    .execute(&mut *tx)
    .await?;
    end_sessions(tx, person).await?;
    Ok(true)
}

/// The present password, if it is this one and the person can log in. No connection is held while it
/// is hashed.
///
/// # Errors
/// When the database has trouble.
pub async fn present_password(
    pool: &PgPool,
    person: PersonId,
    password: &str,
) -> sqlx::Result<Option<Hashed>> {
    let hashed = sqlx::query_scalar!(
        "SELECT password FROM person WHERE person_id = $1 AND disabled_at IS NULL",
        person.0
    );
    let Some(hashed) = hashed.fetch_optional(pool).await? else { return Ok(None) };
    Ok(is_password(password, &hashed).await.then_some(Hashed(hashed)))
}

/// Ends all sessions of a person, so that they must log in again.
pub(super) async fn end_sessions(tx: &mut PgConnection, person: PersonId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM session WHERE person_id = $1", person.0).execute(tx).await.map(|_| ())
}

/// Maximum number of people of an organisation who can log in, and of open invitations.
pub(super) const PEOPLE_MAX: i64 = 1000;

/// An e-mail address in lower case, if it looks like one.
pub(super) fn address(email: &str) -> Result<String, AccessError> {
    let email = email.trim().to_lowercase();
    let is_address = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty()
            && !host.is_empty()
            && !email.contains(|one: char| one.is_whitespace() || one.is_control())
    });
    if is_address && email.len() <= 200 { Ok(email) } else { Err(AccessError::Address(email)) }
}

/// Creates a person who can log in.
///
/// # Errors
/// See [`AccessError`].
pub async fn create_person(
    db: &mut PgConnection,
    email: &str,
    password: &Hashed,
    role: Role,
    organisation: Option<OrganisationId>,
) -> Result<(), AccessError> {
    let email = address(email)?;
    let made = sqlx::query!(
        "INSERT INTO person (email, password, role, organisation_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (email) DO NOTHING",
        email,
        password.0,
        role as Role,
        organisation.map(|organisation| organisation.0)
    )
    .execute(db)
    .await
    .map_err(|error| AccessError::from(error, role, organisation))?;
    if made.rows_affected() == 0 { Err(AccessError::Known(email)) } else { Ok(()) }
}

/// Limits how many passwords are hashed at the same time, because each takes 19 MiB and a core. The
/// others wait. Half of the cores stay free for other requests; 150 MB are enough on any machine.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Semaphore::new(cores.div_ceil(2).min(8))
});

/// The hash of a password. It is computed before a transaction begins: it takes long, and other
/// passwords may come first.
#[derive(Debug)]
pub struct Hashed(String);

impl Hashed {
    /// Checks a password of the person with this e-mail address, and hashes it with Argon2id and the
    /// library's defaults (19 MiB, two passes). It runs on a blocking thread, so that other requests
    /// are not delayed.
    ///
    /// # Errors
    /// [`AccessError::Password`] and [`AccessError::Weak`].
    pub async fn new(password: &str, email: &str) -> Result<Self, AccessError> {
        if !(12..=200).contains(&password.chars().count()) {
            return Err(AccessError::Password);
        }
        let (password, email) = (password.to_owned(), email.to_owned());
        let one = AT_ONCE.acquire().await;
        let hashed = tokio::task::spawn_blocking(move || {
            // Until it is hashed: whoever asked for it may have gone away.
            let _one = one;
            match weakness(&password, &email) {
                Some(why) => Err(AccessError::Weak(why)),
                None => Ok(Self(hashed(&password))),
            }
        });
        hashed.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

/// Hashes a password. This cannot fail for a password of bounded length and a salt of the library.
/// If it did, the result `!` would match no password.
fn hashed(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_or_else(|_| "!".into(), |hash| hash.to_string())
}

/// Checks a password against a stored hash.
pub(super) async fn is_password(password: &str, hashed: &str) -> bool {
    let (password, hashed) = (password.to_owned(), hashed.to_owned());
    let one = AT_ONCE.acquire().await;
    let verified = tokio::task::spawn_blocking(move || {
        let _one = one;
        PasswordHash::new(&hashed)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    });
    verified.await.unwrap_or(false)
}

/// A hash that no password matches. A login with an unknown address is checked against it, so that
/// it takes as long as one with a known address.
pub(super) static NOBODYS: LazyLock<String> = LazyLock::new(|| hashed(&Secret::new("").0));
