//! Logins of PostgreSQL with a password and one role, such as a worker's.

use std::str::FromStr;

use postgres_protocol::password::scram_sha_256;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::{
    connections::{refused, settings},
    error::DatabaseError,
};

/// SQLSTATE: this is not the login's password.
const INVALID_PASSWORD: &str = "28P01";

/// What a login is, beside a password that somebody has in mind for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// There is none of this name.
    Missing,
    /// It lets this password in.
    Same,
    /// It has another password.
    Other,
    /// It cannot be told: the server does not let it in from here, or asks for no password.
    Unknown,
    /// A superuser, or the login of this address: a role for each of its sessions would disarm it.
    Ruler,
}

/// Tells whether there is such a login, and whether this is its password.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn login_of(url: &str, login: &str, password: &str) -> Result<Login, DatabaseError> {
    let address = PgConnectOptions::from_str(url).map_err(DatabaseError::Address)?;
    let mut db = address.connect().await.map_err(refused)?;
    // Not `query!`: this is asked before there is a schema.
    let rules: Option<bool> = sqlx::query_scalar(
        "SELECT rolsuper OR rolname = session_user FROM pg_roles WHERE rolname = $1",
    )
    .bind(login)
    .fetch_optional(&mut db)
    .await?;
    db.close().await?;
    match rules {
        None => return Ok(Login::Missing),
        Some(true) => return Ok(Login::Ruler),
        Some(false) => {}
    }
    let address = address.username(login);
    match address.clone().password(password).connect().await {
        Ok(db) => {
            db.close().await?;
            // A server that trusts everybody lets any password in.
            let other = format!("not {password}");
            Ok(match address.password(&other).connect().await {
                Ok(_) => Login::Unknown,
                Err(_) => Login::Same,
            })
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INVALID_PASSWORD) => {
            Ok(Login::Other)
        }
        Err(_) => Ok(Login::Unknown),
    }
}

/// Makes a login that may act as this role, and as nothing else. With a password, it gets this one;
/// without, it keeps the one that it has.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn make_login(
    url: &str,
    login: &str,
    password: Option<&str>,
    role: &'static str,
) -> Result<(), DatabaseError> {
    let address = PgConnectOptions::from_str(url).map_err(DatabaseError::Address)?;
    // What goes over this connection is not logged here either, however long it takes.
    let mut db = address.disable_statement_logging().connect().await.map_err(refused)?;
    if let Some(password) = password {
        let make = if is_known(&mut db, login).await? { "ALTER" } else { "CREATE" };
        let template = format!("{make} ROLE %1$I LOGIN NOINHERIT PASSWORD %2$L");
        // The server may log this statement: what it gets is what it would keep of the password.
        let kept = scram_sha_256(password.as_bytes());
        run(&mut db, &template, login, &kept).await?;
    }
    run(&mut db, "GRANT %2$I TO %1$I", login, role).await?;
    // A pooler keeps no settings for a session: there, those of the login count (pooler.rs).
    for (name, value) in settings(role) {
        let template = format!("ALTER ROLE %1$I IN DATABASE %3$I SET {name} = %2$L");
        run(&mut db, &template, login, value).await?;
    }
    db.close().await?;
    Ok(())
}

async fn is_known(db: &mut PgConnection, login: &str) -> sqlx::Result<bool> {
    // Not `query!`: this is asked before there is a schema.
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(login)
        .fetch_one(db)
        .await
}

/// Names and passwords cannot be parameters of these statements: the server itself quotes them. Not
/// `query!`, for what is asked for is the text of the next statement.
async fn run(
    db: &mut PgConnection,
    template: &str,
    login: &str,
    value: &str,
) -> Result<(), DatabaseError> {
    let statement: String = sqlx::query_scalar("SELECT format($1, $2, $3, current_database())")
        .bind(template)
        .bind(login)
        .bind(value)
        .fetch_one(&mut *db)
        .await?;
    let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(db).await;
    ran.map(|_| ()).map_err(DatabaseError::Login)
}
