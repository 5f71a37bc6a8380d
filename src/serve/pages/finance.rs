//! The page for finance: whether the books balance, what deviates, and refunds in words.

mod checks;
pub(super) mod months;

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout, reason,
    refunds::lately,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    changes::alerts,
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        past_checks::{self, Reconciliation},
        payments,
        refunds::{self, By, Refunds},
    },
    serve::{Service, authentication::Browser, input::Query},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Which table to send as a file: `checks`, `where`, or otherwise the refunds by reason.
    #[serde(default)]
    table: String,
    #[serde(default)]
    format: Format,
}

/// Payments that are counted on the page.
const PAYMENTS_MAX: i64 = 100;

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Finance, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    // A check covers all organisations, so callers of one organisation do not see checks.
    let sees_all = browser.caller.organisation.is_none();
    let by = if browser.about().is_some() { By::Event } else { By::Organisation };
    let filter = lately(browser.about());
    let by_reason = refunds::count(&mut db, filter, By::Reason).await?;
    let by_place = refunds::count(&mut db, filter, by).await?;
    let (came_back, places) = (came_back(&browser), places(&browser, by));
    if asked.format == Format::Csv {
        return match asked.table.as_str() {
            "checks" if sees_all => {
                let all = past_checks::latest(&mut db, Pages(0).rows(asked.format)).await?;
                checks::table().as_file("checks", &all)
            }
            "where" => places.as_file("refunds-by-place", &by_place),
            _ => came_back.as_file("refunds-by-reason", &by_reason),
        };
    }
    let extent = past_checks::extent(&mut db, browser.about()).await?;
    let open = payments::Filter {
        organisation: browser.about(),
        open: true,
        ..payments::Filter::default()
    };
    let kept = payments::list(&mut db, open, PAYMENTS_MAX).await?.len();
    let checked = if sees_all {
        checks::section(&mut db).await?
    } else {
        html! {}
    };
    let raised = if sees_all {
        alerts::list(&mut db, Some(OrganisationId::STAFF), None).await?
    } else {
        Vec::new()
    };
    let last = if sees_all { past_checks::latest(&mut db, 1).await?.pop() } else { None };
    let refunded: i64 = by_reason.iter().map(|row| row.credits.0).sum();
    let content = html! {
        h1 { "Finance" }
        (super::alerts::raised(&raised))
        @if sees_all { (balance(last.as_ref())) }
        @if kept > 0 {
            p.notice { a href=(super::people::about(&browser, "/purchases")) {
                (kept) " payments have arrived and did not become credits"
            } ": pay them back at the provider, or let staff add the credits." }
        }
        (checked)
        h2 { "Months" }
        (months::links(&browser))
        h2 { "Refunds of the last 31 days" }
        @if refunded > 0 {
            p { strong { (Credits(refunded)) } @if refunded == 1 { " credit" } @else { " credits" }
                " came back. A photo that is not processed costs nothing." }
        }
        (came_back.on_page(&by_reason, "There were no refunds.", None))
        @if !by_place.is_empty() {
            h2 { @if by == By::Event { "By event" } @else { "By organisation" } }
            (places.on_page(&by_place, "", None))
        }
        p.faint { (Credits(extent.entries)) " entries in the ledger"
            @if let Some(head) = &extent.head {
                " · last link of the hash chain "
                code title=(head) { (head.chars().take(16).collect::<String>()) "…" }
            }
        }
    };
    Ok(layout::page(&browser, "/finance", "Finance", None, content).into_response())
}

/// What the last check has found.
fn balance(last: Option<&Reconciliation>) -> Markup {
    html! {
        @match last {
            Some(last) if last.violations == 0 => p.notice.good {
                strong { "The books balance ✓" }
                " checked " (layout::age(Utc::now() - last.ended_at)) " ago"
            },
            Some(last) => p.notice.bad role="alert" {
                strong { "The books do not balance ✗" } " " (Credits(last.violations))
                " rows are wrong, found " (layout::instant(last.ended_at, "UTC"))
            },
            None => p.notice { "The books have not been checked yet. Workers check them every minute." },
        }
    }
}

fn came_back(browser: &Browser) -> Table<'_, Refunds> {
    let (organisation, id) = browser.filter();
    Table::new(View { path: "/finance", filters: vec![(organisation, id.clone())], sort: "" })
        .column("Reason", |row: &Refunds| reason::says(&row.of), |row| reason::what(&row.of))
        .only_in_file("Code", |row| row.of.clone())
        .number("Credits", |row| row.credits.0)
        .instant("First", browser.zone(), |row| Some(row.first_at))
        .instant("Last", browser.zone(), |row| Some(row.last_at))
        .actions(move |row| {
            html! {
                a href={ "/refunds?reason=" (row.of) "&" (organisation) "=" (id) }
                    aria-label={ "Photos: " (reason::what(&row.of)) } { "Photos" }
            }
        })
}

/// Refunds by organisation or, of one organisation, by event.
fn places(browser: &Browser, by: By) -> Table<'_, Refunds> {
    let (organisation, id) = browser.filter();
    let filters = vec![(organisation, id.clone()), ("table", "where".into())];
    let name = if by == By::Event { "Event" } else { "Organisation" };
    Table::new(View { path: "/finance", filters, sort: "" })
        .text(name, |row: &Refunds| row.name.clone())
        .only_in_file("ID", |row| row.of.clone())
        .number("Credits", |row| row.credits.0)
        .instant("Last", browser.zone(), |row| Some(row.last_at))
        .actions(move |row| {
            let to = match by {
                By::Event => format!("/refunds?event={}&{organisation}={id}", row.of),
                By::Organisation | By::Reason => format!("/refunds?organisation={}", row.of),
            };
            html! { a href=(to) aria-label={ "Photos of " (row.name) } { "Photos" } }
        })
}
