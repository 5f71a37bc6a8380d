//! The audit trail: who changed what.

use axum::{extract::State, response::IntoResponse};
use maud::html;
use serde::Deserialize;

use super::{
    PageOrFile, layout,
    table::{Format, Pages, Table, View},
};
use crate::{
    access::{
        Role,
        audit_log::{self, Deed},
    },
    serve::{Service, caller::Browser, input::Query},
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
    let view = View { path: "/deeds", filters: vec![browser.filter()], sort: "" };
    let table = Table::new(view)
        .instant("Date", browser.zone(), |deed: &Deed| Some(deed.at))
        .text("Who", |deed| deed.actor.clone())
        .column("Did", |deed| html! { code { (deed.action) } }, |deed| deed.action.clone())
        .column(
            "To",
            |deed| match deed.subject.strip_prefix("event ") {
                Some(event) if !deed.action.ends_with(".delete") => {
                    html! { a href={ "/events/" (event) } { (deed.subject) } }
                }
                _ => html! { (deed.subject) },
            },
            |deed| deed.subject.clone(),
        )
        .column("With", |deed| said(&deed.detail), |deed| deed.detail.to_string())
        .unless(browser.about().is_some(), "Organisation", |deed| {
            deed.organisation.map(|id| id.to_string()).unwrap_or_default()
        });
    if asked.format == Format::Csv {
        return table.as_file("audit", &found);
    }
    let (found, next) = PAGES.of(found, |deed| deed.id.to_string());
    let content = html! {
        h1 { "Audit" }
        p.faint { "What people and programs changed, the newest first. Nobody can change this list." }
        (table.on_page(&found, "Nothing has been changed yet.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/deeds", "Audit", None, content).into_response())
}

/// What a deed was done with, in words.
fn said(detail: &serde_json::Value) -> maud::Markup {
    let words = detail.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let words: Vec<_> = words
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{}: {value}", name.replace('_', " "))
        })
        .collect();
    html! { (words.join(", ")) }
}
