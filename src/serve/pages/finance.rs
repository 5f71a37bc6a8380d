//! The page for finance: checks that the books balance, and refunds by reason.

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::html;
use serde::Deserialize;

use super::{
    PageOrFile, layout,
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
        refunds::{self, By, Refunds},
    },
    serve::{Service, authentication::Browser, input::Query},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Which table to send as a file: `checks`, or otherwise the refunds.
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
    // A check covers all organisations, so callers of one organisation do not see checks.
    let checks = if browser.caller.organisation.is_none() {
        past_checks::latest(&mut db, Pages(30).rows(asked.format)).await?
    } else {
        Vec::new()
    };
    let by_reason = refunds::count(&mut db, lately(browser.about()), By::Reason).await?;
    let extent = past_checks::extent(&mut db, browser.about()).await?;
    let (came_back, checked) = (came_back(&browser), checked());
    if asked.format == Format::Csv {
        return match asked.table.as_str() {
            "checks" => checked.as_file("checks", &checks),
            _ => came_back.as_file("refunds-by-reason", &by_reason),
        };
    }
    let raised = if browser.caller.organisation.is_none() {
        alerts::list(&mut db, Some(OrganisationId::STAFF), None).await?
    } else {
        Vec::new()
    };
    let content = html! {
        h1 { "Finance" }
        (super::alerts::raised(&raised))
        @if let Some(last) = checks.first() {
            @if last.violations == 0 {
                p.notice.good {
                    strong { "The books balance ✓" }
                    " checked " (layout::age(Utc::now() - last.ended_at)) " ago (" (last.kind) ")"
                }
            } @else {
                p.notice.bad role="alert" {
                    strong { "The books do not balance ✗" } " " (last.violations)
                    " rows break an invariant, found " (layout::instant(last.ended_at, "UTC"))
                }
            }
        } @else if browser.caller.organisation.is_none() {
            p.notice { "The books have not been checked yet. Workers check them every minute." }
        }
        p.faint { (Credits(extent.entries)) " entries in the ledger"
            @if let Some(head) = &extent.head {
                " · last link of the hash chain "
                code title=(head) { (head.chars().take(16).collect::<String>()) "…" }
            }
        }
        h2 { "Refunds of the last 31 days" }
        (came_back.on_page(&by_reason, "There were no refunds.", None))
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
        .actions(move |row| {
            html! {
                a href={ "/refunds?reason=" (row.of) "&" (organisation) "=" (id) } { "Photos" }
            }
        })
}

fn checked() -> Table<'static, Reconciliation> {
    let filters = vec![("table", "checks".into())];
    Table::new(View { path: "/finance", filters, sort: "" })
        .instant("When", "UTC", |check: &Reconciliation| Some(check.started_at))
        .text("Kind", |check| check.kind.clone())
        .figure("Took", |check| html! { (took(check)) " ms" }, |check| took(check).to_string())
        .column(
            "Found",
            |check| {
                html! {
                    @if check.violations == 0 { span.good { "nothing wrong" } }
                    @else {
                        span.bad { (check.violations) " rows" }
                        @if let Some(broken) = &check.broken { pre { (broken) } }
                    }
                }
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
