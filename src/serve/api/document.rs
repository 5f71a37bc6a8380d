//! The OpenAPI document: adds what all endpoints share, and serves it as JSON and as a page.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};
use utoipa::openapi::{
    Content, OpenApi, Ref, RefOr, Response,
    path::{Operation, PathItem},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::Service;

/// One example answer for each operation, by the operation's ID. A test checks them against the
/// schemas.
const EXAMPLES: &str = include_str!("examples.json");

/// Adds to every endpoint its authentication, an example answer, and the common error answers.
pub(super) fn completed(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("token", bearer);
    components.add_security_scheme("key", key);
    document.security = Some(vec![
        SecurityRequirement::new("token", [""; 0]),
        SecurityRequirement::new("key", [""; 0]),
    ]);
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for (path, item) in &mut document.paths.paths {
        let has_parts = path.contains('{');
        for (method, operation) in operations(item) {
            let name =
                path.trim_start_matches("/v1/").replace(['{', '}'], "").replace(['/', '-'], "_");
            let name = format!("{method}_{name}");
            if let Some(example) = examples.get(&name) {
                illustrate(operation, example);
            }
            operation.operation_id = Some(name);
            let has_body = operation.request_body.is_some();
            let makes = ["201", "202"]
                .iter()
                .any(|status| operation.responses.responses.contains_key(*status));
            let mut no = |status: &str, meaning: &str| {
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| problem(meaning));
            };
            no("401", "The token is missing, unknown or revoked");
            no("403", "The caller's role or organisation does not allow this");
            no("422", "The request is not valid: `errors` says which part");
            no("429", "Too many requests: try again after `Retry-After` seconds");
            no("500", "A bug of photogate: report it with the request's ID");
            no("503", "The database or the photo store does not answer: try again");
            let of_one =
                operation.parameters.iter().flatten().any(|one| one.name == "organisation");
            if has_parts || has_body || of_one {
                no("404", "It does not exist, or this token may not see it");
            }
            if has_body {
                no("400", "The body is malformed");
                no("413", "The body is larger than 16 MiB, or asks for too much at once");
                no("415", "The body's `Content-Type` is not supported");
            }
            if makes {
                no("409", "The request conflicts with the present state: `code` says how");
            }
            // Error answers that handlers declare themselves are problems too.
            for (status, response) in &mut operation.responses.responses {
                if let (true, RefOr::T(response)) = (status.starts_with(['4', '5']), response)
                    && let Some(content) = response.content.shift_remove("application/json")
                {
                    response.content.insert("application/problem+json".into(), content);
                }
            }
        }
    }
    document
}

/// Sets the example of every successful answer.
fn illustrate(operation: &mut Operation, example: &Value) {
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            for content in response.content.values_mut() {
                content.example = Some(example.clone());
            }
        }
    }
}

fn problem(meaning: &str) -> RefOr<Response> {
    let mut response = Response::new(meaning);
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    response.content.insert("application/problem+json".into(), content);
    RefOr::T(response)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Serves the document at `/v1/openapi.json`, and as a page at `/docs`.
pub(in crate::serve) fn routes(document: Arc<OpenApi>) -> Router<Service> {
    let json = serde_json::to_string_pretty(&*document).unwrap_or_default();
    let value = serde_json::to_value(&*document).unwrap_or_default();
    let page = page(&value).into_string();
    let served = move || async move {
        ([(header::CONTENT_TYPE, "application/json")], json.clone()).into_response()
    };
    let read = move || async move { axum::response::Html(page.clone()).into_response() };
    Router::new().route("/v1/openapi.json", get(served)).route("/docs", get(read))
}

/// The page `/docs`, without scripts: each endpoint with its parameters, its answers, an example
/// and a curl command.
fn page(document: &Value) -> Markup {
    let none = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&none);
    let mut by_tag: BTreeMap<&str, Vec<(&str, &str, &Value)>> = BTreeMap::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap_or(&none) {
            let tag = operation["tags"][0].as_str().unwrap_or_default();
            by_tag.entry(tag).or_default().push((path, method, operation));
        }
    }
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "photogate API" }
                link rel="stylesheet" href="/assets/style.css";
            }
            body { main.docs {
                h1 { "photogate API" }
                p { (document["info"]["description"].as_str().unwrap_or_default()) }
                p {
                    "Programs send their token as " code { "Authorization: Bearer …" } ". "
                    "This page is also available as " a href="/v1/openapi.json" { "OpenAPI 3.1" }
                    "."
                }
                nav aria-label="Sections" { @for tag in tags {
                    @let name = tag["name"].as_str().unwrap_or_default();
                    a href={ "#" (name) } { (name) } " "
                } }
                @for tag in tags {
                    @let name = tag["name"].as_str().unwrap_or_default();
                    section id=(name) {
                        h2 { (name) }
                        p { (tag["description"].as_str().unwrap_or_default()) }
                        @let endpoints = by_tag.get(name).map(Vec::as_slice).unwrap_or_default();
                        @for (path, method, operation) in endpoints {
                            (endpoint(document, path, method, operation))
                        }
                    }
                }
                h2 { "Schemas" }
                @let schemas = document["components"]["schemas"].as_object().unwrap_or(&none);
                @for (name, schema) in schemas {
                    details id={ "shape-" (name) } {
                        summary { code { (name) } }
                        pre { (serde_json::to_string_pretty(schema).unwrap_or_default()) }
                    }
                }
            } }
        }
    }
}

