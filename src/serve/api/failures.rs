//! What failed, and why, and trying it again.

use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::{Caller, Role, audit_log},
    catalog::events,
    ids::{EventId, Operation, OrganisationId, PhotoId, RunId},
    ledger::credits::{self, Credits},
    queue::{
        enqueue::{self, PHOTOS_MAX},
        failures::{self, Filter as Failed, Group},
    },
    serve::{
        Service,
        input::{Json, Path, Query},
        problem::Problem,
    },
};

const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
/// A retry costs a credit again.
pub(super) const MAY_RETRY: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];

/// Which failures.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Failures {
    /// Of this organisation.
    pub(crate) organisation: Option<OrganisationId>,
    /// Of this event.
    pub(crate) event: Option<EventId>,
    /// That failed since this instant; if nobody says: of an event all, otherwise those of 31 days.
    pub(crate) since: Option<DateTime<Utc>>,
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
pub(crate) struct NewRetry {
    /// For this operation.
    pub(crate) operation: Option<Operation>,
    /// Only those that failed for this reason.
    pub(crate) reason: Option<String>,
    /// Only says what it would cost.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What is tried again, and what that takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retried {
    /// Photos; at most 10,000 in a call.
    pub(crate) photos: u64,
    /// Credits that this takes: a retry reserves anew.
    pub(crate) credits: Credits,
    /// Credits that the organisation has.
    pub(crate) available: Credits,
    /// What was queued; null for a dry run, or if there was nothing.
    pub(crate) run: Option<RunId>,
    /// Photos queued.
    pub(crate) queued: u32,
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
    again(&service, &caller, event, &asked).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn again(
    service: &Service,
    caller: &Caller,
    event: EventId,
    asked: &NewRetry,
) -> Result<Retried, Problem> {
    caller.must_be(MAY_RETRY)?;
    let operation = asked
        .operation
        .ok_or_else(|| Problem::invalid("/operation", "say photo_processing or ai_rotation"))?;
    let mut db = service.database.acquire().await?;
    let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
    let filter = Failed { operation: Some(operation), reason: asked.reason.as_deref() };
    let most = i64::try_from(PHOTOS_MAX).unwrap_or(i64::MAX);
    let photos: Vec<PhotoId> = failures::list(&mut db, event, filter, most)
        .await?
        .into_iter()
        .map(|failure| failure.photo)
        .collect();
    let available = credits::balance(&mut db, found.organisation).await?;
    let mut retried = Retried {
        photos: photos.len() as u64,
        credits: Credits(i64::try_from(photos.len()).unwrap_or(i64::MAX)),
        available: available.map_or(Credits(0), |balance| balance.available),
        run: None,
        queued: 0,
    };
    if asked.dry_run || photos.is_empty() {
        return Ok(retried);
    }
    let mut tx = db.begin().await?;
    let run = enqueue::retry(&mut tx, event, operation, &photos, &caller.actor).await?;
    let detail = serde_json::json!({ "operation": operation, "reason": asked.reason, "run": run.run, "queued": run.queued });
    audit_log::record(
        &mut tx,
        caller,
        Some(found.organisation),
        "photos.retry",
        &format!("event {event}"),
        detail,
    )
    .await?;
    tx.commit().await?;
    if run.woke {
        service.wake.ring();
    }
    (retried.run, retried.queued, retried.available) = (Some(run.run), run.queued, run.available);
    Ok(retried)
}
