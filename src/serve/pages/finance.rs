//! For finance: the books balance, and what came back and why; and a photo's receipt.

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Page, PageOrFile, layout,
    refunds::lately,
    table::{Format, Table, View},
};
use crate::{
    access::Role,
    books::{
        receipt::{self, Booking, Job},
        reconciliations::{self, Reconciliation},
        refunds::{self, By, Refunds},
    },
    credits::Credits,
    ids::PhotoId,
    serve::{
        Service,
        api::photos::must_see,
        caller::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// `checks`: the second table as a file.
    #[serde(default)]
    table: String,
    #[serde(default)]
    format: Format,
}

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Finance, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    // The books are those of all organisations.
    let checks = if browser.caller.organisation.is_none() {
        reconciliations::latest(&mut db, asked.format.rows(30)).await?
    } else {
        Vec::new()
    };
    let by_reason = refunds::count(&mut db, lately(browser.about()), By::Reason).await?;
    let extent = reconciliations::extent(&mut db, browser.about()).await?;
    let (came_back, checked) = (came_back(&browser), checked());
    if asked.format == Format::Csv {
        return match asked.table.as_str() {
            "checks" => checked.as_file("checks", &checks),
            _ => came_back.as_file("refunds-by-reason", &by_reason),
        };
    }
    let content = html! {
        h1 { "Finance" }
        @if let Some(last) = checks.first() {
            @if last.violations == 0 {
                p.notice.good { strong { "The books balance ✓" } " checked " (layout::age(Utc::now() - last.ended_at)) " ago (" (last.kind) ")" }
            } @else {
                p.notice.bad role="alert" { strong { "The books do not balance ✗" } " " (last.violations) " rows break an invariant, found " (layout::instant(last.ended_at, "UTC")) }
            }
        } @else if browser.caller.organisation.is_none() { p.notice { "The books were not checked yet: workers do that every minute." } }
        p.faint { (Credits(extent.entries)) " entries in the ledger"
            @if let Some(head) = &extent.head { " · chain head " code title=(head) { (head.chars().take(16).collect::<String>()) "…" } } }
        h2 { "Refunds of the last 31 days" }
        (came_back.on_page(&by_reason, "Nothing came back.", None))
        @if !checks.is_empty() {
            h2 { "Checks of the books" }
            (checked.on_page(&checks, "", None))
        }
    };
    Ok(layout::page(&browser, "/finance", "Finance", None, content).into_response())
}

fn came_back(browser: &Browser) -> Table<'_, Refunds> {
    let (organisation, id) = browser.filter();
    Table::new(View { path: "/finance", filters: vec![(organisation, id.clone())], sort: "" })
        .column("Reason", |row: &Refunds| html! { code { (row.of) } }, |row| row.of.clone())
        .number("Photos", |row| row.photos)
        .number("Credits", |row| row.credits.0)
        .instant("First", browser.zone(), |row| Some(row.first_at))
        .instant("Last", browser.zone(), |row| Some(row.last_at))
        .actions(move |row| html! { a href={ "/refunds?reason=" (row.of) "&" (organisation) "=" (id) } { "Photos" } })
}

fn checked() -> Table<'static, Reconciliation> {
    let filters = vec![("table", "checks".into())];
    Table::new(View { path: "/finance", filters, sort: "" })
        .instant("When", "UTC", |check: &Reconciliation| Some(check.started_at))
        .text("Kind", |check| check.kind.clone())
        .figure(
            "Took",
            |check| html! { (took(check)) " ms" },
            |check| took(check).to_string(),
        )
        .column(
            "Found",
            |check| html! {
                @if check.violations == 0 { span.good { "nothing wrong" } }
                @else { span.bad { (check.violations) " rows" } @if let Some(broken) = &check.broken { pre { (broken) } } }
            },
            |check| check.violations.to_string(),
        )
        .only_in_file("Broken", |check| {
            check.broken.as_ref().map(ToString::to_string).unwrap_or_default()
        })
}

fn took(check: &Reconciliation) -> i64 {
    (check.ended_at - check.started_at).num_milliseconds()
}

pub(super) async fn receipt(
    State(service): State<Service>,
    browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Page {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
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
