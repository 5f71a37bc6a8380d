//! The page of an event: the progress of its queues, its settings, failures and photos.

use axum::{extract::State, http::HeaderMap, response::IntoResponse};
use chrono::Utc;
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    PageOrFile, archives, erase,
    events::percent,
    finder, layout,
    photos::{all, card, table},
    process_photos, runs as runs_page, selfie, settings, spending as spending_page,
    standing::{Standing, chip, done, left},
    table_view::{Format, Pages, View},
    timeline as timeline_page, upload,
};
use crate::{
    catalog::{
        archive::{self, State as ArchiveState},
        events::{self, Event},
        photos::{self, Filter, State as PhotoState},
    },
    commands::{MAY_CORRECT, MAY_ENQUEUE, MAY_SPEND},
    ids::{EventId, Operation},
    ledger::{
        credits::Credits,
        spending::{self, EventSpending},
    },
    queue::{
        failures::Group,
        runs::{self, Run},
        status::{Queue, State as QueueState},
        timeline, totals,
    },
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        live::{self, Live, Of},
        problem::Problem,
        reads::bib_number,
    },
};

/// The filters of the photos, as the form sends them: fields may be empty.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    state: String,
    #[serde(default)]
    bib: String,
    #[serde(default)]
    numbers: Numbers,
    #[serde(default)]
    after: String,
    #[serde(default)]
    said: String,
    #[serde(default)]
    format: Format,
}

/// Which bib numbers a photo must have to be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Numbers {
    #[default]
    #[serde(rename = "")]
    Any,
    /// One that is not sure.
    Unsure,
}

impl Numbers {
    fn code(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Unsure => "unsure",
        }
    }
}

impl Shown {
    /// Only photos in this state; `None`: in any.
    fn state(&self) -> Result<Option<PhotoState>, Problem> {
        match self.state.as_str() {
            "" => Ok(None),
            code => PhotoState::ALL
                .into_iter()
                .find(|state| state.code() == code)
                .map(Some)
                .ok_or_else(|| Problem::invalid("state", "unknown state")),
        }
    }

