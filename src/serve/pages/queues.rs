//! For operators: what does not run, why, and what to do.

use axum::{extract::State, response::Redirect};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, confirm, event::code, layout};
use crate::{
    access::Role,
    event,
    failures::{self, Group},
    ids::{EventId, HoldId, Operation, OrganisationId},
    queues::{self, Queue, State as QueueState},
    serve::{
        Service,
        api::books::only_who_runs_it,
        api::queues::{NewHold, NewRetry, Which, again, lift_one, page as queue_page, place},
        caller::Browser,
        input::{Path, Query},
        problem::Problem,
    },
    why,
};

/// Which queues, as a form sends it, with empty fields.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    after: String,
}

const STATES: [(&str, &str); 5] = [
    ("", "All, paused first"),
    ("no_credits", "Paused: no credits"),
    ("held", "Held"),
    ("running", "Running"),
    ("idle", "Idle"),
];

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> Page {
    browser.caller.must_be(&[Role::Operator, Role::Staff])?;
    let state: Option<QueueState> = match asked.state.as_str() {
        "" => None,
        state => Some(
            serde_json::from_value(state.into())
                .map_err(|_| Problem::invalid("state", "no such state"))?,
        ),
    };
    let mut db = service.database.acquire().await?;
    let totals = queues::totals(&mut db, browser.caller.organisation).await?;
    let which = Which {
        state,
        name: Some(asked.name.clone()),
        after: Some(asked.after.clone()),
        ..Which::default()
    };
    let found = queue_page(&mut db, &browser.caller, &which).await?;
    let content = html! {
        h1 { "Queues" }
        div.strip {
            div { "Paused, no credits" b.warn[totals.no_credits > 0] { (totals.no_credits) } }
            div { "Held" b { (totals.held) } }
            div { "Running" b { (totals.running) } }
            div { "Waiting photos" b { (totals.waiting) } }
            div { "of these funded" b { (totals.funded) } }
            div { "In progress" b { (totals.in_progress) } }
        }
        h2 { "By event and operation" }
        form.filters method="get" action="/queues" {
            (layout::choice("State", "state", &STATES, &asked.state))
            label { "Event or organisation" input type="search" name="name" value=(asked.name); }
            button.quiet type="submit" { "Show" }
        }
        @if found.items.is_empty() { p.faint { "No queue is like that." } }
        @else { div.scroll { table {
            thead { tr { th { "Queue" } th { "Organisation" } th { "State" } th { "Since" } th { "Until" }
                th.number { "Waiting" } th.number { "Failed" } th.number { "Photos/s" } th { "ETA" } th {} } }
            tbody { @for queue in &found.items { (row(queue, &browser)) } }
        } } }
        (layout::more("/queues", &[("state", asked.state.clone()), ("name", asked.name.clone())], found.next.as_ref()))
    };
    Ok(layout::page(&browser, "/queues", "Queues", None, content))
}

fn row(queue: &Queue, browser: &Browser) -> Markup {
    let stopped = matches!(queue.state, QueueState::Held | QueueState::NoCredits);
    html! {
        tr {
            td { a href={ "/events/" (queue.event) } { (queue.event_name) } " " span.faint { "· " (queue.operation) } }
            td { a href={ "/credits?organisation=" (queue.organisation) } { (queue.organisation_name) } }
            td.warn[stopped] {
                @if queue.state == QueueState::Held {
                    "Held by " (queue.owner.as_deref().unwrap_or("somebody"))
                    @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) { " “" (note) "”" }
                } @else { (queue.state.name()) }
            }
            td { @match queue.since { Some(since) => (layout::instant(since, "UTC")), None => "—" } }
            td { @match queue.until { Some(until) => (layout::instant(until, "UTC")), None => "—" } }
            td.number { (queue.waiting) @if queue.in_progress > 0 { " + " (queue.in_progress) } }
            td.number { (queue.failed) }
            td.number { @if queue.rate > 0.0 { (format!("{:.1}", queue.rate)) } @else { "—" } }
            td { @match queue.eta_seconds.filter(|_| !stopped && queue.waiting > 0) { Some(eta) => (layout::about(eta)), None => "—" } }
            td {
                a href={ "/events/" (queue.event) "/why" } { "Why" } " "
                @if let Some(hold) = queue.hold {
                    form.inline method="post" action={ "/holds/" (hold) "/lift" } { (layout::key(browser)) button.quiet type="submit" { "Lift" } }
                } @else { (hold_form(queue, browser)) }
            }
        }
    }
}

