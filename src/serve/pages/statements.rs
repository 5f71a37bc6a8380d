//! The statement of a month: opening balance, every row of the history, closing balance.

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{PageOrFile, layout};
use crate::{
    access::Role,
    ledger::{
        credits::Credits,
        statement::{Line, Statement},
    },
    serve::{
        Service,
        authentication::Browser,
        input::Query,
        reads::{statement_csv, statement_of, statement_pdf},
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    month: String,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Page,
    Csv,
    Json,
    Pdf,
}

/// How the opening balance became the closing balance.
fn sums(statement: &Statement) -> Markup {
    let sums = statement.sums();
    let (added, used) = (sums.added, sums.used());
    html! {
        p {
            "Opening " strong { (statement.opening) }
            @if added.0 < 0 { " − " } @else { " + " } (Credits(added.0.abs())) " added − "
            (used) " used = closing " strong { (statement.closing) }
        }
        @if sums.refunded.0 > 0 {
            p.faint {
                (sums.charged) " were charged, and " (sums.refunded)
                " refunded: " (used) " were used."
            }
        }
    }
}

/// The form that chooses a month. `organisation` is the name of the field with the `id`.
fn form(organisation: &str, id: &str, month: &str) -> Markup {
    html! {
        form.filters method="get" action="/statements" {
            input type="hidden" name=(organisation) value=(id);
            label { "Month" input type="month" name="month" value=(month) required; }
            button.quiet type="submit" { "Show" }
        }
    }
}

/// The lines, between a row for the opening balance and one for the closing balance.
fn table(statement: &Statement, lines: &[Line]) -> Markup {
    let zone = &statement.time_zone;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Lines of the statement" { table.cards-on-phone {
            thead { tr {
                th { "Date" } th { "Type" } th { "Event" } th { "User" }
                th.number { "Credits" } th.number { "Balance" }
            } }
            tbody {
                tr {
                    td data-label="Date" { (layout::instant(statement.begins_at, zone)) }
                    td colspan="4" data-label="" { strong { "Opening balance" } }
                    td.number data-label="Balance" { strong { (statement.opening) } }
                }
                @for line in lines { tr {
                    td data-label="Date" {
                        (layout::instant(line.at, zone))
                        @if line.growing { " " span.chip { "today so far" } }
                    }
                    td data-label="Type" { (line.kind.name()) }
                    td data-label="Event" {
                        @if let Some(event) = line.event {
                            a href={ "/events/" (event) } {
                                (line.event_name.as_deref().unwrap_or("—"))
                            }
                        } @else { "—" }
                    }
                    td data-label="User" { span.words { (line.actor) } }
                    td.number.good[line.credits.0 > 0] data-label="Credits" { (layout::signed(line.credits)) }
                    td.number data-label="Balance" { (line.balance) }
                } }
                @if lines.len() == statement.lines.len() { tr {
                    td data-label="Date" {
                        @if statement.closed { (layout::instant(statement.ends_at, zone)) }
                        @else { "now" }
                    }
                    td colspan="4" data-label="" { strong { "Closing balance" } }
                    td.number data-label="Balance" { strong { (statement.closing) } }
                } }
            }
        } }
    }
}

/// Lines on the page; a file has all.
const SHOWN: usize = 1000;

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let month = match asked.month.as_str() {
        "" => Utc::now().with_timezone(&layout::zone(browser.zone())).format("%Y-%m").to_string(),
        month => month.to_owned(),
    };
    let (organisation, id) = browser.filter();
    let Some(about) = browser.about() else {
        let content = html! {
            h1 { "Statements" }
            p.notice {
                "A statement is for one organisation: "
                a href="/organisations?to=/statements" { "choose one" } "."
            }
        };
        return Ok(
            layout::page(&browser, "/statements", "Statements", None, content).into_response()
        );
    };
    let mut db = service.database.acquire().await?;
    let name = format!("statement-{about}-{month}");
    match asked.format {
        Format::Page => {}
        Format::Json => {
            return Ok(axum::Json(statement_of(&mut db, about, &month).await?).into_response());
        }
        Format::Csv => return statement_csv(&mut db, about, &month).await,
        Format::Pdf => return statement_pdf(&mut db, about, &month).await,
    }
    let statement = statement_of(&mut db, about, &month).await?;
    let shown = statement.lines.get(..SHOWN).unwrap_or(&statement.lines);
    let file =
        |format: &str| format!("/statements?month={month}&{organisation}={id}&format={format}");
    let content = html! {
        h1 { "Statements" }
        (form(organisation, &id, &month))
        div.row.apart {
            h2 {
                (statement.name) " · " (statement.month.format("%B %Y")) " "
                span.badge { @if statement.closed { "Closed" } @else { "Current" } }
            }
            div.row {
                "Download:"
                a download href=(file("csv")) { "CSV" }
                a download={ (name) ".json" } href=(file("json")) { "JSON" }
                a download href=(file("pdf")) { "PDF" }
            }
        }
        (sums(&statement))
        @if shown.len() < statement.lines.len() {
            p.faint {
                "These are the first " (layout::grouped(SHOWN)) " of "
                (layout::grouped(statement.lines.len())) " lines; the CSV file has all."
            }
        }
        (table(&statement, shown))
        p.faint {
            "A run has one line a day, at the time of its last photo. The balance is what was "
            "available at that time. Lines of one day may overlap in time."
            @if let Some(seal) = &statement.sealed_by {
                " The closing balance is sealed by link "
                code { (seal.chars().take(16).collect::<String>()) "…" } "."
            }
        }
    };
    Ok(layout::page(&browser, "/statements", "Statements", None, content).into_response())
}
