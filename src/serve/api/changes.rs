//! The feed: an organisation's changes in their order, for clients that read them.

use std::time::{Duration, Instant};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::{Caller, Role},
    changes::{Change, Type, feed},
    ids::OrganisationId,
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
        shares,
    },
};

const MAY_READ: &[Role] =
    &[Role::Pipeline, Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
/// What programs that queue photos read: not who bought credits, and not who holds a queue.
const FOR_PIPELINES: &[Type] = &[
    Type::RunQueued,
    Type::RunStarted,
    Type::RunFinished,
    Type::RunCancelled,
    Type::RunUndone,
    Type::PhotoProcessed,
    Type::EventFinished,
    Type::EventDeleted,
];
/// Longest wait in seconds. An answer takes at most 30 (`middleware/limits.rs`).
const WAIT_MAX: u64 = 25;
/// How often a request that waits looks for new changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which changes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The organisation's number. Needed by callers who see several.
    organisation: Option<OrganisationId>,
    /// `next` of the previous answer: the changes after it. Without it, from the first one that is
    /// kept. `end`: only those that are still to come.
    after: Option<String>,
    /// Only these types, with commas between them, as `run.finished,photo.processed`.
    types: Option<String>,
    /// Seconds to wait for a change if there is none; 0 if missing.
    #[param(minimum = 0, maximum = 25)]
    wait: Option<u64>,
    /// Maximum number of changes; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// A part of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Feed {
    /// The changes, oldest first, as `CloudEvents`.
    items: Vec<Change>,
    /// Send it as `after` to go on from here. It is also there if nothing was new.
    next: String,
}

/// Reads an organisation's changes, oldest first: the same that webhooks are sent.
///
/// With `wait`, the answer comes as soon as something happens, or when the time is over. Keep `next`,
/// and send it as `after` of the next call: no change is left out, and none comes twice. Changes are
/// kept for 14 days, unless the service is set up otherwise; a client that was away for longer gets 410
/// (`changes_gone`), and goes on with `after=0`.
///
/// `photo.processed` is only kept if a webhook hears it, or after `PUT
/// /v1/organisations/{organisation}/feed`. Programs with the role `pipeline` read changes of runs and
/// photos, and the end and the deletion of events.
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "read_changes",
    tag = "Changes",
    params(Which),
    responses(
        (status = 200, body = Feed),
        (status = 410, body = Problem, description = "Changes after `after` are not kept any more \
                                                      (`changes_gone`)"),
    ),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Feed> {
    caller.must_be(MAY_READ)?;
    let organisation = which.organisation.or(caller.organisation).ok_or_else(|| {
        Problem::invalid("organisation", "say which organisation's changes, by its number")
    })?;
    caller.must_see(organisation)?;
    let limit = limit(which.limit)?;
    let types = types(which.types.as_deref(), caller.role)?;
    let wait = which.wait.unwrap_or_default();
    if wait > WAIT_MAX {
        return Err(Problem::invalid("wait", format!("wait at most {WAIT_MAX} seconds")));
    }
    let _counted = match wait {
        0 => None,
        _ => Some(service.streams.open(&caller)?),
    };
    let until = Instant::now() + Duration::from_secs(wait);
    let mut after = None;
    loop {
        let mut db = service.database.acquire().await?;
        feed::number(&mut db, organisation).await?;
        let ends = feed::ends(&mut db, organisation).await?;
        let from = match after {
            Some(after) => after,
            None => *after.insert(start(which.after.as_deref(), ends)?),
        };
        let found = feed::list(&mut db, organisation, from, &types, limit).await?;
        drop(db);
        let is_full = i64::try_from(found.len()).is_ok_and(|found| found == limit);
        // What is of other types is passed over, also if nothing was found.
        let next = match found.last() {
            Some((last, _)) if is_full => *last,
            // The worker may have given numbers out between the two reads.
            found => ends.last.max(from).max(found.map_or(0, |(last, _)| *last)),
        };
        if !found.is_empty() || Instant::now() >= until || service.draining.is_cancelled() {
            let items = found.into_iter().map(|(_, change)| change).collect();
            return Ok(axum::Json(Feed { items, next: next.to_string() }));
        }
        after = Some(next);
        // It is counted as a stream, and is in nobody's way while it waits.
        shares::give_back();
        service.draining.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await;
    }
}

/// Where the answer begins.
fn start(after: Option<&str>, ends: feed::Ends) -> Result<i64, Problem> {
    let after = match after {
        // All that is kept.
        None | Some("0") => return Ok(ends.forgotten),
        Some("end") => return Ok(ends.last),
        Some(after) => after.parse::<i64>().ok().filter(|after| (0..=ends.last).contains(after)),
    };
    let after =
        after.ok_or_else(|| Problem::invalid("after", "send `next` of an earlier answer"))?;
    if after < ends.forgotten {
        return Err(Problem::changes_gone(ends.forgotten));
    }
    Ok(after)
}

fn types(asked: Option<&str>, role: Role) -> Result<Vec<Type>, Problem> {
    let mut all: Vec<Type> = Type::ALL.into_iter().chain([Type::WebhookPing]).collect();
    if role == Role::Pipeline {
        all.retain(|kind| FOR_PIPELINES.contains(kind));
    }
    let Some(asked) = asked else { return Ok(all) };
    let known = asked.split(',').map(|name| {
        all.iter().copied().find(|kind| kind.code() == name).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|kind| kind.code()).collect();
            let detail = format!("there is no type {name:?} for you: choose {}", names.join(", "));
            Problem::invalid("types", detail)
        })
    });
    known.collect()
}

/// What the feed says beside what it always says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FeedChange, example = json!({ "photos": true }))]
pub(super) struct FeedChange {
    /// Whether it says which photos are settled (`photo.processed`).
    photos: bool,
}

/// Lets the feed say which photos are settled, from now on.
#[utoipa::path(
    put,
    path = "/v1/organisations/{organisation}/feed",
    operation_id = "set_feed",
    tag = "Changes",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 204, description = "It does, or does not any more")),
)]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(organisation): Path<OrganisationId>,
    Json(change): Json<FeedChange>,
) -> Result<axum::http::StatusCode, Problem> {
    service.commands.feed_photos(&caller, organisation, change.photos).await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}
