//! The finders of events, on which athletes look for their photos.

use axum::extract::State;

use super::Answer;
use crate::{
    access::Caller,
    catalog::finders::Finder,
    commands::FinderChange,
    ids::EventId,
    serve::{
        Service,
        input::{Json, Path},
    },
};

/// Shows who can open the finder of an event, and its addresses.
///
/// The finder is a page on which athletes look for their photos by bib number or selfie, without an
/// account. The addresses are paths of this service.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/finder",
    operation_id = "get_finder",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Finder)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Finder> {
    Ok(axum::Json(service.commands.finder(&caller, event).await?))
}

/// Sets who can open the finder of an event, or gives it another link.
#[utoipa::path(
    put,
    path = "/v1/events/{event}/finder",
    operation_id = "set_finder",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Finder)),
)]
pub(super) async fn set(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(change): Json<FinderChange>,
) -> Answer<Finder> {
    Ok(axum::Json(service.commands.set_finder(&caller, event, change).await?))
}
