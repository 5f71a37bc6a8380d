//! What runs, what does not, and what a person can do about it.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    commands::{ChosenPhotos, Held, MAY_HOLD, NewHold},
    ids::{EventId, HoldId, OrganisationId},
    queue::status::{self, Filter, Queue, Sort, State as QueueState, Totals, Worker},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Which queues.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Of this organisation.
    pub(crate) organisation: Option<OrganisationId>,
    /// Of this event.
    pub(crate) event: Option<EventId>,
    /// In this state.
    pub(crate) state: Option<QueueState>,
    /// Whose event or organisation is called so, in part.
    pub(crate) name: Option<String>,
    /// What comes first.
    pub(crate) sort: Option<Sort>,
    /// `next` of the page before.
    pub(crate) after: Option<String>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// Queues, the paused ones first.
#[utoipa::path(get, path = "/v1/queues", tag = "Queues", params(Which), responses((status = 200, body = Page<Queue>)))]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Queue>> {
    caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    page(&mut db, &caller, &which).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn page(
    db: &mut PgConnection,
    caller: &Caller,
    which: &Which,
) -> Result<Page<Queue>, Problem> {
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let limit = limit(which.limit)?;
    let after = which.after.as_deref().filter(|after| !after.is_empty()).map(|after| {
        let bad =
            |_| Problem::invalid("after", "this is no cursor: take `next` of the page before");
        after.parse().map_err(bad)
    });
    let filter = Filter {
        organisation: which.organisation.or(caller.organisation),
        event: which.event,
        state: which.state,
        name: which.name.as_deref().filter(|name| !name.is_empty()),
        busy: false,
        sort: which.sort.unwrap_or_default(),
        after: after.transpose()?,
        most: limit + 1,
    };
    let found = Page::of(status::list(db, filter).await?, limit, |(place, _)| place.to_string());
    Ok(Page { items: found.items.into_iter().map(|(_, queue)| queue).collect(), next: found.next })
}

/// All queues together.
#[utoipa::path(get, path = "/v1/queues/totals", tag = "Queues", responses((status = 200, body = Totals)))]
pub(super) async fn totals(State(service): State<Service>, caller: Caller) -> Answer<Totals> {
    caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(status::totals(&mut db, caller.organisation).await?))
}

/// The workers that are there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Workers {
    items: Vec<Worker>,
}

/// The workers, how much each has, and when it was last heard of.
#[utoipa::path(get, path = "/v1/workers", tag = "Queues", responses((status = 200, body = Workers)))]
pub(super) async fn workers(State(service): State<Service>, caller: Caller) -> Answer<Workers> {
    caller.must_be(MAY_HOLD)?;
    caller.must_run_photogate()?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Workers { items: status::workers(&mut db).await? }))
}

/// Holds an event's queues: nothing more of it runs, whatever is topped up, until the hold is lifted or ends.
#[utoipa::path(post, path = "/v1/events/{event}/holds", tag = "Queues", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 201, body = Held)))]
pub(super) async fn hold(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(new): Json<NewHold>,
) -> Result<(StatusCode, axum::Json<Held>), Problem> {
    let held = service.commands.hold(&caller, event, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(held)))
}

/// Lifts a hold. Others on the same queue stay, and so does a pause for want of credits.
#[utoipa::path(delete, path = "/v1/holds/{hold}", tag = "Queues", params(("hold" = HoldId, Path, description = "Of the hold")),
    responses((status = 204, description = "It is lifted")))]
pub(super) async fn lift(
    State(service): State<Service>,
    caller: Caller,
    Path(hold): Path<HoldId>,
) -> Result<StatusCode, Problem> {
    service.commands.lift_hold(&caller, hold).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many photos it concerned; the others were not in that state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Count {
    photos: u32,
}

/// Takes photos out of their queue before they are claimed: they cost nothing.
#[utoipa::path(post, path = "/v1/events/{event}/skip", tag = "Queues", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Count)))]
pub(super) async fn skip(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(chosen): Json<ChosenPhotos>,
) -> Answer<Count> {
    let photos = service.commands.skip(&caller, event, &chosen).await?;
    Ok(axum::Json(Count { photos }))
}

/// Puts photos that were taken out back into their queue.
#[utoipa::path(post, path = "/v1/events/{event}/restore", tag = "Queues", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Count)))]
pub(super) async fn restore(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(chosen): Json<ChosenPhotos>,
) -> Answer<Count> {
    let photos = service.commands.restore(&caller, event, &chosen).await?;
    Ok(axum::Json(Count { photos }))
}
