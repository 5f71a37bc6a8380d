//! Explains why photos are not processed, and what to do.

use axum::extract::State;

use super::Answer;
use crate::serve::reads::event_of_photo;
use crate::{
    access::Caller,
    catalog::events,
    ids::{EventId, OrganisationId, PhotoId},
    queue::why::{self, Why},
    serve::{Service, input::Path, problem::Problem},
};

/// Explains why an event's photos are not processed, and what to do.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/why",
    operation_id = "explain_event",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Why)),
)]
pub(super) async fn event(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Why> {
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let why = why::event(&mut db, event).await?;
    why.map(axum::Json).ok_or_else(|| Problem::not_found(format!("event {event}")))
}

/// Explains why an organisation's photos are not processed, and what to do.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/why",
    operation_id = "explain_organisation",
    tag = "Queues",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Why)),
)]
pub(super) async fn organisation(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Why> {
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    let why = why::organisation(&mut db, id).await?;
    why.map(axum::Json).ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// Explains why a photo is not processed, and what to do.
#[utoipa::path(
    get,
    path = "/v1/photos/{photo}/why",
    operation_id = "explain_photo",
    tag = "Queues",
    params(("photo" = PhotoId, Path, description = "The photo's ID, a UUID")),
    responses((status = 200, body = Why)),
)]
pub(super) async fn photo(
    State(service): State<Service>,
    caller: Caller,
    Path(photo): Path<PhotoId>,
) -> Answer<Why> {
    let mut db = service.database.acquire().await?;
    event_of_photo(&mut db, &caller, photo).await?;
    let why = why::photo(&mut db, photo).await?;
    why.map(axum::Json).ok_or_else(|| Problem::not_found(format!("photo {photo}")))
}
