//! The functions of the schema: each has one body, in `functions/`, and all of them are applied
//! together.
//!
//! Programs go on meanwhile. So a function whose parameters and result stay is replaced in place,
//! and a call never finds it missing. Only what cannot be replaced is dropped first.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, types::Json};

use super::{MIGRATIONS, MigrateError, SERVES, VERSION};

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../functions/", $name, ".sql")))),*]
    };
}

/// Every file of functions, by name.
const FILES: &[(&str, &str)] = files![
    "adopt" "alerts" "archive" "audit" "auto_top_up" "budgets" "chain" "changes" "claim" "clock" "content" "corrections" "enqueue"
    "erasures"
    "events" "finders" "findings" "follow_ups" "forget" "give_up" "holds" "logins" "mail" "months" "organisations" "paces" "pauses"
    "payments" "pipelines" "pulse" "purchases" "reconcile" "reconsider" "restore" "runs" "schedules" "settle" "skips" "snapshots"
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

/// The functions of the schema that are ours, as `p`: not those that an extension brought.
const OURS: &str = "pg_proc p WHERE p.pronamespace = 'photogate'::regnamespace AND p.prokind = 'f' \
                    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass \
                                    AND e.objid = p.oid AND e.deptype = 'e')";

/// Whether something else stands on `p`: a trigger, a policy, a default, a constraint, an index, a
/// view, or a function of another schema (those of pipelines.sql are for others). It is not dropped.
const NEEDED: &str = "EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass \
                      AND d.refobjid = p.oid AND (d.classid <> 'pg_proc'::regclass OR (SELECT \
                      u.pronamespace FROM pg_proc u WHERE u.oid = d.objid) <> p.pronamespace))";

/// The SHA-256 of all migrations and functions that this program was built with, in hexadecimal.
pub fn hash() -> String {
    let mut digest = Sha256::new();
    for migration in MIGRATIONS.iter() {
        digest.update(&migration.checksum);
    }
    for (name, text) in FILES {
        digest.update(format!("\n-- {name}\n{text}"));
    }
    format!("{:x}", digest.finalize())
}

/// A hash for each function that this program was built with, by its name and parameters.
pub(super) fn texts() -> BTreeMap<String, String> {
    FILES.iter().flat_map(|(_, text)| pieces(text)).collect()
}

/// The functions in a file, each with the hash of its text, from its name to the next function.
fn pieces(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
        let start = line
            .strip_prefix("CREATE FUNCTION ")
            .or_else(|| line.strip_prefix("CREATE OR REPLACE FUNCTION "));
        match (start, found.last_mut()) {
            (Some(start), _) => found.push(format!("{start}\n")),
            (None, Some(last)) => last.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    let hash = |text: &str| format!("{:x}", Sha256::digest(text.trim_end()))[..16].to_owned();
    found.iter().map(|text| (signature(text), hash(text))).collect()
}

/// The name and the parameters, as they are written, on one line.
fn signature(text: &str) -> String {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, letter)| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        *letter == ')' && depth == 0
    });
    let header = &text[..end.map_or(text.len(), |(at, _)| at + 1)];
    header.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Replaces all functions in one transaction, unless the database has these already.
