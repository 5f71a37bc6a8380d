//! The columns of a timeline as a file, wherever it is made.

use super::{Cause, Entry};
use crate::ids::Operation;

/// What a column has of an entry.
type Cell = fn(&Entry) -> String;

/// The columns, in their order: the fields of the API, and what happened in words.
pub const COLUMNS: [(&str, Cell); 16] = [
    ("id", |entry| entry.id.to_string()),
    ("at", |entry| entry.at.to_rfc3339()),
    ("operation", |entry| text(entry.operation.map(Operation::code))),
    ("kind", |entry| entry.kind.code().to_owned()),
    ("actor", |entry| text(entry.actor.as_ref())),
    ("what_happened", ToString::to_string),
    ("cause", |entry| text(entry.cause.map(Cause::code))),
    ("run", |entry| text(entry.run)),
    ("hold", |entry| text(entry.hold)),
    ("transaction", |entry| text(entry.transaction)),
    ("photos", |entry| text(entry.photos)),
    ("budget_change", |entry| text(entry.budget_change)),
    ("cap", |entry| text(entry.cap)),
    ("floor", |entry| text(entry.floor)),
    ("of_all_events", |entry| entry.of_all_events.to_string()),
    ("decided", |entry| {
        text(entry.decided.as_ref().and_then(|one| serde_json::to_string(one).ok()))
    }),
];

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
