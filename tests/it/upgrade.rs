//! Upgrades without a stop: the schema answers what the version before calls, and a migration keeps
//! nobody waiting. `scripts/upgrade-test` walks it with real programs of both versions.

use std::{collections::BTreeMap, time::Duration};

use photogate::database::{self, DatabaseError, MigrateError, Migrated};
use serde::Deserialize;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Either, Executor, PgConnection, Statement,
    TypeInfo, migrate::Migrator, postgres::PgConnectOptions,
};

use crate::support::{App, photogate, place, program, read, root, stderr, stdout};

/// What the version before asks of the database, as `scripts/release` has recorded it.
#[derive(Deserialize)]
struct Previous {
    version: String,
    enums: BTreeMap<String, Vec<String>>,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    query: String,
    parameters: Vec<String>,
    columns: Vec<(String, String)>,
}

impl Previous {
    fn read() -> Self {
        serde_json::from_str(&read("migrations/previous.json")).unwrap()
    }

    /// What this database would not answer as the version before expects it.
    async fn broken(&self, db: &mut PgConnection) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, labels) in &self.enums {
            let ask = "SELECT enumlabel::text FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid \
                       WHERE typname = $1";
            let now: Vec<String> =
                sqlx::query_scalar(ask).bind(name).fetch_all(&mut *db).await.unwrap();
            let gone = labels.iter().filter(|label| !now.contains(label));
            broken.extend(gone.map(|label| format!("{name} has no {label:?} any more")));
        }
        for call in &self.calls {
            if let Some(what) = call.broken(db).await {
                let query: Vec<_> = call.query.split_whitespace().collect();
                broken.push(format!("{what}: {}", query.join(" ")));
            }
        }
        broken
    }
}

impl Call {
    async fn broken(&self, db: &mut PgConnection) -> Option<String> {
        let prepared =
            db.prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(self.query.clone())));
        let prepared = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return Some(error.to_string()),
        };
        let parameters: Vec<_> = match prepared.parameters() {
            Some(Either::Left(types)) => types.iter().map(|of| of.name().to_owned()).collect(),
            _ => Vec::new(),
        };
        let columns = prepared.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| (column.name().to_owned(), column.type_info().name().to_owned()))
            .collect();
        if parameters != self.parameters {
            return Some(format!("it takes {parameters:?}, and {:?} are sent", self.parameters));
        }
        (columns != self.columns)
            .then(|| format!("it gives {columns:?}, and {:?} are expected", self.columns))
    }
}

#[tokio::test]
async fn whatever_the_version_before_calls_is_still_answered() {
    let app = App::new().await;
    let previous = Previous::read();
    assert_eq!(previous.version, photogate_schema::SERVES);
    assert!(previous.calls.len() > 300, "{}", previous.calls.len());

    let broken = previous.broken(&mut *app.db().await).await;

    assert!(
        broken.is_empty(),
        "programs of {} are not served any more. Keep what they call for one version, beside what \
         is new (docs/decisions/0083):\n{}",
        previous.version,
        broken.join("\n")
    );
}

