//! Checks at the start that the database has the migrations and functions that this program needs.

use sqlx::PgConnection;

use super::error::DatabaseError;

/// Checks that the database is at the migration, and has the functions, that this program was built
/// for. Returns what it has, in words.
pub(crate) async fn check_version(db: &mut PgConnection) -> Result<String, DatabaseError> {
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
        found => {
            check_functions(db).await?;
            Ok(format!("migration {found}, and the functions of this version"))
        }
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
