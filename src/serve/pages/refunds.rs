//! The page of refunds, one row for each photo: whose it was, and why, in words.

use axum::{extract::State, response::IntoResponse};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout, reason,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::away,
    ids::{EventId, OrganisationId, RunId},
    ledger::refunds::{self, By, Filter, Only, Refund, Refunds},
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
    event: Option<EventId>,
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

    fn only(&self) -> Only<'_> {
        let reason = Some(self.reason.trim()).filter(|reason| !reason.is_empty());
        Only { reason, run: self.run, event: self.event }
    }

    fn view(&self, browser: &Browser) -> View<'static> {
        let filters = vec![
            browser.filter(),
            ("reason", self.reason.clone()),
            ("event", self.event.map(|event| event.to_string()).unwrap_or_default()),
            ("run", self.run.map(|run| run.to_string()).unwrap_or_default()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ];
        View { path: "/refunds", filters, sort: "" }
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
    let (filter, most) = (asked.filter(&browser)?, PAGES.rows(asked.format));
    let mut db = service.database.acquire().await?;
    let found = refunds::newest(&mut db, filter, asked.only(), most).await?;
    let table = table(&browser, &asked);
    if asked.format == Format::Csv {
        return table.as_file("refunds", &found);
    }
    let (reasons, events) = (
        refunds::count(&mut db, filter, By::Reason).await?,
        refunds::count(&mut db, filter, By::Event).await?,
    );
    let left_out = away::count_since(&mut db, filter.organisation, filter.since).await? > 0;
    let (found, more) = PAGES.of(found, |row| row.job.to_string());
    let content = html! {
        h1 { "Refunds" }
        (form(&browser, &asked, &reasons, &events))
        p.faint {
            @if asked.from.is_empty() && asked.run.is_none() {
                "Refunds of the last 31 days, newest first."
            } @else { "Newest first." }
            @if more.is_some() {
                " These are the first " (found.len()) "; the CSV file has all."
            }
        }
        @if left_out { p.notice {
            "Refunds of archived events are not in this list. Their credits are in the history and in "
            "statements, and each photo's receipt tells its refund."
        } }
        (table.on_page(&found, "No refunds match.", None))
    };
    Ok(layout::page(&browser, "/refunds", "Refunds", None, content).into_response())
}

fn table<'a>(browser: &'a Browser, asked: &Asked) -> Table<'a, Refund> {
    let role = browser.caller.role;
    Table::new(asked.view(browser))
        .instant("When", browser.zone(), |row: &Refund| Some(row.at))
        .column(
            "Photo",
            |row| html! {
                a href={ "/receipts/" (row.photo) } aria-label={ "Receipt of " (row.key) } { (row.key) }
            },
            |row| row.key.clone(),
        )
        .only_in_file("Photo ID", |row| row.photo.to_string())
        .unless(browser.about().is_some(), "Organisation", |row| row.organisation_name.clone())
        .only_in_file("Organisation ID", |row| row.organisation.to_string())
        .column(
            "Event",
            |row| html! { a href={ "/events/" (row.event) } { (row.event_name) } },
            |row| row.event_name.clone(),
        )
        .only_in_file("Event ID", |row| row.event.to_string())
        .column("Operation", |row| html! { (row.operation) }, |row| row.operation.code().into())
        .column(
            "Reason",
            move |row| html! {
                div.words { (reason::what(&row.reason)) (reason::detail(role, row.detail.as_deref())) }
            },
            |row| reason::what(&row.reason),
        )
        .only_in_file("Code", |row| row.reason.clone())
        .only_in_file("Detail", |row| row.detail.clone().unwrap_or_default())
        .only_in_file("Job", |row| row.job.to_string())
        .only_in_file("Entry", |row| row.entry.to_string())
        .actions(|row| html! {
            a href={ "/receipts/" (row.photo) } aria-label={ "Receipt of " (row.key) } { "Receipt" }
        })
}

/// The filters. Reasons and events are those that have refunds.
fn form(browser: &Browser, asked: &Asked, reasons: &[Refunds], events: &[Refunds]) -> Markup {
    let (organisation, id) = browser.filter();
    let run = asked.run.map(|run| run.to_string()).unwrap_or_default();
    let event = asked.event.map(|event| event.to_string()).unwrap_or_default();
    let chosen = asked.reason.trim();
    html! {
        form.filters method="get" action="/refunds" {
            input type="hidden" name=(organisation) value=(id);
            label { "Reason"
                select name="reason" {
                    option value="" { "all reasons" }
                    @for one in reasons {
                        option value=(one.of) selected[one.of == chosen] {
                            (reason::what(&one.of)) " (" (one.credits) ")"
                        }
                    }
                    @if !chosen.is_empty() && reasons.iter().all(|one| one.of != chosen) {
                        option value=(chosen) selected { (reason::what(chosen)) }
                    }
                }
            }
            label { "Event"
                select name="event" {
                    option value="" { "all events" }
                    @for one in events {
                        option value=(one.of) selected[one.of == event] {
                            (one.name) " (" (one.credits) ")"
                        }
                    }
                    @if !event.is_empty() && events.iter().all(|one| one.of != event) {
                        option value=(event) selected { "event " (event) }
                    }
                }
            }
            label { "Run" input name="run" inputmode="numeric" size="6" value=(run); }
            label { "From" input type="date" name="from" value=(asked.from); }
            label { "To" input type="date" name="to" value=(asked.to); }
            button.quiet type="submit" { "Show" }
        }
    }
}
