//! Alerts: what an organisation wants to be told of before it is too late.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::Caller,
    changes::alerts::{self, Alert},
    commands::{MAY_SEE_ALERTS, NewAlert},
    ids::{AlertId, OrganisationId},
    serve::{
        Service,
        input::{Json, Path, Query},
        problem::Problem,
    },
};

/// Which alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Only those of this organisation (its number).
    organisation: Option<OrganisationId>,
}

/// All alerts that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alerts {
    /// The alerts; those that are raised come first. An organisation has at most twenty.
    items: Vec<Alert>,
}

/// Lists alerts; those that are raised come first.
#[utoipa::path(
    get,
    path = "/v1/alerts",
    operation_id = "list_alerts",
    tag = "Changes",
    params(Listed),
    responses((status = 200, body = Alerts)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(asked): Query<Listed>,
) -> Answer<Alerts> {
    caller.must_be(MAY_SEE_ALERTS)?;
    if let Some(organisation) = asked.organisation {
        caller.must_see(organisation)?;
    }
    let organisation = asked.organisation.or(caller.organisation);
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Alerts { items: alerts::list(&mut db, organisation, None).await? }))
}

/// Adds an alert. It is raised when what it measures crosses the threshold, and cleared when that is
/// over by a fifth. Both are changes (`alert.raised`, `alert.cleared`), for webhooks and the feed.
///
/// The same alert again is found: 200 instead of 201.
#[utoipa::path(
    post,
    path = "/v1/organisations/{organisation}/alerts",
    operation_id = "add_alert",
    tag = "Changes",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses(
        (status = 201, body = Alert),
        (status = 409, body = Problem, description = "The organisation has twenty alerts"),
    ),
)]
pub(super) async fn add(
    State(service): State<Service>,
    caller: Caller,
    Path(organisation): Path<OrganisationId>,
    Json(new): Json<NewAlert>,
) -> Result<(StatusCode, axum::Json<Alert>), Problem> {
    let made = service.commands.add_alert(&caller, organisation, &new).await?;
    let status = if made.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(made.value)))
}

/// Removes an alert.
#[utoipa::path(
    delete,
    path = "/v1/alerts/{alert}",
    operation_id = "remove_alert",
    tag = "Changes",
    params(("alert" = AlertId, Path, description = "The alert's number")),
    responses((status = 204, description = "The alert is removed")),
)]
pub(super) async fn remove(
    State(service): State<Service>,
    caller: Caller,
    Path(alert): Path<AlertId>,
) -> Result<StatusCode, Problem> {
    service.commands.remove_alert(&caller, alert).await?;
    Ok(StatusCode::NO_CONTENT)
}
