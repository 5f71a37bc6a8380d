//! The page of refunds, one row for each photo.

use axum::{extract::State, response::IntoResponse};
use chrono::{DateTime, TimeDelta, Utc};
use maud::html;
use serde::Deserialize;

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    ids::{OrganisationId, RunId},
    ledger::refunds::{self, Filter, Refund},
    serve::{Service, authentication::Browser, input::Query, problem::Problem},
};

/// The filter for refunds of the last 31 days.
pub(super) fn lately(organisation: Option<OrganisationId>) -> Filter {
    Filter { since: Utc::now() - TimeDelta::days(31), until: None, organisation }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    reason: String,
    #[serde(default, deserialize_with = "layout::number")]
    run: Option<RunId>,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    format: Format,
}

impl Asked {
    /// Without a first day: the last 31 days, or all refunds if a run is given.
    fn filter(&self, browser: &Browser) -> Result<Filter, Problem> {
        let mut filter = lately(browser.about());
        if self.run.is_some() {
            filter.since = DateTime::UNIX_EPOCH;
        }
        if let Some(since) = layout::begin_of(&self.from, browser.zone(), 0)? {
            filter.since = since;
        }
        filter.until = layout::begin_of(&self.to, browser.zone(), 1)?;
        Ok(filter)
    }
}

/// Refunds on the page; a file has all.
const PAGES: Pages = Pages(200);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let reason = Some(asked.reason.trim()).filter(|reason| !reason.is_empty());
    let (filter, most) = (asked.filter(&browser)?, PAGES.rows(asked.format));
    let mut db = service.database.acquire().await?;
    let found = refunds::newest(&mut db, filter, reason, asked.run, most).await?;
    let run = asked.run.map(|run| run.to_string()).unwrap_or_default();
    let filters = vec![
        browser.filter(),
        ("reason", asked.reason.clone()),
        ("run", run.clone()),
        ("from", asked.from.clone()),
        ("to", asked.to.clone()),
    ];
    let table = Table::new(View { path: "/refunds", filters, sort: "" })
        .text("Photo", |row: &Refund| row.key.clone())
        .only_in_file("Photo ID", |row| row.photo.to_string())
        .column("Operation", |row| html! { (row.operation) }, |row| row.operation.code().into())
        .column(
            "Event",
            |row| html! { a href={ "/events/" (row.event) } { (row.event) } },
            |row| row.event.to_string(),
        )
        .unless(browser.about().is_some(), "Organisation", |row| row.organisation.to_string())
        .column(
            "Reason",
            |row| html! {
                code { (row.reason) }
                @if let Some(detail) = &row.detail { div.faint { (detail) } }
            },
            |row| row.reason.clone(),
        )
        .only_in_file("Detail", |row| row.detail.clone().unwrap_or_default())
        .only_in_file("Job", |row| row.job.to_string())
        .number("Entry", |row| row.entry)
        .instant("When", browser.zone(), |row| Some(row.at))
        .actions(|row| html! {
            a href={ "/receipts/" (row.photo) } aria-label={ "Receipt of " (row.key) } { "Receipt" }
        });
    if asked.format == Format::Csv {
        return table.as_file("refunds", &found);
    }
    let (found, more) = PAGES.of(found, |row| row.job.to_string());
    let (organisation, id) = browser.filter();
    let content = html! {
        h1 { "Refunds" }
        form.filters method="get" action="/refunds" {
            input type="hidden" name=(organisation) value=(id);
            label { "Reason" input name="reason" size="14" value=(asked.reason); }
            label { "Run" input name="run" inputmode="numeric" size="8" value=(run); }
            label { "From" input type="date" name="from" value=(asked.from); }
            label { "To" input type="date" name="to" value=(asked.to); }
            button.quiet type="submit" { "Show" }
        }
        p.faint {
            @if asked.from.is_empty() && asked.run.is_none() {
                "Refunds of the last 31 days, newest first."
            } @else { "Newest first." }
            @if more.is_some() { " These are the first " (found.len()) "; the CSV file has all." }
        }
        (table.on_page(&found, "No refunds match.", None))
    };
    Ok(layout::page(&browser, "/refunds", "Refunds", None, content).into_response())
}
