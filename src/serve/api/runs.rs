//! Photos are queued: by their keys, by a prefix of the store, or all of an event.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{events, organisations, photos as photos_of},
    ids::{EventId, Operation, RunId},
    ledger::{
        credits::Credits,
        history::{self, PhotoOfRun},
    },
    queue::{
        enqueue::{self, PHOTOS_MAX, Skipped},
        runs::{self, Run},
    },
    serve::{
        Service,
        input::{Json, LIMIT_MAX, Path, Query, limit},
        problem::Problem,
    },
    telemetry::traces,
};

/// Photos that a prefix, or an event, may bring at once: more are a mistake, or want several calls.
const RUN_MAX: usize = 100_000;

/// Which photos, and for what. Exactly one of `keys`, `prefix` and `all` says which.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operation": "photo_processing", "keys": ["2026/marathon/IMG_0001.jpg", "2026/marathon/IMG_0002.jpg"], "dry_run": true}))]
pub(crate) struct NewRun {
    /// What to do with them.
    pub(crate) operation: Option<Operation>,
    /// These photos: their keys in the store, at most 10,000.
    pub(crate) keys: Option<Vec<String>>,
    /// All photos of the store below this prefix that were not queued before: a sync.
    pub(crate) prefix: Option<String>,
    /// All photos of the event that are known, for either operation: Go Live.
    #[serde(default)]
    pub(crate) all: bool,
    /// Only says what would happen.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// What if credits do not suffice.
    #[serde(default)]
    pub(crate) on_insufficient: OnInsufficient,
}

/// What happens if credits do not suffice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnInsufficient {
    /// Everything is queued; what is not paid for waits for a top-up, and then goes on by itself.
    #[default]
    Wait,
    /// Nothing is queued: 402.
    Reject,
}

/// What was queued, and what it takes: the funding plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Planned {
    /// What was queued; one run for every 10,000 photos. Empty for a dry run.
    pub(crate) runs: Vec<RunId>,
    /// Photos asked for.
    pub(crate) photos: u64,
    /// Queued now.
    pub(crate) queued: u64,
    /// Not queued, and why.
    pub(crate) skipped: Skipped,
    /// Photos that were paid for before: they cost nothing again.
    pub(crate) already_paid: u64,
    /// Credits that this takes: one for each photo that is queued.
    pub(crate) needed: Credits,
    /// Credits that the organisation has, less what is reserved.
    pub(crate) available: Credits,
    /// Credits that are missing for everything that waits, this included.
    pub(crate) shortfall: Credits,
    /// Of the photos queued now, how many finish without a top-up, if what waits already goes first.
    pub(crate) will_finish: u64,
    /// Whether this only says what would happen.
    pub(crate) dry_run: bool,
}

/// Queues photos, or says what that would take.
///
/// What was queued before is not queued again: the same call twice costs nothing the second time.
#[utoipa::path(post, path = "/v1/events/{event}/runs", tag = "Runs", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 202, body = Planned, description = "Queued"), (status = 200, body = Planned, description = "A dry run: this would happen"),
              (status = 402, body = Problem, description = "Credits do not suffice, and `on_insufficient` is `reject`")))]
pub(super) async fn create(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
    Json(asked): Json<NewRun>,
) -> Result<(StatusCode, axum::Json<Planned>), Problem> {
    caller.must_be(&[Role::Pipeline, Role::Organiser, Role::Staff])?;
    let planned = enqueue(&service, &caller, event, &asked).await?;
    let status = if asked.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(planned)))
}

/// The same for pages. Each 10,000 photos are queued in a transaction of their own: nobody else waits for all of them, and
/// the same call again does what is left, should it not come to its end.
pub(crate) async fn enqueue(
    service: &Service,
    caller: &Caller,
    event: EventId,
    asked: &NewRun,
) -> Result<Planned, Problem> {
    let (found, under) = {
        let mut db = service.database.acquire().await?;
        let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
        let owner = organisations::find(&mut db, found.organisation).await?;
        (found, owner.map(|owner| owner.photos_under).unwrap_or_default())
    };
    if under.is_empty() && caller.organisation.is_some() && shares_the_store(service).await? {
        return Err(Problem::conflict(
            "photos_under_unset",
            "several organisations share the store, and it is not said which part is this one's: ask support to set photos_under",
        ));
    }
    let operation = asked
        .operation
        .ok_or_else(|| Problem::invalid("/operation", "say photo_processing or ai_rotation"))?;
    let keys = keys(service, event, asked, &under).await?;
    enqueue::check_keys(&keys)?;
    if let Some(at) = keys.iter().position(|key| !key.starts_with(&under)) {
        return Err(Problem::invalid(
            &format!("/keys/{at}"),
            format!("the photos of this organisation are below {under:?}"),
        ));
    }
    // An empty list is a run too: it says what there is.
    let chunks: Vec<&[String]> =
        if keys.is_empty() { vec![&[]] } else { keys.chunks(PHOTOS_MAX).collect() };
    let mut db = service.database.acquire().await?;
    let may_reject = asked.on_insufficient == OnInsufficient::Reject;
    if asked.dry_run || (may_reject && chunks.len() > 1) {
        let planned = plan(&mut db, event, operation, &chunks).await?;
        if asked.dry_run {
            return Ok(planned);
        }
        refuse_unpaid(&planned)?;
    }
    let mut planned = Planned::nothing(keys.len(), false);
    for chunk in &chunks {
        let mut tx = db.begin().await?;
        let run = enqueue::enqueue(&mut tx, event, operation, chunk, &caller.actor).await?;
        planned.runs.push(run.run);
        planned.add(u64::from(run.queued), run.skipped, run.available, run.shortfall);
        if may_reject && chunks.len() == 1 {
            refuse_unpaid(&planned)?;
        }
        let detail =
            serde_json::json!({ "operation": operation, "runs": [run.run], "queued": run.queued });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "photos.queue", &subject, detail).await?;
        if let Some(trace) = traces::name_of(&tracing::Span::current()) {
            traces::keep(&mut tx, &[run.run], &trace).await?;
        }
        tx.commit().await?;
        if run.woke {
            service.wake.ring();
        }
    }
    Ok(planned)
}

