//! The timeline of an event: what happened to its queues.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    catalog::events,
    ids::EventId,
    queue::timeline::{self, Entry},
    serve::{
        Service,
        input::{Path, Query, limit},
    },
};

/// Not the programs that queue photos: it tells budgets, paces and top-ups.
const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// A page of the timeline.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of rows; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists what happened to an event's queues, newest first.
///
/// Runs that were queued, started and finished; pauses, and what let the queue go on: which top-up,
/// refund or lift; holds; decisions on how credits are spent: the event's budget, class and pace, and
/// the order, pace and weight of its organisation. Each entry was written in the transaction that
/// caused it.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/timeline",
    operation_id = "get_timeline",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number"), Which),
    responses((status = 200, body = Page<Entry>)),
)]
pub(super) async fn of_event(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Query(which): Query<Which>,
) -> Answer<Page<Entry>> {
    caller.must_be(MAY_LOOK)?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let found = timeline::list(&mut db, event, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |entry| entry.id.to_string())))
}
