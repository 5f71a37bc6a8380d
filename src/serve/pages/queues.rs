//! The page of queues for operators: their states and holds.

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, holds, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    commands::MAY_HOLD,
    queue::{
        status::{self, Filter, Place, Queue, Sort, State as QueueState},
        totals::{self, Totals},
    },
    serve::{Service, authentication::Browser, input::Query, problem::Problem},
};

/// The filters of the queues, as the form sends them: fields may be empty.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    after: String,
    #[serde(default)]
    said: String,
    #[serde(default)]
    format: Format,
}

const STATES: [(&str, &str); 6] = [
    ("", "All"),
    ("no_credits", "Paused: no credits"),
    ("budget", "Paused: budget used up"),
    ("held", "Held"),
    ("running", "Running"),
    ("idle", "Idle"),
];

/// Queues on one page.
const PAGES: Pages = Pages(50);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_HOLD)?;
    let state: Option<QueueState> = match asked.state.as_str() {
        "" => None,
        state => Some(
            serde_json::from_value(state.into())
                .map_err(|_| Problem::invalid("state", "unknown state"))?,
        ),
    };
    let after: Option<Place> = match asked.after.as_str() {
        "" => None,
        after => Some(
            after.parse().map_err(|_| Problem::invalid("after", "go back to the first page"))?,
        ),
    };
    let filter = Filter {
        organisation: browser.about(),
        event: None,
        state,
        name: Some(asked.name.trim()).filter(|name| !name.is_empty()),
        busy: false,
        sort: asked.sort,
        after,
        most: PAGES.rows(asked.format),
    };
    let mut db = service.database.acquire().await?;
    let found = status::list(&mut db, filter).await?;
    let view = View {
        path: "/queues",
        filters: vec![
            browser.filter(),
            ("state", asked.state.clone()),
            ("name", asked.name.clone()),
        ],
        sort: asked.sort.code(),
    };
    let back = view.here();
    let table = table(view, &browser, &back);
    if asked.format == Format::Csv {
        let rows: Vec<_> = found.into_iter().map(|(_, queue)| queue).collect();
        return table.as_file("queues", &rows);
    }
    let (found, next) = PAGES.of(found, |(place, _)| place.to_string());
    let rows: Vec<_> = found.into_iter().map(|(_, queue)| queue).collect();
    let totals = totals::totals(&mut db, browser.about()).await?;
    let (organisation, id) = browser.filter();
    let content = html! {
        h1 { "Queues" }
        (layout::said(&asked.said))
        (strip(&totals))
        h2 { "By event and operation" }
        form.filters method="get" action="/queues" {
            input type="hidden" name=(organisation) value=(id);
            (layout::choice("State", "state", &STATES, &asked.state))
            label { "Event or organisation" input type="search" name="name" value=(asked.name); }
            input type="hidden" name="sort" value=(asked.sort.code());
            button.quiet type="submit" { "Show" }
        }
        p.faint { "Times are in the time zone " (browser.zone()) "." }
        (table.on_page(&rows, "No queues match: choose another state or name.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/queues", "Queues", layout::Live::Every(5), content).into_response())
}

fn strip(totals: &Totals) -> Markup {
    html! {
        div.strip {
            div { "Paused, no credits" b.warn[totals.no_credits > 0] { (totals.no_credits) } }
            @if totals.budget > 0 {
                div { "Paused, budget used up" b { (totals.budget) } }
            }
            div { "Held" b { (totals.held) } }
            div { "Running" b { (totals.running) } }
            div { "Waiting photos" b { (totals.waiting) } }
            div { "Claimable now" b { (totals.funded) } }
            div { "In progress" b { (totals.in_progress) } }
            div { "Photos/s" b { (layout::rate(totals.rate)) } }
            div { "Oldest claimable" b { @match totals.oldest_funded {
                Some(since) => time datetime=(since.to_rfc3339()) title=(since.to_rfc3339()) {
                    (layout::age(Utc::now() - since))
                },
                None => "—",
            } } }
        }
    }
}

/// The table of queues. `back` is the address to return to after a hold is placed or lifted.
fn table<'a>(view: View<'a>, browser: &'a Browser, back: &'a str) -> Table<'a, Queue> {
    let table = progress(states(names(Table::new(view)), browser.zone()));
    table.actions(move |queue| actions(queue, browser, back))
}

