//! For finance: the books balance, what came back and why, statements and receipts.

use axum::{extract::State, response::Response};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Page, csv_file, layout, whose};
use crate::{
    access::{Caller, Role},
    books::{
        receipt::{self, Booking, Job},
        reconciliations,
        refunds::{self, By, Filter},
        statement::Statement,
    },
    ids::{OrganisationId, PhotoId},
    organisation,
    serve::{
        Service,
        api::{credits::of_month, photos::must_see},
        caller::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// The last 31 days.
fn lately(organisation: Option<OrganisationId>) -> Filter {
    Filter { since: Utc::now() - TimeDelta::days(31), until: None, organisation }
}

pub(super) async fn page(State(service): State<Service>, browser: Browser) -> Page {
    browser.caller.must_be(&[Role::Finance, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    let own = browser.caller.organisation;
    let checks =
        if own.is_none() { reconciliations::latest(&mut db, 30).await? } else { Vec::new() };
    let by_reason = refunds::count(&mut db, lately(own), By::Reason).await?;
    let content = html! {
        h1 { "Finance" }
        @if let Some(last) = checks.first() {
            @if last.violations == 0 {
                p.notice.good { strong { "The books balance ✓" } " checked " (layout::instant(last.ended_at, "UTC")) " (" (last.kind) ")" }
            } @else {
                p.notice.bad role="alert" { strong { "The books do not balance ✗" } " " (last.violations) " rows break an invariant, found " (layout::instant(last.ended_at, "UTC")) }
            }
        } @else if own.is_none() { p.notice { "The books were not checked yet: workers do that every minute." } }
        h2 { "Refunds of the last 31 days" }
        @if by_reason.is_empty() { p.faint { "Nothing came back." } }
        @else { div.scroll { table {
            thead { tr { th { "Reason" } th.number { "Photos" } th.number { "Credits" } th { "Last" } th {} } }
            tbody { @for row in &by_reason { tr {
                td { code { (row.of) } } td.number { (row.photos) } td.number { (row.credits) } td { (layout::instant(row.last_at, "UTC")) }
                td { a href={ "/refunds?reason=" (row.of) } { "Photos" } }
            } } }
        } } }
        @if !checks.is_empty() {
            h2 { "Checks of the books" }
            div.scroll { table {
                thead { tr { th { "When" } th { "Kind" } th.number { "Took" } th { "Found" } } }
                tbody { @for check in &checks { tr {
                    td { (layout::instant(check.started_at, "UTC")) } td { (check.kind) }
                    td.number { ((check.ended_at - check.started_at).num_milliseconds()) " ms" }
                    td.good[check.violations == 0].bad[check.violations > 0] { @if check.violations == 0 { "nothing wrong" } @else { (check.violations) " rows" @if let Some(broken) = &check.broken { pre { (broken) } } } }
                } } }
            } }
        }
    };
    Ok(layout::page(&browser, "/finance", "Finance", None, content))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    reason: String,
    organisation: Option<OrganisationId>,
}

/// Refunds of the page.
const REFUNDS: i64 = 1000;

pub(super) async fn refunds(
    State(service): State<Service>,
    browser: Browser,
    Query(which): Query<Which>,
) -> Page {
    browser.caller.must_be(MAY_READ)?;
    let organisation = whose(&browser.caller, which.organisation)?;
    let mut db = service.database.acquire().await?;
    let reason = Some(which.reason.as_str()).filter(|reason| !reason.is_empty());
    let found = refunds::newest(&mut db, lately(organisation), reason, REFUNDS).await?;
    let content = html! {
        h1 { "Refunds" @if !which.reason.is_empty() { " · " code { (which.reason) } } }
        p.faint { "Of the last 31 days, the newest first." @if found.len() >= 1000 { " These are the first 1,000; the API has all." } }
        div.scroll { table {
            thead { tr { th { "Photo" } th { "Operation" } th { "Event" } th { "Reason" } th.number { "Entry" } th { "When" } th {} } }
            tbody { @for row in &found { tr {
                td { (row.key) } td { (row.operation) } td { a href={ "/events/" (row.event) } { (row.event) } }
                td { code { (row.reason) } @if let Some(detail) = &row.detail { div.faint { (detail) } } }
                td.number { (row.entry) } td { (layout::instant(row.at, "UTC")) }
                td { a href={ "/receipts/" (row.photo) } { "Receipt" } }
            } } }
        } }
    };
    Ok(layout::page(&browser, "/refunds", "Refunds", None, content))
}

pub(super) async fn receipt(
    State(service): State<Service>,
    browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Page {
    browser.caller.must_be(MAY_READ)?;
    let mut db = service.database.acquire().await?;
    must_see(&mut db, &browser.caller, photo).await?;
    let missing = || Problem::not_found(format!("photo {photo}"));
    let receipt = receipt::receipt(&mut db, photo, None).await?.ok_or_else(missing)?;
    let content = html! {
        h1 { "Receipt" }
        p { strong { (receipt.key) } " · " a href={ "/events/" (receipt.event) } { (receipt.event_name) } br; span.faint { (receipt.photo) } }
        @for job in &receipt.jobs { (job_of(job)) }
    };
    Ok(layout::page(&browser, "/finance", "Receipt", None, content))
}

fn job_of(job: &Job) -> Markup {
    html! {
        section.panel {
            h2 { (job.operation) @if job.retry { " (retried by a person)" } " · " (job.state.replace('_', " ")) }
            ol {
                li { "queued by " strong { (job.queued_by) } " " (layout::instant(job.queued_at, "UTC")) " in run " (job.run) }
                @if let Some(skipped) = &job.skipped { li { "taken out by " (skipped.by) " " (layout::instant(skipped.at, "UTC")) } }
                @if let Some(booking) = &job.reserved { li { (booked(booking)) } }
                @for attempt in &job.attempts {
                    li { "attempt " (attempt.number) ", worker " (attempt.worker) ", " (layout::instant(attempt.started_at, "UTC"))
                        @if let Some(ended) = &attempt.ended { " · " (ended.replace('_', " ")) }
                        @if let Some(reason) = &attempt.reason { " (" code { (reason) } ")" } }
                }
                @if let Some(booking) = &job.closed { li { (booked(booking)) } }
            }
            @if let Some(reason) = &job.reason { p { "Why: " code { (reason) } @if let Some(detail) = &job.detail { " " span.faint { (detail) } } } }
        }
    }
}

fn booked(booking: &Booking) -> Markup {
    let what = match booking.movement.as_str() {
        "reserve" => "1 credit reserved",
        "commit" => "1 credit earned",
        "refund" => "1 credit came back",
        other => other,
    };
    html! {
        strong { (what) } " · entry " (booking.entry) " · balance " (booking.balance_before) " → " (booking.balance_after) " · " (layout::instant(booking.at, "UTC"))
        div.faint { "sealed by " code { (booking.link.chars().take(16).collect::<String>()) "…" } }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Month {
    #[serde(default)]
    organisation: String,
    #[serde(default)]
    month: String,
}

impl Month {
    fn of(&self, caller: &Caller) -> Result<Option<OrganisationId>, Problem> {
        let asked =
            match self.organisation.trim() {
                "" => None,
                id => Some(OrganisationId(id.parse().map_err(|_| {
                    Problem::invalid("organisation", "an organisation is a number")
                })?)),
            };
        whose(caller, asked)
    }
}

pub(super) async fn statement(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Month>,
) -> Page {
    browser.caller.must_be(MAY_READ)?;
    let organisation = asked.of(&browser.caller)?;
    let mut db = service.database.acquire().await?;
    let month = if asked.month.is_empty() {
        Utc::now().format("%Y-%m").to_string()
    } else {
        asked.month.clone()
    };
    let statement = match organisation {
        Some(organisation) => Some(of_month(&mut db, organisation, &month).await?),
        None => None,
    };
    let all = if browser.caller.organisation.is_none() {
        organisation::list(&mut db).await?
    } else {
        Vec::new()
    };
    let content = html! {
        h1 { "Statements" }
        form.filters method="get" action="/statements" {
            @if !all.is_empty() { label { "Organisation" select name="organisation" {
                @for found in &all { option value=(found.id) selected[organisation == Some(found.id)] { (found.name) } }
            } } }
            label { "Month" input type="month" name="month" value=(month) required; }
            button.quiet type="submit" { "Show" }
            button.quiet type="submit" formaction="/statements.csv" { "CSV" }
        }
        @if let Some(statement) = &statement { (shown(statement)) }
    };
    Ok(layout::page(&browser, "/statements", "Statements", None, content))
}

fn shown(statement: &Statement) -> Markup {
    let zone = &statement.time_zone;
    html! {
        h2 { (statement.name) " · " (statement.month.format("%B %Y")) " " @if statement.closed { span.badge { "Closed" } } @else { span.badge { "Current" } } }
        p { "Opening " strong { (statement.opening) } " → closing " strong { (statement.closing) }
            @if let Some(seal) = &statement.sealed_by { " · sealed by " code { (seal.chars().take(16).collect::<String>()) "…" } } }
        div.scroll { table {
            thead { tr { th { "Date" } th { "Type" } th { "Event" } th { "User" } th.number { "Credits" } th.number { "Balance" } } }
            tbody { @for line in &statement.lines { tr {
                td { (layout::instant(line.at, zone)) } td { (line.kind.name()) }
                td { (line.event_name.as_deref().unwrap_or("—")) } td { (line.actor) }
                td.number { (super::credits::signed(line.credits)) } td.number { (line.balance) }
            } } }
        } }
    }
}

pub(super) async fn statement_csv(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Month>,
) -> Result<Response, Problem> {
    browser.caller.must_be(MAY_READ)?;
    let organisation =
        asked.of(&browser.caller)?.ok_or_else(|| Problem::invalid("organisation", "choose one"))?;
    let mut db = service.database.acquire().await?;
    let statement = of_month(&mut db, organisation, &asked.month).await?;
    let mut rows = vec![
        ["at", "type", "credits", "balance", "event_id", "event", "user", "note"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(statement.lines.into_iter().map(|line| {
        vec![
            line.at.to_rfc3339(),
            line.kind.name().to_owned(),
            line.credits.0.to_string(),
            line.balance.0.to_string(),
            line.event.map(|event| event.to_string()).unwrap_or_default(),
            line.event_name.unwrap_or_default(),
            line.actor,
            line.note.unwrap_or_default(),
        ]
    }));
    csv_file(&format!("statement-{organisation}-{}.csv", asked.month), rows)
}
