//! What is said about the API is true: the guide on `/docs`, the OpenAPI document, and the clients
//! that are generated from it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use photogate::{access::Role, config::Config, ids::EventId, serve};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    photos::{samples, start_worker},
    support::{App, read, root, site::Site},
};

fn document() -> Value {
    serde_json::to_value(serve::document()).unwrap()
}

/// Each operation of the document, with its method and path.
fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    ["paths", "webhooks"].into_iter().flat_map(move |section| {
        document[section].as_object().unwrap().iter().flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, one)| (format!("{method} {path}"), one))
        })
    })
}

#[test]
fn every_operation_has_a_name_of_its_own_and_every_answer_a_type() {
    let document = document();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for (place, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap_or_default();
        if !name.contains('_') || !names.insert(name) {
            wrong.push(format!("{place}: set `operation_id` to a verb and a noun, not {name:?}"));
        }
        if !place.contains(" /") {
            continue;
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let content = answer["content"].as_object();
            let typed =
                content.is_some_and(|all| all.values().all(|one| one["schema"].is_object()));
            let has_none = status == "204" || (status == "202" && content.is_none());
            if !typed && !has_none {
                wrong.push(format!("{place}: the answer {status} has no schema"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Generators give an object without a name a name of their own, which changes with its place.
#[test]
fn every_object_of_the_document_has_a_name() {
    fn look(place: &str, schema: &Value, wrong: &mut Vec<String>) {
        let is_map = schema["additionalProperties"].is_object();
        if schema["properties"].is_object() && !is_map {
            wrong.push(place.to_owned());
        }
        for (key, inner) in schema.as_object().into_iter().flatten() {
            if matches!(key.as_str(), "items" | "additionalProperties") {
                look(&format!("{place}/{key}"), inner, wrong);
            }
            for (at, one) in inner.as_array().into_iter().flatten().enumerate() {
                if key == "oneOf" {
                    look(&format!("{place}/{at}"), one, wrong);
                }
            }
        }
    }
    let document = document();
    let mut wrong = Vec::new();
    let mut pages = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            look(&format!("{name}/{field}"), property, &mut wrong);
        }
        if let Some(item) = name.strip_prefix("Page_") {
            let items = &schema["properties"]["items"]["items"]["$ref"];
            assert_eq!(items, &format!("#/components/schemas/{item}"));
            pages += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(pages > 10, "{pages}");
}

#[test]
fn every_example_is_valid() {
    let document = document();
    let mut looked_at = 0;
    let mut valid = |place: &str, schema: &Value, example: &Value| {
        let mut schema = schema.clone();
        // The schemas refer to each other within the document.
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<_> = validator.iter_errors(example).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{place}: {example}: {wrong:?}");
        looked_at += 1;
    };
    for (place, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if let Some(name) = body["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
            valid(&place, body, &document["components"]["schemas"][name]["example"]);
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let contents = answer["content"].as_object().into_iter().flat_map(|all| all.values());
            for content in contents.filter(|_| status.starts_with('2')) {
                valid(&place, &content["schema"], &content["example"]);
            }
        }
    }
    assert!(looked_at > 100, "{looked_at}");
}

/// The Rust files below this directory, and the directory's own file.
fn sources(of: &str) -> String {
    fn add(path: &Path, to: &mut String) {
        if path.is_dir() {
            for inner in std::fs::read_dir(path).unwrap() {
                add(&inner.unwrap().path(), to);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            to.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let mut text = String::new();
    add(&root().join(of), &mut text);
    add(&root().join(format!("{of}.rs")), &mut text);
    text
}

/// The first string after each of these marks, if only white space is between.
fn strings_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).filter_map(|rest| {
        let (string, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        let is_code = string.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_code.then_some(string)
    })
}

#[test]
fn every_code_of_a_problem_is_in_the_guide_and_nothing_else_is() {
    let text = sources("src/serve") + &sources("src/commands");
    let mut written: BTreeSet<&str> = BTreeSet::new();
    for mark in [" code: ", ".code = ", "::conflict(", "::unavailable("] {
        written.extend(strings_after(&text, mark));
    }
    // `Self::new(StatusCode::GONE, "changes_gone", …)`
    let problems = sources("src/serve/problem");
    for status in problems.split("StatusCode::").skip(1) {
        written.extend(status.split_once(',').into_iter().filter_map(|(name, rest)| {
            let is_status = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let (string, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
            is_status.then_some(string)
        }));
    }
    assert!(written.len() > 30, "{written:?}");
    let guide = read("docs/api.md");
    let told: BTreeSet<&str> = guide
        .lines()
        .filter(|line| line.starts_with("| 4") || line.starts_with("| 5"))
        .map(|line| line.split('`').nth(1).unwrap())
        .collect();

    assert_eq!(told, written, "docs/api.md, and the code");
}

#[test]
fn the_limits_of_the_guide_are_those_of_the_service() {
    let guide = read("docs/api.md");
    let config = Config::default();
    for said in [
        format!("{} a second, {} at once", config.requests_per_second, config.requests_at_once),
        format!("`limit` is\n{} if it is missing, and {} at most", 50, limit_max()),
        format!("| rows of a page | {} |", limit_max()),
    ] {
        assert!(guide.contains(&said), "{said}");
    }
}

/// As the OpenAPI document has it.
fn limit_max() -> f64 {
    let document = document();
    let parameters = document["paths"]["/v1/events"]["get"]["parameters"].as_array().unwrap();
    let limit = parameters.iter().find(|one| one["name"] == "limit").unwrap();
    limit["schema"]["maximum"].as_f64().unwrap()
}

/// The blocks of code of this kind in the guide.
fn blocks(kind: &str) -> Vec<String> {
    let guide = read("docs/api.md");
    let fence = format!("```{kind}\n");
    let blocks = guide.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A service with sample photos, a worker and an organiser's token.
struct Stage {
    app: App,
    site: Site,
    token: String,
    event: EventId,
    files: tempfile::TempDir,
}

async fn a_stage() -> Stage {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.a_gala_with(100).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    Stage { app, site, token, event, files: tempfile::tempdir().unwrap() }
}

impl Stage {
    /// A program in a directory of its own, which finds the service, the token and the generator.
    fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut path = vec![root().join(".photogate/clients/bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(name);
        command
            .current_dir(self.files.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("PHOTOGATE", self.site.url(""))
            .env("TOKEN", &self.token)
            .env("EVENT", self.event.to_string());
        command
    }
}

/// What a program printed. It must have gone well.
async fn printed(mut program: Command) -> String {
    let output = program.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program:?}: {said}\n{complained}");
    said + &complained
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_the_guide_work() {
    let stage = a_stage().await;
    let run = stage.app.queue(stage.event, "ok", 1).await.run.unwrap();
    let mut called = 0;
    for block in blocks("sh") {
        if !block.starts_with("curl") || block.contains("openapi-python-client") {
            continue;
        }
        let mut shell = stage.program("sh");
        shell.args(["-ec", &block]).env("RUN", run.0.to_string());
        let answer: Value = serde_json::from_str(&printed(shell).await).expect(&block);
        assert!(answer["code"].is_null(), "{block}: {answer}");
        called += 1;
    }
    assert!(called > 6, "{called}");
}

/// With the commands of the guide.
#[tokio::test(flavor = "multi_thread")]
async fn a_generated_client_is_complete_and_walks_from_an_event_to_a_receipt() {
    let stage = a_stage().await;
    let commands = blocks("sh").pop().unwrap();
    let mut shell = stage.program("sh");
    shell.args(["-ec", &commands]);
    let said = printed(shell).await;
    assert!(!said.to_lowercase().contains("warning"), "{said}");

    let document = document();
    let generated = modules(&stage.files.path().join("client/photogate_client/api"));
    let told: BTreeSet<_> = operations(&document)
        .filter(|(place, _)| place.contains(" /"))
        .map(|(_, one)| one["operationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(generated, told);

    let worker = start_worker(&stage.app).await;
    let mut walk = stage.program(root().join(".photogate/clients/bin/python"));
    walk.arg(root().join("tests/it/api_walk.py"))
        .env("PYTHONPATH", stage.files.path().join("client"))
        .env("SELFIE", root().join("samples/gala/DSC_0001.jpg"));
    let said = printed(walk).await;
    assert!(said.contains("walked to the end"), "{said}");
    worker.drain().await;
}

/// The names of the Python modules two levels below.
fn modules(api: &Path) -> BTreeSet<String> {
    let below = |path: &PathBuf| -> Vec<PathBuf> {
        let all = std::fs::read_dir(path).unwrap();
        all.map(|one| one.unwrap().path()).filter(|path| !path.ends_with("__init__.py")).collect()
    };
    let names = below(&api.to_owned()).iter().flat_map(below).collect::<Vec<_>>();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    names.iter().map(name).filter(|name| name != "__pycache__").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_link_of_the_page_leads_to_something_on_it() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let page = site.client.get(site.url("/docs")).send().await.unwrap().text().await.unwrap();
    let found = |mark: &str| -> BTreeSet<String> {
        page.split(mark).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let (links, ids) = (found("href=\"#"), found(" id=\""));

    assert!(links.len() > 100, "{}", links.len());
    let lost: Vec<_> = links.difference(&ids).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(!page.contains("-d 'null'"), "each body has an example");
    assert_eq!(site.get("/assets/docs.js", "").await.0, 200);
}
