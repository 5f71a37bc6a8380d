//! Photos are enqueued, retried, skipped and restored.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{organisations, photo_store::PhotoStore, photos as catalog_photos},
    ids::{EventId, Operation, PhotoId, RunId},
    ledger::credits::{self, Credits},
    queue::{
        enqueue::{self, PHOTOS_MAX, Skipped},
        failures::{self, Filter},
    },
    telemetry::traces,
};

pub(super) const MAY_ENQUEUE: &[Role] = &[Role::Pipeline, Role::Organiser, Role::Staff];
/// A retry costs a credit again.
pub(super) const MAY_RETRY: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];

/// Photos that a prefix, or an event, may bring at once: more are a mistake, or want several calls.
const CALL_MAX: usize = 100_000;

/// Photos to enqueue, or to plan for.
#[derive(Debug)]
pub struct Enqueue<'a> {
    /// What to do with them.
    pub operation: Operation,
    /// Which.
    pub photos: Which<'a>,
    /// Only says what would happen.
    pub dry_run: bool,
    /// What if credits do not suffice.
    pub on_insufficient: OnInsufficient,
}

/// Which photos.
#[derive(Debug)]
pub enum Which<'a> {
    /// These keys.
    Keys(&'a [String]),
    /// Every photo of the store below this prefix: a sync.
    Below(&'a str, &'a PhotoStore),
    /// Every photo of the event that is known, for either operation: Go Live.
    All,
}

/// What happens if credits do not suffice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInsufficient {
    /// Everything is enqueued; what is not paid for waits for a top-up, and then goes on by itself.
    #[default]
    Wait,
    /// Nothing is enqueued: 402.
    Reject,
}

/// What was enqueued, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Planned)]
pub struct FundingPlan {
    /// What was enqueued; one run for every 10,000 photos. Empty for a dry run.
    pub runs: Vec<RunId>,
    /// Photos asked for.
    pub photos: u64,
    /// Enqueued now.
    pub queued: u64,
    /// Not enqueued, and why.
    pub skipped: Skipped,
    /// Photos that were paid for before: they cost nothing again.
    pub already_paid: u64,
    /// Credits that this takes: one for each photo that is enqueued.
    pub needed: Credits,
    /// Credits that the organisation has, less what is reserved.
    pub available: Credits,
    /// Credits that are missing for everything that waits, this included.
    pub shortfall: Credits,
    /// Of the photos enqueued now, how many finish without a top-up, if what waits already goes first.
    pub will_finish: u64,
    /// Whether this only says what would happen.
    pub dry_run: bool,
}

/// Failed photos to try again.
#[derive(Debug)]
pub struct Retry<'a> {
    /// For this operation.
    pub operation: Operation,
    /// Only those that failed for this reason.
    pub reason: Option<&'a str>,
    /// Only says what it would cost.
    pub dry_run: bool,
}

/// What is tried again, and what that takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// Photos; at most 10,000 in a call.
    pub photos: u64,
    /// Credits that this takes: a retry reserves anew.
    pub credits: Credits,
    /// Credits that the organisation has.
    pub available: Credits,
    /// What was enqueued; null for a dry run, or if there was nothing.
    pub run: Option<RunId>,
    /// Photos enqueued.
    pub queued: u32,
}

/// Photos of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Chosen, example = json!({"operation": "photo_processing", "photos": ["0193a1c0-0000-7000-8000-000000000000"]}))]
pub struct ChosenPhotos {
    /// In the queue of this operation.
    pub operation: Operation,
    /// At most 10,000.
    pub photos: Vec<PhotoId>,
}

