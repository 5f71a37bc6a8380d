//! The page of queues for operators: their states and holds.

use std::collections::HashMap;

use axum::{extract::State, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile,
    bulk::{self, Chosen},
    layout, pulse as picture,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    commands::MAY_HOLD,
    ledger::credits::Credits,
    queue::{
        pulse::{self, Pulse},
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
    /// `all`: the queues of the page are ticked.
    #[serde(default)]
    tick: String,
    #[serde(default)]
    format: Format,
}

const STATES: [(&str, &str); 7] = [
    ("", "All but idle"),
    (ALL, "All"),
    ("no_credits", "Paused: no credits"),
    ("budget", "Paused: budget used up"),
    ("held", "Held"),
    ("running", "Running"),
    ("idle", "Idle"),
];

/// Idle queues too. They are many, and nothing is to do about them.
const ALL: &str = "all";

/// The orders, as people name them.
const SORTS: [(&str, &str); 3] = [
    ("state", "What is stopped"),
    ("since", "Stopped longest"),
    ("waiting", "Most photos waiting"),
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
        "" | ALL => None,
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
    let name = Some(asked.name.trim()).filter(|name| !name.is_empty());
    let filter = Filter {
        organisation: browser.about(),
        event: None,
        state,
        name,
        // Who asks for a name wants to find it.
        busy: asked.state.is_empty() && name.is_none(),
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
    let all =
        view.address(&[("sort", asked.sort.code()), ("after", &asked.after), ("tick", "all")]);
    let shown: Vec<i64> = found.iter().map(|(_, queue)| queue.id).collect();
    let (found, next) = match asked.format {
        Format::Csv => (found, None),
        Format::Page => PAGES.of(found, |(place, _)| place.to_string()),
    };
    let pulses = pulse::of_queues(&mut db, &shown).await?;
    let on_page = OnPage { browser: &browser, back: &back, pulses, ticked: asked.tick == "all" };
    let table = table(view, &on_page);
    let rows: Vec<_> = found.into_iter().map(|(_, queue)| queue).collect();
    if asked.format == Format::Csv {
        return table.as_file("queues", &rows);
    }
    let totals = totals::totals(&mut db, browser.about()).await?;
    let pulse = pulse::of_all(&mut db, browser.about()).await?;
    drop(db);
    let undoable = service.commands.undoable_bulks(&browser.caller).await?;
    let content = html! {
        h1 { "Queues" }
        (bulk::said(&asked.said, &undoable))
        (bulk::undoable(&undoable, &browser, &back))
        div.overview { (strip(&totals)) (picture::graph(&pulse)) }
        (filters(&asked, &browser, &all))
        (table.on_page(&rows, nothing(&asked), next.as_ref()))
        @if !rows.is_empty() { (bulk::bar(&browser.caller, &back)) }
    };
    Ok(layout::page(&browser, "/queues", "Queues", layout::Live::Every(5), content).into_response())
}

/// What is said in place of no queues.
fn nothing(asked: &Asked) -> &'static str {
    if asked.state.is_empty() && asked.name.trim().is_empty() {
        "All queues are idle. Choose “All” to see them."
    } else {
        "No queues match: choose another state or name."
    }
}

/// The form that filters and sorts the queues. `all` is the address with all of them ticked.
fn filters(asked: &Asked, browser: &Browser, all: &str) -> Markup {
    let (organisation, id) = browser.filter();
    html! {
        form.filters method="get" action="/queues" {
            input type="hidden" name=(organisation) value=(id);
            (layout::choice("State", "state", &STATES, &asked.state))
            label { "Event or organisation" input type="search" name="name" value=(asked.name); }
            (layout::choice("Order", "sort", &SORTS, asked.sort.code()))
            button.quiet type="submit" { "Show" }
            a.button.quiet href=(all) { "Tick all" }
            span.faint { "Times are in the time zone " (browser.zone()) "." }
        }
    }
}

fn strip(totals: &Totals) -> Markup {
    let number = Credits;
    html! {
        div.strip {
            div { "Paused, no credits"
                b.warn[totals.no_credits > 0] { (number(totals.no_credits)) } }
            @if totals.budget > 0 {
                div { "Paused, budget used up" b { (number(totals.budget)) } }
            }
            div { "Held" b { (number(totals.held)) } }
            div { "Running" b { (number(totals.running)) } }
            div { "Waiting photos" b { (number(totals.waiting)) } }
            div { "Claimable now" b { (number(totals.funded)) } }
            div { "In progress" b { (number(totals.in_progress)) } }
            div { "Photos/s" b { (layout::rate(totals.rate)) } }
            (oldest(totals))
        }
    }
}

/// How long the photo has waited that nothing keeps back and that was queued first.
pub(super) fn oldest(totals: &Totals) -> Markup {
    html! {
        div { "Oldest claimable" b { @match totals.oldest_funded {
            Some(since) => time datetime=(since.to_rfc3339()) title=(since.to_rfc3339()) {
                (layout::age(Utc::now() - since))
            },
            None => "—",
        } } }
    }
}

/// What the rows need to know beside their queue.
struct OnPage<'a> {
    browser: &'a Browser,
    /// The address to return to.
    back: &'a str,
    pulses: HashMap<i64, Pulse>,
    /// Whether the boxes are ticked at first.
    ticked: bool,
}