    /// The address of the page with these filters.
    fn address(&self, path: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let filters = [
            ("state", self.state.as_str()),
            ("bib", &self.bib),
            ("numbers", self.numbers.code()),
            ("after", &self.after),
        ];
        for (name, value) in filters.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// The form with the filters.
    fn form(&self, id: EventId) -> Markup {
        let states: Vec<(&str, &str)> = std::iter::once(("", "All"))
            .chain(PhotoState::ALL.map(|state| (state.code(), state.name())))
            .collect();
        let numbers = [("", "All"), (Numbers::Unsure.code(), "Not sure")];
        html! {
            form.filters method="get" action={ "/events/" (id) "#photos" } {
                (layout::choice("State", "state", &states, &self.state))
                label { "Bib number" input name="bib" size="8" value=(self.bib); }
                (layout::choice("Numbers", "numbers", &numbers, self.numbers.code()))
                button.quiet type="submit" { "Show" }
            }
        }
    }
}

/// Entries of the timeline that are drawn.
const DRAWN: i64 = 100;

/// Photos on one page.
const PAGES: Pages = Pages(48);

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(shown): Query<Shown>,
    headers: HeaderMap,
) -> PageOrFile {
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    browser.look_at(&mut db, event.organisation).await?;
    let zone = browser.zone();
    let bib = if shown.bib.trim().is_empty() { None } else { Some(bib_number(&shown.bib)?) };
    let filter = Filter {
        state: shown.state()?,
        bib: bib.as_deref(),
        unsure: shown.numbers == Numbers::Unsure,
        photo: None,
        after: Some(&shown.after),
        most: PAGES.rows(shown.format),
    };
    let path = format!("/events/{id}");
    let view = View {
        path: &path,
        filters: vec![
            ("state", shown.state.clone()),
            ("bib", shown.bib.clone()),
            ("numbers", shown.numbers.code().to_owned()),
        ],
        sort: "",
    };
    if shown.format == Format::Csv {
        let all = all(&mut db, id, Filter { after: None, ..filter }).await?;
        return table(view).as_file(&format!("event-{id}"), &all);
    }
    let standing = live::standing(&mut db, Of::Event(id, event.organisation)).await?;
    let archive = archive::of_event(&mut db, id).await?;
    let is_here = archive.as_ref().is_none_or(|archive| archive.state == ArchiveState::Packing);
    let failures = timeline_page::failures(&mut db, id).await?;
    let found = if is_here { photos::list(&mut db, id, filter).await? } else { Vec::new() };
    let (found, next) = PAGES.of(found, |photo| photo.key.clone());
    let empty = standing.queues.iter().all(|queue| total(queue) == 0);
    let budget = if MAY_SPEND.contains(&browser.caller.role) {
        let found = spending::read(&mut db, event.organisation, Some(id)).await?;
        found.and_then(|found| found.events.into_iter().find(|one| one.event == id))
    } else {
        None
    };
    let waiting = runs::waiting(&mut db, id).await?;
    let finder = finder::form(&service, &mut db, &headers, &browser, &event, &shown.said).await?;
    let undoable = service.commands.undoable(&browser.caller, id).await?;
    let may_correct = MAY_CORRECT.contains(&browser.caller.role);
    let back = shown.address(&path);
    let state = QueueState::of_all(&standing.queues);
    let elsewhere = elsewhere(&mut db, &event, &standing.queues).await?;
    let happened = happened(&mut db, id, &failures, &browser).await?;
    let stands = Standing {
        event: &event,
        queues: &standing.queues,
        failures: &failures,
        elsewhere,
        browser: &browser,
    };
    let content = html! {
        h1 { (event.name) " " span.faint { "Event " (event.id) } " " (chip(state, !empty)) }
        (layout::said(&shown.said))
        @if let Some(archive) = &archive { (archives::notice(archive, &browser)) }
        (runs_page::undoable(id, &undoable, &browser, zone))
        (stands.answers())
        (happened)
        div {
            @for queue in standing.queues.iter().filter(|queue| {
                queue.operation == Operation::PhotoProcessing || total(queue) > 0
            }) {
                (strip(queue))
            }
        }
        (managing(&event, &browser, empty, &waiting, budget.as_ref()))
        (finder)
        @if !failures.is_empty() { (failed(id, &failures, &browser, zone)) }
        @if is_here {
            h2 id="photos" { "Photos" }
            (shown.form(id))
            @if found.is_empty() && empty {
                p.faint {
                    "No photos yet. Upload some, or press Process Photos above and choose their directory "
                    "in the store. An upload pipeline queues its photos by itself."
                }
            } @else if found.is_empty() {
                p.faint { "No photos match: choose another filter." }
            }
            ul.grid { @for photo in &found { (card(photo, &back, may_correct)) } }
            @if !found.is_empty() { (view.ways(next.as_ref())) }
        }
    };
    let stream = Some(format!("/events/{id}/live"));
    Ok(layout::page(&browser, "/events", &event.name, stream, content).into_response())
}

/// What people do with the event: queue photos, change it, search in it.
fn managing(
    event: &Event,
    browser: &Browser,
    empty: bool,
    waiting: &[Run],
    budget: Option<&EventSpending>,
) -> Markup {
    html! {
        p {
            a href={ "/events/" (event.id) "/why" } { "Why are photos waiting?" } " "
            a href={ "/events/" (event.id) "/quality" } { "What was found?" } " "
            a href={ "/events/" (event.id) "/schedules" } { "Scheduled photos" }
        }
        @if MAY_ENQUEUE.contains(&browser.caller.role) { div.row id="process" {
            (upload::link(event.id))
            (process_photos::form(event.id, Operation::PhotoProcessing, "Process Photos", empty))
            (process_photos::form(event.id, Operation::AiRotation, "AI Rotation", empty))
        } }
        (runs_page::waiting(waiting, browser, browser.zone()))
        (settings::form(browser, event))
        @if let Some(budget) = budget {
            details {
                summary { "Credits for this event" }
                div.panel {
                    p { (budget.used) " credits are used. The event never uses more than its limit, and "
                        "what is kept for it cannot be used by other events." }
                    (spending_page::form(budget, browser, ""))
                }
            }
        }
        (selfie::form(browser, event))
        (erase::form(browser, event))
    }
}

