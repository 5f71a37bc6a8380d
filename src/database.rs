//! The way to PostgreSQL: as the owner for migrations, as the application for everything else.

use std::{io, str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::ids::OrganisationId;

pub use photogate_schema::{MigrateError, migrate};

/// The error codes of the database's functions; see `migrations/functions/README.md`.
pub(crate) const LEASE_LOST: &str = "PG001";
pub(crate) const NOT_FOUND: &str = "PG002";
pub(crate) const KEY_REUSED: &str = "PG003";
pub(crate) const NOT_ENOUGH_CREDITS: &str = "PG004";
pub(crate) const BAD_ARGUMENT: &str = "PG006";
pub(crate) const NO_PRICE: &str = "PG007";
/// PostgreSQL's own, for a statement that was given up.
pub(crate) const TOO_SLOW: &str = "57014";

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is no address.
    #[error("database_url is not usable ({0}): write postgres://user@host/database")]
    Address(sqlx::Error),
    /// Nobody answers, or not to us.
    #[error(
        "the database cannot be reached ({0}): is PostgreSQL running, and is database_url right?"
    )]
    Unreachable(sqlx::Error),
    /// Not ours, or not migrated.
    #[error(
        "this database has no photogate schema, or not for this user: run `photogate migrate` first (or set database_url to the right one)"
    )]
    NotMigrated,
    /// Behind, or ahead.
    #[error("the database is at migration {found} and this photogate needs {needed}: {advice}")]
    WrongVersion {
        /// What the database has.
        found: i64,
        /// What this program was built for.
        needed: i64,
        /// What to do.
        advice: &'static str,
    },
    /// The functions in the database are not those that this program was built with.
    #[error(
        "the database's functions are not those of this photogate: if this is the newest one, run \
         `photogate migrate`; if not, install the one that migrated last"
    )]
    OtherFunctions,
    /// A login could not be created.
    #[error("the login could not be created ({0}): connect as a user who may create roles")]
    Login(sqlx::Error),
    /// Something else.
    #[error(transparent)]
    Other(#[from] sqlx::Error),
}

/// Connects as the application: it may read everything, and call the gate's functions. The login may be any member of
/// that role.
///
/// # Errors
/// See [`DatabaseError`]: the database must be there, and migrated to what this program was built for.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, DatabaseError> {
    connect_as(url, "photogate_app", connections, STATEMENT_MAX).await
}

/// Connects as the application, for whoever does not wait longer than this for an answer.
///
/// # Errors
/// As [`connect`].
pub async fn connect_for(
    url: &str,
    connections: u32,
    statement: Duration,
) -> Result<PgPool, DatabaseError> {
    connect_as(url, "photogate_app", connections, statement).await
}

/// Connects as a worker: it may claim, settle and write findings, and nothing else.
///
/// # Errors
/// As [`connect`].
pub async fn connect_worker(url: &str, connections: u32) -> Result<PgPool, DatabaseError> {
    connect_as(url, "photogate_worker", connections, STATEMENT_MAX).await
}

/// Longer than any statement takes that is well.
const STATEMENT_MAX: Duration = Duration::from_secs(60);

async fn connect_as(
    url: &str,
    role: &'static str,
    connections: u32,
    statement: Duration,
) -> Result<PgPool, DatabaseError> {
    let options = options(url, role)?.options([("statement_timeout", statement.as_millis())]);
    // Errors of the first connection are told apart from those of a pool that waits.
    let mut first = options.connect().await.map_err(refused)?;
    check_version(&mut first).await?;
    first.close().await?;
    let pool =
        PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
    Ok(pool.connect_lazy_with(options))
}

fn refused(error: sqlx::Error) -> DatabaseError {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        // The role does not exist, or the login is no member of it.
        Some("22023" | "42501" | "42704") => DatabaseError::NotMigrated,
        _ => DatabaseError::Unreachable(error),
    }
}

