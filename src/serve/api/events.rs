//! Events and their settings.

use axum::{body::Bytes, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    catalog::{
        erasures::{self, Erased, Erasure},
        events::{self, Event},
    },
    commands::{EventChange, NewErasure, NewEvent},
    ids::{EventId, OrganisationId},
    queue::status::{self, Queue},
    serve::{
        Service,
        input::{Json, Path, Query, created, limit},
        problem::Problem,
    },
};

/// An event and the state of its queues.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventWithQueues)]
pub(super) struct Shown {
    #[serde(flatten)]
    event: Event,
    /// The event's queues, one for each operation.
    queues: Vec<Queue>,
}

/// Filters for events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only events of this organisation (its number). A caller of an organisation sees only its
    /// events.
    organisation: Option<OrganisationId>,
    /// Only events whose name contains this text, or whose number it is.
    name: Option<String>,
    /// `next` of the previous page; without it, the first page.
    after: Option<EventId>,
    /// Maximum number of events; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists events, newest first.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "Events",
    params(Which),
    responses((status = 200, body = Page<Event>)),
)]
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

/// Creates an event, with a queue for each operation. With a `reference`, the same call again finds
/// the event.
#[utoipa::path(
    post,
    path = "/v1/events",
    operation_id = "create_event",
    tag = "Events",
    responses(
        (status = 201, body = Event),
        (status = 200, body = Event, description = "There is an event with this reference"),
    ),
)]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewEvent>,
) -> Result<(StatusCode, axum::Json<Event>), Problem> {
    let made = service.commands.create_event(&caller, &new).await?;
    Ok((created(made.is_new), axum::Json(made.value)))
}

/// Shows an event and its queues.
#[utoipa::path(
    get,
    path = "/v1/events/{event}",
    operation_id = "get_event",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Shown)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Shown> {
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    Ok(axum::Json(Shown { event: found, queues: status::of_event(&mut db, event).await? }))
}

/// Changes the settings of an event.
#[utoipa::path(
    patch,
    path = "/v1/events/{event}",
    operation_id = "change_event",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Event)),
)]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(change): Json<EventChange>,
) -> Answer<Event> {
    let (changed, _forgotten) = service.commands.change_event(&caller, event, &change).await?;
    Ok(axum::Json(changed))
}

/// Deletes an event and the findings of its photos.
///
/// No more of its photos are processed. Its photos in the store and its entries in the ledger stay.
#[utoipa::path(
    delete,
    path = "/v1/events/{event}",
    operation_id = "delete_event",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 204, description = "The event is deleted")),
)]
pub(super) async fn delete(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Result<StatusCode, Problem> {
    service.commands.delete_event(&caller, event).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The size of a start list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StartList)]
pub(super) struct Listed {
    /// How many bib numbers the start list has.
    numbers: usize,
}

/// Replaces an event's start list.
///
/// The body has one bib number in each line, or is CSV with a column named `bib` or `number`. An
/// empty body removes the start list. The numbers of earlier photos are decided again within seconds,
/// without a credit.
#[utoipa::path(
    put,
    path = "/v1/events/{event}/start-list",
    operation_id = "set_start_list",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    request_body(content = String, content_type = "text/csv", example = "bib\n1482\nA207\n"),
    responses((status = 200, body = Listed)),
)]
pub(super) async fn start_list(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    file: Bytes,
) -> Answer<Listed> {
    let numbers = service.commands.set_start_list(&caller, event, file.into()).await?;
    Ok(axum::Json(Listed { numbers }))
}

/// Erases one person from an event's findings.
///
/// It deletes the faces, which a search by a selfie has found, and what was read of a bib number.
/// The number is not found again on photos that are processed later. The photos themselves stay.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/erasures",
    operation_id = "erase_findings",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 201, body = Erased)),
)]
pub(super) async fn erase(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(new): Json<NewErasure>,
) -> Result<(StatusCode, axum::Json<Erased>), Problem> {
    let erased = service.commands.erase_person(&caller, event, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(erased)))
}

/// What was erased of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Erasures {
    items: Vec<Erasure>,
}

/// Lists what was erased of an event, newest first, at most 1,000.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/erasures",
    operation_id = "list_erasures",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Erasures)),
)]
pub(super) async fn erasures(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Erasures> {
    caller.must_be(&[Role::Organiser, Role::Staff])?;
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    Ok(axum::Json(Erasures { items: erasures::list(&mut db, event, 1000).await? }))
}
