//! The OpenAPI document: adds what all endpoints share.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::openapi::{
    Components, Content, KnownFormat, ObjectBuilder, OpenApi, Ref, RefOr, Response, Schema,
    SchemaFormat,
    extensions::Extensions,
    path::{Operation, PathItem},
    schema::{ArrayItems, Type},
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::webhook_calls;

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
    document.extensions = Some(Extensions::from_iter([("webhooks", webhook_calls::all())]));
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap_or_default();
    name_items(components);
    for (path, item) in &mut document.paths.paths {
        let has_parts = path.contains('{');
        for operation in operations(item) {
            if let Some(example) = operation.operation_id.as_ref().and_then(|id| examples.get(id)) {
                illustrate(operation, example);
            }
            if let Some(body) = &mut operation.request_body {
                for (kind, content) in &mut body.content {
                    if kind != "application/json" {
                        content.schema = Some(file());
                    }
                }
            }
            let needs_token = operation.security.is_none();
            let has_body = operation.request_body.is_some();
            let makes = ["201", "202"]
                .iter()
                .any(|status| operation.responses.responses.contains_key(*status));
            let mut no = |status: &str, meaning: &str| {
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| problem(meaning));
            };
            if needs_token {
                no("401", "The token is missing, unknown or revoked");
                no("403", "The caller's role or organisation does not allow this");
            }
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
            for (status, response) in &mut operation.responses.responses {
                if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
                    for (_, content) in
                        response.content.iter_mut().filter(|(kind, _)| is_file(kind))
                    {
                        content.schema = Some(file());
                    }
                }
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

/// Sets the example of every successful answer that has none of its own.
fn illustrate(operation: &mut Operation, example: &Value) {
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            for content in response.content.values_mut() {
                content.example.get_or_insert_with(|| example.clone());
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

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Lets the items of pages refer to their schemas. The crate writes them out in each page, and
/// generators of clients would give them names of their own.
fn name_items(components: &mut Components) {
    let known: BTreeSet<String> = components.schemas.keys().cloned().collect();
    for (name, schema) in &mut components.schemas {
        let Some(item) = name.strip_prefix("Page_").filter(|item| known.contains(*item)) else {
            continue;
        };
        if let RefOr::T(Schema::Object(page)) = schema
            && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
        }
    }
}

/// True if an answer of this kind is a file. A stream of events is none.
fn is_file(kind: &str) -> bool {
    matches!(kind, "text/csv" | "application/pdf")
}

/// What is not JSON is a file: generators then take its bytes.
fn file() -> RefOr<Schema> {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
}
