//! The error codes that our SQL functions raise, and what an error of the database means.

/// The error codes of the database's functions; see `migrations/functions/README.md`.
pub(crate) const LEASE_LOST: &str = "PG001";
pub(crate) const NOT_FOUND: &str = "PG002";
pub(crate) const KEY_REUSED: &str = "PG003";
pub(crate) const NOT_ENOUGH_CREDITS: &str = "PG004";
pub(crate) const BAD_ARGUMENT: &str = "PG006";
pub(crate) const NO_PRICE: &str = "PG007";
pub(crate) const IMPLAUSIBLE_CLOCK: &str = "PG008";
pub(crate) const LIMIT_REACHED: &str = "PG009";
pub(crate) const MOVED_ON: &str = "PG010";
pub(crate) const ARCHIVED: &str = "PG011";
pub(crate) const DETAILS_LOST: &str = "PG012";
/// PostgreSQL's own: two transactions waited for each other.
pub(crate) const DEADLOCK: &str = "40P01";
/// PostgreSQL's own: a transaction saw what another one changed.
pub(crate) const NOT_SERIALIZABLE: &str = "40001";
/// PostgreSQL's own: a lock was not free in time.
pub(crate) const LOCKED: &str = "55P03";
/// PostgreSQL's own, for a statement that was given up.
pub(crate) const TOO_SLOW: &str = "57014";

/// What one of our functions says when it refuses, in its own words; any other error as it is.
pub(crate) fn sentence(error: &sqlx::Error) -> String {
    own_sentence(error).unwrap_or_else(|| error.to_string())
}

/// What one of our functions says when it refuses. `None`: PostgreSQL or the connection says it, in
/// words that are not for customers.
pub(crate) fn own_sentence(error: &sqlx::Error) -> Option<String> {
    let message = error.as_database_error()?.message();
    let is_own = |codes: &[&str]| codes.iter().any(|code| is_code(error, code));
    if is_own(&[NOT_FOUND]) {
        Some(format!("there is {message}"))
    } else {
        is_own(&[BAD_ARGUMENT, IMPLAUSIBLE_CLOCK, LIMIT_REACHED, MOVED_ON, ARCHIVED, DETAILS_LOST])
            .then(|| message.to_owned())
    }
}

/// True for this SQLSTATE.
pub(crate) fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|found| found == code)
}

/// True when the database will refuse the same thing again: bad data (class 22) or a broken
/// constraint (class 23).
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
