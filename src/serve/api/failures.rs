//! Failed photos and their reasons, and how to retry them.

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

/// Filters for failures.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Failures {
    /// Only failures of this organisation (its number).
    organisation: Option<OrganisationId>,
    /// Only failures of this event (its number).
    event: Option<EventId>,
    /// Only failures at or after this instant. If missing: with `event` all its failures, otherwise
    /// those of the last 31 days.
    since: Option<DateTime<Utc>>,
}

/// Failures, grouped by event, operation and reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Failures)]
pub(super) struct Groups {
    items: Vec<Group>,
}

/// Counts failed photos by event, operation and reason.
///
/// Photos that were retried since are not counted. The largest groups come first, at most 500.
#[utoipa::path(
    get,
    path = "/v1/failures",
    operation_id = "list_failures",
    tag = "Queues",
    params(Failures),
    responses((status = 200, body = Groups)),
)]
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

/// Which failed photos to queue again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "operation": "photo_processing",
    "reason": "photo_missing",
    "dry_run": true,
}))]
pub(super) struct NewRetry {
    /// The operation that failed; required.
    operation: Option<Operation>,
    /// Only photos that failed for this reason; if missing, for any reason.
    reason: Option<String>,
    /// If true, nothing is queued: the answer says what the retry would cost.
    #[serde(default)]
    dry_run: bool,
}

/// Queues failed photos again, at most 10,000. Each reserves a credit again.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/retry",
    operation_id = "retry_photos",
    tag = "Queues",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 200, body = Retried)),
)]
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
