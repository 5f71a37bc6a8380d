//! The functions of the schema: each has one body, in `functions/`, and all of them are applied
//! together.

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use super::MigrateError;

const DROP: &str = include_str!("../drop-functions.sql");

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../functions/", $name, ".sql")))),*]
    };
}

/// Every file of functions, by name.
const FILES: &[(&str, &str)] = files![
    "adopt" "alerts" "audit" "auto_top_up" "budgets" "chain" "changes" "claim" "clock" "content" "corrections" "enqueue"
    "erasures"
    "events" "finders" "findings" "follow_ups" "forget" "holds" "logins" "mail" "months" "organisations" "paces" "pauses"
    "payments" "pipelines" "pulse" "purchases" "reconcile" "reconsider" "runs" "schedules" "settle" "skips" "snapshots"
    "states" "steering" "stretches" "timeline" "top_up" "undo" "uploads"
    "webhooks" "worker"
];

/// PostgreSQL's own check of every body. Bodies are not checked while they are created, because
/// they call each other in any order.
const VALIDATE: &str = "SELECT CASE lanname WHEN 'sql' THEN fmgr_sql_validator(p.oid)::text
                                            ELSE plpgsql_validator(p.oid)::text END
                        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                        WHERE p.pronamespace = 'photogate'::regnamespace \
                        AND l.lanname IN ('sql', 'plpgsql')";

/// The SHA-256 of all functions that this program was built with, in hexadecimal.
pub fn hash() -> String {
    let mut digest = Sha256::new_with_prefix(DROP);
    for (name, text) in FILES {
        digest.update(format!("\n-- {name}\n{text}"));
    }
    format!("{:x}", digest.finalize())
}

/// Replaces all functions in one transaction, unless the database has these already.
pub(super) async fn apply(db: &mut PgConnection) -> Result<(), MigrateError> {
    let hash = hash();
    let applied: Option<String> =
        sqlx::query_scalar("SELECT hash FROM functions_applied").fetch_optional(&mut *db).await?;
    if applied.as_ref() == Some(&hash) {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    sqlx::raw_sql("SET LOCAL check_function_bodies = off").execute(&mut *tx).await?;
    sqlx::raw_sql(DROP).execute(&mut *tx).await?;
    for (file, text) in FILES {
        sqlx::raw_sql(*text)
            .execute(&mut *tx)
            .await
            .map_err(|error| MigrateError::Functions { file, error })?;
    }
    sqlx::raw_sql("SET LOCAL check_function_bodies = on").execute(&mut *tx).await?;
    sqlx::raw_sql(VALIDATE).execute(&mut *tx).await?;
    sqlx::query(
        "INSERT INTO functions_applied (hash) VALUES ($1)
         ON CONFLICT (only_row) DO UPDATE SET hash = excluded.hash, applied_at = now()",
    )
    .bind(hash)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::FILES;

    #[test]
    fn every_file_of_functions_is_applied() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
        let mut there: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
            .collect();
        there.sort();
        let applied: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(applied, there);
    }
}
