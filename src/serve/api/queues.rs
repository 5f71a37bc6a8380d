//! Queues, workers, holds, and skipped photos.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    commands::{BulkDone, ChosenPhotos, Held, MAY_HOLD, NewBulk, NewHold, Undo, UndoneActs},
    ids::{EventId, HoldId, OrganisationId, UndoId},
    queue::{
        status::{self, Filter, Queue, Sort, State as QueueState},
        totals::{self, Totals},
        undo::Open,
    },
    serve::{
        Service,
        input::{Json, Path, Query, after, limit},
        problem::Problem,
    },
    worker::roster::{self, Worker},
};

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Filters for queues.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only queues of this organisation (its number).
    pub(crate) organisation: Option<OrganisationId>,
    /// Only queues of this event (its number).
    pub(crate) event: Option<EventId>,
    /// Only queues in this state.
    pub(crate) state: Option<QueueState>,
    /// Only queues whose event or organisation has this text in its name.
    pub(crate) name: Option<String>,
    /// The order of the list; by state if missing.
    pub(crate) sort: Option<Sort>,
    /// `next` of the previous page, with the same `sort`; without it, the first page.
    pub(crate) after: Option<String>,
    /// Maximum number of queues; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// Lists queues; unless `sort` says otherwise, paused queues come first.
#[utoipa::path(
    get,
    path = "/v1/queues",
    operation_id = "list_queues",
    tag = "Queues",
    params(Which),
    responses((status = 200, body = Page<Queue>)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Queue>> {
    caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    page(&mut db, &caller, &which).await.map(axum::Json)
}

/// Reads one page of queues.
pub(crate) async fn page(
    db: &mut PgConnection,
    caller: &Caller,
    which: &Which,
) -> Result<Page<Queue>, Problem> {
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let limit = limit(which.limit)?;
    let filter = Filter {
        organisation: which.organisation.or(caller.organisation),
        event: which.event,
        state: which.state,
        name: which.name.as_deref().filter(|name| !name.is_empty()),
        busy: false,
        sort: which.sort.unwrap_or_default(),
        after: after(which.after.as_deref())?,
        most: limit + 1,
    };
    let found = Page::of(status::list(db, filter).await?, limit, |(place, _)| place.to_string());
    Ok(Page { items: found.items.into_iter().map(|(_, queue)| queue).collect(), next: found.next })
}

/// Shows the totals of all queues that the caller may see.
#[utoipa::path(
    get,
    path = "/v1/queues/totals",
    operation_id = "get_totals",
    tag = "Queues",
    responses((status = 200, body = Totals)),
)]
pub(super) async fn totals(State(service): State<Service>, caller: Caller) -> Answer<Totals> {
    caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(totals::totals(&mut db, caller.organisation).await?))
}

/// A list of workers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workers {
    items: Vec<Worker>,
}

/// Lists the workers, with the photos that each has in hand and the time left of its lease.
#[utoipa::path(
    get,
    path = "/v1/workers",
    operation_id = "list_workers",
    tag = "Queues",
    responses((status = 200, body = Workers)),
)]
pub(super) async fn workers(State(service): State<Service>, caller: Caller) -> Answer<Workers> {
    caller.must_be(MAY_HOLD)?;
    caller.must_run_photogate()?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Workers { items: roster::workers(&mut db).await? }))
}

/// Holds an event's queues: no more of its photos are claimed until the hold is lifted or ends.
///
/// A top-up does not end a hold.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/holds",
    operation_id = "hold_event",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 201, body = Held)),
)]
pub(super) async fn hold(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(new): Json<NewHold>,
) -> Result<(StatusCode, axum::Json<Held>), Problem> {
    let held = service.commands.hold(&caller, event, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(held)))
}