#[tokio::test]
async fn whatever_breaks_the_version_before_is_found() {
    let mut app = App::new().await;
    app.audited = false;
    // A function that is gone, one with another result, a column that is gone, and one with
    // another type.
    app.owner_runs(
        "DROP FUNCTION is_clock_plausible;
         DROP FUNCTION oldest_snapshot_seconds;
         CREATE FUNCTION oldest_snapshot_seconds() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         ALTER TABLE organisation RENAME COLUMN time_zone TO zone;
         ALTER TYPE top_up_kind RENAME VALUE 'free_credits' TO 'gifts'",
    )
    .await;

    let broken = Previous::read().broken(&mut *app.db().await).await;

    for words in [
        "function is_clock_plausible() does not exist",
        "it gives [(\"seconds!\", \"INT8\")], and [(\"seconds!\", \"FLOAT8\")] are expected",
        "time_zone",
        "top_up_kind has no \"free_credits\" any more",
    ] {
        assert!(broken.iter().any(|line| line.contains(words)), "{words}: {broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_starts_if_its_version_is_served_and_says_what_to_do_if_not() {
    let app = App::new().await;
    let row = "SELECT version || ' ' || hash FROM photogate.functions_applied";
    let found = async || -> String {
        sqlx::query_scalar(row).fetch_one(&mut *app.db().await).await.unwrap()
    };
    let of = async |set: &'static str| {
        app.owner_runs(set).await;
        database::connect(&app.owner, 1).await.err()
    };

    let newer =
        "UPDATE functions_applied SET version = '99.1.0', serves = '0.0.1', hash = repeat('0', 64)";
    assert!(of(newer).await.is_none(), "a newer one serves this version");
    // As after the roll back of a deployment, whose migration is that of the version before.
    let before = found().await;
    assert_eq!(database::migrate(&app.owner).await.unwrap(), Migrated::ByNewer("99.1.0".into()));
    let check = photogate(&app.config, &["migrate", "--check"]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    let migrated = photogate(&app.config, &["migrate"]);
    assert!(stdout(&migrated).contains("nothing was changed"), "{}", stdout(&migrated));
    assert_eq!(found().await, before);

    let refused = of("UPDATE functions_applied SET serves = '98.0.0'").await;
    assert!(matches!(refused, Some(DatabaseError::TooOld { .. })), "{refused:?}");
    for arguments in [["migrate"].as_slice(), &["migrate", "--check"], &["events", "show", "1"]] {
        let output = photogate(&app.config, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("install 99.1.0") && said.lines().count() == 1, "{said}");
    }

    let refused = of("UPDATE functions_applied SET version = '0.0.1', serves = '0.0.1'").await;
    let said = refused.map(|refused| refused.to_string()).unwrap_or_default();
    assert!(said.contains("photogate 0.0.1") && said.contains("run `photogate migrate`"), "{said}");
    // Those of 0.0.1 would fail with what this version makes.
    let before = found().await;
    let refused = database::migrate(&app.owner).await;
    assert!(matches!(refused, Err(MigrateError::NotServed(_))), "{refused:?}");
    let refused = photogate(&app.config, &["migrate"]);
    assert!(stderr(&refused).contains("migrate --stopped"), "{}", stderr(&refused));
    assert_eq!(found().await, before);
    let migrated = photogate(&app.config, &["migrate", "--stopped"]);
    assert!(stdout(&migrated).contains("up to date"), "{}", stderr(&migrated));
    assert!(database::connect(&app.owner, 1).await.is_ok());
}

/// Rights are part of what a newer version has migrated.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_gives_no_right_back_that_a_newer_one_took() {
    let app = App::new().await;
    app.owner_runs(
        "UPDATE functions_applied SET version = '99.1.0';
         REVOKE USAGE ON SCHEMA photogate FROM photogate_worker",
    )
    .await;

    assert_eq!(database::migrate(&app.owner).await.unwrap(), Migrated::ByNewer("99.1.0".into()));

    let may = "SELECT has_schema_privilege('photogate_worker', 'photogate', 'USAGE')::int::bigint";
    assert_eq!(app.count(may).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_a_migration_would_do_and_changes_nothing() {
    let app = App::new().await;
    let check = |code: i32| {
        let output = photogate(&app.config, &["migrate", "--check"]);
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    assert_eq!(check(0), "There is nothing to do.\n");
    // Another build of this version, with other comments: programs compare the hash.
    app.owner_runs("UPDATE functions_applied SET hash = repeat('0', 64)").await;
    assert!(check(6).contains("All functions are written again"), "{}", check(6));

    // What a version that is not served any more would have left.
    app.owner_runs(
        "UPDATE functions_applied SET version = '0.0.1', serves = '0.0.1', hash = repeat('0', 64),
             texts = (SELECT jsonb_object_agg(key, CASE WHEN starts_with(key, 'settle(') THEN '\"other\"'
                                                        ELSE value END)
                      FROM jsonb_each(texts) WHERE NOT starts_with(key, 'clock(')) || '{\"gone()\": \"x\"}'",
    )
    .await;
    let table = "SELECT sum(hashtext(f::text)) FROM functions_applied f";
    let before = app.count(table).await;
    let said = check(6);
    for words in [
        "Functions new (1): clock.",
        "Functions replaced (1): settle.",
        "Functions dropped (1): gone.",
        "must stop first: workers and services of 0.0.1 are not served",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(app.count(table).await, before, "nothing is changed");
    database::migrate_aloud(&app.owner, true, |_| ()).await.unwrap();
    assert_eq!(check(0), "There is nothing to do.\n");

    // An empty database.
    app.owner_runs("CREATE DATABASE of_a_check").await;
    let name: String = sqlx::query_scalar("SELECT '/' || current_database()")
        .fetch_one(&mut app.as_owner().await)
        .await
        .unwrap();
    let url = app.owner.replacen(&name, "/of_a_check", 1);
    let mut program = program(&app.config);
    let output =
        program.args(["migrate", "--check", "--json"]).env("DATABASE_URL", url).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5));
    let numbered = std::fs::read_dir(root().join("migrations")).unwrap();
    let numbered = numbered
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("00"));
    assert_eq!(plan["migrations"].as_array().unwrap().len(), numbered.count(), "{plan}");
    assert!(plan["from"].is_null() && plan["stop"].is_null(), "{plan}");
    app.owner_runs("DROP DATABASE of_a_check").await;
}

/// Found: the check said that workers must stop first, and the migration failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_build_that_was_not_released_is_told_and_left_as_it_is() {
    let app = App::new().await;
    let other = "UPDATE functions_applied SET hash = reverse(hash)";
    app.owner_runs(other).await;
    app.owner_runs(r"UPDATE _sqlx_migrations SET checksum = '\x00' WHERE version = 3").await;
    let hash = "SELECT hashtext(hash)::bigint FROM functions_applied";
    let before = app.count(hash).await;

    for arguments in [&["migrate", "--check"][..], &["migrate"]] {
        let output = photogate(&app.config, arguments);

        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        let said = stderr(&output);
        assert!(
            said.contains("nothing was changed: migration 3 of this database is not"),
            "{said}"
        );
    }
    assert_eq!(app.count(hash).await, before);
    app.owner_runs(other).await;
}

/// Calls do not find a function missing, and rights that were granted before are not kept.
#[tokio::test(flavor = "multi_thread")]
async fn functions_are_replaced_under_the_feet_of_those_who_call_them() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let place = "SELECT 'photogate.claim'::regproc::oid::bigint";
    let claim = app.count(place).await;
    app.owner_runs("GRANT EXECUTE ON FUNCTION top_up TO photogate_worker").await;
    let may = "SELECT has_function_privilege('photogate_worker', oid, 'EXECUTE')::int::bigint
               FROM pg_proc WHERE proname = 'top_up'";
    assert_eq!(app.count(may).await, 1);

    let migrations = async {
        for _ in 0..5 {
            app.owner_runs("UPDATE functions_applied SET hash = repeat('0', 64)").await;
            database::migrate(&app.owner).await.unwrap();
        }
    };
    let calls = async {
        loop {
            app.top_up(organisation, 1).await;
        }
    };
    tokio::select! { () = migrations => {}, _ = calls => {} }

    assert_eq!(app.count(place).await, claim, "it was replaced, and not made anew");
    assert_eq!(app.count(may).await, 0, "only what the files grant");
}

