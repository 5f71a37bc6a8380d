//! `photogate doctor` looks at what is really there, and goes on after what is not.

use std::{
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Output},
    time::{Duration, Instant},
};

use photogate::{config::Config, database};
use serde_json::Value;
use sqlx::Connection;

use crate::support::{
    App, a_database_of_somebody_else, a_free_address, place, program, root, stderr,
};

/// A check: its state, what was seen, and the advice.
type Seen = (String, String, String);

fn checks(output: &Output) -> Vec<(String, Seen)> {
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&output.stdout), stderr(output))
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |check: &Value| {
        let seen = (text(&check["state"]), text(&check["seen"]), text(&check["advice"]));
        assert_eq!(seen.0 == "ok", seen.2.is_empty(), "advice if it is not ok: {check}");
        (text(&check["check"]), seen)
    };
    checks.as_array().unwrap().iter().map(of).collect()
}

/// Runs the doctor, and returns its exit code and its checks.
fn examine(config: &Config, change: impl FnOnce(&mut Command)) -> (i32, Vec<(String, Seen)>) {
    let mut program = program(config);
    program.args(["doctor", "--json"]).env_remove("PHOTOGATE_LOG");
    change(&mut program);
    let output = program.output().unwrap();
    assert_eq!(stderr(&output), "", "its lines say it all");
    let checks = checks(&output);
    let code = output.status.code().unwrap();
    assert_eq!(code == 0, checks.iter().all(|(_, seen)| seen.0 != "fail"), "{code}: {checks:?}");
    (code, checks)
}

fn seen<'a>(checks: &'a [(String, Seen)], name: &str) -> &'a Seen {
    &checks.iter().find(|(check, _)| check == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// That a check has this state, and that what was seen and advised has these words.
#[track_caller]
fn is(checks: &[(String, Seen)], name: &str, state: &str, words: &str) {
    let (found, seen, advice) = seen(checks, name);
    assert_eq!(found, state, "{name}: {seen}");
    assert!(format!("{seen}: {advice}").contains(words), "{name}: {seen}: {advice}");
}

const ALL: [&str; 12] = [
    "settings", "database", "rights", "schema", "snapshot", "clock", "redis", "store", "models",
    "sandbox", "disk", "memory",
];

/// A store that is there: only a worker makes one.
fn with_a_store(app: &App) {
    let directory = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    std::fs::create_dir_all(directory).unwrap();
}

/// A login with one role, by a password that must be shown nowhere.
async fn login(app: &App, name: &str, role: &'static str) -> String {
    database::make_login(&app.owner, name, Some("geheim"), role).await.unwrap();
    let mut url = app.owner.replace("user=postgres", &format!("user={name}"));
    url.push_str("&password=geheim");
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_the_service_and_the_owner_see_that_all_is_well() {
    let mut app = App::new().await;
    with_a_store(&app);
    let logins = [
        (login(&app, "doctor_worker", "photogate_worker").await, "a worker's login"),
        (login(&app, "doctor_service", "photogate_app").await, "the service's login"),
        (app.owner.clone(), "a login for migrations"),
    ];
    for (url, words) in logins {
        app.config.database_url = url;
        let (_, checks) = examine(&app.config, |_| {});

        assert_eq!(checks.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ALL);
        is(&checks, "rights", "ok", words);
        // The machine of a test may be short of room, which is no failure of photogate.
        for name in ALL.into_iter().filter(|name| !["disk", "memory"].contains(name)) {
            is(&checks, name, "ok", "");
        }
        is(&checks, "schema", "ok", "as this program");
        is(&checks, "database", "ok", "PostgreSQL 1");
        is(&checks, "sandbox", "ok", "locked in");
        is(&checks, "redis", "ok", "heard");
        is(&checks, "models", "ok", "SHA-256");
        assert!(!format!("{checks:?}").contains("geheim"), "{checks:?}");
    }
    // For people: a line each, without a header.
    let output = program(&app.config).arg("doctor").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), ALL.len(), "{said}");
    assert!(said.starts_with("ok    settings"), "{said}");
}