/// Makes (or changes the password of) a login that may act as this role, and as nothing else.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn make_login(
    url: &str,
    login: &str,
    password: &str,
    role: &'static str,
) -> Result<(), DatabaseError> {
    let address = PgConnectOptions::from_str(url).map_err(DatabaseError::Address)?;
    // What goes over this connection is a password: it is not logged, however long it takes.
    let mut db =
        address.disable_statement_logging().connect().await.map_err(DatabaseError::Unreachable)?;
    // Names and passwords cannot be parameters of these statements: the server itself quotes them. Not `query!`, for
    // what is asked for is the text of the next statement.
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(login)
        .fetch_one(&mut db)
        .await?;
    let make = if known { "ALTER" } else { "CREATE" };
    for (template, value) in
        [("ROLE %1$I LOGIN NOINHERIT PASSWORD %2$L", password), ("GRANT %2$I TO %1$I", role)]
    {
        let template =
            if value == role { template.to_owned() } else { format!("{make} {template}") };
        let statement: String = sqlx::query_scalar("SELECT format($1, $2, $3)")
            .bind(template)
            .bind(login)
            .bind(value)
            .fetch_one(&mut db)
            .await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut db)
            .await
            .map_err(DatabaseError::Login)?;
    }
    db.close().await?;
    Ok(())
}

fn options(url: &str, role: &'static str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url).map_err(DatabaseError::Address)?;
    Ok(options
        .application_name("photogate")
        .log_statements(tracing::log::LevelFilter::Trace)
        .options([
            ("role", role),
            ("search_path", "photogate"),
            // Compiling a query takes ten times as long as any of ours runs.
            ("jit", "off"),
            // Nothing here takes long: what does is stuck, and must not hold locks.
            ("statement_timeout", "60s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]))
}

async fn check_version(db: &mut PgConnection) -> Result<(), DatabaseError> {
    // Not `query!`: the table belongs to sqlx, and may not be there at all.
    let found: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM photogate._sqlx_migrations WHERE success")
            .fetch_one(&mut *db)
            .await
            .map_err(|_| DatabaseError::NotMigrated)?;
    let needed = photogate_schema::newest();
    match found.unwrap_or(0) {
        found if found < needed => {
            Err(DatabaseError::WrongVersion { found, needed, advice: "run `photogate migrate`" })
        }
        found if found > needed => {
            Err(DatabaseError::WrongVersion { found, needed, advice: "install a newer photogate" })
        }
        _ => check_functions(db).await,
    }
}

async fn check_functions(db: &mut PgConnection) -> Result<(), DatabaseError> {
    let applied: Option<String> =
        sqlx::query_scalar("SELECT hash FROM photogate.functions_applied")
            .fetch_optional(db)
            .await?;
    if applied == Some(photogate_schema::functions_hash()) {
        Ok(())
    } else {
        Err(DatabaseError::OtherFunctions)
    }
}

/// Waits for the database for so long at most. A server that vanished without a word would be waited for for ever:
/// nothing is on its way that the kernel could give up on.
pub(crate) async fn in_time<T, E: From<sqlx::Error>>(
    most: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(most, asked)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::from(io::Error::from(io::ErrorKind::TimedOut)).into()))
}

/// Longer than the server's own limit for a statement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(70);

/// From here to the end of the transaction, the rows of other organisations do not exist.
///
/// # Errors
/// When the database has trouble.
pub async fn become_organisation(
    tx: &mut Transaction<'_, Postgres>,
    organisation: OrganisationId,
) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "SELECT set_config('photogate.organisation', $1, true)",
        organisation.to_string()
    )
    .fetch_one(&mut **tx)
    .await?;
    // A role's name is no parameter, and no query has columns to check.
    sqlx::query("SET LOCAL ROLE photogate_organisation").execute(&mut **tx).await?;
    Ok(())
}

/// What one of our functions says when it refuses, in its own words; any other error as it is.
pub(crate) fn sentence(error: &sqlx::Error) -> String {
    let message =
        error.as_database_error().map(sqlx::error::DatabaseError::message).unwrap_or_default();
    if is_code(error, NOT_FOUND) {
        format!("there is {message}")
    } else if is_code(error, BAD_ARGUMENT) {
        message.to_owned()
    } else {
        error.to_string()
    }
}

/// True for this SQLSTATE.
pub(crate) fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|found| found == code)
}

/// True when the database will refuse the same thing again: bad data (class 22) or a broken constraint (class 23).
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