/// A migration lets go of its place in the queue of a lock after a second, and says who is in its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_no_lock_for_long_and_says_for_whom() {
    let app = App::new().await;
    app.owner_runs("UPDATE functions_applied SET hash = repeat('0', 64)").await;
    // As a dump has it. Migrating writes this table in the transaction of the functions.
    let mut other = PgConnection::connect(&app.owner).await.unwrap();
    sqlx::raw_sql("SET application_name = 'a dump'").execute(&mut other).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE photogate.functions_applied IN SHARE MODE")
        .execute(&mut *tx)
        .await
        .unwrap();

    let mut command = program(&app.config);
    let running = tokio::task::spawn_blocking(move || command.arg("migrate").output().unwrap());
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted
                 AND relation = 'photogate.functions_applied'::regclass";
    app.until("the migration waits", async || app.count(waits).await == 1).await;
    app.until("it lets go", async || app.count(waits).await == 0).await;
    // While it pauses, others come by.
    tokio::time::sleep(Duration::from_millis(500)).await;
    tx.rollback().await.unwrap();

    let output = running.await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("a lock is not free") && said.contains("a dump"), "{said}");
    assert!(database::connect(&app.owner, 1).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_never_finished_is_made_again() {
    let app = App::new().await;
    app.owner_runs(
        "CREATE INDEX of_a_crash ON job (job_id);
         CREATE INDEX of_somebody_else ON job (job_id);
         UPDATE pg_index SET indisvalid = false
         WHERE indexrelid IN ('of_a_crash'::regclass, 'of_somebody_else'::regclass)",
    )
    .await;
    let directory = place("migrations");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(
        directory.join("9001_index.sql"),
        "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS of_a_crash ON job (run_id)",
    )
    .unwrap();
    let mut migrations = Migrator::new(directory).await.unwrap();
    migrations.set_ignore_missing(true);
    let address = app.owner.parse::<PgConnectOptions>().unwrap();
    let address = address.options([("role", "photogate_owner"), ("search_path", "photogate")]);
    let mut db = address.connect().await.unwrap();
    let run = async |db: &mut PgConnection| {
        database::run_numbered(db, &address, &migrations, &|_: &str| ()).await.unwrap();
    };

    run(&mut db).await;

    let of = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
              WHERE (relname, indisvalid) IN (('of_a_crash', true), ('of_somebody_else', false))";
    assert_eq!(app.count(of).await, 2, "what it does not make itself stays");
    // It died after the index, and before it could note that.
    app.owner_runs("DELETE FROM _sqlx_migrations WHERE version = 9001").await;
    run(&mut db).await;
    assert_eq!(app.count(of).await, 2);
    app.owner_runs(
        "DROP INDEX of_a_crash, of_somebody_else;
         DELETE FROM _sqlx_migrations WHERE version = 9001",
    )
    .await;
}