impl Planned {
    fn nothing(photos: usize, dry_run: bool) -> Self {
        Self {
            runs: Vec::new(),
            photos: photos as u64,
            queued: 0,
            skipped: Skipped::default(),
            already_paid: 0,
            needed: Credits(0),
            available: Credits(0),
            shortfall: Credits(0),
            will_finish: 0,
            dry_run,
        }
    }

    /// Some more photos, and what there is and is missing with them.
    fn add(&mut self, queued: u64, skipped: Skipped, available: Credits, shortfall: Credits) {
        self.queued += queued;
        self.skipped += skipped;
        (self.available, self.shortfall) = (available, shortfall);
        self.already_paid = u64::from(self.skipped.already_processed);
        self.needed = Credits(i64::try_from(self.queued).unwrap_or(i64::MAX));
        let unpaid = u64::try_from(shortfall.0).unwrap_or(0);
        self.will_finish = self.queued.saturating_sub(unpaid);
    }
}

/// What would happen: nothing is written, and nobody waits for it.
async fn plan(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    chunks: &[&[String]],
) -> Result<Planned, Problem> {
    let mut planned = Planned::nothing(chunks.iter().map(|chunk| chunk.len()).sum(), true);
    for chunk in chunks {
        let plan = enqueue::plan(db, event, operation, chunk).await?;
        // What was planned before this part waits before it too.
        let before = i64::try_from(planned.queued).unwrap_or(i64::MAX);
        let shortfall = Credits((plan.ahead.0 + before - plan.available.0).max(0));
        planned.add(u64::from(plan.queued), plan.skipped, plan.available, shortfall);
    }
    Ok(planned)
}

/// What costs nothing needs no credits.
fn refuse_unpaid(planned: &Planned) -> Result<(), Problem> {
    if planned.queued == 0 || planned.shortfall <= Credits(0) {
        return Ok(());
    }
    Err(Problem::insufficient_credits(format!(
        "{} credits are missing: top them up, or leave on_insufficient away to have the photos wait",
        planned.shortfall
    )))
}

/// True when there are other organisations, whose photos are not everybody's.
async fn shares_the_store(service: &Service) -> Result<bool, Problem> {
    let mut db = service.database.acquire().await?;
    Ok(organisations::list(&mut db).await?.len() > 1)
}

async fn keys(
    service: &Service,
    event: EventId,
    asked: &NewRun,
    under: &str,
) -> Result<Vec<String>, Problem> {
    let too_many = || {
        Problem::too_large(format!(
            "more than {RUN_MAX} photos: name a longer prefix, several times"
        ))
    };
    match (&asked.keys, &asked.prefix, asked.all) {
        (Some(keys), None, false) if keys.len() > PHOTOS_MAX => Err(Problem::invalid(
            "/keys",
            format!("{} keys: send at most {PHOTOS_MAX} in a call", keys.len()),
        )),
        (Some(keys), None, false) => Ok(keys.clone()),
        (None, Some(prefix), false) => {
            let inside = prefix.starts_with(under) || under.is_empty();
            if !inside {
                return Err(Problem::invalid(
                    "/prefix",
                    format!("the photos of this organisation are below {under:?}"),
                ));
            }
            service
                .store
                .list(prefix, RUN_MAX + 1)
                .await
                .map_err(|error| {
                    tracing::warn!(%error, "the store could not be listed");
                    Problem::unavailable(
                        "store_unavailable",
                        "the store does not answer: try again in a moment".into(),
                    )
                })
                .and_then(|keys| if keys.len() > RUN_MAX { Err(too_many()) } else { Ok(keys) })
        }
        (None, None, true) => {
            let most = i64::try_from(RUN_MAX + 1).unwrap_or(i64::MAX);
            let mut db = service.database.acquire().await?;
            let keys = photos_of::keys(&mut db, event, "", most).await?;
            if keys.len() > RUN_MAX { Err(too_many()) } else { Ok(keys) }
        }
        _ => Err(Problem::invalid("", "say exactly one of keys, prefix and all")),
    }
}

/// How far a run is.
#[utoipa::path(get, path = "/v1/runs/{run}", tag = "Runs", params(("run" = RunId, Path, description = "Of the run")),
    responses((status = 200, body = Run)))]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(run): Path<RunId>,
) -> Answer<Run> {
    let mut db = service.database.acquire().await?;
    visible(&mut db, &caller, run).await.map(axum::Json)
}

async fn visible(db: &mut PgConnection, caller: &Caller, run: RunId) -> Result<Run, Problem> {
    runs::find(db, run)
        .await?
        .filter(|found| caller.organisation.is_none_or(|own| own == found.organisation))
        .ok_or_else(|| Problem::not_found(format!("run {run}")))
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PhotosPage {
    /// The position of the last photo of the page before.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// The photos of a run, in the order in which they were queued.
#[utoipa::path(get, path = "/v1/runs/{run}/photos", tag = "Runs", params(("run" = RunId, Path, description = "Of the run"), PhotosPage),
    responses((status = 200, body = super::Page<PhotoOfRun>)))]
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
