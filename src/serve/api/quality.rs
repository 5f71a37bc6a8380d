//! What was found on the photos of an event, in numbers.

use axum::extract::State;

use super::Answer;
use crate::{
    access::Caller,
    catalog::{
        events,
        quality::{self, Report},
    },
    ids::EventId,
    serve::{Service, input::Path},
};

/// Counts what was found on an event's photos: sure and unsure numbers, faces, turns.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/quality",
    operation_id = "get_quality",
    tag = "Photos",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Report)),
)]
pub(super) async fn of_event(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Report> {
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    Ok(axum::Json(quality::report(&mut db, event).await?))
}
