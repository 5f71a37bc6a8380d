//! Checks at the start that the database serves this version of the program (decision 0083).

use photogate_schema::{Applied, Fit, VERSION};
use sqlx::PgConnection;

use super::error::DatabaseError;

fn is_missing(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42P01" | "3F000" | "42703" | "42501"))
}

/// Checks that the database was migrated by this version, or by a newer one that serves it. Returns
/// what it has, in words.
pub(crate) async fn check_version(db: &mut PgConnection) -> Result<String, DatabaseError> {
    let applied = match Applied::read(db).await {
        Ok(applied) => applied.ok_or(DatabaseError::NotMigrated)?,
        // There is no such table or column, or not for this login. Anything else is trouble.
        Err(error) if is_missing(&error) => return Err(DatabaseError::NotMigrated),
        Err(error) => return Err(error.into()),
    };
    let fit = applied.fit(VERSION);
    let version = applied.version;
    match fit {
        Fit::Same if applied.hash == photogate_schema::build_hash() => {
            Ok(format!("of photogate {version}, as this program"))
        }
        Fit::Same => Err(DatabaseError::OtherFunctions),
        Fit::Served => Ok(format!("of photogate {version}, which serves {VERSION}")),
        Fit::TooOld => Err(DatabaseError::TooOld { found: version, serves: applied.serves }),
        Fit::TooNew => Err(DatabaseError::TooNew(version)),
    }
}
