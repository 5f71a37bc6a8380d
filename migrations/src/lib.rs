//! The one way to bring a photogate database up to date: roles, numbered migrations, and then the
//! functions.
//!
//! `photogate migrate`, `scripts/with-postgres` (and so `make sqlx`), tests and benchmarks all call
//! [`migrate`]. It is a crate of its own, without queries, so that it can be built while the
//! queries of photogate are being changed.

mod functions;
mod locks;
mod patience;
mod plan;
mod pooler;
mod versions;

use std::str::FromStr;

use sqlx::{
    ConnectOptions, Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
};

pub use functions::hash as build_hash;
pub use plan::{Plan, Step, plan};
pub use pooler::{MARK, is_direct, refuses as pooler_refuses};
pub use versions::{Applied, Fit, SERVES, VERSION};

use patience::{lock, patiently};
use plan::left_out;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");
const ROLES: &str = include_str!("../roles.sql");

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
    /// A newer program has migrated, and does not serve this one.
    #[error(
        "the database was migrated by photogate {0}, which does not serve {VERSION}: install {0}"
    )]
    Older(String),
    /// Those who use the database now would not be served any more.
    #[error(
        "nothing was changed: {0} If all workers and services are stopped, run `photogate migrate \
         --stopped`"
    )]
    NotServed(String),
    /// The database was made by a build whose migration of this number is another one.
    #[error(
        "nothing was changed: migration {0} of this database is not that of photogate {VERSION}, so a build \
         that was not released made it; install that build, or make a new database"
    )]
    Unreleased(i64),
    /// A migration failed; nothing of it remains.
    #[error("a migration failed: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// A file of functions failed; none of them was replaced.
    #[error("migrations/functions/{file}.sql failed: {error}")]
    Functions {
        /// The file's name.
        file: &'static str,
        /// What PostgreSQL said.
        error: sqlx::Error,
    },
    /// Somebody kept a lock for too long.
    #[error(
        "a lock was not free ({0}): nothing of this step remains, and what was done before stays; \
         end that transaction, or run `photogate migrate` again when it is over"
    )]
    Locked(String),
    /// Any other trouble with the database.
    #[error(transparent)]
    Other(#[from] sqlx::Error),
}

impl From<sqlx::migrate::MigrateError> for MigrateError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        if let sqlx::migrate::MigrateError::VersionMismatch(number) = error {
            return Self::Unreleased(number);
        }
        Self::Migration(error)
    }
}

impl MigrateError {
    fn connecting(error: sqlx::Error) -> Self {
        if pooler_refuses(&error) { Self::Pooler } else { Self::Unreachable(error) }
    }
}

/// What came of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrated {
    /// The database is up to date.
    UpToDate,
    /// This newer version had migrated it, and serves this one: nothing was changed.
    ByNewer(String),
}

/// Brings a database up to date. It does no harm to repeat it, also from several places at once.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(url: &str) -> Result<Migrated, MigrateError> {
    migrate_aloud(url, false, |_| ()).await
}

/// Brings a database up to date, and tells whom it waits for. `stopped`: somebody says that no
/// worker and no service runs, so those of older versions need not be served.
///
/// Workers and services of this version and of [`SERVES`] go on meanwhile: it waits for no lock
/// longer than a second at a time, because others would queue up behind it.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate_aloud(
    url: &str,
    stopped: bool,
    tell: impl Fn(&str),
) -> Result<Migrated, MigrateError> {
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
    lock(&mut db, &tell).await?;
    // Before anything is changed: an older program would also take back rights that a newer one gave.
    if let Some(applied) = applied(&mut db).await? {
        match applied.fit(VERSION) {
            // As after the roll back of a deployment.
            Fit::Served => return Ok(Migrated::ByNewer(applied.version)),
            Fit::TooOld => return Err(MigrateError::Older(applied.version)),
            Fit::Same | Fit::TooNew => {}
        }
        if let Some(why) = left_out(&applied, VERSION, SERVES).filter(|_| !stopped) {
            return Err(MigrateError::NotServed(why));
        }
    }
    sqlx::raw_sql(ROLES).execute(&mut db).await.map_err(MigrateError::Roles)?;
    db.close().await?;

    let address = as_owner(address);
    let mut db = address.connect().await.map_err(MigrateError::connecting)?;
    lock(&mut db, &tell).await?;
    run_numbered(&mut db, &address, &MIGRATIONS, &tell).await?;
    let readable = "GRANT SELECT ON _sqlx_migrations TO photogate_worker, photogate_app";
    patiently(&mut db, &address, patience::LOCK_MAX, &tell, async |db: &mut PgConnection| {
        sqlx::raw_sql(readable).execute(&mut *db).await?;
        functions::apply(db).await
    })
    .await?;
    // The lock ends with the connection.
    db.close().await?;
    Ok(Migrated::UpToDate)
}

