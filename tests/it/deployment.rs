//! What a container needs of the programs: JSON on every line, a health check, logins that stay as they
//! are, a store that is looked after from the start, and a login page that says why it cannot work.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use photogate::{access::Role, database};
use reqwest::{Client, redirect::Policy};
use serde_json::Value;
use sqlx::Connection;

use crate::support::{
    App, Process, a_free_address, browser::PASSWORD, place, program, root, site::Site, stderr,
};

/// The lines of a log that must all be JSON.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn messages(text: &str) -> Vec<String> {
    let fields = |line: Value| line["fields"]["message"].as_str().unwrap_or_default().to_owned();
    lines(text).into_iter().map(fields).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_program_that_logs_json_is_json() {
    let app = App::new().await;
    let run = |arguments: &[&str]| {
        program(&app.config)
            .args(arguments)
            .env("PHOTOGATE_LOG_FORMAT", "json")
            .env("PHOTOGATE_SLOTZ", "4")
            .output()
            .unwrap()
    };
    let both =
        |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(output);

    let migrated = run(&["migrate", "--json"]);
    assert!(migrated.status.success());
    assert!(lines(&both(&migrated)).iter().any(|line| line["migrated"] == true));
    assert_eq!(lines(&stderr(&migrated))[0]["level"], "WARN", "PHOTOGATE_SLOTZ is no setting");
    // Wrong usage, a wrong setting, and an error of the command itself.
    for wrong in [
        &["wokr"][..],
        &["migrate", "--config", "/nowhere"],
        &["migrate", "--database-url", "postgres:///nowhere?host=/nowhere"],
    ] {
        let failed = run(wrong);
        assert!(!failed.status.success());
        let said = lines(&both(&failed));
        assert!(said.iter().any(|line| line["level"] == "ERROR"), "{wrong:?}: {said:?}");
        assert!(said.iter().all(|line| line["timestamp"].is_string()), "{said:?}");
    }
    assert_eq!(run(&["wokr"]).status.code(), Some(2));
    // A person who types a command reads words.
    let typed = program(&app.config).args(["events", "show", "99"]).output().unwrap();
    assert!(stderr(&typed).starts_with("error: "), "{}", stderr(&typed));
    let flag = program(&app.config).args(["--log-format", "json", "events", "show", "99"]).output();
    assert_eq!(lines(&stderr(&flag.unwrap()))[0]["level"], "ERROR");
}

/// A program that writes its log, as JSON, to a file.
fn logged(app: &App, name: &str, arguments: &[&str], set: &[(&str, String)]) -> (Process, PathBuf) {
    logged_as(app, name, arguments, set, false)
}

