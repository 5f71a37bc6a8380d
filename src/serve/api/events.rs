//! Events and their settings.

use axum::{body::Bytes, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{
        events::{self, Event},
        start_list,
    },
    ids::{EventId, OrganisationId},
    queue::status::{self, Queue},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

/// Who may change an event.
const MAY_CHANGE: &[Role] = &[Role::Organiser, Role::Staff];

/// A new event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "City Marathon", "bib_search": true, "face_search": false}))]
pub(super) struct NewEvent {
    /// As people call it: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Whose; needed only from who sees several.
    organisation: Option<OrganisationId>,
    /// Whether bib numbers are read.
    #[serde(default = "yes")]
    bib_search: bool,
    /// Whether faces can be searched for: their embeddings are biometric data, so only where people were asked.
    #[serde(default)]
    face_search: bool,
}

fn yes() -> bool {
    true
}

/// An event with its queues.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    #[serde(flatten)]
    event: Event,
    /// One for each operation.
    queues: Vec<Queue>,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this organisation; whoever belongs to one sees its events only.
    organisation: Option<OrganisationId>,
    /// A part of its name, or its number.
    name: Option<String>,
    /// The last event of the page before.
    after: Option<EventId>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "Events", params(Which), responses((status = 200, body = Page<Event>)))]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Event>> {
    let limit = limit(which.limit)?;
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let mut db = service.database.acquire().await?;
    let organisation = which.organisation.or(caller.organisation);
    let found = events::page(
        &mut db,
        organisation,
        which.name.as_deref().unwrap_or_default(),
        which.after,
        limit + 1,
    )
    .await?;
    Ok(axum::Json(Page::of(found, limit, |event| event.id.to_string())))
}

/// Makes an event, with a queue for each operation.
#[utoipa::path(post, path = "/v1/events", tag = "Events", responses((status = 201, body = Event)))]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewEvent>,
) -> Result<(StatusCode, axum::Json<Event>), Problem> {
    caller.must_be(&[Role::Organiser, Role::Pipeline, Role::Staff])?;
    let organisation = new
        .organisation
        .or(caller.organisation)
        .ok_or_else(|| Problem::invalid("/organisation", "say whose event it is"))?;
    caller.must_see(organisation)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    let (bibs, faces) = (new.bib_search, new.face_search);
    let event = events::create(&mut tx, organisation, &new.name, bibs, faces).await?;
    let detail = serde_json::json!({ "name": new.name, "bib_search": bibs, "face_search": faces });
    audit_log::record(
        &mut tx,
        &caller,
        Some(organisation),
        "event.create",
        &format!("event {event}"),
        detail,
    )
    .await?;
    let made = caller.must_see_event(event, events::find(&mut tx, event).await?)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// An event, with its queues.
#[utoipa::path(get, path = "/v1/events/{event}", tag = "Events", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Shown)))]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Shown> {
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    Ok(axum::Json(Shown { event: found, queues: status::of_event(&mut db, event).await? }))
}

/// What to change; what is left away stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"face_search": false}))]
#[schema(as = EventChange)]
pub(super) struct Change {
    /// As people call it: 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Whether bib numbers are read, on photos processed from now on.
    bib_search: Option<bool>,
    /// Whether faces can be searched for; switched off, their embeddings are deleted.
    face_search: Option<bool>,
}

/// Changes the settings of an event.
#[utoipa::path(patch, path = "/v1/events/{event}", tag = "Events", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Event)))]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(change): Json<Change>,
) -> Answer<Event> {
    caller.must_be(MAY_CHANGE)?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let mut tx = db.begin().await?;
    events::change(&mut tx, event, change.name.as_deref(), change.bib_search).await?;
    if let Some(on) = change.face_search {
        events::flag_face_search(&mut tx, event, on).await?;
    }
    let detail = serde_json::json!({ "name": change.name, "bib_search": change.bib_search, "face_search": change.face_search });
    audit_log::record(
        &mut tx,
        &caller,
        Some(found.organisation),
        "event.change",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    // Embeddings are out of reach; a worker deletes them should this not come to its end.
    events::forget(&mut db, event).await?;
    let changed = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    Ok(axum::Json(changed))
}

/// Deletes an event: what was seen on its photos is forgotten, nothing more of it runs; the books and the photos stay.
#[utoipa::path(delete, path = "/v1/events/{event}", tag = "Events", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 204, description = "It is deleted")))]
pub(super) async fn delete(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Result<StatusCode, Problem> {
    caller.must_be(MAY_CHANGE)?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let mut tx = db.begin().await?;
    events::flag_deleted(&mut tx, event, &caller.actor).await?;
    let detail = serde_json::json!({ "name": found.name });
    audit_log::record(
        &mut tx,
        &caller,
        Some(found.organisation),
        "event.delete",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    events::forget(&mut db, event).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many numbers an event's start list has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed {
    /// Numbers.
    numbers: i32,
}

/// Replaces the start list: one number a line, or CSV with a column named `bib` or `number`. It decides about photos
/// processed from now on. An empty body: the event has none.
#[utoipa::path(put, path = "/v1/events/{event}/start-list", tag = "Events", params(("event" = EventId, Path, description = "Of the event")),
    request_body(content = String, content_type = "text/csv", example = "bib\n1482\nA207\n"), responses((status = 200, body = Listed)))]
pub(super) async fn start_list(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    file: Bytes,
) -> Answer<Listed> {
    caller.must_be(&[Role::Organiser, Role::Pipeline, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let numbers = if file.is_empty() { Vec::new() } else { start_list::parse(&file)? };
    let mut tx = db.begin().await?;
    let numbers = start_list::set(&mut tx, event, &numbers).await?;
    let detail = serde_json::json!({ "numbers": numbers });
    audit_log::record(
        &mut tx,
        &caller,
        Some(found.organisation),
        "event.start_list",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    Ok(axum::Json(Listed { numbers }))
}
