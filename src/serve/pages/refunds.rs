//! Credits that came back, photo by photo.

use axum::{extract::State, response::IntoResponse};
use chrono::{TimeDelta, Utc};
use maud::html;
use serde::Deserialize;

use super::{
    PageOrFile,
    event::code,
    layout,
    table::{Format, Table, View},
};
use crate::{
    access::Role,
    books::refunds::{self, Filter, Refund},
    ids::OrganisationId,
    serve::{Service, caller::Browser, input::Query},
};

/// The last 31 days.
pub(super) fn lately(organisation: Option<OrganisationId>) -> Filter {
    Filter { since: Utc::now() - TimeDelta::days(31), until: None, organisation }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    format: Format,
}

/// Refunds of the page; a file has all.
const SHOWN: usize = 200;

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let reason = Some(asked.reason.as_str()).filter(|reason| !reason.is_empty());
    let most = asked.format.rows(i64::try_from(SHOWN).unwrap_or(i64::MAX));
    let mut db = service.database.acquire().await?;
    let mut found = refunds::newest(&mut db, lately(browser.about()), reason, most).await?;
    let filters = vec![browser.filter(), ("reason", asked.reason.clone())];
    let table = Table::new(View { path: "/refunds", filters, sort: "" })
        .text("Photo", |row: &Refund| row.key.clone())
        .only_in_file("Photo ID", |row| row.photo.to_string())
        .column("Operation", |row| html! { (row.operation) }, |row| code(row.operation).into())
        .column(
            "Event",
            |row| html! { a href={ "/events/" (row.event) } { (row.event) } },
            |row| row.event.to_string(),
        )
        .only_in_file("Organisation", |row| row.organisation.to_string())
        .column(
            "Reason",
            |row| html! { code { (row.reason) } @if let Some(detail) = &row.detail { div.faint { (detail) } } },
            |row| row.reason.clone(),
        )
        .only_in_file("Detail", |row| row.detail.clone().unwrap_or_default())
        .only_in_file("Job", |row| row.job.to_string())
        .number("Entry", |row| row.entry)
        .instant("When", browser.zone(), |row| Some(row.at))
        .actions(|row| html! { a href={ "/receipts/" (row.photo) } { "Receipt" } });
    if asked.format == Format::Csv {
        return table.as_file("refunds", &found);
    }
    let more = found.len() > SHOWN;
    found.truncate(SHOWN);
    let content = html! {
        h1 { "Refunds" @if !asked.reason.is_empty() { " · " code { (asked.reason) } } }
        p.faint { "Of the last 31 days, the newest first." @if more { " These are the first " (SHOWN) "; the file has all." } }
        (table.on_page(&found, "Nothing came back.", None))
    };
    Ok(layout::page(&browser, "/refunds", "Refunds", None, content).into_response())
}
