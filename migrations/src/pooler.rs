//! Tells whether a connection pooler is between this program and PostgreSQL.
//!
//! A pooler gives one session to several programs, so it takes no settings for a session. PgBouncer
//! refuses them at the start, or ignores them, as it is configured. Without them, this program
//! would be somebody else to the database, in another schema, without time limits. A migration also
//! needs a session of its own for its lock.

use sqlx::PgConnection;

/// A setting that means nothing. It is sent when a connection is opened, and read afterwards.
pub const MARK: (&str, &str) = ("photogate.session", "ours");

/// Whether this error is a pooler's that refuses the settings of a session.
pub fn refuses(error: &sqlx::Error) -> bool {
    // `protocol_violation` is also the code of other errors. PostgreSQL itself never says this.
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("08P01")
            && error.message().starts_with("unsupported startup parameter")
    })
}

/// Whether the session has what was sent: false means that a pooler dropped it.
///
/// # Errors
/// When the database has trouble.
pub async fn is_direct(db: &mut PgConnection) -> sqlx::Result<bool> {
    // A pooler may not know prepared statements: this is none.
    let found = sqlx::raw_sql("SELECT current_setting('photogate.session', true)");
    let found: Option<String> = sqlx::Row::try_get(&found.fetch_one(db).await?, 0)?;
    Ok(found.as_deref() == Some(MARK.1))
}
