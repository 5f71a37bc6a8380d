//! The OpenAPI document: adds what all endpoints share, and serves it as JSON and as a page.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};
use utoipa::openapi::{
    Content, OpenApi, Ref, RefOr, Response,
    extensions::Extensions,
    path::{Operation, PathItem},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::Service;
use crate::changes::Type;

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
    // The crate knows no section for webhooks.
    document.extensions = Some(Extensions::from_iter([("webhooks", webhooks())]));
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

/// The calls that webhooks get: one for each type of change.
fn webhooks() -> Value {
    let header = |name: &str, says: &str| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "header", "required": true, "description": says, "schema": schema })
    };
    let call = |kind: Type| {
        let example = json!({
            "specversion": "1.0", "id": "57", "source": "/v1/organisations/7", "type": kind,
            "subject": subject(kind), "time": "2026-11-02T09:14:11.104Z",
            "datacontenttype": "application/json", "data": data(kind),
        });
        let body = json!({
            "schema": { "$ref": "#/components/schemas/Change" }, "example": example,
        });
        json!({ "post": {
            "tags": ["Changes"],
            "summary": kind.says(),
            "security": [],
            "parameters": [
                header("webhook-id", "The same if the change arrives again"),
                header("webhook-timestamp", "Seconds since 1970 at which it was sent"),
                header("webhook-signature", "As Standard Webhooks describes it"),
            ],
            "requestBody": {
                "required": true, "content": { "application/cloudevents+json": body },
            },
            "responses": {
                "2XX": { "description": "It is accepted" },
                "410": { "description": "Nobody hears here any more: the webhook is disabled" },
                "default": { "description": "It is sent again later" },
            },
        } })
    };
    let all = Type::ALL.into_iter().chain([Type::WebhookPing]);
    all.map(|kind| (kind.code().to_owned(), call(kind))).collect::<serde_json::Map<_, _>>().into()
}

fn subject(kind: Type) -> &'static str {
    match kind {
        Type::RunQueued
        | Type::RunStarted
        | Type::RunFinished
        | Type::RunCancelled
        | Type::RunUndone
        | Type::PhotoProcessed => "runs/12",
        Type::EventPaused
        | Type::EventResumed
        | Type::EventFinished
        | Type::EventHeld
        | Type::EventLifted
        | Type::EventDeleted => "events/4300",
        Type::CreditsAdded | Type::AutoTopUpStopped => "organisations/7",
        Type::PurchaseAsked | Type::PurchaseDecided => "purchases/9",
        Type::AlertRaised | Type::AlertCleared => "alerts/4",
        Type::PaymentKept => "payments/5",
        Type::WebhookDisabled | Type::WebhookPing => "webhooks/3",
    }
}

/// All that `data` of such a change can have. A test compares it with what is said.
fn data(kind: Type) -> Value {
    let (event, operation, actor) = (4300, "photo_processing", "anna@club.example");
    match kind {
        Type::RunQueued | Type::RunCancelled => json!({
            "event": event, "operation": operation, "run": 12, "photos": 200, "actor": actor,
        }),
        Type::RunStarted => json!({ "event": event, "operation": operation, "run": 12 }),
        Type::RunFinished => {
            json!({ "event": event, "operation": operation, "run": 12, "photos": 200 })
        }
        Type::RunUndone => {
            json!({ "event": event, "operation": operation, "run": 12, "actor": actor })
        }
        Type::PhotoProcessed => json!({
            "event": event, "operation": operation, "run": 12, "photos": [{
                "photo": "01931f6e-7f0a-7cc0-8f9e-3b1d5a7c9e21", "key": "2026/IMG_0001.jpg",
                "state": "failed", "reason": "corrupt",
            }],
        }),
        Type::EventPaused => json!({
            "event": event, "operation": operation, "cause": "spent", "transaction": 981,
        }),
        Type::EventResumed => json!({
            "event": event, "operation": operation, "cause": "top_up", "transaction": 1200, "hold": 5,
        }),
        Type::EventFinished => {
            json!({ "event": event, "operation": operation, "photos": 1200 })
        }
        Type::EventHeld => {
            json!({ "event": event, "operation": operation, "actor": actor, "hold": 5 })
        }
        Type::EventLifted => json!({
            "event": event, "operation": operation, "actor": actor, "cause": "expiry", "hold": 5,
        }),
        Type::EventDeleted => json!({ "event": event, "actor": actor }),
        Type::CreditsAdded => {
            json!({ "transaction": 1200, "kind": "purchase", "credits": 500, "actor": actor })
        }
        Type::PurchaseAsked | Type::PurchaseDecided => json!({
            "organisation": 7, "request": 9, "state": "approved", "credits": 20000, "actor": actor,
            "decided_by": "staff@photogate.example", "transaction": 1200,
        }),
        Type::AlertRaised | Type::AlertCleared => json!({
            "alert": 4, "kind": "low_balance", "threshold": 500, "measured": 498,
            "credits_missing": 120,
        }),
        Type::PaymentKept => json!({
            "payment": 5, "organisation": 7, "request": 9, "reason": "wrong_amount", "amount": 4900,
            "currency": "EUR",
        }),
        Type::AutoTopUpStopped => json!({ "organisation": 7, "reason": "refused" }),
        Type::WebhookDisabled => json!({ "webhook": 3, "reason": "no_answer" }),
        Type::WebhookPing => json!({ "webhook": 3, "actor": actor }),
    }
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
