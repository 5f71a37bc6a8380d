//! The schemas of the OpenAPI document, as people read them.

use maud::{Markup, html};
use serde_json::Value;

use super::text;

/// The section of all schemas.
pub(super) fn all(document: &Value) -> Markup {
    let none = serde_json::Map::new();
    let schemas = document["components"]["schemas"].as_object().unwrap_or(&none);
    html! {
        section id="schemas" {
            h2 { "Schemas" }
            @for (name, schema) in schemas {
                details.endpoint id={ "shape-" (name) } {
                    summary { code { (name) } " " span { (text(&schema["description"])) } }
                    (fields(schema))
                }
            }
        }
    }
}

/// The fields of a schema. One that is made of others shows theirs.
fn fields(schema: &Value) -> Markup {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().map(text).collect();
    html! {
        @if let Some(properties) = schema["properties"].as_object() {
            dl.fields { @for (name, property) in properties {
                dt {
                    code { (name) } " "
                    span.faint {
                        (kind(property))
                        @if !required.contains(&name.as_str()) { ", may be missing" }
                    }
                }
                dd { (meaning(property)) }
            } }
        } @else if let Some(parts) = schema["allOf"].as_array() {
            @for part in parts {
                @if part["$ref"].is_string() { p { "All that " (kind(part)) " has, and:" } }
                @else { (fields(part)) }
            }
        } @else if let Some(values) = schema["enum"].as_array() {
            p { "One of " @for (at, value) in values.iter().enumerate() {
                @if at > 0 { ", " } code { (text(value)) }
            } "." }
        } @else {
            p { (kind(schema)) }
        }
    }
}

/// What a property is for. One that may be null has it at its other half.
fn meaning(property: &Value) -> &str {
    let parts = property["oneOf"].as_array().into_iter().flatten();
    [property]
        .into_iter()
        .chain(parts)
        .map(|one| text(&one["description"]))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// The type of a value, in words.
pub(super) fn kind(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return html! { a href={ "#shape-" (name) } { code { (name) } } };
    }
    if let Some(either) = schema["oneOf"].as_array() {
        return html! { @for (at, one) in either.iter().rev().enumerate() {
            @if at > 0 { " or " } (kind(one))
        } };
    }
    let several = schema["type"].as_array().map(|types| types.iter().map(text).collect());
    let types: Vec<&str> = several.unwrap_or_else(|| vec![text(&schema["type"])]);
    html! { @for (at, one) in types.iter().enumerate() {
        @if at > 0 { " or " }
        @match (*one, text(&schema["format"])) {
            ("array", _) => { "list of " (kind(&schema["items"])) }
            ("object", _) => {
                @if schema["additionalProperties"].is_object() {
                    "object whose values are " (kind(&schema["additionalProperties"]))
                } @else { "object" }
            }
            ("string", "binary") => "file",
            ("string", "date-time") => "instant",
            ("string", "date") => "day",
            ("string", "uuid") => "UUID",
            ("integer", _) => "whole number",
            ("", _) => "anything",
            (other, _) => (other),
        }
    } }
}
