//! An event: how far it is, its photos and what was found on them.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    Form, Page, PageOrFile, confirm, layout, settings,
    table::{FILE_MAX, Format, Table, View},
};
use crate::{
    access::Role,
    event::{self, Event},
    failures::{self, Group},
    ids::{EventId, Operation, PhotoId},
    organisation,
    photo_store::{Key, StoreError},
    photos::{self, Filter, Photo, State as PhotoState},
    queues::{Queue, State as QueueState},
    serve::{
        Service,
        api::{
            photos::{must_see, number},
            runs::{NewRun, OnInsufficient, Planned, enqueue},
        },
        caller::Browser,
        input::{Path, Query},
        live::{self, Live, Of, Standing},
        problem::Problem,
    },
};

/// Which photos, as a form sends it, with empty fields.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    state: String,
    #[serde(default)]
    bib: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    format: Format,
}

/// Photos of a page.
const SHOWN: usize = 48;
/// Photos read at once for a file.
const AT_ONCE: i64 = 1000;

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(shown): Query<Shown>,
) -> PageOrFile {
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, event::find(&mut db, id).await?)?;
    browser.organisation = organisation::find(&mut db, event.organisation).await?;
    let zone = browser.zone();
    let bib = if shown.bib.trim().is_empty() { None } else { Some(number(&shown.bib)?) };
    let state = match shown.state.as_str() {
        "" => None,
        code => Some(
            PhotoState::ALL
                .into_iter()
                .find(|state| state.code() == code)
                .ok_or_else(|| Problem::invalid("state", "no such state"))?,
        ),
    };
    let filter = Filter {
        state,
        bib: bib.as_deref(),
        photo: None,
        after: Some(&shown.after),
        most: i64::try_from(SHOWN + 1).unwrap_or(i64::MAX),
    };
    let path = format!("/events/{id}");
    let view = View {
        path: &path,
        filters: vec![("state", shown.state.clone()), ("bib", shown.bib.clone())],
        sort: "",
    };
    if shown.format == Format::Csv {
        let all = all(&mut db, id, Filter { after: None, most: AT_ONCE, ..filter }).await?;
        return table(view).as_file(&format!("event-{id}"), &all);
    }
    let standing = live::standing(&mut db, Of::Event(id, event.organisation)).await?;
    let which = failures::Which { event: Some(id), ..failures::Which::default() };
    let failures = failures::groups(&mut db, which).await?;
    let mut found = photos::list(&mut db, id, filter).await?;
    let more = found.len() > SHOWN;
    found.truncate(SHOWN);
    let next = found.last().filter(|_| more).map(|photo| photo.key.clone());
    let may_run = MAY_RUN.contains(&browser.caller.role);
    let states: Vec<(&str, &str)> = std::iter::once(("", "All"))
        .chain(PhotoState::ALL.map(|state| (state.code(), state.name())))
        .collect();
    let content = html! {
        h1 data-reload { (event.name) " " span.faint { "· " (event.id) } }
        (strip(&standing, &event, &browser, zone))
        @if may_run { div.row {
            (run_form(id, Operation::PhotoProcessing, "Process Photos"))
            (run_form(id, Operation::AiRotation, "AI Rotation"))
        } }
        (settings::forms(&browser, &event))
        @if !failures.is_empty() { (failed(id, &failures, &browser, zone)) }
        h2 id="photos" { "Photos" }
        form.filters method="get" action={ "/events/" (id) "#photos" } {
            (layout::choice("State", "state", &states, &shown.state))
            label { "Bib number" input name="bib" size="8" value=(shown.bib); }
            button.quiet type="submit" { "Show" }
        }
        @if found.is_empty() { p.faint { "No photos here. The upload pipeline queues them after a sync, or choose another filter." } }
        ul.grid { @for photo in &found { (card(photo)) } }
        @if !found.is_empty() { (view.ways(next.as_ref())) }
    };
    let stream = Some(format!("/events/{id}/live"));
    Ok(layout::page(&browser, "/events", &event.name, stream, content).into_response())
}