pub(super) async fn apply(db: &mut PgConnection) -> Result<(), MigrateError> {
    let hash = hash();
    let applied: Option<(String, String, String)> =
        sqlx::query_as("SELECT hash, version, serves FROM functions_applied")
            .fetch_optional(&mut *db)
            .await?;
    if applied == Some((hash.clone(), VERSION.into(), SERVES.into())) {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    sqlx::raw_sql("SET LOCAL check_function_bodies = off").execute(&mut *tx).await?;
    forget_grants(&mut tx).await?;
    let before = places(&mut tx).await?;
    for (file, text) in FILES {
        let failed = |error| MigrateError::Functions { file, error };
        let replace =
            format!("\n{text}").replace("\nCREATE FUNCTION ", "\nCREATE OR REPLACE FUNCTION ");
        let replace = || sqlx::raw_sql(sqlx::AssertSqlSafe(replace.clone()));
        let mut part = tx.begin().await?;
        let done = replace().execute(&mut *part).await;
        match done {
            Ok(_) => part.commit().await?,
            Err(error) if cannot_be_replaced(&error) => {
                part.rollback().await?;
                let names: Vec<_> = pieces(text).into_iter().map(|(name, _)| name).collect();
                let names = names.iter().filter_map(|name| name.split('(').next());
                let dropped = format!("{OURS} AND p.proname = ANY ($1) AND NOT {NEEDED}");
                drop_all(&mut tx, &dropped, names.map(str::to_owned).collect()).await?;
                replace().execute(&mut *tx).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    // Whatever has the place that it had before was not written: no file has it any more.
    let dropped = format!("{OURS} AND p.oid || ' ' || p.ctid = ANY ($1) AND NOT {NEEDED}");
    drop_all(&mut tx, &dropped, before).await?;
    sqlx::raw_sql("SET LOCAL check_function_bodies = on").execute(&mut *tx).await?;
    sqlx::raw_sql(VALIDATE).execute(&mut *tx).await?;
    sqlx::query(
        "INSERT INTO functions_applied (version, serves, hash, texts) VALUES ($1, $2, $3, $4)
         ON CONFLICT (only_row) DO UPDATE SET
             version = excluded.version, serves = excluded.serves, hash = excluded.hash,
             texts = excluded.texts, applied_at = now()",
    )
    .bind(VERSION)
    .bind(SERVES)
    .bind(hash)
    .bind(Json(texts()))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Whether a function has to be dropped first: its result or the name of a parameter is another, or
/// there are several of its name, so that a grant does not say which it means.
fn cannot_be_replaced(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42P13" | "42725" | "42809"))
}

/// Takes back what our roles may call: the files grant it again. A function that is replaced would
/// keep the grants of the version before.
async fn forget_grants(db: &mut PgConnection) -> sqlx::Result<()> {
    let statements: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT string_agg(format('REVOKE ALL ON FUNCTION %s FROM %s', f, role), '; ')
         FROM (SELECT DISTINCT p.oid::regprocedure AS f,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END AS role
               FROM (SELECT * FROM {OURS}) p CROSS JOIN LATERAL aclexplode(p.proacl) a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
               WHERE a.grantee <> p.proowner
                 AND (a.grantee = 0 OR starts_with(r.rolname, 'photogate_'))) granted"
    )))
    .fetch_one(&mut *db)
    .await?;
    if let Some(statements) = statements {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(db).await?;
    }
    Ok(())
}

/// Where each function's row is: writing it gives it another place.
async fn places(db: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let ask = format!("SELECT p.oid || ' ' || p.ctid FROM {OURS}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(ask)).fetch_all(db).await
}

/// Drops functions in one statement: they may depend on each other.
async fn drop_all(db: &mut PgConnection, which: &str, those: Vec<String>) -> sqlx::Result<()> {
    let ask = format!(
        "SELECT 'DROP FUNCTION ' || string_agg(p.oid::regprocedure::text, ', ') FROM {which}"
    );
    let statement: Option<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(ask)).bind(those).fetch_one(&mut *db).await?;
    if let Some(statement) = statement {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(db).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

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

    #[test]
    fn a_function_is_known_by_its_name_and_parameters() {
        let file = "-- Of a file.\n\nCREATE FUNCTION one(p_a numeric(10, 2),\n    p_b int) RETURNS int\nLANGUAGE sql AS '';\n\
                    GRANT EXECUTE ON FUNCTION one TO a;\n-- The other.\nCREATE OR REPLACE FUNCTION two() RETURNS trigger";
        let names = |text: &str| pieces(text).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

        assert_eq!(names(file), ["one(p_a numeric(10, 2), p_b int)", "two()"]);
        let changed = pieces(&file.replace("AS ''", "AS 'SELECT 1'"));
        assert_ne!(pieces(file)[0], changed[0]);
        assert_eq!(pieces(file)[1], changed[1]);
        assert_eq!(
            pieces(file),
            pieces(&file.replace("The other", "Another")),
            "a comment is none"
        );
    }
}