/// The same; `bound`: permissions count also where the tests run as root.
fn logged_as(
    app: &App,
    name: &str,
    arguments: &[&str],
    set: &[(&str, String)],
    bound: bool,
) -> (Process, PathBuf) {
    let log = place(name).with_extension("log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let file = File::create(&log).unwrap();
    let mut command = program(&app.config);
    if bound && nix::unistd::geteuid().is_root() {
        command = through(command, "setpriv", &["--bounding-set=-dac_override"]);
    }
    command
        .args(arguments)
        .env("PHOTOGATE_LOG", "info")
        .env("PHOTOGATE_LOG_FORMAT", "json")
        .envs(set.iter().cloned());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    (Process::start(command), log)
}

/// The command, run by another program.
fn through(command: Command, program: &str, arguments: &[&str]) -> Command {
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.current_dir(command.get_current_dir().expect("the root"));
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

fn health(app: &App, what: &str, set: &[(&str, String)]) -> Output {
    program(&app.config).args(["health", what]).envs(set.iter().cloned()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_healthy_while_it_renews_its_lease_and_claims() {
    let app = App::new().await;
    let set = [("PHOTOGATE_METRICS_LISTEN", a_free_address().to_string())];
    assert!(stderr(&health(&app, "worker", &[])).contains("set metrics_listen"));
    assert!(stderr(&health(&app, "worker", &set)).contains("nobody answers"));
    let (worker, log) = logged(&app, "healthy", &["work", "--rehearse"], &set);

    app.until("it is healthy", async || health(&app, "worker", &set).status.success()).await;
    worker.signal(nix::sys::signal::Signal::SIGSTOP);
    assert!(!health(&app, "worker", &set).status.success(), "it does not answer");
    worker.signal(nix::sys::signal::Signal::SIGCONT);
    drop(worker);
    assert!(messages(&fs::read_to_string(log).unwrap()).contains(&"the worker is ready".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_at_its_start_that_the_store_does_not_work_and_goes_on() {
    let app = App::new().await;
    let store = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join(".photogate"), b"not a directory").unwrap();
    let set = [
        ("PHOTOGATE_LISTEN", a_free_address().to_string()),
        ("PHOTOGATE_METRICS_LISTEN", a_free_address().to_string()),
    ];
    let (_service, log) = logged(&app, "serving", &["serve"], &set);
    let said = || messages(&fs::read_to_string(&log).unwrap());
    let metric =
        || crate::support::metric(set[1].1.parse().unwrap(), "photogate_store_unavailable");

    app.until("it says so", async || metric() == Some(1)).await;
    app.until("it is healthy all the same", async || {
        health(&app, "service", &set).status.success()
    })
    .await;
    fs::remove_file(store.join(".photogate")).unwrap();
    app.until("it works", async || metric() == Some(0)).await;

    let told = |words: &str| said().iter().filter(|line| line.contains(words)).count();
    assert_eq!(told("photos cannot be listed"), 1, "{:?}", said());
    assert_eq!(told("the photo store works now"), 1, "{:?}", said());
}

/// Found: after `docker compose cp photos/. …`, the store's directory belonged to root. Every upload was
/// refused with "try again in a moment", and nothing told an operator.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_that_nothing_can_be_uploaded() {
    let app = App::new().await;
    let store = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    fs::create_dir_all(store.join(".photogate")).unwrap();
    let (organisation, event) = app.an_event_with(10).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let rights = |mode| fs::set_permissions(&store, fs::Permissions::from_mode(mode)).unwrap();
    rights(0o555);
    let address = a_free_address();
    let set = [("PHOTOGATE_LISTEN", address.to_string())];
    let (_service, log) = logged_as(&app, "no-uploads", &["serve"], &set, true);
    let told = |words: &str| {
        let said = messages(&fs::read_to_string(&log).unwrap());
        said.iter().filter(|line| line.contains(words)).count()
    };
    let upload = async || {
        let photo = fs::read(root().join("samples/marathon/IMG_0001.jpg")).unwrap();
        let url = format!("http://{address}/v1/events/{event}/files/a.jpg");
        let sent = Client::new().put(url).bearer_auth(&token).body(photo).send().await.unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    };

    app.until("it says so", async || told("photos cannot be uploaded for now") == 1).await;
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("no directory can be made in "), "{said}");
    assert!(said.contains("give it to the user that photogate runs as"), "{said}");
    let healthy = health(&app, "service", &set);
    assert!(healthy.status.success(), "the pages work");
    assert!(stderr(&healthy).contains("ready, but photos cannot be uploaded"), "health says it");
    let (status, answer) = upload().await;
    assert_eq!(status, 503);
    assert!(answer.contains("whoever runs photogate must give it the right"), "{answer}");

    rights(0o755);
    app.until("it works", async || told("the photo store works now") == 1).await;
    assert_eq!(upload().await.0, 201);
    assert_eq!(stderr(&health(&app, "service", &set)), "");
    assert_eq!(told("photos cannot be uploaded for now"), 1);
}

/// The server asks this login for its password; others go on without one.
async fn asks_for_a_password(app: &App, login: &str) {
    let connect = async || sqlx::PgConnection::connect(&app.owner).await.unwrap();
    let mut db = connect().await;
    let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut db).await.unwrap();
    let rules = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("local all {login} scram-sha-256\n{rules}")).unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut db).await.unwrap();
    let known = "SELECT count(*) FROM pg_hba_file_rules WHERE user_name = ARRAY[$1]";
    app.until("the rule is there", async || {
        let mut db = connect().await;
        let rules: i64 = sqlx::query_scalar(known).bind(login).fetch_one(&mut db).await.unwrap();
        rules > 0
    })
    .await;
}

/// Found: `docker compose run worker` with another password in the environment runs the migration
/// first, which gave the login that password: all workers were locked out.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_keeps_its_password_unless_that_is_asked_for() {
    const LOGIN: &str = "test_guarded";
    let app = App::new().await;
    asks_for_a_password(&app, LOGIN).await;
    let migrate = |password: &str, more: &[&str]| {
        program(&app.config)
            .args(["migrate", "--worker-login", LOGIN])
            .args(more)
            .env("DATABASE_URL", &app.owner)
            .env("PHOTOGATE_WORKER_PASSWORD", password)
            .output()
            .unwrap()
    };
    let fits = async |password: &str| {
        let is = database::login_of(&app.owner, LOGIN, password).await.unwrap();
        is == database::Login::Same
    };

    let made = migrate("o'ne", &[]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stderr(&made).contains("was created"));
    assert!(fits("o'ne").await && !fits("two").await);
    // Again, as every start of the compose file does it.
    let again = migrate("o'ne", &[]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(!stderr(&again).contains(LOGIN), "{}", stderr(&again));

    let refused = migrate("two", &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--change-passwords"), "{}", stderr(&refused));
    assert!(fits("o'ne").await, "it is as it was");

    let changed = migrate("two", &["--change-passwords"]);
    assert!(changed.status.success(), "{}", stderr(&changed));
    let lines = stderr(&changed).lines().filter(|line| line.contains(LOGIN)).count();
    assert_eq!(lines, 1, "{}", stderr(&changed));
    assert!(stderr(&changed).contains("restart what connects"), "{}", stderr(&changed));
    assert!(fits("two").await);
}

/// A server that logs such statements, as many do, has no password in its log.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_never_sees_the_password_of_a_login() {
    const PASSWORD: &str = "nobody-else-has-this-one";
    let app = App::new().await;
    let mut url = url::Url::parse(&app.owner).unwrap();
    url.query_pairs_mut().append_pair("options", "-c log_statement=all");
    let (login, role) = ("test_logged", "photogate_worker");

    database::make_login(url.as_str(), login, Some(PASSWORD), role).await.unwrap();

    let sockets = url.query_pairs().find(|(name, _)| name == "host").unwrap().1.into_owned();
    let logs = fs::read_dir(sockets).unwrap().map(|file| file.unwrap().path());
    let logs = logs.filter(|file| file.extension().is_some_and(|ending| ending == "log"));
    let logged: String = logs.map(|log| fs::read_to_string(log).unwrap()).collect();
    assert!(logged.contains(&format!("CREATE ROLE {login}")), "it logs statements");
    assert!(!logged.contains(PASSWORD));
}

/// A login gets a role for each of its sessions: the migration could never act as the owner again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_migrates_is_no_login_of_a_worker() {
    let app = App::new().await;
    for (login, why) in [
        (&["--worker-login", "postgres"][..], "superuser"),
        (&["--worker-login", "one", "--service-login", "one"], "a login of its own"),
    ] {
        let refused = program(&app.config)
            .arg("migrate")
            .args(login)
            .env("DATABASE_URL", &app.owner)
            .env("PHOTOGATE_WORKER_PASSWORD", "one")
            .env("PHOTOGATE_SERVICE_PASSWORD", "two")
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
}

/// Found: behind no proxy, every login led back to the login page, which said nothing.
#[tokio::test(flavor = "multi_thread")]
async fn over_plain_http_the_login_page_says_why_nobody_can_log_in() {
    let mut app = App::new().await;
    app.config.behind_https = true;
    app.config.public_url = Some("https://photos.example.org".into());
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let form = [("email", "anna@club.example"), ("password", PASSWORD)];
    let proto = "x-forwarded-proto";
    for (name, value, works) in [
        ("accept", "*/*", false),
        (proto, "http", false),
        (proto, "http, https", true),
        ("x-forwarded-for", "192.0.2.7", true),
        ("sec-fetch-site", "same-origin", true),
    ] {
        let asked = client.get(site.url("/login")).header(name, value).send().await.unwrap();
        assert_eq!(asked.status(), if works { 200 } else { 403 }, "{name}: {value}");
        let page = asked.text().await.unwrap();
        assert_eq!(page.contains("type=\"password\""), works, "{name}: {value}");
        assert_eq!(page.contains("href=\"https://photos.example.org/login\""), !works);
        let sent = client.post(site.url("/login")).header(name, value).form(&form);
        let sent = sent.send().await.unwrap();
        assert_eq!(sent.status(), if works { 303 } else { 403 }, "{name}: {value}");
        assert_eq!(sent.headers().contains_key("set-cookie"), works, "{name}: {value}");
    }

    // A service of this machine only sets a cookie that needs no HTTPS.
    app.config.behind_https = false;
    let site = Site::of(&app).await;
    let sent = client.post(site.url("/login")).form(&form).send().await.unwrap();
    assert_eq!(sent.status(), 303);
}