/// The photos of a file; one more than fits says that there are more.
async fn all(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
) -> sqlx::Result<Vec<Photo>> {
    let mut all: Vec<Photo> = Vec::new();
    loop {
        let after = all.last().map(|photo| photo.key.clone());
        let filter = Filter { after: after.as_deref(), ..filter };
        let found = photos::list(&mut *db, event, filter).await?;
        let is_last = i64::try_from(found.len()).unwrap_or(i64::MAX) < AT_ONCE;
        all.extend(found);
        if is_last || i64::try_from(all.len()).unwrap_or(i64::MAX) > FILE_MAX {
            return Ok(all);
        }
    }
}

/// Where each photo stands, and what was seen on it.
fn table(view: View<'_>) -> Table<'_, Photo> {
    let state = |state: Option<PhotoState>| state.map_or("", PhotoState::code).to_owned();
    Table::new(view)
        .only_in_file("Photo", |photo: &Photo| photo.key.clone())
        .only_in_file("Photo ID", |photo| photo.id.to_string())
        .only_in_file("Processing", move |photo| state(photo.processing))
        .only_in_file("Processing reason", |photo| {
            photo.processing_reason.clone().unwrap_or_default()
        })
        .only_in_file("Rotation", move |photo| state(photo.rotation))
        .only_in_file("Rotation reason", |photo| photo.rotation_reason.clone().unwrap_or_default())
        .only_in_file("Turn", |photo| photo.turn.map(|turn| turn.to_string()).unwrap_or_default())
        .only_in_file("Bibs", |photo| {
            let numbers: Vec<_> = photo.bibs.0.iter().map(|bib| bib.number.as_str()).collect();
            numbers.join(" ")
        })
        .only_in_file("Faces", |photo| photo.faces.0.len().to_string())
}

fn is_stopped(queue: &Queue) -> bool {
    matches!(queue.state, QueueState::NoCredits | QueueState::Held)
}

/// How far it is, and what to do if it is not moving.
fn strip(standing: &Standing, event: &Event, browser: &Browser, zone: &str) -> Markup {
    let sum = |of: fn(&Queue) -> i64| standing.queues.iter().map(of).sum::<i64>();
    let (processed, failed, running) =
        (sum(|queue| queue.processed), sum(|queue| queue.failed), sum(|queue| queue.in_progress));
    let waiting = sum(|queue| queue.waiting);
    let paused = sum(|queue| if is_stopped(queue) { queue.waiting } else { 0 });
    let total = processed + failed + running + waiting;
    let eta = standing
        .queues
        .iter()
        .filter_map(|queue| queue.eta_seconds.filter(|_| !is_stopped(queue) && queue.waiting > 0))
        .fold(0.0, f64::max);
    html! {
        div.strip {
            div { "Total" b { (total) } }
            div { "Processed" b.good data-live="processed" { (processed) } }
            div { "In Progress" b data-live="in_progress" { (running) } }
            div { "Pending" b data-live="pending" { (waiting - paused) } }
            div { "Failed" b data-live="failed" { (failed) } }
            div { "Paused" b data-live="paused" { (paused) } }
        }
        p { progress data-live-done max=(total.max(1)) value=(processed + failed) { (processed + failed) " of " (total) } }
        @if eta > 0.0 { p.faint { (layout::about(eta)) " to go" } }
        @for queue in standing.queues.iter().filter(|queue| queue.waiting > 0 && is_stopped(queue)) {
            @if queue.state == QueueState::Held {
                p.notice { strong { (queue.operation) } ": held by " (queue.owner.as_deref().unwrap_or("somebody"))
                    @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) { " (" (note) ")" }
                    @if let Some(until) = queue.until { " until " (layout::instant(until, zone)) } ". A top-up does not lift it." }
            } @else {
                p.notice { strong { (queue.operation) } ": no credits"
                    @if let Some(since) = queue.since { " since " (layout::instant(since, zone)) }
                    ". Add " (queue.waiting) " credits to finish. "
                    @if matches!(browser.caller.role, Role::Organiser | Role::Staff) { a href={ "/credits?organisation=" (event.organisation) } { "Add Credits" } } }
            }
        }
        p { a href={ "/events/" (event.id) "/why" } { "Why does it stand as it does?" } }
    }
}

