//! The command line, as people and programs use it.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use photogate::{access::audit_log, config::Config, ids::OrganisationId};
use serde_json::Value;

use crate::support::{
    App, a_database_of_somebody_else, photogate, place, program, read, root, stderr, stdout,
};

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_run_from_the_command_line_alone() {
    let app = App::new().await;
    let run =
        |arguments: &[&str]| json(&photogate(&app.config, &[&["--json"], arguments].concat()));

    let organisation =
        run(&["organisations", "create", "Club", "--price", "0.05 EUR"])["organisation"]
            .to_string();
    let event = run(&["events", "create", &organisation, "Marathon"])["event"].to_string();
    assert_eq!(run(&["credits", "top-up", &organisation, "2", "--key", "order-1"])["available"], 2);
    assert_eq!(
        run(&["credits", "top-up", &organisation, "2", "--key", "order-1"])["credited"],
        false
    );
    let queued = run(&[
        "enqueue",
        &event,
        "rehearsal/ok/1",
        "rehearsal/fail/2",
        "rehearsal/ok/3",
        "rehearsal/ok/4",
    ]);
    assert_eq!((&queued["queued"], &queued["shortfall"]), (&4.into(), &2.into()));
    let worker = app.start_worker();
    let shown = || run(&["events", "show", &event])["queues"][0].clone();
    assert_eq!(run(&["events", "show", &event, "--watch"])["queues"][0]["state"], "no_credits");
    app.until("the credits are used up", async || shown()["processed"] == 2).await;
    assert_eq!(shown()["state"], "no_credits");

    let grant = ["credits", "grant", &organisation, "5", "--key", "gift", "--kind", "free_credits"];
    assert_eq!(run(&grant)["resumed"], true);
    app.until("the rest is done", async || shown()["processed"] == 3).await;
    assert_eq!(run(&["jobs", "failures", &event])[0]["reason"], "corrupt");
    assert_eq!(run(&["jobs", "retry", &event, "--dry-run"])[0]["credits"], 1);
    let unknown = photogate(&app.config, &["jobs", "retry", &event, "--reason", "nonsense"]);
    assert_eq!(unknown.status.code(), Some(4));
    let said = stderr(&unknown);
    assert!(said.contains("the reasons there: corrupt (Photo Processing: 1)"), "{said}");
    assert_eq!(
        run(&["events", "hold", &event, "--owner", "ops"])["holds"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(run(&["jobs", "retry", &event])[0]["queued"], 1);
    assert_eq!(shown()["state"], "held");
    assert_eq!(run(&["events", "lift", &event])["lifted"].as_array().map(Vec::len), Some(2));
    app.until("the retry has failed again", async || {
        let queue = shown();
        (&queue["failed"], &queue["waiting"], &queue["in_progress"])
            == (&1.into(), &0.into(), &0.into())
    })
    .await;

    let history = run(&["credits", "history", &organisation]);
    let sum: i64 =
        history.as_array().unwrap().iter().map(|row| row["credits"].as_i64().unwrap()).sum();
    assert_eq!(run(&["credits", "balance", &organisation])["available"], sum);
    let checks = run(&["reconcile"]);
    let checks = checks.as_array().unwrap();
    assert!(checks.len() > 10, "{checks:?}");
    assert!(checks.iter().all(|check| check["violations"] == 0), "{checks:?}");
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_do_not_balance_are_exit_code_3() {
    let mut app = App::new().await;
    app.an_organisation_with(5).await;
    app.audited = false;
    app.owner_runs("UPDATE account SET available = 4, spent = 1").await;

    let output = photogate(&app.config, &["reconcile", "--json"]);

    assert_eq!(output.status.code(), Some(3));
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let broken: Vec<_> = checks
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["violations"] != 0)
        .map(|check| check["invariant"].clone())
        .collect();
    assert_eq!(broken, ["accounts_match_their_chains", "ledger_adds_up"]);
    let told = stderr(&output);
    assert!(told.contains("organisation 1, account: entries 1, available 4"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_exit_code_4_and_what_is_wrong_is_told_in_a_line() {
    let app = App::new().await;
    app.an_organisation_with(5).await;
    for (arguments, code, words) in [
        (["credits", "balance", "99"].as_slice(), 4, "no organisation 99"),
        (&["events", "show", "99"], 4, "no event 99"),
        (&["enqueue", "99", "a.jpg"], 4, "no event 99"),
        (&["credits", "top-up", "1", "0", "--key", "k"], 1, "none may be 0"),
        (&["credits", "balance", "club"], 2, "invalid value"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&["organisations", "create", "Club", "--time-zone", "Mars/Olympus"], 1, "no time zone"),
        (&["work", "--models-dir", "/nowhere"], 1, "make models"),
        (&["models", "check", "--models-dir", "/nowhere"], 1, "make models"),
        (
            &["credits", "balance", "1", "--database-url", "postgres:///photogate?host=/nowhere"],
            1,
            "is PostgreSQL running",
        ),
        (&["credits", "balance", "1", "--database-url", "mysql://x"], 1, "database_url"),
        (&["credits", "balance", "1", "--config", "/nowhere.toml"], 1, "no file /nowhere.toml"),
        (&["credits", "balance", "1", "--log", "a=b=c"], 1, "a=b=c"),
    ] {
        let output = photogate(&app.config, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(
            code == 2 || stderr(&output).trim().lines().count() == 1,
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_photogates_is_told_apart() {
    let config = Config { database_url: a_database_of_somebody_else().await, ..Config::default() };

    let output = photogate(&config, &["credits", "balance", "1"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("photogate migrate"), "{}", stderr(&output));
}

/// A program beside photogate may have variables that begin alike: they are told, and end nothing.
#[test]
fn a_misspelt_variable_is_told_with_the_nearest_name() {
    let mut program = program(&Config::default());
    program.args(["config", "show", "--json"]).env("PHOTOGATE_SLOTZ", "4");
    let output = program.env("PHOTOGATE_XYZZY", "1").output().unwrap();

    assert_eq!(json(&output)["slots"], Config::default().slots);
    let told = stderr(&output);
    assert!(
        told.contains(
            "PHOTOGATE_SLOTZ is not a setting of photogate: did you mean PHOTOGATE_SLOTS?"
        ),
        "{told}"
    );
    assert!(told.contains("PHOTOGATE_XYZZY is not a setting of photogate\n"), "{told}");
}

#[test]
fn a_misspelt_setting_of_the_file_is_an_error() {
    let file = place("misspelt.toml");
    std::fs::write(&file, "slotz = 7\n").unwrap();
    let output =
        photogate(&Config::default(), &["--config", file.to_str().unwrap(), "config", "show"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("slotz"), "{}", stderr(&output));
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let file = place("photogate.toml");
    std::fs::write(&file, "slots = 7\nahead = 9\nlog = \"debug\"\n").unwrap();
    let mut program = program(&Config::default());
    program
        .env_remove("PHOTOGATE_LOG")
        .env_remove("PHOTOGATE_AHEAD")
        .env("PHOTOGATE_SLOTS", "3")
        .env("DATABASE_URL", "postgres://anna:geheim@db/photogate")
        .env("PHOTOGATE_WORKER_PASSWORD", "geheim");

    let output = program
        .args(["config", "show", "--json", "--log", "error", "--config"])
        .arg(file)
        .output()
        .unwrap();

    let shown = json(&output);
    assert_eq!(
        (&shown["slots"], &shown["ahead"], &shown["log"]),
        (&3.into(), &9.into(), &"error".into())
    );
    assert_eq!(shown["database_url"], "postgres://anna:***@db/photogate");
}

#[tokio::test]
async fn enqueue_says_which_photos_are_not_in_the_store() {
    let mut app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    let store = place("store-of-one");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("there.jpg"), "a photo").unwrap();
    app.config.store_url = format!("file://{}", store.display());
    let event = event.to_string();
    let said = |keys: &[&str]| {
        let output = photogate(&app.config, &[&["enqueue", &event], keys].concat());
        assert!(output.status.success(), "it may be copied there later");
        stderr(&output)
    };

    assert!(!said(&["there.jpg"]).contains("warning"));
    let both = said(&["there.jpg", "nowhere.jpg"]);
    assert!(both.contains("1 of 2 photos are not in the store"), "{both}");
    assert!(both.contains("the first one: nowhere.jpg"), "{both}");
}

#[test]
fn inspect_prints_an_object_a_line_in_order_and_survives_what_it_cannot_read() {
    let files = [
        "samples/marathon/IMG_0008.jpg",
        "samples/marathon/IMG_0004.jpg",
        "nowhere.jpg",
        "samples/marathon/IMG_0001.jpg",
    ];
    let upright = place("upright");
    // No file is replaced, and an earlier test run may have left one.
    let _ = fs::remove_dir_all(&upright);

    let output = photogate(
        &Config { models_dir: root().join("models"), ..Config::default() },
        &[&["inspect", "--json", "--rotated", upright.to_str().unwrap()], &files[..]].concat(),
    );

    assert_eq!(output.status.code(), Some(1), "two could not be read");
    let said = stderr(&output);
    assert!(said.contains("error: 2 of 4 photos could not be read"), "{said}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.iter().map(|line| line["file"].as_str().unwrap()).collect::<Vec<_>>(), files);
    assert_eq!(lines[0]["error"]["code"], "truncated");
    assert_eq!(
        (&lines[1]["rotation"]["turn"], &lines[1]["rotation"]["abstained"]),
        (&270.into(), &false.into())
    );
    assert!(lines[1]["rotation"]["cue"].is_string(), "it says what decided");
    assert_eq!(
        (&lines[1]["looked_turned"], &lines[1]["bibs"][0]["number"]),
        (&270.into(), &"2750".into()),
        "it lies sideways, and its number is read all the same"
    );
    assert_eq!(lines[2]["error"]["code"], "unreadable_file");
    assert_eq!(lines[3]["bibs"][0]["number"], "1482");
    assert_eq!(
        (&lines[3]["width"], &lines[3]["height"], &lines[3]["error"]),
        (&900.into(), &900.into(), &Value::Null)
    );
    assert!(lines[3]["cpu_ms"]["faces"].as_f64().unwrap() > 0.0);
    assert!(upright.join("IMG_0004.jpg").is_file() && !upright.join("IMG_0001.jpg").exists());
}

#[test]
fn inspect_explains_what_decided_which_way_is_up() {
    let output = photogate(
        &Config { models_dir: root().join("models"), ..Config::default() },
        &["inspect", "--explain", "samples/marathon/IMG_0004.jpg"],
    );

    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("must be turned by 270 degrees (decided by the "),
        "it names what decided: {said}"
    );
}

/// The README, and all documents for those who use photogate.
fn documents() -> Vec<String> {
    let mut names = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/guides"] {
        let inside = fs::read_dir(root().join(folder)).unwrap();
        let inside = inside.map(|one| one.unwrap().file_name().into_string().unwrap());
        names.extend(
            inside
                .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"))
                .map(|name| format!("{folder}/{name}")),
        );
    }
    names
}

#[test]
fn every_command_of_the_documents_is_one() {
    let mut tried = 0;
    for document in documents() {
        let text = read(&document);
        let blocks = text.split("```console\n").skip(1);
        let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
        for command in lines.filter_map(|line| {
            line.strip_prefix("photogate ")
                .or_else(|| line.strip_prefix("docker compose run --rm migrate "))
        }) {
            // As a shell splits them, quotes and comments included.
            let split = std::process::Command::new("sh")
                .args(["-c", &format!("printf '%s\\n' {command}")])
                .output()
                .unwrap();
            let words = String::from_utf8(split.stdout).unwrap();
            let words = words.lines();
            assert!(photogate::cli::understands(words), "{document}: photogate {command}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// The targets that a document tells to make: in its blocks of code, and in words that are code.
fn make_targets(text: &str) -> Vec<&str> {
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("make "));
    lines
        .chain(text.split("`make ").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next())
        .collect()
}

#[test]
fn every_make_target_of_the_readme_is_one() {
    let makefile = read("Makefile");
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = read(document);
        let targets = make_targets(&text);

        assert!(targets.len() > 5, "{document}: {targets:?}");
        for target in targets {
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(known, "{document}: make {target}");
        }
    }
}

#[test]
fn the_documents_tell_every_setting() {
    let table = read("docs/settings.md");
    let settings = serde_json::to_value(Config::default()).unwrap();

    for (name, default) in settings.as_object().unwrap() {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}`")))
            .unwrap_or_else(|| panic!("docs/settings.md does not tell of {name}"));
        let shown = default
            .as_str()
            .map_or_else(|| default.to_string().replace("null", "none"), str::to_owned);
        assert!(
            row.contains(&format!("`{shown}`")),
            "the default of {name} in docs/settings.md is not {shown}: {row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whtrusted_changes_is_in_the_audit_trail_too() {
    let app = App::new().await;
    let run = |arguments: &[&str]| app.says(arguments);
    run(&["organisations", "create", "Club", "--actor", "staff@photogate.example"]);
    run(&["organisations", "price", "1", "0.05 EUR"]);
    run(&["events", "create", "1", "Marathon", "--face-search", "--consent"]);
    run(&["credits", "top-up", "1", "5", "--key", "one"]);
    run(&["credits", "top-up", "1", "5", "--key", "one"]);
    run(&["enqueue", "1", "rehearsal/ok/1", "rehearsal/ok/2", "--actor", "anna@club.example"]);
    run(&["jobs", "skip", "1", "rehearsal/ok/1", "--actor", "anna@club.example"]);
    run(&["jobs", "restore", "1", "rehearsal/ok/1", "--actor", "anna@club.example"]);
    run(&["events", "hold", "1", "--owner", "ops@photogate.example"]);
    run(&["events", "lift", "1", "--actor", "ops@photogate.example"]);
    run(&["events", "face-search", "1", "off"]);
    run(&["events", "delete", "1", "--actor", "staff@photogate.example", "--yes"]);
    run(&["pipelines", "allow", "uploads", "--organisation", "1"]);
    run(&["pipelines", "revoke", "1", "--actor", "staff@photogate.example"]);

    let trail = audit_log::list(&mut *app.db().await, None, None, 100).await.unwrap();
    let told: Vec<_> =
        trail.iter().rev().map(|entry| (entry.action.as_str(), entry.actor.as_str())).collect();
    assert_eq!(
        told,
        [
            ("organisation.create", "staff@photogate.example"),
            ("organisation.change", "cli"),
            ("event.create", "cli"),
            ("credits.top_up", "cli"),
            ("photos.enqueue", "anna@club.example"),
            ("photos.skip", "anna@club.example"),
            ("photos.restore", "anna@club.example"),
            ("queue.hold", "ops@photogate.example"),
            ("queue.lift", "ops@photogate.example"),
            ("event.change", "cli"),
            ("event.delete", "staff@photogate.example"),
            ("pipeline.allow", "cli"),
            ("pipeline.revoke", "staff@photogate.example"),
        ]
    );
    assert!(trail.iter().all(|entry| entry.organisation == Some(OrganisationId(1))));
}

/// An organisation's people can enqueue only what is below its part of the store, by whatever way.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_stays_below_an_organisations_part_of_the_store() {
    let app = App::new().await;
    let run = |arguments: &[&str]| photogate(&app.config, arguments);
    assert!(run(&["organisations", "create", "Club", "--photos-under", "club/"]).status.success());
    assert!(run(&["events", "create", "1", "Marathon"]).status.success());

    let refused = run(&["enqueue", "1", "club/1.jpg", "other/2.jpg"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("club/"), "{}", stderr(&refused));
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0, "nothing is enqueued");

    let plan = json(&run(&["--json", "enqueue", "1", "club/1.jpg", "--dry-run"]));
    assert_eq!((&plan["queued"], &plan["runs"]), (&1.into(), &Value::Array(Vec::new())));
    assert_eq!(app.count("SELECT count(*) FROM run").await, 0, "a dry run writes nothing");
    assert_eq!(json(&run(&["--json", "enqueue", "1", "club/1.jpg"]))["queued"], 1);
}

/// As `photogate completions bash | head -n 1` does it.
#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    for arguments in [["completions", "bash"], ["config", "show"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = program(&Config::default()).args(arguments).stdout(writer).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", stderr(&ended));
        assert!(ended.stderr.is_empty(), "{arguments:?}: {}", stderr(&ended));
    }
}

/// The codes that stand between these two texts in a file, comments aside.
fn codes(file: &str, before: &str, after: &str) -> BTreeSet<String> {
    let text = read(file);
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    code.split(before)
        .skip(1)
        .filter_map(|rest| rest.split_once(after))
        .map(|(word, _)| word.to_owned())
        .filter(|word| !word.is_empty())
        .filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        .collect()
}

/// The codes that photogate writes as the reason of a refund. A worker of one's own has others.
fn reasons_of_the_code() -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    for (file, before, after) in [
        ("jobs/src/limits.rs", "=> \"", "\""),
        ("src/worker/looker.rs", ": &str = \"", "\""),
        ("src/worker/verdict.rs", "=> Some(\"", "\")"),
        ("src/worker/settle.rs", "ARRAY['", "'],"),
        ("migrations/functions/adopt.sql", "array_fill('", "'::text"),
        ("migrations/functions/settle.sql", "ELSE '", "' END AS reason"),
    ] {
        let found = codes(file, before, after);
        assert!(!found.is_empty(), "{file} has no code after {before}");
        reasons.extend(found);
    }
    for entry in fs::read_dir(root().join("src/worker")).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            let file = format!("src/worker/{}", entry.file_name().to_string_lossy());
            reasons.extend(codes(&file, "reason: \"", "\""));
        }
    }
    reasons
}

#[test]
fn every_reason_has_a_meaning_and_is_in_the_documents_and_nothing_else_is() {
    let written = reasons_of_the_code();
    assert!(written.len() > 10, "{written:?}");

    let explained = codes("src/queue/failures.rs", "\n        \"", "\" =>");
    let told: BTreeSet<_> = read("docs/reasons.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();

    assert_eq!(explained, written, "the meanings, and the code");
    assert_eq!(told, written, "docs/reasons.md, and the code");
    for reason in &written {
        assert!(!photogate::queue::failures::meaning(reason).is_empty(), "{reason}");
    }
}
