//! The one way to bring a photogate database up to date: roles, numbered migrations, and then the
//! functions.
//!
//! `photogate migrate`, `scripts/with-postgres` (and so `make sqlx`), tests and benchmarks all call
//! [`migrate`]. It is a crate of its own, without queries, so that it can be built while the
//! queries of photogate are being changed.

mod functions;
mod pooler;

use std::str::FromStr;

use sqlx::{ConnectOptions, Connection, migrate::Migrator, postgres::PgConnectOptions};

pub use functions::hash as functions_hash;
pub use pooler::{MARK, is_direct, refuses as pooler_refuses};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");
const ROLES: &str = include_str!("../roles.sql");

/// Only one program migrates at a time: the lock that roles.sql and drop-functions.sql take.
const LOCK: i64 = 7_236_410_915;

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The address cannot be parsed.
    #[error("database_url is not usable ({0}): write postgres://user@host/database")]
    Address(sqlx::Error),
    /// The server does not answer, or refuses the login.
    #[error(
        "the database cannot be reached ({0}): is PostgreSQL running, and is database_url right?"
    )]
    Unreachable(sqlx::Error),
    /// A pooler is between photogate and the server.
    #[error(
        "database_url leads to a connection pooler, such as PgBouncer: migrate over a connection to \
         PostgreSQL itself"
    )]
    Pooler,
    /// The server is too old.
    #[error("PostgreSQL 14 or later is needed; this is {0}")]
    TooOld(String),
    /// The roles and the schema could not be created.
    #[error(
        "the roles and the schema could not be created ({0}): migrate as a user who may create \
         them, or have migrations/roles.sql run by one"
    )]
    Roles(sqlx::Error),
    /// A migration failed; nothing of it remains.
    #[error("a migration failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A file of functions failed; none of them was replaced.
    #[error("migrations/functions/{file}.sql failed: {error}")]
    Functions {
        /// The file's name.
        file: &'static str,
        /// What PostgreSQL said.
        error: sqlx::Error,
    },
    /// Any other trouble with the database.
    #[error(transparent)]
    Other(#[from] sqlx::Error),
}

impl MigrateError {
    fn connecting(error: sqlx::Error) -> Self {
        if pooler_refuses(&error) { Self::Pooler } else { Self::Unreachable(error) }
    }
}

/// The number of the newest migration.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings a database up to date. It does no harm to repeat it, also from several places at once.
///
/// Stop workers and services first if the functions differ: a call that runs while they are
/// replaced fails, and is tried again by a worker, but is an error for a client.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(url: &str) -> Result<(), MigrateError> {
    let address = PgConnectOptions::from_str(url).map_err(MigrateError::Address)?;
    let mut db =
        address.clone().options([MARK]).connect().await.map_err(MigrateError::connecting)?;
    if !is_direct(&mut db).await? {
        return Err(MigrateError::Pooler);
    }
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut db).await?;
    if db.server_version_num().is_some_and(|number| number < 140_000) {
        return Err(MigrateError::TooOld(version));
    }
    sqlx::raw_sql(ROLES).execute(&mut db).await.map_err(MigrateError::Roles)?;
    db.close().await?;

    let owner = address.options([("role", "photogate_owner"), ("search_path", "photogate")]);
    let mut db = owner.connect().await.map_err(MigrateError::connecting)?;
    // A migration may rewrite everything there is.
    sqlx::raw_sql("SET statement_timeout = 0").execute(&mut db).await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut db).await?;
    MIGRATIONS.run(&mut db).await?;
    let readable = "GRANT SELECT ON _sqlx_migrations TO photogate_worker, photogate_app";
    sqlx::raw_sql(readable).execute(&mut db).await?;
    functions::apply(&mut db).await?;
    // The lock ends with the connection.
    db.close().await?;
    Ok(())
}
