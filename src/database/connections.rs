//! Connections: who this program is to PostgreSQL, and what each connection is set to.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use super::{
    error::DatabaseError,
    pooler::{self, PoolerTrouble},
    schema_check::check_version,
};

/// Connects as the application: it may read everything, and call the gate's functions. The login
/// may be any member of that role.
///
/// # Errors
/// See [`DatabaseError`]: the database must be there, and migrated to what this program was built
/// for.
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
    let options = options(url)?
        .options([("role", role)])
        .options([("statement_timeout", statement.as_millis())]);
    // Errors of the first connection are told apart from those of a pool that waits.
    let mut first = options.connect().await.map_err(refused)?;
    let is_direct = photogate_schema::is_direct(&mut first).await?;
    if !is_direct {
        pooler::check(&mut first, &options, role).await?;
    }
    check_version(&mut first).await?;
    first.close().await?;
    // Who serves or works for long says it once. A command does not say it each time.
    let is_long = role == "photogate_worker" || statement != STATEMENT_MAX;
    if is_long && !is_direct {
        tracing::info!("a connection pooler is in between: the settings of the login apply");
    }
    if is_long && is_open(&options) {
        tracing::warn!(
            host = options.get_host(),
            "PostgreSQL is on another machine, and its certificate is not verified: use \
             sslmode=verify-full (docs/operations.md)"
        );
    }
    let pool =
        PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
    Ok(pool.connect_lazy_with(options))
}

/// Connects as the login itself, which may be no member of any role, to a database that may have no
/// schema.
pub(crate) async fn connect_as_login(url: &str) -> Result<PgConnection, DatabaseError> {
    options(url)?.options([("statement_timeout", "5s")]).connect().await.map_err(refused)
}

/// Whether the connection is to PostgreSQL itself. If a pooler is in between, it must do.
pub(crate) async fn is_direct_or_does(
    url: &str,
    db: &mut PgConnection,
) -> Result<bool, DatabaseError> {
    if photogate_schema::is_direct(db).await? {
        return Ok(true);
    }
    let asked = sqlx::raw_sql("SELECT current_user::text").fetch_one(&mut *db).await?;
    let acts_as: String = asked.try_get(0)?;
    let role = if acts_as == "photogate_worker" { "photogate_worker" } else { "photogate_app" };
    pooler::check(db, &options(url)?.options([("role", role)]), role).await?;
    Ok(false)
}

/// Whether the server of this address is on another machine, and not known by its certificate.
pub(crate) fn is_open_to_others(url: &str) -> bool {
    options(url).is_ok_and(|options| is_open(&options))
}

fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url).map_err(DatabaseError::Address)?;
    Ok(options
        .application_name("photogate")
        .log_statements(tracing::log::LevelFilter::Trace)
        .options([photogate_schema::MARK])
        .options(SETTINGS))
}

/// What each session is set to, beside its role.
const SETTINGS: [(&str, &str); 5] = [
    ("search_path", "photogate"),
    // The gate is proven for this one. Another program in the same database may want another.
    ("default_transaction_isolation", "read committed"),
    // Compiling a query takes ten times as long as any of ours runs.
    ("jit", "off"),
    // Nothing here takes long: what does is stuck, and must not hold locks.
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// What each session is set to. A login has the same (login.rs), for sessions of a pooler.
pub(super) fn settings(role: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    [("role", role)].into_iter().chain(SETTINGS)
}

/// Whether somebody between this machine and the server can pass for it.
fn is_open(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.is_loopback());
    !is_here && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)
}

pub(super) fn refused(error: sqlx::Error) -> DatabaseError {
    if photogate_schema::pooler_refuses(&error) {
        return DatabaseError::Pooler(PoolerTrouble::Refuses);
    }
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        // The role does not exist, or the login is no member of it.
        Some("22023" | "42501" | "42704") => DatabaseError::NotMigrated,
        _ => DatabaseError::Unreachable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_must_be_verified() {
        for (url, is_open) in [
            ("postgres://worker@db.example.org/photogate", true),
            ("postgres://worker@192.0.2.7/photogate?sslmode=require", true),
            ("postgres://worker@db.example.org/photogate?sslmode=verify-ca", true),
            ("postgres://worker@db.example.org/photogate?sslmode=verify-full", false),
            ("postgres://worker@localhost/photogate", false),
            ("postgres://worker@127.0.0.1/photogate", false),
            ("postgres://worker@[::1]/photogate", false),
            ("postgres:///photogate?host=/run/postgresql&user=worker", false),
        ] {
            assert_eq!(is_open_to_others(url), is_open, "{url}");
        }
    }
}