fn run_form(event: EventId, operation: Operation, name: &str) -> Markup {
    html! {
        details.add {
            summary.button { (name) }
            form method="get" action={ "/events/" (event) "/run" } {
                input type="hidden" name="operation" value=(code(operation));
                label { input type="radio" name="what" value="all" checked; " all photos of the event" }
                label { input type="radio" name="what" value="prefix"; " new photos of the store:" }
                label { "below this" input name="prefix" placeholder="2026/marathon/"; }
                p { button type="submit" { "Show what it takes" } }
            }
        }
    }
}

pub(super) fn code(operation: Operation) -> &'static str {
    match operation {
        Operation::PhotoProcessing => "photo_processing",
        Operation::AiRotation => "ai_rotation",
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    operation: Operation,
    what: String,
    #[serde(default)]
    prefix: String,
}

impl Asked {
    fn run(&self, dry_run: bool) -> NewRun {
        let by_prefix = self.what == "prefix";
        NewRun {
            operation: Some(self.operation),
            keys: None,
            prefix: by_prefix.then(|| self.prefix.clone()),
            all: !by_prefix,
            dry_run,
            on_insufficient: OnInsufficient::Wait,
        }
    }
}

const MAY_RUN: &[Role] = &[Role::Organiser, Role::Staff, Role::Pipeline];

/// The funding plan.
pub(super) async fn ask(
    State(service): State<Service>,
    browser: Browser,
    Path(event): Path<EventId>,
    Query(asked): Query<Asked>,
) -> Page {
    browser.caller.must_be(MAY_RUN)?;
    let planned = enqueue(&service, &browser.caller, event, &asked.run(true)).await?;
    let (back, operation) = (format!("/events/{event}"), code(asked.operation).to_owned());
    let fields = [("operation", operation), ("what", asked.what), ("prefix", asked.prefix)];
    let title = format!("Queue {} photos for {}?", planned.queued, asked.operation);
    let action = format!("{back}/run");
    Ok(confirm::page(&browser, &title, plan(&planned), &action, &back, &fields, "Queue them"))
}

pub(super) async fn run(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Asked>,
) -> Result<Redirect, Problem> {
    form.browser.caller.must_be(MAY_RUN)?;
    enqueue(&service, &form.browser.caller, event, &form.fields.run(false)).await?;
    Ok(Redirect::to(&format!("/events/{event}")))
}

fn plan(planned: &Planned) -> Markup {
    html! {
        dl {
            dt { "New photos" } dd { (planned.queued) }
            dt { "Already paid" } dd { (planned.already_paid) }
            dt { "Already queued, failed or skipped before" } dd { (planned.photos.saturating_sub(planned.queued).saturating_sub(planned.already_paid)) }
            dt { "Credits needed" } dd { (planned.needed) }
            dt { "Credits available" } dd { (planned.available) }
        }
        @if planned.shortfall.0 > 0 {
            p.notice { (planned.will_finish) " finish now, " (planned.queued - planned.will_finish) " wait. Top up " (planned.shortfall) " credits to finish everything that waits." }
        } @else { p { "All of them finish." } }
    }
}

/// Groups shown on the event's own page.
fn failed(event: EventId, groups: &[Group], browser: &Browser, zone: &str) -> Markup {
    let filters = vec![("event", event.to_string())];
    let view = View { path: "/failures", filters, sort: "photos" };
    html! {
        h2 { "Failures" }
        (super::failures::table(view, browser, zone).on_page(groups, "", None))
    }
}

