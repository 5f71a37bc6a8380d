//! People, and what only they know.

use std::sync::LazyLock;

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use sqlx::PgConnection;
use tokio::sync::Semaphore;

use super::{AccessError, Role, Secret};
use crate::ids::OrganisationId;

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

/// Each takes 19 MiB and a thread: so many at once, and the others wait.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Argon2id with the library's defaults (19 MiB, two passes), off the threads that answer others.
async fn hash_password(password: &str) -> String {
    let password = password.to_owned();
    let _one = AT_ONCE.acquire().await;
    tokio::task::spawn_blocking(move || hashed(&password)).await.unwrap_or_else(|_| "!".into())
}

/// A password of bounded length and a salt of the library's own are always hashed; if not, nobody logs in with it.
fn hashed(password: &str) -> String {
    let salt = SaltString::generate(&mut OsRng);
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_or_else(|_| "!".into(), |hash| hash.to_string())
}

pub(super) async fn is_password(password: &str, hashed: &str) -> bool {
    let (password, hashed) = (password.to_owned(), hashed.to_owned());
    let _one = AT_ONCE.acquire().await;
    let verified = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&hashed)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    });
    verified.await.unwrap_or(false)
}

/// What nobody has for a password: whoever has no account waits as long as whoever has.
pub(super) static NOBODYS: LazyLock<String> = LazyLock::new(|| hashed(&Secret::new("").0));
