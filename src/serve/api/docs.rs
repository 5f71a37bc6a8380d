//! The page `/docs`: the guide in `docs/api.md`, then every endpoint with its parameters, its
//! answers, a curl command and an example. It needs no script; a small one filters and opens.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{
    Router,
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use super::Service;

mod schemas;

/// The guide. Its text has one home, for this page and for the site of the documentation.
const GUIDE: &str = include_str!("../../../docs/api.md");
const SCRIPT: &str = include_str!("../../../assets/docs.js");

/// Serves the document at `/v1/openapi.json`, and as a page at `/docs`.
pub(in crate::serve) fn routes(document: Arc<OpenApi>) -> Router<Service> {
    let json = serde_json::to_string_pretty(&*document).unwrap_or_default();
    let value = serde_json::to_value(&*document).unwrap_or_default();
    let page = page(&value).into_string();
    let served = move || async move {
        ([(header::CONTENT_TYPE, "application/json")], json.clone()).into_response()
    };
    let read = move || async move { Html(page.clone()).into_response() };
    let script = || async {
        let kind = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
        ([kind, (header::CACHE_CONTROL, "max-age=300")], SCRIPT)
    };
    Router::new()
        .route("/v1/openapi.json", get(served))
        .route("/docs", get(read))
        .route("/assets/docs.js", get(script))
}

/// An endpoint: its path, its method, and what the document says of it.
type Endpoint<'a> = (&'a str, &'a str, &'a Value);

fn page(document: &Value) -> Markup {
    let none = serde_json::Map::new();
    let mut by_tag: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
    for section in ["paths", "webhooks"] {
        for (path, item) in document[section].as_object().unwrap_or(&none) {
            for (method, operation) in item.as_object().unwrap_or(&none) {
                let tag = operation["tags"][0].as_str().unwrap_or_default();
                by_tag.entry(tag).or_default().push((path, method, operation));
            }
        }
    }
    let tags: Vec<_> = document["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tag| {
            let name = text(&tag["name"]);
            (name, text(&tag["description"]), by_tag.remove(name).unwrap_or_default())
        })
        .collect();
    let (sections, guide) = guide();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "API · photogate" }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="data:,";
                script src="/assets/docs.js" defer {}
            }
            body.api {
                a.skip href="#content" { "Skip to the content" }
                (index(&sections, &tags))
                main.docs id="content" {
                    (PreEscaped(guide))
                    h2 id="reference" { "Endpoints" }
                    p.faint id="found" role="status" hidden {}
                    @for (name, says, endpoints) in &tags {
                        section id=(slug(name)) {
                            h3 { (name) }
                            p { (says) }
                            @for endpoint in endpoints { (shown(document, *endpoint)) }
                        }
                    }
                    (schemas::all(document))
                }
            }
        }
    }
}

/// The navigation.
fn index(sections: &[(String, String)], tags: &[(&str, &str, Vec<Endpoint>)]) -> Markup {
    html! {
        nav.index aria-label="Sections" {
            strong { a href="/" { "photogate" } " API" }
            // The script shows it. Without scripts, the search of the browser finds everything.
            label id="filter" hidden { "Filter endpoints and schemas" input type="search" autocomplete="off"; }
            h2 { "Guide" }
            ul { @for (id, name) in sections { li { a href={ "#" (id) } { (name) } } } }
            h2 { "Endpoints" }
            ul { @for (name, _, endpoints) in tags { li {
                a href={ "#" (slug(name)) } { (name) }
                ul { @for (_, _, operation) in endpoints {
                    li { a href={ "#" (text(&operation["operationId"])) } {
                        (words(text(&operation["operationId"])))
                    } }
                } }
            } } }
            ul {
                li { a href="#schemas" { "Schemas" } }
                li { a href="/v1/openapi.json" { "OpenAPI 3.1" } }
            }
        }
    }
}

/// The headings of the guide (their IDs and texts), and the guide as HTML.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's events; few matter here")]
fn guide() -> (Vec<(String, String)>, String) {
    let mut sections = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let mut heading: Option<usize> = None;
    let mut leads_away = false;
    for event in Parser::new_ext(GUIDE, Options::ENABLE_TABLES) {
        match &event {
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
                heading = Some(events.len());
            }
            Event::Text(text) => {
                if let Some(Event::Start(Tag::Heading { id, .. })) =
                    heading.take().and_then(|at| events.get_mut(at))
                {
                    let name = slug(text);
                    *id = Some(CowStr::from(name.clone()));
                    sections.push((name, text.to_string()));
                }
            }
            Event::Start(Tag::Table(_)) => {
                let of = sections.last().map_or("", |(_, name)| name.as_str());
                events.push(Event::Html(table_begins(of).into()));
            }
            // The other documents are not served: their names stay, without a link.
            Event::Start(Tag::Link { dest_url, .. }) if dest_url.contains(".md") => {
                leads_away = true;
                continue;
            }
            Event::End(TagEnd::Link) if leads_away => {
                leads_away = false;
                continue;
            }
            _ => {}
        }
        let ends = matches!(event, Event::End(TagEnd::Table));
        events.push(event);
        if ends {
            events.push(Event::Html("</div>".into()));
        }
    }
    let mut written = String::new();
    pulldown_cmark::html::push_html(&mut written, events.into_iter());
    (sections, written)
}