pub(super) fn card(photo: &Photo) -> Markup {
    let state = |name: &str, state: Option<PhotoState>, reason: Option<&str>| {
        html! {
            @if let Some(state) = state {
                div { (name) ": " span.bad[state == PhotoState::Failed].good[state == PhotoState::Processed] { (state.name()) }
                    @if let Some(reason) = reason { " (" (reason.replace('_', " ")) ")" } }
            }
        }
    };
    html! {
        li.photo tabindex="0" {
            figure {
                (picture(photo, false))
                @if photo.turn.is_some_and(|turn| turn != 0) { (picture(photo, true)) }
            }
            div.text {
                div { @for bib in &photo.bibs.0 { span.chip { (bib.number) } " " }
                    @match photo.faces.0.len() { 0 => {}, 1 => "1 face", n => { (n) " faces" } } }
                @match photo.turn { Some(0) | None => {}, Some(turn) => div { "turned by " (turn) "°: before | after" } }
                (state("Processing", photo.processing, photo.processing_reason.as_deref()))
                (state("Rotation", photo.rotation, photo.rotation_reason.as_deref()))
                div.faint { (photo.key) }
                div { a href={ "/receipts/" (photo.id) } { "Receipt" } }
            }
        }
    }
}

/// The photo with its boxes; or as AI rotation has turned it.
fn picture(photo: &Photo, turned: bool) -> Markup {
    let (width, height) = (photo.width.unwrap_or(4), photo.height.unwrap_or(3));
    let turn = photo.turn.filter(|_| turned).unwrap_or(0);
    let (across, down) = if turn % 180 == 0 { (width, height) } else { (height, width) };
    let (right, below) = match turn {
        90 => (height, 0),
        180 => (width, height),
        270 => (0, width),
        _ => (0, 0),
    };
    let name =
        if turned { format!("{}, turned by {turn} degrees", photo.key) } else { photo.key.clone() };
    html! {
        svg viewBox={ "0 0 " (across) " " (down) } role="img" aria-label=(name) {
            g transform={ "translate(" (right) " " (below) ") rotate(" (turn) ")" } {
                // Either operation makes the thumbnail.
                @if photo.width.is_some() || photo.rotation == Some(PhotoState::Processed) { image href={ "/photos/" (photo.id) "/thumbnail" } width=(width) height=(height) {} }
                @for face in &photo.faces.0 { rect x=(face.x) y=(face.y) width=(face.width) height=(face.height) { title { "face" } } }
                @for bib in &photo.bibs.0 { rect x=(bib.x) y=(bib.y) width=(bib.width) height=(bib.height) { title { (bib.number) } } }
            }
        }
    }
}

pub(super) async fn live(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<EventId>,
) -> Result<Live, Problem> {
    let organisation = {
        let mut db = service.database.acquire().await?;
        browser.caller.must_see_event(id, event::find(&mut db, id).await?)?.organisation
    };
    live::stream(service, &browser.caller, Of::Event(id, organisation))
}

/// A thumbnail is a few tens of kilobytes.
const THUMBNAIL_MAX: usize = 1 << 20;

/// Only with a session of its organisation; browsers keep it for themselves.
pub(super) async fn thumbnail(
    State(service): State<Service>,
    browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Result<Response, Problem> {
    {
        let mut db = service.database.acquire().await?;
        must_see(&mut db, &browser.caller, photo).await?;
    }
    match service.store.get(&Key::thumbnail(photo), THUMBNAIL_MAX).await {
        Ok(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "image/jpeg"),
                (header::CACHE_CONTROL, "private, max-age=3600"),
            ];
            Ok((headers, bytes.to_vec()).into_response())
        }
        Err(StoreError::Missing(_)) => {
            Err(Problem::not_found("thumbnail yet: it is made when the photo is processed"))
        }
        Err(error) => {
            tracing::warn!(%error, "a thumbnail could not be read");
            Err(Problem::unavailable("store_unavailable", "the store does not answer".into()))
        }
    }
}
