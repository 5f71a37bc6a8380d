//! The page of an event: the progress of its queues, its settings, failures and photos.

use axum::{extract::State, response::IntoResponse};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, erase, layout,
    photos::{all, card, table},
    process_photos, runs as runs_page, selfie, settings, spending as spending_page,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::{
        events::{self, Event},
        photos::{self, Filter, State as PhotoState},
    },
    commands::{MAY_CORRECT, MAY_ENQUEUE, MAY_SPEND},
    ids::{EventId, Operation},
    ledger::spending,
    queue::{
        failures::{self, Group},
        runs,
        status::{Queue, State as QueueState},
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

/// Photos on one page.
const PAGES: Pages = Pages(48);

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(shown): Query<Shown>,
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
    let which = failures::Which { event: Some(id), ..failures::Which::default() };
    let failures = failures::groups(&mut db, which).await?;
    let found = photos::list(&mut db, id, filter).await?;
    let (found, next) = PAGES.of(found, |photo| photo.key.clone());
    let may_run = MAY_ENQUEUE.contains(&browser.caller.role);
    let empty = standing.queues.iter().all(|queue| total(queue) == 0);
    let budget = if MAY_SPEND.contains(&browser.caller.role) {
        let found = spending::read(&mut db, event.organisation, Some(id)).await?;
        found.and_then(|found| found.events.into_iter().find(|one| one.event == id))
    } else {
        None
    };
    let waiting = runs::waiting(&mut db, id).await?;
    let undoable = service.commands.undoable(&browser.caller, id).await?;
    let back = MAY_CORRECT.contains(&browser.caller.role).then(|| shown.address(&path));
    let content = html! {
        h1 { (event.name) " " span.faint { "· " (event.id) } }
        (layout::said(&shown.said))
        (runs_page::undoable(id, &undoable, &browser, zone))
        div {
            @for queue in standing.queues.iter().filter(|queue| {
                queue.operation == Operation::PhotoProcessing || total(queue) > 0
            }) {
                (strip(queue, &event, &browser, zone))
            }
        }
        p {
            a href={ "/events/" (event.id) "/why" } { "Why are photos waiting?" } " "
            a href={ "/events/" (event.id) "/quality" } { "What was found?" } " "
            a href={ "/events/" (event.id) "/timeline" } { "What happened?" } " "
            a href={ "/events/" (event.id) "/schedules" } { "Scheduled photos" }
        }
        @if may_run { div.row {
            (process_photos::form(id, Operation::PhotoProcessing, "Process Photos", empty))
            (process_photos::form(id, Operation::AiRotation, "AI Rotation", empty))
        } }
        (runs_page::waiting(&waiting, &browser, zone))
        (settings::form(&browser, &event))
        @if let Some(budget) = &budget {
            details {
                summary { "Credits for this event" }
                div.panel {
                    p { (budget.used) " credits are used. The event never uses more than its limit, and "
                        "what is kept for it cannot be used by other events." }
                    (spending_page::form(budget, &browser, ""))
                }
            }
        }
        (selfie::form(&browser, &event))
        (erase::form(&browser, &event))
        @if !failures.is_empty() { (failed(id, &failures, &browser, zone)) }
        h2 id="photos" { "Photos" }
        (shown.form(id))
        @if found.is_empty() && empty {
            p.faint {
                "No photos yet. The upload pipeline queues them after a sync. "
                "You can also press Process Photos above, and name their directory."
            }
        } @else if found.is_empty() {
            p.faint { "No photos match: choose another filter." }
        }
        ul.grid { @for photo in &found { (card(photo, back.as_deref())) } }
        @if !found.is_empty() { (view.ways(next.as_ref())) }
    };
    let stream = Some(format!("/events/{id}/live"));
    Ok(layout::page(&browser, "/events", &event.name, stream, content).into_response())
}

fn total(queue: &Queue) -> i64 {
    done(queue) + queue.in_progress + queue.waiting + queue.following
}