/// The table of queues.
fn table<'a>(view: View<'a>, on: &'a OnPage<'a>) -> Table<'a, Queue> {
    let table = Table::new(view)
        .looks("dense cards-on-phone")
        .rows_are(|queue: &Queue| format!("queue-{}", queue.id))
        .tool("Tick", move |queue| {
            html! {
                label {
                    span.hidden { "Tick " (name(queue)) }
                    input type="checkbox" id={ "tick-" (queue.id) } form="bulk" name="queue"
                        value=(queue.id) checked[on.ticked];
                }
            }
        });
    let table = progress(states(names(table), on.browser.zone()), on);
    table.actions(move |queue| actions(queue, on))
}

fn name(queue: &Queue) -> String {
    format!("{}, {}", queue.event_name, queue.operation)
}

/// Adds the columns that say which queue it is.
fn names(table: Table<'_, Queue>) -> Table<'_, Queue> {
    table
        .column(
            "Queue",
            |queue: &Queue| {
                html! { span.pair title=(name(queue)) {
                    a href={ "/events/" (queue.event) } { (queue.event_name) } " "
                    span.faint { "· " (queue.operation) }
                } }
            },
            |queue| queue.event_name.clone(),
        )
        .only_in_file("Event ID", |queue| queue.event.to_string())
        .only_in_file("Operation", |queue| queue.operation.code().into())
        .column(
            "Organisation",
            |queue| {
                html! { span.one-line.short title=(queue.organisation_name) {
                    a href={ "/credits?organisation=" (queue.organisation) } {
                        (queue.organisation_name)
                    }
                } }
            },
            |queue| queue.organisation_name.clone(),
        )
}

/// Adds the columns that say whether the queue runs, and if not, why and since when.
fn states<'a>(table: Table<'a, Queue>, zone: &'a str) -> Table<'a, Queue> {
    table
        .column("State", move |queue| state(queue, zone), |queue| queue.state.code().into())
        .sorts("state")
        .only_in_file("Kept back by", |queue| queue.kept_back_by.clone().unwrap_or_default())
        .only_in_file("Held by", |queue| queue.owner.clone().unwrap_or_default())
        .only_in_file("Note", |queue| queue.note.clone().unwrap_or_default())
        .moment("Since", zone, |queue| queue.since)
        .sorts("since")
        .only_in_file("Until", |queue| {
            queue.until.map(|until| until.to_rfc3339()).unwrap_or_default()
        })
}

/// Adds the columns that say how far the queue is, and how fast it goes.
fn progress<'a>(table: Table<'a, Queue>, on: &'a OnPage<'a>) -> Table<'a, Queue> {
    table
        .figure(
            "Waiting",
            |queue| {
                html! {
                    (Credits(queue.waiting))
                    @if queue.in_progress > 0 {
                        span.faint title="waiting + in progress" {
                            " + " (Credits(queue.in_progress))
                            span.hidden { " in progress" }
                        }
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
                        a href={ "/failures?event=" (queue.event) } { (Credits(queue.failed)) }
                    } @else { "0" }
                }
            },
            |queue| queue.failed.to_string(),
        )
        .figure("Photos/s", |queue| layout::rate(queue.rate), |queue| format!("{:.2}", queue.rate))
        .column(
            "Last 3 h",
            move |queue| picture::line(on.pulses.get(&queue.id)),
            move |queue| on.pulses.get(&queue.id).map_or(0, Pulse::total).to_string(),
        )
        .column(
            "ETA",
            |queue| {
                html! {
                    @match eta(queue) {
                        Some(eta) => span.one-line { (soon(eta)) },
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

/// A rounded duration in few characters.
fn soon(seconds: f64) -> String {
    if seconds < 60.0 {
        return "< 1 min".into();
    }
    layout::about(seconds).trim_start_matches("about ").to_owned()
}

fn actions(queue: &Queue, on: &OnPage<'_>) -> Markup {
    let name = name(queue);
    let (chosen, word) =
        if queue.hold.is_some() { (Chosen::Lift, "Lift") } else { (Chosen::Hold, "Hold") };
    html! {
        span.ways-of {
            a href={ "/events/" (queue.event) "/why" } aria-label={ "Why " (name) } { "Why" }
            a href=(bulk::address(chosen, queue.id, on.back)) aria-label={ (word) " " (name) } { (word) }
        }
    }
}

/// The state as a chip: its word, and a colour.
fn state(queue: &Queue, zone: &str) -> Markup {
    let (look, word) = match queue.state {
        QueueState::Held => ("held", "Held"),
        QueueState::NoCredits => ("paused", "No credits"),
        QueueState::Budget => ("paused", "Budget used up"),
        QueueState::Running if queue.kept_back().is_some() => ("slow", "Running"),
        QueueState::Running => ("running", "Running"),
        QueueState::Idle => ("idle", "Idle"),
    };
    let why = match queue.state {
        QueueState::Held => {
            let owner = queue.owner.as_deref().unwrap_or("somebody");
            let note = queue.note.as_deref().filter(|note| !note.is_empty());
            Some(format!(
                "by {owner}{}",
                note.map_or_else(String::new, |note| format!(" “{note}”"))
            ))
        }
        QueueState::NoCredits | QueueState::Budget | QueueState::Running | QueueState::Idle => {
            queue.kept_back().map(|why| format!("waits: {why}"))
        }
    };
    html! {
        span.one-line.state-of title=[why.as_deref()] {
            span class={ "chip state " (look) } title=(queue.state.name()) { (word) }
            @if let Some(why) = &why { " " (why) }
            @if let Some(until) = queue.until { " until " (layout::moment(until, zone)) }
        }
    }
}