fn hold_form(queue: &Queue, browser: &Browser) -> Markup {
    html! {
        details.add {
            summary { "Hold" }
            form method="post" action={ "/events/" (queue.event) "/hold" } {
                (layout::key(browser))
                input type="hidden" name="operation" value=(code(queue.operation));
                label { "Why?" input name="note" maxlength="1000" required; }
                label { "For how many minutes? Empty: until it is lifted" input type="number" name="minutes" min="1" max="525600"; }
                p.faint { "Nothing more of it is claimed, whatever is topped up." }
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
                minutes.parse().map_err(|_| Problem::invalid("minutes", "a number of minutes"))?;
            if !(1..=525_600).contains(&minutes) {
                return Err(Problem::invalid("minutes", "from 1 to 525600 minutes"));
            }
            Some(Utc::now() + TimeDelta::minutes(minutes))
        }
    };
    let new = NewHold { operation: Some(hold.operation), note: hold.note, until };
    place(&service, &form.browser.caller, event, &new).await?;
    Ok(Redirect::to("/queues"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn lift(
    State(service): State<Service>,
    Path(hold): Path<HoldId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    lift_one(&service, &form.browser.caller, hold).await?;
    Ok(Redirect::to("/queues"))
}

pub(super) async fn why(
    State(service): State<Service>,
    browser: Browser,
    Path(event): Path<EventId>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, event::find(&mut db, event).await?)?;
    let why = why::event(&mut db, event)
        .await?
        .ok_or_else(|| Problem::not_found(format!("event {event}")))?;
    let content = html! {
        h1 { "Why? " span.faint { (found.name) " · " (event) } }
        p { (why.answer) }
        @if !why.chain.is_empty() { ol { @for cause in &why.chain {
            li { (cause.says) @if let Some(since) = cause.since { span.faint { " since " (layout::instant(since, "UTC")) } } }
        } } }
        @match &why.action { Some(action) => p.notice { "Do: " strong { (action) } }, None => p.notice.good { "Nothing has to be done." } }
        p { a href={ "/events/" (event) } { "To the event" } }
    };
    Ok(layout::page(&browser, "/events", "Why", None, content))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Of {
    organisation: Option<OrganisationId>,
}

pub(super) async fn failures(
    State(service): State<Service>,
    browser: Browser,
    Query(of): Query<Of>,
) -> Page {
    browser.caller.must_be(&[Role::Organiser, Role::Operator, Role::Finance, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    let organisation = super::whose(&browser.caller, of.organisation)?;
    let groups = failures::groups(&mut db, organisation, None).await?;
    let content = html! {
        h1 { "Failures" }
        p.faint { "Photos that failed and were not retried since. Each got its credit back." }
        @if groups.is_empty() { p.notice.good { "Nothing has failed." } } @else { (failure_table(&groups, &browser, "UTC")) }
    };
    Ok(layout::page(&browser, "/failures", "Failures", None, content))
}

pub(super) fn failure_table(groups: &[Group], browser: &Browser, zone: &str) -> Markup {
    let may_retry = matches!(browser.caller.role, Role::Organiser | Role::Operator | Role::Staff);
    html! {
        div.scroll { table {
            thead { tr { th { "Reason" } th { "Event" } th { "Operation" } th.number { "Photos" } th { "Last" } th {} } }
            tbody { @for group in groups { tr {
                td { code { (group.reason) } }
                td { a href={ "/events/" (group.event) "?state=failed#photos" } { (group.event_name) } }
                td { (group.operation) }
                td.number { (group.photos) }
                td { (layout::instant(group.last_at, zone)) " · " a href={ "/receipts/" (group.example) } { "newest" } }
                td { @if may_retry {
                    form.inline method="get" action={ "/events/" (group.event) "/retry" } {
                        input type="hidden" name="operation" value=(code(group.operation));
                        input type="hidden" name="reason" value=(group.reason);
                        button.quiet type="submit" { "Retry" }
                    }
                } }
            } } }
        } }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Retry {
    operation: Operation,
    reason: String,
}

impl Retry {
    fn retry(&self, dry_run: bool) -> NewRetry {
        NewRetry { operation: Some(self.operation), reason: Some(self.reason.clone()), dry_run }
    }
}

/// What it will cost.
pub(super) async fn ask_retry(
    State(service): State<Service>,
    browser: Browser,
    Path(event): Path<EventId>,
    Query(retry): Query<Retry>,
) -> Page {
    let retried = again(&service, &browser.caller, event, &retry.retry(true)).await?;
    let says = html! { p { "Retry " strong { (retried.photos) } " photos: " strong { (retried.credits) } " credits, " (retried.available) " available." } };
    let fields = [("operation", code(retry.operation).to_owned()), ("reason", retry.reason)];
    let action = format!("/events/{event}/retry");
    Ok(confirm::page(&browser, "Retry", says, &action, "/failures", &fields, "Retry them"))
}

pub(super) async fn retry(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Retry>,
) -> Result<Redirect, Problem> {
    again(&service, &form.browser.caller, event, &form.fields.retry(false)).await?;
    Ok(Redirect::to(&format!("/events/{event}")))
}

pub(super) async fn workers(State(service): State<Service>, browser: Browser) -> Page {
    browser.caller.must_be(&[Role::Operator, Role::Staff])?;
    only_who_runs_it(&browser.caller)?;
    let mut db = service.database.acquire().await?;
    let workers = queues::workers(&mut db).await?;
    let content = html! {
        h1 { "Workers" }
        @if workers.is_empty() { p.notice { "No worker is running. Start one: " code { "photogate work" } } }
        @else { div.scroll { table {
            thead { tr { th { "Name" } th { "Since" } th.number { "Slots" } th.number { "In hand" } th.number { "Photos/s" } th { "Heard of" } th { "Last failure" } } }
            tbody { @for worker in &workers { tr {
                td { (worker.name) }
                td { (layout::instant(worker.since, "UTC")) }
                td.number { (worker.slots) }
                td.number { (worker.in_hand) }
                td.number { @if worker.rate > 0.0 { (format!("{:.1}", worker.rate)) } @else { "—" } }
                td.bad[worker.lease_seconds < 0.0] { @if worker.lease_seconds < 0.0 { (format!("late by {:.0} s", -worker.lease_seconds)) } @else { "in time" } }
                td { @match &worker.last_reason { Some(reason) => code { (reason) }, None => "—" } }
            } } }
        } } }
    };
    Ok(layout::page(&browser, "/workers", "Workers", None, content))
}