/// Adds the columns that say which queue it is.
fn names(table: Table<'_, Queue>) -> Table<'_, Queue> {
    table
        .column(
            "Queue",
            |queue: &Queue| {
                html! {
                    a href={ "/events/" (queue.event) } { (queue.event_name) } " "
                    span.faint { "· " (queue.operation) }
                }
            },
            |queue| queue.event_name.clone(),
        )
        .only_in_file("Event ID", |queue| queue.event.to_string())
        .only_in_file("Operation", |queue| queue.operation.code().into())
        .column(
            "Organisation",
            |queue| {
                html! {
                    a href={ "/credits?organisation=" (queue.organisation) } {
                        (queue.organisation_name)
                    }
                }
            },
            |queue| queue.organisation_name.clone(),
        )
}

/// Adds the columns that say whether the queue runs, and if not, why and since when.
fn states<'a>(table: Table<'a, Queue>, zone: &'a str) -> Table<'a, Queue> {
    table
        .column("State", state, |queue| queue.state.code().into())
        .sorts("state")
        .only_in_file("Kept back by", |queue| queue.kept_back_by.clone().unwrap_or_default())
        .only_in_file("Held by", |queue| queue.owner.clone().unwrap_or_default())
        .only_in_file("Note", |queue| queue.note.clone().unwrap_or_default())
        .moment("Since", zone, |queue| queue.since)
        .sorts("since")
        .moment("Until", zone, |queue| queue.until)
}

/// Adds the columns that say how far the queue is, and how fast it goes.
fn progress(table: Table<'_, Queue>) -> Table<'_, Queue> {
    table
        .figure(
            "Waiting",
            |queue| {
                html! {
                    (queue.waiting)
                    @if queue.in_progress > 0 {
                        span.faint { " (" (queue.in_progress) " in progress)" }
                    }
                }
            },
            |queue| queue.waiting.to_string(),
        )
        .sorts("waiting")
        .only_in_file("In progress", |queue| queue.in_progress.to_string())
        .only_in_file("Processed", |queue| queue.processed.to_string())
        .only_in_file("After rotation", |queue| queue.following.to_string())
        .only_in_file("Undecided", |queue| queue.undecided.to_string())
        .only_in_file("Duplicates", |queue| queue.duplicates.to_string())
        .figure(
            "Failed",
            |queue| {
                html! {
                    @if queue.failed > 0 {
                        a href={ "/failures?event=" (queue.event) } { (queue.failed) }
                    } @else { "0" }
                }
            },
            |queue| queue.failed.to_string(),
        )
        .figure("Photos/s", |queue| layout::rate(queue.rate), |queue| format!("{:.2}", queue.rate))
        .column(
            "ETA",
            |queue| {
                html! {
                    @match eta(queue) {
                        Some(eta) => (layout::about(eta)),
                        None => "—",
                    }
                }
            },
            |queue| eta(queue).map(|eta| format!("{eta:.0}")).unwrap_or_default(),
        )
}

/// Seconds until the queue is done, if it moves.
fn eta(queue: &Queue) -> Option<f64> {
    queue.eta_seconds.filter(|_| !queue.is_stopped() && queue.waiting > 0)
}

fn actions(queue: &Queue, browser: &Browser, back: &str) -> Markup {
    html! {
        @let name = format!("{}, {}", queue.event_name, queue.operation);
        a href={ "/events/" (queue.event) "/why" } aria-label={ "Why " (name) } { "Why" } " "
        @if let Some(hold) = queue.hold {
            form.inline method="get" action={ "/holds/" (hold) "/lift" } {
                input type="hidden" name="back" value=(back);
                button.quiet type="submit" aria-label={ "Lift the hold of " (name) } { "Lift" }
            }
        } @else { (holds::form(queue, browser, back)) }
    }
}

fn state(queue: &Queue) -> Markup {
    html! {
        span.words.warn[queue.is_stopped()] {
            @if queue.state == QueueState::Held {
                "Held by " (queue.owner.as_deref().unwrap_or("somebody"))
                @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) {
                    " “" (note) "”"
                }
            } @else { (queue.state.name()) }
            @if let Some(why) = queue.kept_back() { ", waits: " (why) }
        }
    }
}
