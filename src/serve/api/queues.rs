//! What runs, what does not, and what a person can do about it.

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page, books::only_who_runs_it, failures::MAY_RETRY};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::events,
    ids::{EventId, HoldId, Operation, OrganisationId, PhotoId},
    queue::{
        enqueue, holds,
        status::{self, Filter, Queue, Sort, State as QueueState, Totals, Worker},
    },
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
const MAY_HOLD: &[Role] = &[Role::Operator, Role::Staff];

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
    only_who_runs_it(&caller)?;
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Workers { items: status::workers(&mut db).await? }))
}

/// A hold to place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operation": "ai_rotation", "note": "bad camera clock", "until": "2030-01-01T00:00:00Z"}))]
pub(crate) struct NewHold {
    /// Of this operation only; null: of both.
    pub(crate) operation: Option<Operation>,
    /// Why, up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub(crate) note: String,
    /// When it ends by itself; null: when somebody lifts it.
    pub(crate) until: Option<DateTime<Utc>>,
}

/// Holds that were placed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Held {
    holds: Vec<HoldId>,
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
    place(&service, &caller, event, &new).await.map(|held| (StatusCode::CREATED, axum::Json(held)))
}

/// The same for pages.
pub(crate) async fn place(
    service: &Service,
    caller: &Caller,
    event: EventId,
    new: &NewHold,
) -> Result<Held, Problem> {
    caller.must_be(MAY_HOLD)?;
    if new.until.is_some_and(|until| until <= Utc::now()) {
        return Err(Problem::invalid("/until", "this is over already: name a later time, or none"));
    }
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let mut tx = db.begin().await?;
    let mut holds = Vec::new();
    for operation in new.operation.map_or(Operation::ALL.to_vec(), |one| vec![one]) {
        holds.push(
            holds::hold(&mut tx, event, operation, &caller.actor, &new.note, new.until).await?,
        );
    }
    let detail = serde_json::json!({ "operation": new.operation, "note": new.note, "until": new.until, "holds": holds });
    audit_log::record(
        &mut tx,
        caller,
        Some(found.organisation),
        "queue.hold",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    Ok(Held { holds })
}

/// Lifts a hold. Others on the same queue stay, and so does a pause for want of credits.
#[utoipa::path(delete, path = "/v1/holds/{hold}", tag = "Queues", params(("hold" = HoldId, Path, description = "Of the hold")),
    responses((status = 204, description = "It is lifted")))]
pub(super) async fn lift(
    State(service): State<Service>,
    caller: Caller,
    Path(hold): Path<HoldId>,
) -> Result<StatusCode, Problem> {
    lift_one(&service, &caller, hold).await.map(|_| StatusCode::NO_CONTENT)
}

/// The same for pages; answers with the event.
pub(crate) async fn lift_one(
    service: &Service,
    caller: &Caller,
    hold: HoldId,
) -> Result<EventId, Problem> {
    caller.must_be(MAY_HOLD)?;
    let missing = || Problem::not_found(format!("hold {hold}"));
    let mut db = service.database.acquire().await?;
    let event = holds::event_of(&mut db, hold).await?.ok_or_else(missing)?;
    let found =
        caller.must_see_event(event, events::find(&mut db, event).await?).map_err(|_| missing())?;
    let mut tx = db.begin().await?;
    let lifted = holds::lift(&mut tx, hold, &caller.actor).await?;
    if lifted.lifted {
        let detail = serde_json::json!({ "hold": hold });
        audit_log::record(
            &mut tx,
            caller,
            Some(found.organisation),
            "queue.lift",
            &format!("event {event}"),
            detail,
        )
        .await?;
    }
    tx.commit().await?;
    if lifted.woke {
        service.wake.ring();
    }
    Ok(event)
}

/// Photos of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operation": "photo_processing", "photos": ["0193a1c0-0000-7000-8000-000000000000"]}))]
pub(super) struct Chosen {
    /// In the queue of this operation.
    operation: Operation,
    /// At most 10,000.
    photos: Vec<PhotoId>,
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
    Json(chosen): Json<Chosen>,
) -> Answer<Count> {
    caller.must_be(MAY_RETRY)?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let mut tx = db.begin().await?;
    let photos =
        enqueue::skip(&mut tx, event, chosen.operation, &chosen.photos, &caller.actor).await?;
    let detail = serde_json::json!({ "operation": chosen.operation, "photos": photos });
    audit_log::record(
        &mut tx,
        &caller,
        Some(found.organisation),
        "photos.skip",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    Ok(axum::Json(Count { photos }))
}

/// Puts photos that were taken out back into their queue.
#[utoipa::path(post, path = "/v1/events/{event}/restore", tag = "Queues", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Count)))]
pub(super) async fn restore(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(chosen): Json<Chosen>,
) -> Answer<Count> {
    caller.must_be(MAY_RETRY)?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let mut tx = db.begin().await?;
    let restored =
        enqueue::restore(&mut tx, event, chosen.operation, &chosen.photos, &caller.actor).await?;
    let detail = serde_json::json!({ "operation": chosen.operation, "photos": restored.restored });
    audit_log::record(
        &mut tx,
        &caller,
        Some(found.organisation),
        "photos.restore",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    if restored.woke {
        service.wake.ring();
    }
    Ok(axum::Json(Count { photos: restored.restored }))
}