/// Runs the migrations that have not run yet, as the owner of the schema.
///
/// # Errors
/// See [`MigrateError`].
pub async fn run_numbered(
    db: &mut PgConnection,
    address: &PgConnectOptions,
    migrations: &Migrator,
    tell: &impl Fn(&str),
) -> Result<(), MigrateError> {
    // A migration may take long, if it holds no lock that others wait for.
    sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *db).await?;
    // The lock of sqlx would wait with a snapshot, for which an index that is made concurrently
    // waits.
    let migrations = Migrator {
        migrations: migrations.migrations.clone(),
        ignore_missing: migrations.ignore_missing,
        locking: false,
        ..Migrator::DEFAULT
    };
    for migration in migrations.iter() {
        // An index that is made concurrently keeps nobody waiting, and itself waits for all
        // transactions that began before it.
        let most = if migration.no_tx { "0" } else { patience::LOCK_MAX };
        patiently(db, address, most, tell, async |db: &mut PgConnection| {
            if migration.no_tx {
                drop_broken_indexes(db, migration.sql.as_str()).await?;
            }
            Ok(migrations.run_direct(Some(migration.version), db, false).await?)
        })
        .await?;
    }
    Ok(())
}

fn as_owner(address: PgConnectOptions) -> PgConnectOptions {
    address.options([("role", "photogate_owner"), ("search_path", "photogate")])
}

/// Connects as the owner of the schema. `None`: there is no schema yet.
async fn connect_as_owner(url: &str) -> Result<Option<PgConnection>, MigrateError> {
    let address = PgConnectOptions::from_str(url).map_err(MigrateError::Address)?;
    let mut db = address.connect().await.map_err(MigrateError::connecting)?;
    let there = "SELECT count(*) = 2 FROM (SELECT 1 FROM pg_roles WHERE rolname = 'photogate_owner' \
                 UNION ALL SELECT 1 FROM pg_namespace WHERE nspname = 'photogate') found";
    let is_there: bool = sqlx::query_scalar(there).fetch_one(&mut db).await?;
    db.close().await?;
    if !is_there {
        return Ok(None);
    }
    let mut db = as_owner(address).connect().await.map_err(MigrateError::connecting)?;
    let is_migrated = applied(&mut db).await?.is_some();
    Ok(is_migrated.then_some(db))
}

/// Reads who migrated last. `None`: nobody, or not to the end.
async fn applied(db: &mut PgConnection) -> Result<Option<Applied>, MigrateError> {
    let there = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'functions_applied'
                                AND relnamespace = to_regnamespace('photogate'))";
    let is_there: bool = sqlx::query_scalar(there).fetch_one(&mut *db).await?;
    Ok(if is_there { Applied::read(db).await? } else { None })
}

/// Drops what an earlier try of this migration has left that died while it made an index
/// concurrently: such an index is written, and never read. One that somebody else is making looks
/// the same, but this migration does not name it.
async fn drop_broken_indexes(db: &mut PgConnection, sql: &str) -> Result<(), MigrateError> {
    let broken: Vec<String> = sqlx::query_scalar(
        "SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || i.indexrelid::regclass
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT i.indisvalid AND c.relnamespace = 'photogate'::regnamespace AND c.relkind = 'i'
           AND c.relname = ANY (regexp_split_to_array($1, '[^a-z0-9_]+'))",
    )
    .bind(sql)
    .fetch_all(&mut *db)
    .await?;
    for statement in broken {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *db).await?;
    }
    Ok(())
}
