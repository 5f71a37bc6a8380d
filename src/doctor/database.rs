//! PostgreSQL: who answers, what this login may do, whether the schema fits, who holds old rows
//! back, and whether the clocks agree.
//!
//! The queries are not checked while they are compiled: the database may have no schema at all, or
//! that of another version.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::PgConnection;
use tokio::time::timeout;

use super::{ANSWER_MAX, Check};
use crate::{
    config::Config,
    database::{self, DatabaseError, in_time},
};

const DATABASE: &str = "database";
const RIGHTS: &str = "rights";
const SCHEMA: &str = "schema";
const SNAPSHOT: &str = "snapshot";
const CLOCK: &str = "clock";

/// The pooler is asked with several connections, which has a limit of its own.
const POOLER_MAX: Duration = Duration::from_secs(35);
/// So many connections are needed by a worker (10), and by the service.
const CONNECTIONS_FREE_MIN: i64 = 20;
/// The alert `PhotogateOldSnapshot` begins here.
const SNAPSHOT_SECONDS_MAX: f64 = 1800.0;
/// Codes of second factors end here.
const SKEW_SECONDS_MAX: f64 = 30.0;
const SKEW_SECONDS_GOOD: f64 = 2.0;

/// All checks of the database, on one connection, as the login itself.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let connected = timeout(ANSWER_MAX, database::connect_as_login(&config.database_url)).await;
    let silent = |_elapsed| {
        let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(DatabaseError::Unreachable(sqlx::Error::Io(silence)))
    };
    let connected = connected.unwrap_or_else(silent);
    let mut db = match connected {
        Ok(db) => db,
        Err(error) => {
            let advice = "start PostgreSQL, or correct database_url and who may connect \
                          (pg_hba.conf, firewalls)";
            checks.push(Check::fail(DATABASE, error.to_string(), advice));
            return fill(checks, "the database cannot be reached");
        }
    };
    let is_direct =
        match in_time(POOLER_MAX, database::is_direct_or_does(&config.database_url, &mut db)).await
        {
            Ok(is_direct) => is_direct,
            Err(error) => {
                let advice = "see *Connection poolers* in docs/operations.md";
                checks.push(Check::fail(DATABASE, error.to_string(), advice));
                return fill(checks, "the pooler does not do");
            }
        };
    match in_time(ANSWER_MAX, server(&mut db, is_direct)).await {
        Ok(check) => checks.push(check),
        Err(error) => {
            checks.push(trouble(DATABASE, &error));
            return fill(checks, "the database does not answer");
        }
    }
    checks.push(told(RIGHTS, in_time(ANSWER_MAX, rights(&mut db, is_direct)).await));
    let is_usable = match in_time(ANSWER_MAX, database::check_version(&mut db)).await {
        Ok(fits) => {
            checks.push(Check::ok(SCHEMA, fits));
            true
        }
        Err(error @ DatabaseError::Other(_)) => {
            checks.push(trouble(SCHEMA, &error));
            false
        }
        Err(error) => {
            let advice =
                "run `photogate migrate` of the newest version (docs/operations.md#upgrade)";
            checks.push(Check::fail(SCHEMA, error.to_string(), advice));
            false
        }
    };
    checks.push(if is_usable {
        told(SNAPSHOT, in_time(ANSWER_MAX, snapshot(&mut db)).await)
    } else {
        Check::not_looked_at(SNAPSHOT, "the schema does not fit")
    });
    checks.push(told(CLOCK, in_time(ANSWER_MAX, clock(&mut db, is_usable)).await));
    checks
}

fn fill(mut checks: Vec<Check>, why: &str) -> Vec<Check> {
    for name in [DATABASE, RIGHTS, SCHEMA, SNAPSHOT, CLOCK] {
        if checks.iter().all(|check| check.check != name) {
            checks.push(Check::not_looked_at(name, why));
        }
    }
    checks
}

fn told(name: &'static str, looked: Result<Check, DatabaseError>) -> Check {
    looked.unwrap_or_else(|error| trouble(name, &error))
}

fn trouble(name: &'static str, error: &DatabaseError) -> Check {
    Check::fail(name, error.to_string(), "see what the log of PostgreSQL says")
}

async fn server(db: &mut PgConnection, is_direct: bool) -> Result<Check, DatabaseError> {
    type Row = (String, i32, String, String, bool, String, i64, i64);
    let (version, number, login, name, is_standby, unsafe_settings, used, most): Row =
        sqlx::query_as(
            "SELECT current_setting('server_version'),
                    current_setting('server_version_num')::int, session_user::text,
                    current_database()::text, pg_is_in_recovery(),
                    (SELECT coalesce(string_agg(name, ', ' ORDER BY name), '') FROM pg_settings
                     WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')
                       AND setting = 'off'),
                    -- Of other logins, a login may see no more than that they are there.
                    (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL
                       AND coalesce(backend_type, 'client backend') = 'client backend'),
                    current_setting('max_connections')::bigint
                    - current_setting('superuser_reserved_connections')::bigint",
        )
        .fetch_one(db)
        .await?;
    let version = version.split(' ').next().unwrap_or_default();
    let through = if is_direct { "" } else { ", through a connection pooler" };
    let seen = format!("PostgreSQL {version}, database {name}, as {login}{through}");
    if number < 140_000 {
        return Ok(Check::fail(DATABASE, seen, "install PostgreSQL 14 or later"));
    }
    if is_standby {
        let advice = "set database_url to the primary, or promote this one";
        return Ok(Check::fail(
            DATABASE,
            format!("{seen}: a standby, which takes no writes"),
            advice,
        ));
    }
    if !unsafe_settings.is_empty() {
        return Ok(Check::warn(
            DATABASE,
            format!("{seen}; off: {unsafe_settings}"),
            "switch them on: without them a crash of the server loses credits",
        ));
    }
    let free = most - used;
    if free < CONNECTIONS_FREE_MIN {
        return Ok(Check::warn(
            DATABASE,
            format!("{seen}; {used} of {most} connections are in use"),
            "raise max_connections: a worker needs 10, a service 20",
        ));
    }
    Ok(Check::ok(DATABASE, format!("{seen}; {free} of {most} connections are free")))
}

