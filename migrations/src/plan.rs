//! What a migration would do. Nothing is changed, and nothing is locked.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{PgConnection, migrate::Migration, types::Json};

use super::{
    Applied, Fit, MIGRATIONS, MigrateError, SERVES, VERSION, connect_as_owner, functions,
    locks::locks, versions::compare,
};

/// What a migration would do.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The version that migrated the database last. `None`: nobody has.
    pub from: Option<String>,
    /// The version of this program.
    pub to: &'static str,
    /// The oldest version that goes on after it.
    pub serves: &'static str,
    /// The migrations that would run, in order.
    pub migrations: Vec<Step>,
    /// The functions that would be new, by their names.
    pub new_functions: Vec<String>,
    /// Those that would be replaced by another text.
    pub changed_functions: Vec<String>,
    /// Those that would be dropped.
    pub dropped_functions: Vec<String>,
    /// Whether the database is of this very build. If not, there is something to do, be it a comment.
    pub is_current: bool,
    /// Why workers and services must be stopped first. `None`: they go on.
    pub stop: Option<String>,
}

/// A migration that would run.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// Whether it runs in a transaction. If not, it makes an index while others write.
    pub in_transaction: bool,
    /// The locks that it takes on tables that are there, in words.
    pub locks: Vec<String>,
}

impl Plan {
    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.is_current && self.migrations.is_empty()
    }
}

/// Says what [`migrate`](super::migrate) would do.
///
/// # Errors
/// See [`MigrateError`].
pub async fn plan(url: &str) -> Result<Plan, MigrateError> {
    let Some(mut db) = connect_as_owner(url).await? else {
        return Ok(of(None, &[], BTreeMap::new()));
    };
    let applied = Applied::read(&mut db).await?;
    if let Some(applied) = &applied {
        match applied.fit(VERSION) {
            Fit::Served => return Ok(nothing(applied)),
            Fit::TooOld => return Err(MigrateError::Older(applied.version.clone())),
            Fit::Same | Fit::TooNew => {}
        }
    }
    let done: BTreeMap<i64, Vec<u8>> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut db)
            .await?
            .into_iter()
            .collect();
    let is_other =
        |one: &&Migration| done.get(&one.version).is_some_and(|sum| sum[..] != one.checksum[..]);
    if let Some(other) = MIGRATIONS.iter().find(is_other) {
        return Err(MigrateError::Unreleased(other.version));
    }
    let texts = texts(&mut db).await?;
    Ok(of(applied.as_ref(), &done.into_keys().collect::<Vec<_>>(), texts))
}

async fn texts(db: &mut PgConnection) -> sqlx::Result<BTreeMap<String, String>> {
    let texts: Option<Json<BTreeMap<String, String>>> =
        sqlx::query_scalar("SELECT texts FROM functions_applied").fetch_optional(db).await?;
    Ok(texts.map(|Json(texts)| texts).unwrap_or_default())
}

/// For an older program: what a newer one has migrated stays.
fn nothing(applied: &Applied) -> Plan {
    let none = Vec::new;
    Plan {
        from: Some(applied.version.clone()),
        to: VERSION,
        serves: SERVES,
        migrations: Vec::new(),
        new_functions: none(),
        changed_functions: none(),
        dropped_functions: none(),
        is_current: true,
        stop: None,
    }
}

fn of(applied: Option<&Applied>, done: &[i64], there: BTreeMap<String, String>) -> Plan {
    let own = functions::texts();
    let hash = functions::hash();
    let names = |functions: &BTreeMap<String, String>,
                 is_meant: &dyn Fn(&String, &String) -> bool|
     -> Vec<String> {
        let meant = functions.iter().filter(|(signature, text)| is_meant(signature, text));
        meant.map(|(signature, _)| name_of(signature).to_owned()).collect()
    };
    let is_first = applied.is_none();
    let migrations = MIGRATIONS.iter().filter(|migration| !done.contains(&migration.version));
    Plan {
        from: applied.map(|applied| applied.version.clone()),
        to: VERSION,
        serves: SERVES,
        migrations: migrations
            .map(|migration| Step {
                number: migration.version,
                name: migration.description.to_string(),
                in_transaction: !migration.no_tx,
                // In a new database nobody waits.
                locks: locks(migration.sql.as_str())
                    .into_iter()
                    .filter(|_| !is_first)
                    .map(|lock| format!("{}: {}", lock.table, lock.words))
                    .collect(),
            })
            .collect(),
        new_functions: names(&own, &|function, _| !there.contains_key(function)),
        changed_functions: names(&own, &|function, text| {
            there.get(function).is_some_and(|old| old != text)
        }),
        dropped_functions: names(&there, &|function, _| !own.contains_key(function)),
        is_current: applied.is_some_and(|applied| {
            applied.version == VERSION && applied.serves == SERVES && applied.hash == hash
        }),
        stop: applied.and_then(|applied| stop(applied, VERSION, SERVES, &hash)),
    }
}

fn name_of(signature: &str) -> &str {
    signature.split('(').next().unwrap_or_default()
}

/// Why those must be stopped who use this database now.
fn stop(applied: &Applied, to: &str, serves: &str, hash: &str) -> Option<String> {
    if applied.fit(to) == Fit::Same {
        // Between two versions, nothing says what was promised.
        return (applied.hash != hash)
            .then(|| format!("another build of {to} may call what this one does not have."));
    }
    left_out(applied, to, serves)
}

/// Why those would fail who use the database now, when this version has migrated it.
pub(super) fn left_out(applied: &Applied, to: &str, serves: &str) -> Option<String> {
    compare(&applied.version, serves).is_lt().then(|| {
        format!(
            "workers and services of {} are not served by {to}: go to {serves} first, or stop them.",
            applied.version
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_version_before_go_on() {
        let of = |version: &str, serves: &str| Applied {
            version: version.into(),
            serves: serves.into(),
            hash: "one".into(),
        };
        let stops = |applied: Applied| stop(&applied, "0.3.0", "0.2.0", "one");

        assert_eq!(stops(of("0.2.0", "0.1.0")), None);
        assert_eq!(stops(of("0.3.0", "0.2.0")), None);
        assert!(stops(of("0.1.0", "0.1.0")).unwrap().contains("go to 0.2.0 first"));
        let other = Applied { hash: "other".into(), ..of("0.3.0", "0.2.0") };
        assert!(stops(other).unwrap().contains("another build"));
    }

    /// The first eleven made the schema, before anything was released: nobody waited.
    #[test]
    fn no_migration_of_a_schema_that_is_used_holds_a_lock_for_long() {
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > 11) {
            let long = locks(migration.sql.as_str()).into_iter().filter(|lock| lock.is_long);
            let long: Vec<_> = long.map(|lock| format!("{}: {}", lock.table, lock.words)).collect();
            assert!(long.is_empty(), "migration {}: {long:?}", migration.version);
            // Such a file is run again if the program dies before it has noted that it was run.
            let sql = migration.sql.as_str().to_uppercase();
            let (made, again) = ("INDEX CONCURRENTLY ", "INDEX CONCURRENTLY IF NOT EXISTS ");
            assert!(
                !migration.no_tx || sql.matches(made).count() == sql.matches(again).count(),
                "migration {}: it needs IF NOT EXISTS",
                migration.version
            );
        }
    }
}