/// A wide table scrolls by itself. It is named after its section, because all of them are regions.
fn table_begins(section: &str) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table of: {section}\">"
    )
}

/// A heading as the part of an address after `#`.
fn slug(heading: &str) -> String {
    let words = heading.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// `list_events` as words.
fn words(id: &str) -> String {
    id.replace('_', " ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn shown(document: &Value, (path, method, operation): Endpoint) -> Markup {
    let none = Vec::new();
    let is_ours = path.starts_with('/');
    let method = method.to_uppercase();
    let parameters = operation["parameters"].as_array().unwrap_or(&none);
    html! {
        details.endpoint id=(text(&operation["operationId"])) {
            summary {
                code { span.verb { (method) } " " (path) }
                " " span { (text(&operation["summary"])) }
            }
            @if let Some(more) = operation["description"].as_str() { p { (more) } }
            @if !parameters.is_empty() {
                h4 { "Parameters" }
                dl.fields { @for parameter in parameters {
                    dt {
                        code { (text(&parameter["name"])) } " "
                        span.faint {
                            (text(&parameter["in"])) ", " (schemas::kind(&parameter["schema"]))
                            @if parameter["required"] == true { ", required" }
                        }
                    }
                    dd { (text(&parameter["description"])) }
                } }
            }
            @for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                h4 { "Body" }
                p {
                    code { (kind) } ": " (schemas::kind(&content["schema"])) " "
                    (text(&operation["requestBody"]["description"]))
                }
            }
            h4 { "Answers" }
            dl.fields { @for (status, response) in operation["responses"].as_object().into_iter().flatten() {
                dt { code { (status) } }
                dd { (text(&response["description"])) " " (body_of(response)) }
            } }
            @if is_ours {
                h4 { "Example" }
                pre { (call(document, path, &method, operation)) }
                @if let Some(example) = example(operation) { pre { (example) } }
            } @else {
                h4 { "Example" }
                @for content in operation["requestBody"]["content"].as_object().into_iter().flat_map(|all| all.values()) {
                    pre { (serde_json::to_string_pretty(&content["example"]).unwrap_or_default()) }
                }
            }
        }
    }
}

/// The example of the successful answer.
fn example(operation: &Value) -> Option<String> {
    let mut answers = operation["responses"].as_object()?.iter();
    let (_, yes) = answers.find(|(status, _)| status.starts_with('2'))?;
    let example = yes["content"].as_object()?.values().next()?.get("example")?;
    let pretty = || serde_json::to_string_pretty(example).unwrap_or_default();
    Some(example.as_str().map_or_else(pretty, str::to_owned))
}

/// The shape of an answer. That of problems is the same everywhere.
fn body_of(response: &Value) -> Markup {
    let content = response["content"].as_object().and_then(|content| content.iter().next());
    html! {
        @if let Some((kind, content)) = content {
            @if kind != "application/problem+json" { (schemas::kind(&content["schema"])) }
        }
    }
}

/// A curl command that calls the endpoint.
fn call(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let path = path
        .replace("{photo}", "0193a1c0-0000-7000-8000-000000000000")
        .replace("{month}", "2026-11")
        .replace("{provider}", "stripe");
    let path = path
        .split('/')
        .map(|part| if part.starts_with('{') { "1" } else { part })
        .collect::<Vec<_>>()
        .join("/");
    let mut call = format!("curl -X {method} \"$PHOTOGATE{path}\"");
    if operation["security"].is_null() {
        call.push_str(" -H \"Authorization: Bearer $TOKEN\"");
    }
    if operation["parameters"].to_string().contains("Idempotency-Key") {
        call.push_str(" -H \"Idempotency-Key: $(uuidgen)\"");
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let name = content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let example = name
            .map_or(json!({}), |name| document["components"]["schemas"][name]["example"].clone());
        let _ = write!(call, " \\\n  -H \"Content-Type: {kind}\"");
        if kind == "application/json" {
            let _ = write!(call, " -d '{example}'");
        } else {
            call.push_str(" --data-binary @FILE");
        }
    }
    call
}
