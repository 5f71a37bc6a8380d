//! Creates a login of PostgreSQL with a password and one role, such as a worker's, or changes its
//! password.

use std::str::FromStr;

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

use super::{connections::settings, error::DatabaseError};

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
    // Names and passwords cannot be parameters of these statements: the server itself quotes them.
    // Not `query!`, for what is asked for is the text of the next statement.
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
    // A pooler keeps no settings for a session: there, those of the login count (pooler.rs).
    for (name, value) in settings(role) {
        let template = format!("ALTER ROLE %I IN DATABASE %I SET {name} = %L");
        let statement: String = sqlx::query_scalar("SELECT format($1, $2, current_database(), $3)")
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
