//! What failed, and why, and trying it again.

use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::{Caller, Role},
    commands::{Retried, Retry},
    ids::{EventId, Operation, OrganisationId},
    queue::failures::{self, Group},
    serve::{
        Service,
        input::{Json, Path, Query, needed},
    },
};

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Which failures.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Failures {
    /// Of this organisation.
    organisation: Option<OrganisationId>,
    /// Of this event.
    event: Option<EventId>,
    /// That failed since this instant; if nobody says: of an event all, otherwise those of 31 days.
    since: Option<DateTime<Utc>>,
}

/// Failures, by event, operation and reason.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Groups {
    items: Vec<Group>,
}

/// What failed and was not retried since, counted by event, operation and reason; most first, at most 500 groups.
#[utoipa::path(get, path = "/v1/failures", tag = "Queues", params(Failures), responses((status = 200, body = Groups)))]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Failures>,
) -> Answer<Groups> {
    caller.must_be(MAY_LOOK)?;
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let lately = || which.event.is_none().then(|| Utc::now() - TimeDelta::days(31));
    let asked = failures::Which {
        organisation: which.organisation.or(caller.organisation),
        event: which.event,
        since: which.since.map(|since| since.max(DateTime::UNIX_EPOCH)).or_else(lately),
        ..failures::Which::default()
    };
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Groups { items: failures::groups(&mut db, asked).await? }))
}

/// Which failed photos to try again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operation": "photo_processing", "reason": "photo_missing", "dry_run": true}))]
pub(super) struct NewRetry {
    /// For this operation.
    operation: Option<Operation>,
    /// Only those that failed for this reason.
    reason: Option<String>,
    /// Only says what it would cost.
    #[serde(default)]
    dry_run: bool,
}

/// Queues failed photos again, or says what that would cost.
#[utoipa::path(post, path = "/v1/events/{event}/retry", tag = "Queues", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Retried)))]
pub(super) async fn retry(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(asked): Json<NewRetry>,
) -> Answer<Retried> {
    let operation = needed(asked.operation)?;
    let retry = Retry { operation, reason: asked.reason.as_deref(), dry_run: asked.dry_run };
    Ok(axum::Json(service.commands.retry(&caller, event, &retry).await?))
}