/// Whoever accepts connections and says nothing. It is what a host looks like that is cut off.
fn a_silent_host() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_ends_no_other_check_and_no_secret_is_shown() {
    let (_listener, silent) = a_silent_host();
    let nobody = a_free_address();
    let models = place("doctor-models");
    let _ = std::fs::remove_dir_all(&models);
    std::fs::create_dir_all(&models).unwrap();
    for file in std::fs::read_dir(root().join("models")).unwrap().flatten() {
        symlink(file.path(), models.join(file.file_name())).unwrap();
    }
    std::fs::remove_file(models.join("yunet.onnx")).unwrap();
    std::fs::remove_file(models.join("sface.onnx")).unwrap();
    std::fs::write(models.join("sface.onnx"), "another").unwrap();
    let config = Config {
        database_url: format!("postgres://anna:geheim@{silent}/photogate?sslmode=disable"),
        redis_url: Some(format!("redis://:geheim@{nobody}")),
        store_url: "s3://photos".into(),
        models_dir: models,
        slots: 1000,
        ..Config::default()
    };
    let began = Instant::now();

    let (code, checks) = examine(&config, |program| {
        program
            .env("AWS_ENDPOINT", format!("http://{silent}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "x")
            .env("AWS_SECRET_ACCESS_KEY", "geheim")
            .env("AWS_REGION", "x")
            .env("PHOTOGATE_SLOTZ", "4")
            // A file system without room.
            .env("TMPDIR", "/proc");
    });

    assert!(began.elapsed() < Duration::from_secs(60), "a dead host does not hang it");
    assert_eq!(code, 1);
    assert_eq!(checks.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ALL);
    is(&checks, "settings", "warn", "PHOTOGATE_SLOTZ");
    is(&checks, "database", "fail", "cannot be reached");
    for name in ["rights", "schema", "snapshot", "clock"] {
        is(&checks, name, "warn", "not looked at");
    }
    is(&checks, "redis", "fail", "redis_url");
    is(&checks, "store", "fail", "no answer");
    is(&checks, "models", "fail", "missing: yunet.onnx; not the pinned file: sface.onnx");
    is(&checks, "sandbox", "fail", "not the file that photogate was tested with");
    is(&checks, "disk", "fail", "0 MB free in /proc (uploads)");
    is(&checks, "memory", "fail", "1000 slots need 300.0 GB");
    assert!(!format!("{checks:?}").contains("geheim"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_fit_and_a_login_without_rights_are_told() {
    let mut app = App::new().await;
    with_a_store(&app);
    // Nobody's login.
    sqlx::raw_sql("CREATE ROLE doctor_nobody LOGIN")
        .execute(&mut app.as_owner().await)
        .await
        .unwrap();
    app.config.database_url = app.owner.replace("user=postgres", "user=doctor_nobody");
    let (code, checks) = examine(&app.config, |_| {});
    assert_eq!(code, 1);
    is(&checks, "rights", "fail", "GRANT photogate_worker");
    is(&checks, "schema", "fail", "photogate migrate");
    is(&checks, "clock", "ok", "agree");

    app.config.database_url = a_database_of_somebody_else().await;
    let (_, checks) = examine(&app.config, |_| {});
    is(&checks, "database", "ok", "");
    is(&checks, "schema", "fail", "no photogate schema");
    is(&checks, "snapshot", "warn", "not looked at");

    // A store that another user has, as far as that is one: the tests may run as root.
    app.config.database_url = app.owner.clone();
    app.owner_runs("UPDATE functions_applied SET hash = repeat('0', 64)").await;
    let store = place("doctor-store");
    let _ = std::fs::remove_dir_all(&store);
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join(".photogate"), "not a directory").unwrap();
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o500)).unwrap();
    app.config.store_url = format!("file://{}", store.display());
    let (_, checks) = examine(&app.config, |_| {});
    is(&checks, "schema", "fail", "functions");
    database::migrate(&app.owner).await.unwrap();
    is(&checks, "store", "fail", "store_url");

    app.config.store_url = "file:///nowhere/photos".into();
    let (_, checks) = examine(&app.config, |_| {});
    is(&checks, "store", "fail", "there is no directory /nowhere/photos");
    assert!(!std::path::Path::new("/nowhere").exists(), "who only looks makes no directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_old_rows_back_and_clocks_that_differ_are_told() {
    let (app, services) = App::with_services("doctor").await;
    with_a_store(&app);
    let url = services.postgres.url("photogate");
    let mut owner = sqlx::PgConnection::connect(&url).await.unwrap();
    let run = async |owner: &mut sqlx::PgConnection, sql: &'static str| {
        sqlx::raw_sql(sql).execute(owner).await.expect(sql);
    };
    for sql in [
        "SELECT pg_create_physical_replication_slot('forgotten', true)",
        "SET search_path = photogate",
        "ALTER SYSTEM SET full_page_writes = off",
        "SELECT pg_reload_conf()",
    ] {
        run(&mut owner, sql).await;
    }
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, checks) = examine(&app.config, |_| {});
        is(&checks, "snapshot", "warn", "forgotten");
        // The server reads its settings a moment later.
        if seen(&checks, "database").0 == "warn" {
            is(&checks, "database", "warn", "off: full_page_writes");
            break;
        }
        assert!(Instant::now() < until);
    }
    run(&mut owner, "SELECT pg_drop_replication_slot('forgotten')").await;

    // Nobody waits for half an hour here: the function says what it would say then.
    run(
        &mut owner,
        "CREATE OR REPLACE FUNCTION oldest_snapshot_seconds() RETURNS double precision
         LANGUAGE sql VOLATILE AS 'SELECT 1801::float8'",
    )
    .await;
    app.let_the_clock_jump("2026-01-01").await;
    let (code, checks) = examine(&app.config, |_| {});
    assert_eq!(code, 1);
    is(&checks, "snapshot", "warn", "1801 s");
    is(&checks, "clock", "fail", "behind");

    app.let_the_clock_jump("2099-01-01").await;
    let (_, checks) = examine(&app.config, |_| {});
    is(&checks, "clock", "fail", "clock confirm");
    // Its books are checked while its server runs.
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_are_a_check_too() {
    let mut program = program(&Config::default());
    let output =
        program.args(["doctor", "--json"]).env("PHOTOGATE_SLOTS", "9999").output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    is(&checks(&output), "settings", "fail", "slots must be between 0 and 1024");
    let (_, checks) = examine(&Config::default(), |doctor| {
        doctor.env("PHOTOGATE_ARCHIVE_KEY", "7f").env("PHOTOGATE_SLTOS", "1");
    });
    is(&checks, "settings", "fail", "openssl rand -hex 32");
}