async fn rights(db: &mut PgConnection, is_direct: bool) -> Result<Check, DatabaseError> {
    // From PostgreSQL 16 on, membership alone does not let a login act as a role.
    let roles: Vec<String> = sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles
         WHERE rolname = ANY ('{photogate_worker, photogate_app, photogate_owner}')
           AND pg_has_role(session_user, oid, CASE
               WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
         ORDER BY rolname",
    )
    .fetch_all(&mut *db)
    .await?;
    let may = |role: &str| roles.iter().any(|one| one == role);
    // What follows is asked as photogate itself asks it.
    let role = if may("photogate_app") { "photogate_app" } else { "photogate_worker" };
    if !may(role) {
        return Ok(Check::fail(
            RIGHTS,
            "this login is neither a worker's nor the service's",
            "GRANT photogate_worker (or photogate_app, for the service) TO it, or make a login with \
             `photogate migrate --worker-login`",
        ));
    }
    // Through a pooler, the login has its role already; and the session is not ours to change.
    if is_direct {
        let act = sqlx::AssertSqlSafe(format!("SET ROLE {role}"));
        sqlx::raw_sql(act).execute(&mut *db).await?;
    }
    let commands = match (may("photogate_owner"), may("photogate_app")) {
        (true, _) => "migrate, serve and work: a login for migrations",
        (false, true) => "serve and work: the service's login",
        (false, false) => "work: a worker's login",
    };
    Ok(Check::ok(RIGHTS, format!("may run {commands}")))
}

async fn snapshot(db: &mut PgConnection) -> Result<Check, DatabaseError> {
    let (seconds, slots, sees_all): (f64, String, bool) = sqlx::query_as(
        "SELECT greatest(oldest_snapshot_seconds(),
                         (SELECT extract(epoch FROM clock_timestamp() - min(prepared))
                          FROM pg_prepared_xacts WHERE database = current_database()))::float8,
                (SELECT coalesce(string_agg(slot_name, ', ' ORDER BY slot_name), '')
                 FROM pg_replication_slots
                 WHERE NOT active AND (restart_lsn IS NOT NULL OR xmin IS NOT NULL)),
                pg_has_role('photogate_owner', 'pg_read_all_stats', 'USAGE')",
    )
    .fetch_one(db)
    .await?;
    let seen = format!("the oldest is {seconds:.0} s old");
    if seconds > SNAPSHOT_SECONDS_MAX {
        return Ok(Check::warn(
            SNAPSHOT,
            format!("{seen}: PostgreSQL removes no old rows, and tables grow"),
            "find who has it, and end it (docs/operations.md#photogateoldsnapshot)",
        ));
    }
    if !slots.is_empty() {
        return Ok(Check::warn(
            SNAPSHOT,
            format!("{seen}; nobody reads the replication slots {slots}, which keep WAL and rows"),
            "start their standbys, or drop them with pg_drop_replication_slot",
        ));
    }
    if !sees_all {
        return Ok(Check::warn(
            SNAPSHOT,
            format!("{seen}, but those of other logins cannot be seen"),
            "let a superuser GRANT pg_read_all_stats TO photogate_owner",
        ));
    }
    Ok(Check::ok(SNAPSHOT, seen))
}

async fn clock(db: &mut PgConnection, has_schema: bool) -> Result<Check, DatabaseError> {
    // The clock of the books is a function, and its check is one of the schema.
    let ask = if has_schema {
        "SELECT extract(epoch FROM clock())::float8, is_clock_plausible()"
    } else {
        "SELECT extract(epoch FROM clock_timestamp())::float8, true"
    };
    // The first answer may wait for what the server has to read.
    sqlx::query(ask).execute(&mut *db).await?;
    let (here, began) = (SystemTime::now(), Instant::now());
    let (there, is_plausible): (f64, bool) = sqlx::query_as(ask).fetch_one(db).await?;
    let here = here.duration_since(UNIX_EPOCH).unwrap_or_default() + began.elapsed() / 2;
    let skew = there - here.as_secs_f64();
    let seen = if skew.abs() < SKEW_SECONDS_GOOD {
        "this machine and the database agree".to_owned()
    } else {
        format!(
            "the database is {:.0} s {}",
            skew.abs(),
            if skew > 0.0 { "ahead" } else { "behind" }
        )
    };
    if !is_plausible {
        let advice = "set it right or, if it is right, run `photogate clock confirm`";
        return Ok(Check::fail(
            CLOCK,
            format!("{seen}; nothing is booked, because its clock jumped"),
            advice,
        ));
    }
    let advice = "let a time service (chrony, systemd-timesyncd) set both clocks";
    Ok(match skew.abs() {
        SKEW_SECONDS_MAX.. => Check::fail(CLOCK, seen, advice),
        SKEW_SECONDS_GOOD.. => Check::warn(CLOCK, seen, advice),
        _ => Check::ok(CLOCK, seen),
    })
}
