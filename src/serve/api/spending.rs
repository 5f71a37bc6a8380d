//! How an organisation spends its credits: the order of its events, and their budgets.

use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::Caller,
    commands::{MAY_SEE_SPENDING, NewOrder},
    ids::{EventId, OrganisationId},
    ledger::spending::{self, Budget, Pace, Spending},
    serve::{
        Service,
        input::{Json, Path, Query},
        problem::Problem,
    },
};

/// Shows how an organisation spends its credits, and what comes of it: for each event in which
/// photos wait, how many of them get a credit.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/spending",
    operation_id = "get_spending",
    tag = "Spending",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Spending> {
    caller.must_be(MAY_SEE_SPENDING)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    let found = spending::read(&mut db, id, None).await?;
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// True: nothing is changed, and the answer tells what would come of it.
    #[serde(default)]
    dry_run: bool,
}

/// Sets the order in which the organisation's events get its credits. With `dry_run=true` it only
/// tells which photos would get a credit then.
#[utoipa::path(
    put,
    path = "/v1/organisations/{organisation}/spending/order",
    operation_id = "set_spending_order",
    tag = "Spending",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number"), How),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn set_order(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(how): Query<How>,
    Json(new): Json<NewOrder>,
) -> Answer<Spending> {
    Ok(axum::Json(service.commands.set_spend_order(&caller, id, &new, how.dry_run).await?))
}

/// Sets the budget of an event, for both operations together. Queues that have nothing to spend any
/// more are paused at once; they resume when the budget, a refund or a top-up allows it.
#[utoipa::path(
    put,
    path = "/v1/events/{event}/budget",
    operation_id = "set_budget",
    tag = "Spending",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn set_budget(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(budget): Json<Budget>,
) -> Answer<Spending> {
    Ok(axum::Json(service.commands.set_budget(&caller, event, budget, None).await?))
}

/// Removes the budget of an event: it may use all credits, and none are kept for it.
#[utoipa::path(
    delete,
    path = "/v1/events/{event}/budget",
    operation_id = "remove_budget",
    tag = "Spending",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn remove_budget(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Answer<Spending> {
    let none = Budget::default();
    Ok(axum::Json(service.commands.set_budget(&caller, event, none, None).await?))
}

/// Sets how fast the photos of an event are claimed at most. An empty object removes all limits.
#[utoipa::path(
    put,
    path = "/v1/events/{event}/pace",
    operation_id = "set_event_pace",
    tag = "Spending",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn set_event_pace(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(pace): Json<Pace>,
) -> Answer<Spending> {
    Ok(axum::Json(service.commands.set_event_pace(&caller, event, pace).await?))
}

/// How fast an organisation's photos are claimed, beside those of others.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pace": {"in_flight_max": 32}, "weight": 2}))]
pub(super) struct OrganisationPace {
    /// The limits for all its events together. An empty object removes them. Missing: they stay as
    /// they are.
    pace: Option<Pace>,
    /// Its share in a claim, beside the other organisations whose turn it is: 1 to 100. Missing: it
    /// stays as it is.
    #[schema(minimum = 1, maximum = 100)]
    weight: Option<i32>,
}

/// Sets how fast the photos of an organisation are claimed at most, its share beside others, or both.
#[utoipa::path(
    put,
    path = "/v1/organisations/{organisation}/pace",
    operation_id = "set_organisation_pace",
    tag = "Spending",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Spending)),
)]
pub(super) async fn set_organisation_pace(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Json(new): Json<OrganisationPace>,
) -> Answer<Spending> {
    let commands = &service.commands;
    Ok(axum::Json(commands.set_organisation_pace(&caller, id, new.pace, new.weight).await?))
}