fn done(queue: &Queue) -> i64 {
    queue.processed + queue.undecided + queue.duplicates + queue.failed
}

/// The progress of an operation; if its queue is stopped, also why, and what to do.
fn strip(queue: &Queue, event: &Event, browser: &Browser, zone: &str) -> Markup {
    let paused = if queue.is_stopped() { queue.waiting } else { 0 };
    let (total, done) = (total(queue), done(queue));
    let left = queue.eta_seconds.filter(|_| !queue.is_stopped() && queue.waiting > 0);
    html! {
        section aria-label=(queue.operation) {
            h2 { (queue.operation.title()) }
            div.strip aria-live="polite" {
                div { "Total photos" b data-live="total" { (total) } }
                div { "Processed" b.good data-live="processed" { (queue.processed) } }
                div { "In Progress" b data-live="in_progress" { (queue.in_progress) } }
                div { "Pending" b data-live="pending" { (queue.waiting - paused) } }
                // Photo processing always decides.
                @if queue.operation == Operation::AiRotation {
                    div { "Undecided" b data-live="undecided" { (queue.undecided) } }
                }
                // AI rotation follows nothing.
                @if queue.operation == Operation::PhotoProcessing {
                    div { "After Rotation" b data-live="following" { (queue.following) } }
                }
                div { "Duplicates" b data-live="duplicates" { (queue.duplicates) } }
                div { "Failed" b data-live="failed" { (queue.failed) } }
                div { "Paused" b data-live="paused" { (paused) } }
            }
            div.row {
                progress aria-label={ "Done of " (queue.operation) }
                    max=(total.max(1)) value=(done) {}
                span data-live="percent" { (percent(done, total)) " %" }
            }
            p.faint { @if let Some(left) = left {
                (layout::about(left)) " left"
                @if queue.funded < queue.waiting {
                    " with the available credits; then " (queue.waiting - queue.funded)
                    " photos will wait"
                }
            } }
            @if let Some(why) = queue.kept_back() {
                p.notice { "The " (queue.waiting) " photos wait: " (why) ". "
                    a href={ "/spending?organisation=" (event.organisation) } { "See the pace" }
                }
            }
            @if queue.waiting > 0 && queue.is_stopped() { (stopped(queue, event, browser, zone)) }
        }
    }
}

/// The share of photos that are done, rounded down: 100 only when all are done.
fn percent(done: i64, total: i64) -> i64 {
    if total == 0 { 0 } else { 100 * done / total }
}

fn stopped(queue: &Queue, event: &Event, browser: &Browser, zone: &str) -> Markup {
    html! {
        @if queue.state == QueueState::Held {
            p.notice { "Held by " (queue.owner.as_deref().unwrap_or("somebody"))
                @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) {
                    " (" (note) ")"
                }
                @if let Some(until) = queue.until { " until " (layout::instant(until, zone)) }
                ". A top-up does not lift the hold." }
        } @else if queue.state == QueueState::Budget {
            p.notice { "The budget of this event is used up. "
                @if MAY_SPEND.contains(&browser.caller.role) {
                    a href={ "/spending?organisation=" (event.organisation) } { "Change the budget" }
                }
            }
        } @else if queue.available > 0 {
            p.notice { "All " (queue.available) " available credits are kept for other events. "
                a href={ "/spending?organisation=" (event.organisation) } { "See which" }
            }
        } @else {
            p.notice { "No credits"
                @if let Some(since) = queue.since { " since " (layout::instant(since, zone)) }
                ". Add " (queue.waiting) " credits to finish. "
                @if matches!(browser.caller.role, Role::Organiser | Role::Staff) {
                    a href={ "/credits?organisation=" (event.organisation) } { "Add Credits" }
                }
            }
        }
    }
}

/// The event's failures, grouped by reason.
fn failed(event: EventId, groups: &[Group], browser: &Browser, zone: &str) -> Markup {
    let filters = vec![("event", event.to_string())];
    let view = View { path: "/failures", filters, sort: "photos" };
    html! {
        h2 { "Failures" }
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
