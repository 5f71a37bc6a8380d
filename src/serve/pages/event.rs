//! An event: how far it is, its photos and what was found on them.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::Connection;

use super::{Form, Page, confirm, layout, settings, whose};
use crate::{
    access::Role,
    deeds,
    event::{self, Event},
    failures::{self, Group},
    ids::{EventId, Operation, OrganisationId, PhotoId},
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

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    organisation: Option<OrganisationId>,
    after: Option<EventId>,
}

/// Events of a page.
const EVENTS: i64 = 50;

pub(super) async fn list(
    State(service): State<Service>,
    browser: Browser,
    Query(which): Query<Which>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let organisation = whose(&browser.caller, which.organisation)?;
    let mut events = event::page(&mut db, organisation, which.after, EVENTS + 1).await?;
    let next =
        (events.len() > 50).then(|| events.get(49).map(|event| event.id.to_string())).flatten();
    events.truncate(50);
    let may_create = organisation.is_some()
        && matches!(browser.caller.role, Role::Organiser | Role::Staff | Role::Pipeline);
    let content = html! {
        h1 { "Events" }
        @if events.is_empty() { p.faint { "No events yet." } }
        @else { div.scroll { table {
            thead { tr { th { "Event" } th.number { "ID" } th { "Bib search" } th { "Face search" } } }
            tbody { @for event in &events { tr {
                td { a href={ "/events/" (event.id) } { (event.name) } }
                td.number { (event.id) }
                td { (on(event.bib_search)) }
                td { (on(event.face_search)) }
            } } }
        } } }
        (layout::more("/events", &[("organisation", which.organisation.map(|id| id.to_string()).unwrap_or_default())], next.as_ref()))
        @if may_create {
            h2 { "New event" }
            form.filters method="post" action="/events" {
                (layout::key(&browser))
                input type="hidden" name="organisation" value=[organisation];
                label { "Name" input name="name" required maxlength="200"; }
                label { input type="checkbox" name="face_search" value="yes"; " Face search (biometric data: only where people were asked)" }
                button type="submit" { "Create" }
            }
        }
    };
    Ok(layout::page(&browser, "/events", "Events", None, content))
}

fn on(setting: bool) -> &'static str {
    if setting { "on" } else { "off" }
}

#[derive(Debug, Deserialize)]
pub(super) struct New {
    organisation: OrganisationId,
    name: String,
    face_search: Option<String>,
}

pub(super) async fn create(
    State(service): State<Service>,
    form: Form<New>,
) -> Result<Redirect, Problem> {
    let (caller, new) = (form.browser.caller, form.fields);
    caller.must_be(&[Role::Organiser, Role::Pipeline, Role::Staff])?;
    caller.must_see(new.organisation)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let event =
        event::create(&mut tx, new.organisation, &new.name, true, new.face_search.is_some())
            .await?;
    let detail = serde_json::json!({ "name": new.name, "face_search": new.face_search.is_some() });
    deeds::record(
        &mut tx,
        &caller,
        Some(new.organisation),
        "event.create",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/events/{event}")))
}

/// Which photos, as a form sends it, with empty fields.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    state: String,
    #[serde(default)]
    bib: String,
    #[serde(default)]
    after: String,
}

/// Photos of a page.
const PHOTOS: usize = 48;

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<EventId>,
    Query(shown): Query<Shown>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, event::find(&mut db, id).await?)?;
    let organisation = organisation::find(&mut db, event.organisation).await?;
    let zone = organisation.map_or_else(|| "UTC".into(), |organisation| organisation.time_zone);
    let standing = live::standing(&mut db, Of::Event(id, event.organisation)).await?;
    let failures = failures::groups(&mut db, Some(event.organisation), Some(id)).await?;
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
        most: i64::try_from(PHOTOS + 1).unwrap_or(i64::MAX),
    };
    let mut found = photos::list(&mut db, id, filter).await?;
    let more = found.len() > PHOTOS;
    found.truncate(PHOTOS);
    let next = found.last().filter(|_| more).map(|photo| photo.key.clone());
    let may_run = MAY_RUN.contains(&browser.caller.role);
    let states: Vec<(&str, &str)> = std::iter::once(("", "All"))
        .chain(PhotoState::ALL.map(|state| (state.code(), state.name())))
        .collect();
    let content = html! {
        h1 data-reload { (event.name) " " span.faint { "· " (event.id) } }
        (strip(&standing, &event, &browser, &zone))
        @if may_run { div.row {
            (run_form(id, Operation::PhotoProcessing, "Process Photos"))
            (run_form(id, Operation::AiRotation, "AI Rotation"))
        } }
        (settings::forms(&browser, &event))
        @if !failures.is_empty() { (failed(&failures, &browser, &zone)) }
        h2 id="photos" { "Photos" }
        form.filters method="get" action={ "/events/" (id) "#photos" } {
            (layout::choice("State", "state", &states, &shown.state))
            label { "Bib number" input name="bib" size="8" value=(shown.bib); }
            button.quiet type="submit" { "Show" }
        }
        @if found.is_empty() { p.faint { "No photos here. The upload pipeline queues them after a sync, or choose another filter." } }
        ul.grid { @for photo in &found { (card(photo)) } }
        (layout::more(&format!("/events/{id}"), &[("state", shown.state.clone()), ("bib", shown.bib.clone())], next.as_ref()))
    };
    Ok(layout::page(&browser, "/events", &event.name, Some(format!("/events/{id}/live")), content))
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
fn failed(groups: &[Group], browser: &Browser, zone: &str) -> Markup {
    html! {
        h2 { "Failures" }
        (super::queues::failure_table(groups, browser, zone))
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
    live::stream(service, Of::Event(id, organisation))
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
