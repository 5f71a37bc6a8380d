//! Schedules: photos that are queued at a later time.

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page, runs::PAYLOAD_TEXT_MAX};
use crate::{
    access::{Caller, Role},
    bounded,
    commands::{NewSchedule, Payloads, Which},
    ids::{EventId, Operations, OrganisationId, ScheduleId},
    queue::{
        enqueue::{PHOTOS_MAX, Priority},
        schedules::{self, Schedule},
    },
    serve::{
        Service,
        input::{Json, Path, Query, limit, needed},
        problem::Problem,
    },
};

const MAY_LOOK: &[Role] =
    &[Role::Pipeline, Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Photos to queue later. Exactly one of `keys`, `prefix` and `all` is required.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSchedule, example = json!({
    "operation": "photo_processing",
    "all": true,
    "not_before": "2030-05-04T16:00:00Z",
}))]
pub(super) struct Asked {
    /// The operation to queue the photos for; required. `both`: AI Rotation first, and then Photo
    /// Processing, photo by photo.
    operation: Option<Operations>,
    /// When they are queued; required. A later time, within a year.
    not_before: Option<DateTime<Utc>>,
    /// The photos with these keys in the store, at most 10,000.
    #[serde(default, deserialize_with = "bounded::optional_list::<PHOTOS_MAX, _, _>")]
    keys: Option<Vec<String>>,
    /// A JSON value for any of these photos, as when they are queued at once.
    #[serde(default, deserialize_with = "bounded::values::<PHOTOS_MAX, PAYLOAD_TEXT_MAX, _>")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    payloads: Payloads,
    /// The photos that the store has now below this prefix.
    prefix: Option<String>,
    /// All photos that the event has when they are due (Go Live).
    #[serde(default)]
    all: bool,
    /// `urgent`: the photos are claimed before the others of the event; `normal` if missing.
    #[serde(default)]
    priority: Priority,
}

fn needed_time(asked: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, Problem> {
    asked.ok_or_else(|| Problem::invalid("/not_before", "say when, as 2030-05-04T16:00:00Z"))
}

/// Schedules photos: they are queued at that time, or as soon after it as a worker runs.
///
/// The same call again returns the schedule that waits, so it is safe to send it twice. What it would
/// cost now is told by a dry run of `POST /v1/events/{event}/runs`.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/schedules",
    operation_id = "create_schedule",
    tag = "Runs",
    params(("event" = EventId, Path, description = "The event's number")),
    responses((status = 201, body = Schedule)),
)]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, axum::Json<Schedule>), Problem> {
    let photos = match (&asked.keys, &asked.prefix, asked.all) {
        (Some(keys), None, false) if keys.len() > PHOTOS_MAX => {
            let detail = format!("{} keys: send at most {PHOTOS_MAX} in a call", keys.len());
            return Err(Problem::invalid("/keys", detail));
        }
        (Some(keys), None, false) => Which::Keys(keys),
        (None, Some(prefix), false) => Which::Below(prefix, &service.store),
        (None, None, true) => Which::All,
        _ => return Err(Problem::invalid("", "send exactly one of keys, prefix and all")),
    };
    let new = NewSchedule {
        operation: needed(asked.operation)?,
        photos,
        payloads: asked.payloads,
        not_before: needed_time(asked.not_before)?,
        priority: asked.priority,
    };
    let made = service.commands.schedule(&caller, event, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Which schedules.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Only those of this organisation (its number).
    organisation: Option<OrganisationId>,
    /// Only those of this event (its number).
    event: Option<EventId>,
    /// If true, also those that have ended.
    #[serde(default)]
    ended: bool,
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of rows; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists schedules, newest first.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    operation_id = "list_schedules",
    tag = "Runs",
    params(Listed),
    responses((status = 200, body = Page<Schedule>)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(asked): Query<Listed>,
) -> Answer<Page<Schedule>> {
    caller.must_be(MAY_LOOK)?;
    if let Some(organisation) = asked.organisation {
        caller.must_see(organisation)?;
    }
    let limit = limit(asked.limit)?;
    let which = schedules::Which {
        organisation: asked.organisation.or(caller.organisation),
        event: asked.event,
        id: None,
        waiting: !asked.ended,
        below: asked.after,
    };
    let mut db = service.database.acquire().await?;
    let found = schedules::list(&mut db, which, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |schedule| schedule.id.to_string())))
}

/// The change of a schedule.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ScheduleChange, example = json!({ "not_before": "2030-05-04T18:00:00Z" }))]
pub(super) struct Change {
    /// The new time; required. A later time, within a year.
    not_before: Option<DateTime<Utc>>,
}

/// Changes when a schedule is due. Whoever changes it answers for it from then on.
#[utoipa::path(
    patch,
    path = "/v1/schedules/{schedule}",
    operation_id = "change_schedule",
    tag = "Runs",
    params(("schedule" = ScheduleId, Path, description = "The schedule's number")),
    responses((status = 200, body = Schedule)),
)]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(schedule): Path<ScheduleId>,
    Json(change): Json<Change>,
) -> Answer<Schedule> {
    let at = needed_time(change.not_before)?;
    Ok(axum::Json(service.commands.move_schedule(&caller, schedule, at).await?))
}

/// Cancels a schedule. What of it was queued already stays queued.
#[utoipa::path(
    delete,
    path = "/v1/schedules/{schedule}",
    operation_id = "cancel_schedule",
    tag = "Runs",
    params(("schedule" = ScheduleId, Path, description = "The schedule's number")),
    responses((status = 200, body = Schedule)),
)]
pub(super) async fn cancel(
    State(service): State<Service>,
    caller: Caller,
    Path(schedule): Path<ScheduleId>,
) -> Answer<Schedule> {
    Ok(axum::Json(service.commands.cancel_schedule(&caller, schedule).await?))
}
