//! Waits for locks so that nobody waits behind: for a second at a time.

use std::time::Duration;

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, interval, sleep};

use super::MigrateError;

/// Only one program migrates at a time: the lock that roles.sql takes.
const LOCK: i64 = 7_236_410_915;

/// Longest wait for a lock at a time: whoever needs the same table queues up behind it.
pub(super) const LOCK_MAX: &str = "1s";

/// So often a step is tried whose lock is not free: for a minute or two.
const TRIES: u32 = 30;
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Who waits for long says so, and says it again.
const TELL_FIRST: Duration = Duration::from_secs(5);
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Waits until nobody else migrates. It asks again and again, because whoever waits in PostgreSQL
/// has a snapshot, and an index that the other one makes concurrently would wait for that.
pub(super) async fn lock(db: &mut PgConnection, tell: &impl Fn(&str)) -> sqlx::Result<()> {
    let ask = "SELECT pg_try_advisory_lock($1)";
    let mut next = Instant::now() + TELL_FIRST;
    while !sqlx::query_scalar::<_, bool>(ask).bind(LOCK).fetch_one(&mut *db).await? {
        if Instant::now() > next {
            tell("another `photogate migrate` has not ended yet: waiting for it");
            next = Instant::now() + TELL_AGAIN;
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Does a step that is done as a whole or not at all. If a lock is not free within `most`, it lets
/// go, tells who has it, and tries again.
pub(super) async fn patiently(
    db: &mut PgConnection,
    address: &PgConnectOptions,
    most: &'static str,
    tell: &impl Fn(&str),
    mut step: impl AsyncFnMut(&mut PgConnection) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    let limit = format!("SET lock_timeout = '{most}'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(&mut *db).await?;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *db).await?;
    for n in 1.. {
        let mut blocker = None;
        let done = tokio::select! {
            done = step(&mut *db) => done,
            () = watch(address, pid, &mut blocker, tell) => continue,
        };
        match done {
            Err(error) if is_locked(&error) => {
                let who = blocker.unwrap_or_else(|| "nobody has it any more".to_owned());
                if n == TRIES {
                    return Err(MigrateError::Locked(who));
                }
                tell(&format!("a lock is not free, so this step is tried again: {who}"));
                sleep(PAUSE_MAX.min(Duration::from_millis(500) * n)).await;
            }
            done => return done,
        }
    }
    Ok(())
}

/// Notes who keeps this process of the server waiting, and tells it if that takes long. It never
/// returns: a step is not ended because nobody can say who is in its way.
async fn watch(
    address: &PgConnectOptions,
    pid: i32,
    blocker: &mut Option<String>,
    tell: &impl Fn(&str),
) {
    let ask = "SELECT string_agg(format('process %s of %s (%s, %s, for %s s)', pid, usename,
                                        coalesce(nullif(application_name, ''), 'no name'), state,
                                        extract(epoch FROM clock_timestamp() - xact_start)::int), ', ')
               FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1))";
    // Most steps are over before this looks for the first time.
    let mut ticks = interval(Duration::from_millis(300));
    ticks.tick().await;
    ticks.tick().await;
    if let Ok(mut db) = address.connect().await {
        let mut next = Instant::now() + TELL_FIRST;
        while let Ok(who) = sqlx::query_scalar(ask).bind(pid).fetch_one(&mut db).await {
            let who: Option<String> = who;
            if let Some(who) = who.as_ref().filter(|_| Instant::now() > next) {
                tell(&format!("waiting for {who}"));
                next = Instant::now() + TELL_AGAIN;
            }
            *blocker = who.or(blocker.take());
            ticks.tick().await;
        }
    }
    std::future::pending::<()>().await;
}

/// Whether a lock was not free, or two waited for each other.
fn is_locked(error: &MigrateError) -> bool {
    use sqlx::migrate::MigrateError as Inner;
    let (MigrateError::Migration(Inner::Execute(error) | Inner::ExecuteMigration(error, _))
    | MigrateError::Functions { error, .. }
    | MigrateError::Other(error)) = error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
