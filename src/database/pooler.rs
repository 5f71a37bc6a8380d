//! A connection pooler, such as PgBouncer, between this program and PostgreSQL: whether it does.
//!
//! It drops what a session is set to, so the login must have the settings. In transaction mode each
//! transaction may meet another session, so the pooler must know prepared statements.

use std::{fmt, time::Duration};

use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};

use super::{
    connections::{refused, settings},
    error::DatabaseError,
    timeout::in_time,
};

/// Why a pooler does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolerTrouble {
    /// It lets nobody in who has settings.
    Refuses,
    /// It drops the settings, and the login has none, or others.
    Drops,
    /// A statement that was prepared is not known in the next transaction.
    Forgets,
}

impl fmt::Display for PoolerTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuses => {
                "refuses photogate's settings: connect to PostgreSQL itself, or let PgBouncer have \
                 ignore_startup_parameters = extra_float_digits, options"
            }
            Self::Drops => {
                "drops photogate's settings, and this login has no such settings: connect to \
                 PostgreSQL itself, or make the login with `photogate migrate`"
            }
            Self::Forgets => {
                "forgets prepared statements: connect to PostgreSQL itself, or use PgBouncer 1.21 or \
                 later with max_prepared_statements"
            }
        })
    }
}

/// Checks that sessions of this pooler do for photogate.
pub(super) async fn check(
    db: &mut PgConnection,
    options: &PgConnectOptions,
    role: &'static str,
) -> Result<(), DatabaseError> {
    // No prepared statement, because the pooler may not know them.
    let asked = settings(role).map(|(name, value)| {
        let is_time = value.starts_with(|c: char| c.is_ascii_digit());
        let kind = if is_time { "interval" } else { "text" };
        format!("current_setting('{name}')::{kind} = '{value}'::{kind}")
    });
    let question =
        sqlx::AssertSqlSafe(format!("SELECT {}", asked.collect::<Vec<_>>().join(" AND ")));
    let has_settings: bool = sqlx::raw_sql(question).fetch_one(db).await?.try_get(0)?;
    if !has_settings {
        return Err(DatabaseError::Pooler(PoolerTrouble::Drops));
    }
    // A pooler whose sessions are all taken answers late.
    in_time(ANSWER_MAX, async {
        let (mut one, mut other) =
            (options.connect().await.map_err(refused)?, options.connect().await.map_err(refused)?);
        for _ in 0..ROUNDS {
            if !keeps_statements(&mut one, &mut other).await.or_else(forgets)? {
                return Err(DatabaseError::Pooler(PoolerTrouble::Forgets));
            }
        }
        one.close().await?;
        other.close().await?;
        Ok(())
    })
    .await
}

const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A pooler with much to do may give each the session that it had before, by chance.
const ROUNDS: u32 = 10;

/// Both prepare a statement under the same name, and get the same session of a pooler one after the
/// other. Whether each gets the answer to its own. Neither keeps a session while it waits for
/// another: workers that start at once would wait for each other.
async fn keeps_statements(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    // Not `query!`: these statements read nothing of ours.
    let first: i32 = sqlx::query_scalar("SELECT 1").fetch_one(one).await?;
    let second: i32 = sqlx::query_scalar("SELECT 2").fetch_one(other).await?;
    Ok((first, second) == (1, 2))
}

/// False: a statement exists already, for somebody else; or it does not exist.
fn forgets(error: sqlx::Error) -> Result<bool, DatabaseError> {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        Some("42P05" | "26000") => Ok(false),
        _ => Err(DatabaseError::Other(error)),
    }
}