/// Photos of the organisation's other events that wait, where this one waits for credits; else 0.
async fn elsewhere(db: &mut PgConnection, event: &Event, queues: &[Queue]) -> sqlx::Result<i64> {
    if queues.iter().all(|queue| queue.state != QueueState::NoCredits) {
        return Ok(0);
    }
    let all = totals::totals(db, Some(event.organisation)).await?;
    let own: i64 = queues
        .iter()
        .filter(|queue| queue.state != QueueState::Held)
        .map(|queue| queue.waiting)
        .sum();
    Ok((all.waiting - all.waiting_held - own).max(0))
}

/// The picture of what happened last, for those who may see the timeline.
async fn happened(
    db: &mut PgConnection,
    event: EventId,
    failures: &[Group],
    browser: &Browser,
) -> sqlx::Result<Markup> {
    if !timeline_page::MAY_LOOK.contains(&browser.caller.role) {
        return Ok(html! {});
    }
    let entries = timeline::list(db, event, None, DRAWN).await?;
    let zone = browser.zone();
    let drawn = timeline_page::draw(db, event, &entries, failures, Utc::now(), zone).await?;
    Ok(html! {
        (drawn)
        @if !entries.is_empty() {
            p { a href={ "/events/" (event) "/timeline" } { "What happened, line by line" } }
        }
    })
}

fn total(queue: &Queue) -> i64 {
    done(queue) + left(queue)
}

/// The progress of an operation.
fn strip(queue: &Queue) -> Markup {
    let paused = if queue.is_stopped() { queue.waiting } else { 0 };
    let (total, done) = (total(queue), done(queue));
    let left = queue.eta_seconds.filter(|_| !queue.is_stopped() && queue.waiting > 0);
    let number = |name: &str, live: &str, photos: i64| {
        html! { div { (name) b data-live=(live) { (Credits(photos)) } } }
    };
    html! {
        section aria-label=(queue.operation) {
            h2 { (queue.operation.name()) }
            div.strip aria-live="polite" {
                (number("Total photos", "total", total))
                (number("Processed", "processed", queue.processed))
                (number("In Progress", "in_progress", queue.in_progress))
                (number("Pending", "pending", queue.waiting - paused))
                // Photo processing always decides.
                @if queue.operation == Operation::AiRotation {
                    (number("Undecided", "undecided", queue.undecided))
                }
                // AI rotation follows nothing.
                @if queue.operation == Operation::PhotoProcessing {
                    (number("After Rotation", "following", queue.following))
                }
                (number("Duplicates", "duplicates", queue.duplicates))
                (number("Failed", "failed", queue.failed))
                (number("Paused", "paused", paused))
            }
            div.row {
                progress aria-label={ "Done of " (queue.operation) }
                    max=(total.max(1)) value=(done) {}
                span data-live="percent" { (percent(done, total - done)) " %" }
            }
            p.faint { @if let Some(left) = left {
                (layout::about(left)) " left"
                @if queue.funded < queue.waiting {
                    " with the available credits; then " (Credits(queue.waiting - queue.funded))
                    " photos will wait"
                }
            } }
        }
    }
}

/// The event's failures, grouped by reason.
fn failed(event: EventId, groups: &[Group], browser: &Browser, zone: &str) -> Markup {
    let filters = vec![("event", event.to_string())];
    let view = View { path: "/failures", filters, sort: "photos" };
    html! {
        h2 id="failures" { "Failures" }
        (super::failures::table(view, browser, zone).on_page(groups, "", None))
    }
}

pub(super) async fn live(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<EventId>,
) -> Result<Live, Problem> {
    let organisation = {
        let mut db = service.database.acquire().await?;
        browser.caller.must_see_event(id, events::find(&mut db, id).await?)?.organisation
    };
    live::stream(service, browser.authenticated(), Of::Event(id, organisation))
}
