//! The page of queues for operators: their states, holds, and why a queue does not run.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout,
    table::{Format, Pages, Table, View},
};
use crate::commands::{MAY_HOLD, NewHold};
use crate::{
    catalog::events,
    ids::{EventId, HoldId, Operation},
    queue::{
        holds,
        status::{self, Filter, Place, Queue, Sort, State as QueueState},
        totals::{self, Totals},
        why,
    },
    serve::{
        Service,
        caller::Browser,
        input::{Path, Query},
        problem::Problem,
    },
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

const STATES: [(&str, &str); 5] = [
    ("", "All"),
    ("no_credits", "Paused: no credits"),
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
    Ok(layout::page(&browser, "/queues", "Queues", None, content).into_response())
}

fn strip(totals: &Totals) -> Markup {
    html! {
        div.strip {
            div { "Paused, no credits" b.warn[totals.no_credits > 0] { (totals.no_credits) } }
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
    let moves = |queue: &Queue| !queue.is_stopped() && queue.waiting > 0;
    Table::new(view)
        .column(
            "Queue",
            |queue: &Queue| html! {
                a href={ "/events/" (queue.event) } { (queue.event_name) } " "
                span.faint { "· " (queue.operation) }
            },
            |queue| queue.event_name.clone(),
        )
        .only_in_file("Event ID", |queue| queue.event.to_string())
        .only_in_file("Operation", |queue| queue.operation.code().into())
        .column(
            "Organisation",
            |queue| html! {
                a href={ "/credits?organisation=" (queue.organisation) } {
                    (queue.organisation_name)
                }
            },
            |queue| queue.organisation_name.clone(),
        )
        .column("State", state, |queue| queue.state.code().into())
        .sorts("state")
        .only_in_file("Held by", |queue| queue.owner.clone().unwrap_or_default())
        .only_in_file("Note", |queue| queue.note.clone().unwrap_or_default())
        .moment("Since", browser.zone(), |queue| queue.since)
        .sorts("since")
        .moment("Until", browser.zone(), |queue| queue.until)
        .figure(
            "Waiting",
            |queue| html! {
                (queue.waiting)
                @if queue.in_progress > 0 {
                    span.faint { " (" (queue.in_progress) " in progress)" }
                }
            },
            |queue| queue.waiting.to_string(),
        )
        .sorts("waiting")
        .only_in_file("In progress", |queue| queue.in_progress.to_string())
        .only_in_file("Processed", |queue| queue.processed.to_string())
        .figure(
            "Failed",
            |queue| html! {
                @if queue.failed > 0 {
                    a href={ "/failures?event=" (queue.event) } { (queue.failed) }
                } @else { "0" }
            },
            |queue| queue.failed.to_string(),
        )
        .figure(
            "Photos/s",
            |queue| layout::rate(queue.rate),
            |queue| format!("{:.2}", queue.rate),
        )
        .column(
            "ETA",
            move |queue| html! {
                @match queue.eta_seconds.filter(|_| moves(queue)) {
                    Some(eta) => (layout::about(eta)),
                    None => "—",
                }
            },
            move |queue| {
                let eta = queue.eta_seconds.filter(|_| moves(queue));
                eta.map(|eta| format!("{eta:.0}")).unwrap_or_default()
            },
        )
        .actions(move |queue| html! {
            @let name = format!("{}, {}", queue.event_name, queue.operation);
            a href={ "/events/" (queue.event) "/why" } aria-label={ "Why " (name) } { "Why" } " "
            @if let Some(hold) = queue.hold {
                form.inline method="get" action={ "/holds/" (hold) "/lift" } {
                    input type="hidden" name="back" value=(back);
                    button.quiet type="submit" aria-label={ "Lift the hold of " (name) } { "Lift" }
                }
            } @else { (hold_form(queue, browser, back)) }
        })
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
        }
    }
}

fn hold_form(queue: &Queue, browser: &Browser, back: &str) -> Markup {
    html! {
        details.add {
            summary.button.quiet aria-label={ "Hold " (queue.event_name) ", " (queue.operation) } {
                "Hold"
            }
            form method="post" action={ "/events/" (queue.event) "/hold" } {
                (layout::key(browser))
                input type="hidden" name="operation" value=(queue.operation.code());
                input type="hidden" name="back" value=(back);
                label { "Why?" input name="note" maxlength="1000" required; }
                label {
                    "For how many minutes? Leave empty to hold it until it is lifted"
                    input type="number" name="minutes" min="1" max="525600";
                }
                p.faint { "No more of its photos are claimed, even after a top-up." }
                button type="submit" { "Hold it" }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Hold {
    operation: Operation,
    note: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    back: String,
}

pub(super) async fn hold(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Hold>,
) -> Result<Redirect, Problem> {
    let hold = form.fields;
    let until = match hold.minutes.trim() {
        "" => None,
        minutes => {
            let minutes: i64 =
                minutes.parse().map_err(|_| Problem::invalid("minutes", "enter a number"))?;
            if !(1..=525_600).contains(&minutes) {
                return Err(Problem::invalid("minutes", "enter 1 to 525600 minutes"));
            }
            Some(Utc::now() + TimeDelta::minutes(minutes))
        }
    };
    let new = NewHold { operation: Some(hold.operation), note: hold.note, until };
    service.commands.hold(&form.browser.caller, event, &new).await?;
    Ok(Redirect::to(&layout::back_to("/queues", &hold.back, "held")))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Lift {
    #[serde(default)]
    back: String,
}

/// Asks for confirmation of lifting a hold: what resumes, and which other holds stay.
pub(super) async fn ask_lift(
    State(service): State<Service>,
    mut browser: Browser,
    Path(hold): Path<HoldId>,
    Query(lift): Query<Lift>,
) -> Page {
    browser.caller.must_be(MAY_HOLD)?;
    let mut db = service.database.acquire().await?;
    let missing = || Problem::not_found(format!("hold {hold}"));
    let event = holds::event_of(&mut db, hold).await?.ok_or_else(missing)?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?);
    let found = found.map_err(|_| missing())?;
    browser.look_at(&mut db, found.organisation).await?;
    let queues = status::of_event(&mut db, event).await?;
    let mut held = None;
    for queue in &queues {
        let holds = holds::standing(&mut db, event, Some(queue.operation)).await?;
        if holds.contains(&hold) {
            held = Some((queue, holds.len() - 1));
        }
    }
    let (queue, others) = held.ok_or_else(missing)?;
    let says = html! {
        p {
            (queue.operation) " of " strong { (queue.event_name) } " is held by "
            (queue.owner.as_deref().unwrap_or("somebody"))
            @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) {
                " “" (note) "”"
            } "."
        }
        @if others > 0 {
            p.notice {
                "Other holds on this queue stay: " (others)
                ". Its photos are claimed again when no hold is left."
            }
        } @else {
            p {
                "If you lift the hold, " strong { (queue.waiting) } " photos resume, at one credit each. "
                "The available credits pay for " (queue.funded) " of them."
            }
        }
    };
    let question = confirm::Question {
        title: "Lift the hold?",
        says,
        yes: Some("Lift it"),
        action: &format!("/holds/{hold}/lift"),
        back: &layout::back_to("/queues", &lift.back, ""),
        here: "/queues",
    };
    Ok(question.page(&browser, &[("back", lift.back)]))
}

pub(super) async fn lift(
    State(service): State<Service>,
    Path(hold): Path<HoldId>,
    form: Form<Lift>,
) -> Result<Redirect, Problem> {
    service.commands.lift_hold(&form.browser.caller, hold).await?;
    Ok(Redirect::to(&layout::back_to("/queues", &form.fields.back, "lifted")))
}

pub(super) async fn why(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let why = why::event(&mut db, event)
        .await?
        .ok_or_else(|| Problem::not_found(format!("event {event}")))?;
    let content = html! {
        h1 { "Why? " span.faint { (found.name) " · " (event) } }
        p { (why.answer) }
        @if !why.chain.is_empty() { ol { @for cause in &why.chain {
            li {
                (cause.says)
                @if let Some(since) = cause.since {
                    span.faint { " since " (layout::instant(since, browser.zone())) }
                }
            }
        } } }
        @match &why.action {
            Some(action) => p.notice { "Do: " strong { (action) } },
            None => p.notice.good { "There is nothing to do." },
        }
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "Why", None, content))
}