fn endpoint(document: &Value, path: &str, method: &str, operation: &Value) -> Markup {
    let none = Vec::new();
    let method = method.to_uppercase();
    html! {
        article.endpoint {
            h3 { code { (method) " " (path) } }
            p { (operation["summary"].as_str().unwrap_or_default()) }
            @if let Some(more) = operation["description"].as_str() { p { (more) } }
            @let parameters = operation["parameters"].as_array().unwrap_or(&none);
            @if !parameters.is_empty() {
                ul { @for parameter in parameters {
                    li {
                        code { (parameter["name"].as_str().unwrap_or_default()) }
                        " (" (parameter["in"].as_str().unwrap_or_default()) ") "
                        (parameter["description"].as_str().unwrap_or_default())
                    }
                } }
            }
            @let responses = operation["responses"].as_object();
            ul { @for (status, response) in responses.into_iter().flatten() {
                li {
                    strong { (status) } " "
                    (response["description"].as_str().unwrap_or_default()) " " (shape(response))
                }
            } }
            pre { (call(document, path, &method, operation)) }
            @if let Some(example) = example(operation) {
                pre { (serde_json::to_string_pretty(example).unwrap_or_default()) }
            }
        }
    }
}

/// The example of the successful answer.
fn example(operation: &Value) -> Option<&Value> {
    let mut answers = operation["responses"].as_object()?.iter();
    let (_, yes) = answers.find(|(status, _)| status.starts_with('2'))?;
    yes["content"].as_object()?.values().next()?.get("example")
}

fn shape(of: &Value) -> Markup {
    let name = of["content"]
        .as_object()
        .and_then(|content| content.values().next())
        .and_then(|content| content["schema"]["$ref"].as_str())
        .and_then(|name| name.rsplit('/').next());
    html! { @if let Some(name) = name { a href={ "#shape-" (name) } { code { (name) } } } }
}

/// A curl command that calls the endpoint.
fn call(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let path = path
        .replace("{photo}", "0193a1c0-0000-7000-8000-000000000000")
        .replace("{month}", "2026-11");
    let path = path
        .split('/')
        .map(|part| if part.starts_with('{') { "1" } else { part })
        .collect::<Vec<_>>()
        .join("/");
    let mut call =
        format!("curl -X {method} \"$PHOTOGATE{path}\" -H \"Authorization: Bearer $TOKEN\"");
    if operation["parameters"].to_string().contains("Idempotency-Key") {
        call.push_str(" -H \"Idempotency-Key: $(uuidgen)\"");
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let name = content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let example = name
            .map_or(json!(null), |name| document["components"]["schemas"][name]["example"].clone());
        let _ = write!(call, " \\\n  -H \"Content-Type: {kind}\"");
        if kind == "application/json" {
            let _ = write!(call, " -d '{example}'");
        } else {
            call.push_str(" --data-binary @FILE");
        }
    }
    call
}