impl Commands {
    /// Enqueues photos, or says what that would take. Each 10,000 photos are a transaction of their own: nobody else
    /// waits for all of them, and the same call again does what is left, should it not come to its end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn enqueue(
        &self,
        caller: &Caller,
        event: EventId,
        asked: &Enqueue<'_>,
    ) -> Result<FundingPlan, CommandError> {
        caller.must_be(MAY_ENQUEUE)?;
        let found = self.event_seen_by(caller, event).await?;
        let under = self.photos_under(caller, found.organisation).await?;
        let keys = self.keys(event, &asked.photos, &under).await?;
        // An empty list is a run too: it says what there is.
        let parts: Vec<&[String]> =
            if keys.is_empty() { vec![&[]] } else { keys.chunks(PHOTOS_MAX).collect() };
        let may_reject = asked.on_insufficient == OnInsufficient::Reject;
        if asked.dry_run || (may_reject && parts.len() > 1) {
            let mut db = self.database.acquire().await?;
            let plan = plan(&mut db, event, asked.operation, &parts).await?;
            if asked.dry_run {
                return Ok(plan);
            }
            refuse_unpaid(&plan)?;
        }
        let mut done = FundingPlan::nothing(keys.len(), false);
        for part in &parts {
            let mut tx = self.database.begin().await?;
            let run =
                enqueue::enqueue(&mut tx, event, asked.operation, part, &caller.actor).await?;
            done.runs.push(run.run);
            done.add(u64::from(run.queued), run.skipped, run.available, run.shortfall);
            if may_reject && parts.len() == 1 {
                refuse_unpaid(&done)?;
            }
            let detail =
                json!({ "operation": asked.operation, "runs": [run.run], "queued": run.queued });
            let (whose, subject) = (Some(found.organisation), format!("event {event}"));
            audit_log::record(&mut tx, caller, whose, "photos.enqueue", &subject, detail).await?;
            if let Some(trace) = traces::name_of(&tracing::Span::current()) {
                traces::keep(&mut tx, &[run.run], &trace).await?;
            }
            tx.commit().await?;
            if run.woke {
                self.wake.send().await;
            }
        }
        Ok(done)
    }

    /// The part of the store where an organisation's photos are. Its people cannot enqueue photos of another.
    async fn photos_under(
        &self,
        caller: &Caller,
        organisation: crate::ids::OrganisationId,
    ) -> Result<String, CommandError> {
        let mut db = self.database.acquire().await?;
        let owner = organisations::find(&mut db, organisation).await?;
        let under = owner.map(|owner| owner.photos_under).unwrap_or_default();
        if under.is_empty()
            && caller.organisation.is_some()
            && organisations::list(&mut db).await?.len() > 1
        {
            return Err(CommandError::Conflict {
                code: "photos_under_unset",
                detail: "several organisations share the store, and it is not said which part is \
                         this one's: ask support to set photos_under"
                    .into(),
            });
        }
        Ok(under)
    }

    async fn keys(
        &self,
        event: EventId,
        photos: &Which<'_>,
        under: &str,
    ) -> Result<Vec<String>, CommandError> {
        let outside = || format!("the photos of this organisation are below {under:?}");
        let keys = match *photos {
            Which::Keys(keys) => keys.to_vec(),
            Which::Below(prefix, _) if !prefix.starts_with(under) => {
                return Err(CommandError::invalid("/prefix", outside()));
            }
            Which::Below(prefix, store) => {
                store.list(prefix, CALL_MAX + 1).await.map_err(|error| {
                    tracing::warn!(%error, "the store could not be listed");
                    CommandError::StoreUnavailable
                })?
            }
            Which::All => {
                let most = i64::try_from(CALL_MAX + 1).unwrap_or(i64::MAX);
                let mut db = self.database.acquire().await?;
                catalog_photos::keys(&mut db, event, "", most).await?
            }
        };
        if !matches!(photos, Which::Keys(_)) && keys.len() > CALL_MAX {
            return Err(CommandError::TooMuch(format!(
                "more than {CALL_MAX} photos: name a longer prefix, several times"
            )));
        }
        enqueue::check_keys(&keys)?;
        if let Some(at) = keys.iter().position(|key| !key.starts_with(under)) {
            return Err(CommandError::invalid(format!("/keys/{at}"), outside()));
        }
        Ok(keys)
    }

    /// Enqueues failed photos again, or says what that would cost.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn retry(
        &self,
        caller: &Caller,
        event: EventId,
        asked: &Retry<'_>,
    ) -> Result<Retried, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let filter = Filter { operation: Some(asked.operation), reason: asked.reason };
        let most = i64::try_from(PHOTOS_MAX).unwrap_or(i64::MAX);
        let mut db = self.database.acquire().await?;
        let failed = failures::list(&mut db, event, filter, most).await?;
        let photos: Vec<PhotoId> = failed.into_iter().map(|failure| failure.photo).collect();
        let balance = credits::balance(&mut db, found.organisation).await?;
        drop(db);
        let mut retried = Retried {
            photos: photos.len() as u64,
            credits: Credits(i64::try_from(photos.len()).unwrap_or(i64::MAX)),
            available: balance.map_or(Credits(0), |balance| balance.available),
            run: None,
            queued: 0,
        };
        if asked.dry_run || photos.is_empty() {
            return Ok(retried);
        }
        let mut tx = self.database.begin().await?;
        let run = enqueue::retry(&mut tx, event, asked.operation, &photos, &caller.actor).await?;
        let detail = json!({
            "operation": asked.operation, "reason": asked.reason, "run": run.run, "queued": run.queued,
        });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "photos.retry", &subject, detail).await?;
        tx.commit().await?;
        if run.woke {
            self.wake.send().await;
        }
        retried.run = Some(run.run);
        retried.queued = run.queued;
        retried.available = run.available;
        Ok(retried)
    }

    /// Takes photos out of their queue before they are claimed: they cost nothing. Returns how many waited in it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn skip(
        &self,
        caller: &Caller,
        event: EventId,
        chosen: &ChosenPhotos,
    ) -> Result<u32, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let ChosenPhotos { operation, photos } = chosen;
        let mut tx = self.database.begin().await?;
        let skipped = enqueue::skip(&mut tx, event, *operation, photos, &caller.actor).await?;
        let detail = json!({ "operation": operation, "photos": skipped });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "photos.skip", &subject, detail).await?;
        tx.commit().await?;
        Ok(skipped)
    }

    /// Puts photos that were skipped back into their queue. Returns how many.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn restore(
        &self,
        caller: &Caller,
        event: EventId,
        chosen: &ChosenPhotos,
    ) -> Result<u32, CommandError> {
        caller.must_be(MAY_RETRY)?;
        let found = self.event_seen_by(caller, event).await?;
        let ChosenPhotos { operation, photos } = chosen;
        let mut tx = self.database.begin().await?;
        let done = enqueue::restore(&mut tx, event, *operation, photos, &caller.actor).await?;
        let detail = json!({ "operation": operation, "photos": done.restored });
        let (whose, subject) = (Some(found.organisation), format!("event {event}"));
        audit_log::record(&mut tx, caller, whose, "photos.restore", &subject, detail).await?;
        tx.commit().await?;
        if done.woke {
            self.wake.send().await;
        }
        Ok(done.restored)
    }
}

impl FundingPlan {
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
    parts: &[&[String]],
) -> Result<FundingPlan, CommandError> {
    let mut planned = FundingPlan::nothing(parts.iter().map(|part| part.len()).sum(), true);
    for part in parts {
        let plan = enqueue::plan(db, event, operation, part).await?;
        // What was planned before this part waits before it too.
        let before = i64::try_from(planned.queued).unwrap_or(i64::MAX);
        let shortfall = Credits((plan.ahead.0 + before - plan.available.0).max(0));
        planned.add(u64::from(plan.queued), plan.skipped, plan.available, shortfall);
    }
    Ok(planned)
}

/// What costs nothing needs no credits.
fn refuse_unpaid(plan: &FundingPlan) -> Result<(), CommandError> {
    if plan.queued == 0 || plan.shortfall <= Credits(0) {
        return Ok(());
    }
    Err(CommandError::InsufficientCredits(format!(
        "{} credits are missing: top them up, or leave on_insufficient out to have the photos wait",
        plan.shortfall
    )))
}