/// Lifts a hold. Other holds on the same queue stay, and so does a pause for want of credits.
#[utoipa::path(
    delete,
    path = "/v1/holds/{hold}",
    operation_id = "lift_hold",
    tag = "Queues",
    params(("hold" = HoldId, Path, description = "The hold's number")),
    responses((status = 204, description = "The hold is lifted")),
)]
pub(super) async fn lift(
    State(service): State<Service>,
    caller: Caller,
    Path(hold): Path<HoldId>,
) -> Result<StatusCode, Problem> {
    service.commands.lift_hold(&caller, hold).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The number of photos that were changed; the others were in a state that does not allow it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedPhotos)]
pub(super) struct Count {
    photos: u32,
    /// The number by which this can be taken back. Null if nothing was changed.
    undo: Option<UndoId>,
}

/// Skips waiting photos: they are not claimed, and cost nothing.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/skip",
    operation_id = "skip_photos",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Count)),
)]
pub(super) async fn skip(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(chosen): Json<ChosenPhotos>,
) -> Answer<Count> {
    let done = service.commands.skip(&caller, event, &chosen).await?;
    Ok(axum::Json(Count { photos: done.photos, undo: done.undo }))
}

/// Puts skipped photos back into their queue.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/restore",
    operation_id = "restore_photos",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Count)),
)]
pub(super) async fn restore(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(chosen): Json<ChosenPhotos>,
) -> Answer<Count> {
    let done = service.commands.restore(&caller, event, &chosen).await?;
    Ok(axum::Json(Count { photos: done.photos, undo: done.undo }))
}

/// What can be taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Undoables {
    items: Vec<Open>,
}

/// Lists what was done to an event's queues and can be taken back, newest first.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/undo",
    operation_id = "list_undoable",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Undoables)),
)]
pub(super) async fn undoable(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Undoables> {
    Ok(axum::Json(Undoables { items: service.commands.undoable(&caller, event).await? }))
}

/// Takes back what was done to an event's queues, for 60 seconds: queueing, a retry, a skip, a
/// restore, a cancelled run, a run that was moved to the front, a hold, or a lift.
///
/// It is the exact inverse, or it is refused with status 409 and the code `moved_on`: it is too late,
/// or photos were claimed meanwhile.
#[utoipa::path(
    post,
    path = "/v1/undo",
    operation_id = "undo_acts",
    tag = "Queues",
    responses((status = 200, body = UndoneActs)),
)]
pub(super) async fn undo(
    State(service): State<Service>,
    caller: Caller,
    Json(asked): Json<Undo>,
) -> Answer<UndoneActs> {
    Ok(axum::Json(service.commands.undo(&caller, &asked).await?))
}

/// Does something to several queues at once: holds them, lifts their holds, queues their failed photos
/// again, or moves their newest run to the front. All of it happens, or nothing; only queues of archived
/// events are left out, and the answer says which.
///
/// Queues where there is nothing to do are left alone, so the same call twice changes nothing the second
/// time. `undo` of the answer takes all of it back.
#[utoipa::path(
    post,
    path = "/v1/queues/bulk",
    operation_id = "change_queues",
    tag = "Queues",
    responses((status = 200, body = BulkDone)),
)]
pub(super) async fn bulk(
    State(service): State<Service>,
    caller: Caller,
    Json(new): Json<NewBulk>,
) -> Answer<BulkDone> {
    Ok(axum::Json(service.commands.bulk_as_asked(&caller, &new).await?))
}

/// Takes back what one call did to several queues, for 60 seconds: all of it, or nothing.
///
/// It is the exact inverse, or it is refused with status 409 and the code `moved_on`.
#[utoipa::path(
    post,
    path = "/v1/queues/bulk/{undo}/undo",
    operation_id = "undo_bulk",
    tag = "Queues",
    params(("undo" = UndoId, Path, description = "`undo` of the answer")),
    responses((status = 200, body = UndoneActs)),
)]
pub(super) async fn undo_bulk(
    State(service): State<Service>,
    caller: Caller,
    Path(undo): Path<UndoId>,
) -> Answer<UndoneActs> {
    Ok(axum::Json(service.commands.undo_bulk(&caller, undo).await?))
}
