//! The statement of a month: opening balance, every row of the history, closing balance.

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, View},
};
use crate::{
    access::Role,
    ledger::{credits::Credits, history::Kind, statement::Line},
    serve::{Service, authentication::Browser, input::Query, reads::statement_of},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    month: String,
    #[serde(default)]
    json: bool,
    #[serde(default)]
    format: Format,
}

/// The credits added, used and refunded between the opening and the closing balance.
fn sums(lines: &[Line]) -> Markup {
    let sum = |of: fn(&Line) -> bool| {
        Credits(lines.iter().filter(|line| of(line)).map(|line| line.credits.0).sum())
    };
    let used = sum(|line| line.kind == Kind::Usage);
    let came_back = sum(|line| line.kind == Kind::Refund);
    let added = sum(|line| !matches!(line.kind, Kind::Usage | Kind::Refund));
    html! {
        @if added.0 < 0 { " − " } @else { " + " }
        (Credits(added.0.abs())) " added − " (Credits(-used.0)) " used + " (came_back) " refunded"
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

fn table<'a>(view: View<'a>, zone: &'a str) -> Table<'a, Line> {
    Table::new(view)
        .instant("Date", zone, |line: &Line| Some(line.at))
        .text("Type", |line| line.kind.name().into())
        .text("Event", |line| line.event_name.clone().unwrap_or_default())
        .only_in_file("Event ID", |line| {
            line.event.map(|event| event.to_string()).unwrap_or_default()
        })
        .text("User", |line| line.actor.clone())
        .only_in_file("Note", |line| line.note.clone().unwrap_or_default())
        .figure(
            "Credits",
            |line| html! { (layout::signed(line.credits)) },
            |line| line.credits.0.to_string(),
        )
        .number("Balance", |line| line.balance.0)
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
    let statement = statement_of(&mut db, about, &month).await?;
    if asked.json {
        return Ok(axum::Json(statement).into_response());
    }
    let view = View {
        path: "/statements",
        filters: vec![(organisation, id.clone()), ("month", month.clone())],
        sort: "",
    };
    let table = table(view, &statement.time_zone);
    if asked.format == Format::Csv {
        return table.as_file(&format!("statement-{about}-{month}"), &statement.lines);
    }
    let shown = statement.lines.get(..SHOWN).unwrap_or(&statement.lines);
    let content = html! {
        h1 { "Statements" }
        (form(organisation, &id, &month))
        h2 {
            (statement.name) " · " (statement.month.format("%B %Y")) " "
            span.badge { @if statement.closed { "Closed" } @else { "Current" } }
        }
        p {
            "Opening " strong { (statement.opening) } (sums(&statement.lines))
            " = closing " strong { (statement.closing) }
            @if let Some(seal) = &statement.sealed_by {
                " · sealed by link " code { (seal.chars().take(16).collect::<String>()) "…" }
            }
        }
        @if shown.len() < statement.lines.len() {
            p.faint {
                "These are the first " (SHOWN) " of " (statement.lines.len())
                " lines; the CSV file has all."
            }
        }
        (table.on_page(shown, "No credits moved in this month.", None))
        p {
            a download={ "statement-" (about) "-" (month) ".json" }
                href={ "/statements?month=" (month) "&" (organisation) "=" (id) "&json=true" } {
                "JSON"
            }
        }
    };
    Ok(layout::page(&browser, "/statements", "Statements", None, content).into_response())
}
