//! Runs: queueing photos by their keys, by a prefix of the store, or all photos of an event.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::Caller,
    bounded,
    commands::{Enqueue, FundingPlan, OnInsufficient, Payloads, Which},
    ids::{EventId, Operations, RunId},
    ledger::history::{self, PhotoOfRun},
    queue::{
        enqueue::{PAYLOAD_MAX, PHOTOS_MAX, Priority},
        runs::{self, Cancelled, MovedFirst, Run},
    },
    serve::{
        Service,
        input::{Json, LIMIT_MAX, Path, Query, limit, needed},
        problem::Problem,
    },
};

/// Largest payload, in bytes as it is sent: four times what is kept of it without spaces.
pub(super) const PAYLOAD_TEXT_MAX: usize = 4 * PAYLOAD_MAX;

/// Photos to queue, and the operation. Exactly one of `keys`, `prefix` and `all` is required.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "operation": "photo_processing",
    "keys": ["2026/marathon/IMG_0001.jpg", "2026/marathon/IMG_0002.jpg"],
    "dry_run": true,
}))]
pub(super) struct NewRun {
    /// The operation to queue the photos for; required. `both`: AI Rotation first, and then Photo
    /// Processing, photo by photo.
    operation: Option<Operations>,
    /// Queues the photos with these keys in the store, at most 10,000.
    #[serde(default, deserialize_with = "bounded::optional_list::<PHOTOS_MAX, _, _>")]
    keys: Option<Vec<String>>,
    /// A JSON value for any of the photos, by the photo's key, at most 4096 bytes each, and
    /// 16 MiB with the rest of the request. The worker
    /// gets it beside the key. photogate's own workers do not read it.
    #[serde(default, deserialize_with = "bounded::values::<PHOTOS_MAX, PAYLOAD_TEXT_MAX, _>")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    payloads: Payloads,
    /// Queues all photos of the store below this prefix that were not queued before, or whose file has
    /// changed since they were processed (a sync).
    prefix: Option<String>,
    /// Queues all photos of the event that were ever queued for either operation (Go Live).
    #[serde(default)]
    all: bool,
    /// If true, nothing is queued: the answer says what would happen.
    #[serde(default)]
    dry_run: bool,
    /// What to do if there are not enough credits; `wait` if missing.
    #[serde(default)]
    on_insufficient: OnInsufficient,
    /// `urgent`: the photos are claimed before the others of the event; `normal` if missing.
    #[serde(default)]
    priority: Priority,
}

/// Queues photos, or says what that would cost.
///
/// Photos that were queued before are not queued again, so it is safe to send the same call twice. `runs`
/// says where all these photos are: ask about each until `waiting` and `in_progress` are 0. Or send the same
/// call as a dry run until `queued` and `skipped.already_queued` are 0.
#[utoipa::path(
    post,
    path = "/v1/events/{event}/runs",
    operation_id = "queue_photos",
    tag = "Runs",
    params(("event" = EventId, Path, description = "The event's number")),
    responses(
        (status = 202, body = FundingPlan, description = "The photos were queued"),
        (status = 200, body = FundingPlan, description = "A dry run: nothing was changed"),
        (
            status = 402,
            body = Problem,
            description = "There are not enough credits, and `on_insufficient` is `reject`",
        ),
    ),
)]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(asked): Json<NewRun>,
) -> Result<(StatusCode, axum::Json<FundingPlan>), Problem> {
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
    let enqueue = Enqueue {
        operation: needed(asked.operation)?,
        photos,
        payloads: asked.payloads,
        dry_run: asked.dry_run,
        on_insufficient: asked.on_insufficient,
        priority: asked.priority,
    };
    let planned = service.commands.enqueue(&caller, event, &enqueue).await?;
    let status = if asked.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(planned)))
}

/// Shows how many photos of a run are waiting, in progress, processed and failed.
#[utoipa::path(
    get,
    path = "/v1/runs/{run}",
    operation_id = "get_run",
    tag = "Runs",
    params(("run" = RunId, Path, description = "The run's number")),
    responses((status = 200, body = Run)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(run): Path<RunId>,
) -> Answer<Run> {
    let mut db = service.database.acquire().await?;
    visible(&mut db, &caller, run).await.map(axum::Json)
}

/// Cancels a run: its photos that wait are taken out of the queue, and cost nothing.
///
/// Photos that are in progress are finished. Photos that would be queued for Photo Processing after
/// their AI Rotation are not queued any more.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/cancel",
    operation_id = "cancel_run",
    tag = "Runs",
    params(("run" = RunId, Path, description = "The run's number")),
    responses((status = 200, body = Cancelled)),
)]
pub(super) async fn cancel(
    State(service): State<Service>,
    caller: Caller,
    Path(run): Path<RunId>,
) -> Answer<Cancelled> {
    Ok(axum::Json(service.commands.cancel_run(&caller, run).await?))
}

/// Moves a run to the front: its photos that wait are claimed before all others of their queue.
#[utoipa::path(
    post,
    path = "/v1/runs/{run}/first",
    operation_id = "move_run_first",
    tag = "Runs",
    params(("run" = RunId, Path, description = "The run's number")),
    responses((status = 200, body = MovedFirst)),
)]
pub(super) async fn first(
    State(service): State<Service>,
    caller: Caller,
    Path(run): Path<RunId>,
) -> Answer<MovedFirst> {
    Ok(axum::Json(service.commands.put_run_first(&caller, run).await?))
}

async fn visible(db: &mut PgConnection, caller: &Caller, run: RunId) -> Result<Run, Problem> {
    runs::find(db, run)
        .await?
        .filter(|found| caller.organisation.is_none_or(|own| own == found.organisation))
        .ok_or_else(|| Problem::not_found(format!("run {run}")))
}

/// Which page of the photos.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PhotosPage {
    /// `next` of the previous page, a photo's position; without it, the first page.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Maximum number of photos; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists the photos of a run, in the order in which they were queued.
#[utoipa::path(
    get,
    path = "/v1/runs/{run}/photos",
    operation_id = "list_run_photos",
    tag = "Runs",
    params(("run" = RunId, Path, description = "The run's number"), PhotosPage),
    responses((status = 200, body = super::Page<PhotoOfRun>)),
)]
pub(super) async fn photos(
    State(service): State<Service>,
    caller: Caller,
    Path(run): Path<RunId>,
    Query(page): Query<PhotosPage>,
) -> Answer<super::Page<PhotoOfRun>> {
    let limit = limit(page.limit)?.min(LIMIT_MAX);
    let mut db = service.database.acquire().await?;
    visible(&mut db, &caller, run).await?;
    let found = history::photos_of_run(&mut db, run, page.after.unwrap_or(0), limit + 1).await?;
    Ok(axum::Json(super::Page::of(found, limit, |row| row.position.to_string())))
}
