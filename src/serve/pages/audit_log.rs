//! The page of the audit log: who changed what, and when.

use axum::{extract::State, response::IntoResponse};
use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::{
        Role,
        audit_log::{self, AuditEntry},
    },
    serve::{Service, authentication::Browser, input::Query},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    after: Option<i64>,
    #[serde(default)]
    format: Format,
}

const PAGES: Pages = Pages(50);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    let found =
        audit_log::list(&mut db, browser.about(), asked.after, PAGES.rows(asked.format)).await?;
    let view = View { path: "/audit-log", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .instant("Date", browser.zone(), |entry: &AuditEntry| Some(entry.at))
        .text("Who", |entry| entry.actor.clone())
        .column("Action", |entry| html! { code { (entry.action) } }, |entry| entry.action.clone())
        .column(
            "Subject",
            |entry| match entry.subject.strip_prefix("event ") {
                Some(event) if !entry.action.ends_with(".delete") => {
                    html! { a href={ "/events/" (event) } { (entry.subject) } }
                }
                _ => html! { (entry.subject) },
            },
            |entry| entry.subject.clone(),
        )
        .column(
            "Details",
            |entry| html! { div.wraps { (said(&entry.detail)) } },
            |entry| entry.detail.to_string(),
        )
        .unless(browser.about().is_some(), "Organisation", |entry| {
            entry.organisation.map(|id| id.to_string()).unwrap_or_default()
        });
    if asked.format == Format::Csv {
        return table.as_file("audit", &found);
    }
    let (found, next) = PAGES.of(found, |entry| entry.id.to_string());
    let content = html! {
        h1 { "Audit log" }
        p.faint {
            "What people and programs changed, newest first. Nobody can change this list."
        }
        (table.on_page(&found, "Nothing has been changed yet.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/audit-log", "Audit log", None, content).into_response())
}

/// Renders the details of an entry as `name: value, name: value`.
fn said(detail: &Value) -> maud::Markup {
    let known = detail.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let words = known.map(|(name, value)| format!("{}: {}", name.replace('_', " "), plain(value)));
    html! { (words.collect::<Vec<_>>().join(", ")) }
}

/// A value as people read it: lists as their words.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
