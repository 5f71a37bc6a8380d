//! Enqueues photos, or plans what that would cost.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::{events::Event, organisations, photos as catalog_photos},
    ids::{EventId, Operations, OrganisationId, RunId, UndoId},
    ledger::{
        credits::Credits,
        spending::{Added, Outlook, outlook},
    },
    queue::{
        enqueue::{self, Before, NewJob, PHOTOS_MAX, Priority, RUNS_MAX, Skipped},
        follow_ups,
    },
    telemetry::traces,
};

pub(super) const MAY_ENQUEUE: &[Role] = &[Role::Pipeline, Role::Organiser, Role::Staff];

/// Largest number of photos that a call may find below a prefix or in an event. More photos are
/// probably a mistake, or need several calls.
const CALL_MAX: usize = 100_000;

/// A request to enqueue photos, or to plan it.
#[derive(Debug)]
pub struct Enqueue<'a> {
    /// The operation to perform on the photos, or both.
    pub operation: Operations,
    /// The photos to enqueue.
    pub photos: Which<'a>,
    /// What the worker gets beside the keys, for any of the photos.
    pub payloads: Payloads,
    /// True for a dry run: it only tells what would happen.
    pub dry_run: bool,
    /// What to do if there are not enough credits.
    pub on_insufficient: OnInsufficient,
    /// Whether the photos are claimed before the others of the event.
    pub priority: Priority,
}

/// JSON values by the keys of their photos.
pub type Payloads = BTreeMap<String, serde_json::Value>;

/// The choice of photos to enqueue.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The photos with these keys.
    Keys(&'a [String]),
    /// All photos in the store below this prefix (a sync).
    #[cfg(feature = "vision")]
    Below(&'a str, &'a crate::catalog::photo_store::PhotoStore),
    /// All known photos of the event, queued before for any operation (Go Live).
    All,
}

/// What to do if there are not enough credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInsufficient {
    /// Enqueue all photos. Photos without a credit wait for a top-up, and then go on by themselves.
    #[default]
    Wait,
    /// Enqueue nothing, and answer with status 402.
    Reject,
}

/// The result of an enqueue call or of its dry run, with the credits that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Planned)]
pub struct FundingPlan {
    /// The runs to ask about until they are done: those of this call, and then those in which the other
    /// photos were queued before, those with photos that are not done first. At most 100, and all of this
    /// call. A photo that follows its AI Rotation is in the run of that until it has ended, and then in a
    /// run of its own: to ask about everything at once, send the same call as a dry run. All that it asks
    /// for is done when `queued` and `skipped.already_queued` are 0.
    pub runs: Vec<RunId>,
    /// Those of `runs` that this call created: one for every 10,000 photos and each operation, if any of
    /// them was queued. A call that brings nothing new creates none; nor does a dry run.
    pub new_runs: Vec<RunId>,
    /// True if more runs have photos of this call than `runs` has.
    pub more_runs: bool,
    /// Number of photos in the request.
    pub photos: u64,
    /// Number of photos that were enqueued, or would be in a dry run. For both operations, a photo
    /// counts twice.
    pub queued: u64,
    /// Number of photos in `queued` that are queued for Photo Processing later, each when its AI Rotation
    /// has ended, however it ends.
    pub following: u64,
    /// Number of photos in `queued` that had ended before, and whose file has changed since: a sync
    /// compares the store's listings.
    pub changed: u64,
    /// Number of photos that were not enqueued, by reason.
    pub skipped: Skipped,
    /// Number of photos that were already processed and paid for. They do not cost a credit again.
    pub already_paid: u64,
    /// Credits that this needs: one for each photo in `queued`.
    pub needed: Credits,
    /// The organisation's available credits, without its reserved credits.
    pub available: Credits,
    /// Credits that are missing to process all waiting photos of the organisation, including these.
    pub shortfall: Credits,
    /// Number of photos in `queued` that finish if nothing changes: no top-up, no refund, no other
    /// budget, order or hold. The photos that already wait for the same operation in this event go
    /// first, unless these are urgent; what waits in other events shares with it, or goes first, as the organisation's order
    /// says. 0 where the event is held.
    pub will_finish: u64,
    /// As many would finish if nobody held the event's queues.
    #[serde(skip)]
    pub funded: u64,
    /// The numbers by which this can be taken back: one for every 10,000 photos.
    pub undo: Vec<UndoId>,
    /// Number of photos that wait in this event, including these, for which its budget has no credits.
    /// A top-up does not help them.
    pub over_cap: u64,
    /// True for a dry run: nothing was enqueued.
    pub dry_run: bool,
    /// The runs of the photos that were not enqueued, until all parts are there.
    #[serde(skip)]
    before: Before,
}

impl Commands {
    /// Enqueues photos, or tells in a dry run what that would need.
    ///
    /// Every 10,000 photos are one transaction, so that others do not wait for the whole call. If
    /// the call is interrupted, the caller can repeat it: it enqueues the photos that are left.
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
        let mut jobs = self.jobs(&found, &asked.photos, &under).await?;
        put_payloads(&mut jobs, &asked.payloads)?;
        // An empty list is enqueued too, because the result tells the available credits.
        let parts: Vec<&[NewJob]> =
            if jobs.is_empty() { vec![&[]] } else { jobs.chunks(PHOTOS_MAX).collect() };
        let may_reject = asked.on_insufficient == OnInsufficient::Reject;
        if asked.dry_run || (may_reject && parts.len() > 1) {
            let mut db = self.database.acquire().await?;
            let plan = plan(&mut db, found.organisation, event, asked, &parts).await?;
            if asked.dry_run {
                return Ok(plan);
            }
            refuse_unpaid(&plan)?;
        }
        let mut done = FundingPlan::nothing(jobs.len(), false);
        let mut added = Added { first: asked.priority.is_urgent(), ..Added::default() };
        for part in &parts {
            let (woke, plan, so_far) = transaction!(self, tx, {
                let runs = match asked.operation.in_order() {
                    [one] => {
                        let (actor, priority) = (&caller.actor, asked.priority);
                        vec![
                            enqueue::enqueue_with(&mut tx, event, *one, part, actor, priority)
                                .await?,
                        ]
                    }
                    _ => {
                        let (actor, priority) = (&caller.actor, asked.priority);
                        follow_ups::enqueue_both(&mut tx, event, part, actor, priority).await?
                    }
                };
                let queued: u32 = runs.iter().map(|run| run.queued).sum();
                let mut added = added;
                for (operation, run) in asked.operation.in_order().iter().zip(&runs) {
                    added.add(*operation, run.queued, run.following);
                }
                if queued > 0 {
                    self.quotas.check_photos(&mut tx, found.organisation).await?;
                }
                let mut plan = done.clone();
                // The runs of both operations are taken back together.
                plan.undo.extend(runs.iter().find_map(|run| run.undo));
                for run in &runs {
                    plan.find(run.run, &run.before);
                    plan.add(run.queued, run.following, run.changed, run.skipped);
                    (plan.available, plan.shortfall) = (run.available, run.shortfall);
                }
                let ids: Vec<RunId> = runs.iter().filter_map(|run| run.run).collect();
                let (whose, missing) = (found.organisation, plan.shortfall);
                plan.tell(outlook(&mut tx, whose, event, added, false, missing).await?);
                if may_reject && parts.len() == 1 {
                    refuse_unpaid(&plan)?;
                }
                let detail = json!({
                    "operation": asked.operation, "priority": asked.priority, "runs": ids,
                    "queued": queued,
                    "following": runs.iter().map(|run| run.following).sum::<u32>(),
                    "changed": runs.iter().map(|run| run.changed).sum::<u32>(),
                });
                let (whose, subject) = (Some(found.organisation), format!("event {event}"));
                audit_log::record(&mut tx, caller, whose, "photos.enqueue", &subject, detail)
                    .await?;
                if let Some(trace) = traces::name_of(&tracing::Span::current()) {
                    traces::keep(&mut tx, &ids, &trace).await?;
                }
                (runs.iter().any(|run| run.woke), plan, added)
            })?;
            (done, added) = (plan, so_far);
            if woke {
                self.wake.send().await;
            }
        }
        done.list_runs();
        Ok(done)
    }

    /// Returns the prefix in the store below which the organisation's photos must be. So its people
    /// cannot enqueue photos of another organisation.
    pub(super) async fn photos_under(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
    ) -> Result<String, CommandError> {
        let mut db = self.database.acquire().await?;
        let owner = organisations::find(&mut db, organisation).await?;
        let under = owner.map(|owner| owner.photos_under).unwrap_or_default();
        if caller.organisation.is_some()
            && organisations::shares_store(&mut db, organisation).await?
        {
            return Err(CommandError::Conflict {
                code: "photos_under_unset",
                detail: "several organisations may use the whole store: ask support to give each a part \
                         of it"
                    .into(),
            });
        }
        Ok(under)
    }

    pub(super) async fn jobs(
        &self,
        event: &Event,
        photos: &Which<'_>,
        under: &str,
    ) -> Result<Vec<NewJob>, CommandError> {
        let outside = || {
            if under.is_empty() {
                "this key is in the part of the store of another organisation".to_owned()
            } else {
                format!("the keys of the organisation's photos must start with {under:?}")
            }
        };
        // What the listing says of each file, if there is one.
        let (keys, files): (Vec<String>, Vec<String>) = match *photos {
            Which::Keys(keys) => (keys.to_vec(), Vec::new()),
            #[cfg(feature = "vision")]
            Which::Below(prefix, _) if !prefix.starts_with(under) => {
                return Err(CommandError::invalid("/prefix", outside()));
            }
            #[cfg(feature = "vision")]
            Which::Below(prefix, store) => {
                let listed = store.list(prefix, CALL_MAX + 1).await.map_err(|error| {
                    tracing::warn!(%error, "the photos in the store could not be listed");
                    CommandError::StoreUnavailable
                })?;
                listed.into_iter().map(|one| (one.key, one.file)).unzip()
            }
            Which::All => {
                let most = i64::try_from(CALL_MAX + 1).unwrap_or(i64::MAX);
                let mut db = self.database.acquire().await?;
                (catalog_photos::keys(&mut db, event.id, "", most).await?, Vec::new())
            }
        };
        if !matches!(photos, Which::Keys(_)) && keys.len() > CALL_MAX {
            return Err(CommandError::TooMuch(format!(
                "more than {CALL_MAX} photos: make several calls, each with a longer prefix"
            )));
        }
        let mut jobs = enqueue::jobs(&keys)?;
        for (job, file) in jobs.iter_mut().zip(files) {
            job.listed = Some(file);
        }
        let mut db = self.database.acquire().await?;
        let others = organisations::keys_outside(&mut db, event.organisation, &keys).await?;
        if matches!(photos, Which::Keys(_)) {
            if let Some(at) = others.first() {
                return Err(CommandError::invalid(format!("/keys/{at}"), outside()));
            }
        } else if !others.is_empty() {
            // What a listing has of others is left out.
            let others: HashSet<usize> = others.into_iter().collect();
            let mut at = 0..;
            jobs.retain(|_| at.next().is_none_or(|at| !others.contains(&at)));
        }
        Ok(jobs)
    }
}

impl FundingPlan {
    fn nothing(photos: usize, dry_run: bool) -> Self {
        Self {
            runs: Vec::new(),
            new_runs: Vec::new(),
            more_runs: false,
            before: Before::default(),
            photos: photos as u64,
            queued: 0,
            following: 0,
            changed: 0,
            skipped: Skipped::default(),
            already_paid: 0,
            needed: Credits(0),
            available: Credits(0),
            shortfall: Credits(0),
            will_finish: 0,
            funded: 0,
            undo: Vec::new(),
            over_cap: 0,
            dry_run,
        }
    }

    /// Adds the runs of one transaction.
    fn find(&mut self, new: Option<RunId>, before: &Before) {
        self.new_runs.extend(new);
        self.before.open.extend(&before.open);
        self.before.done.extend(&before.done);
        self.before.more |= before.more;
    }

    /// Puts the runs of all transactions into one list, each once.
    fn list_runs(&mut self) {
        let before = std::mem::take(&mut self.before);
        self.more_runs = before.more;
        self.runs.clone_from(&self.new_runs);
        let mut seen: HashSet<RunId> = self.new_runs.iter().copied().collect();
        for run in before.open.into_iter().chain(before.done).filter(|run| seen.insert(*run)) {
            if self.runs.len() < RUNS_MAX {
                self.runs.push(run);
            } else {
                self.more_runs = true;
            }
        }
    }

    fn tell(&mut self, outlook: Outlook) {
        (self.will_finish, self.funded) = (outlook.will_finish, outlook.funded);
        self.over_cap = outlook.over_cap;
    }

    /// Adds the counts of one transaction.
    fn add(&mut self, queued: u32, following: u32, changed: u32, skipped: Skipped) {
        self.queued += u64::from(queued);
        self.following += u64::from(following);
        self.changed += u64::from(changed);
        self.skipped += skipped;
        self.already_paid = u64::from(self.skipped.already_processed);
        self.needed = Credits(i64::try_from(self.queued).unwrap_or(i64::MAX));
    }
}

/// Puts the payloads to the photos that they belong to.
pub(super) fn put_payloads(jobs: &mut [NewJob], payloads: &Payloads) -> Result<(), CommandError> {
    if payloads.is_empty() {
        return Ok(());
    }
    let mut unused: BTreeSet<&str> = payloads.keys().map(String::as_str).collect();
    for job in &mut *jobs {
        let key = job.key.to_string();
        unused.remove(key.as_str());
        job.payload = payloads.get(&key).cloned();
    }
    if let Some(key) = unused.first() {
        let detail = format!("there is a payload for {key:?}, which is no photo of this call");
        return Err(CommandError::invalid("/payloads", detail));
    }
    // All of them, before anything is queued: a call can be several transactions.
    Ok(enqueue::check_payloads(jobs)?)
}

/// Plans an enqueue call. It only reads, and takes no locks that others wait for.
async fn plan(
    db: &mut PgConnection,
    organisation: OrganisationId,
    event: EventId,
    asked: &Enqueue<'_>,
    parts: &[&[NewJob]],
) -> Result<FundingPlan, CommandError> {
    let mut planned = FundingPlan::nothing(parts.iter().map(|part| part.len()).sum(), true);
    let operations = asked.operation;
    let both = operations == Operations::Both;
    let mut added = Added { first: asked.priority.is_urgent(), ..Added::default() };
    for part in parts {
        for operation in operations.in_order() {
            let plan = enqueue::plan(db, event, *operation, part, both).await?;
            // The photos of the parts before would wait before this part.
            let before = i64::try_from(planned.queued).unwrap_or(i64::MAX);
            planned.add(plan.queued, plan.following, plan.changed, plan.skipped);
            planned.find(None, &plan.before);
            added.add(*operation, plan.queued, plan.following);
            planned.available = plan.available;
            planned.shortfall = Credits((plan.ahead.0 + before - plan.available.0).max(0));
        }
    }
    planned.tell(outlook(db, organisation, event, added, true, planned.shortfall).await?);
    planned.list_runs();
    Ok(planned)
}

/// Returns an error if credits are missing. A plan that enqueues nothing needs no credits.
fn refuse_unpaid(plan: &FundingPlan) -> Result<(), CommandError> {
    if plan.queued == 0 || plan.funded == plan.queued {
        return Ok(());
    }
    let detail = if plan.over_cap > 0 {
        format!(
            "the budget of this event leaves no credits for {} of its waiting photos: raise its cap, or \
             leave out on_insufficient to let the photos wait",
            plan.over_cap
        )
    } else if plan.shortfall > Credits(0) {
        format!(
            "{} credits are missing: top up, or leave out on_insufficient to let the photos wait",
            plan.shortfall
        )
    } else {
        format!(
            "budgets leave credits for {} of these {} photos: change them, or leave out \
             on_insufficient to let the photos wait",
            plan.funded, plan.queued
        )
    };
    Err(CommandError::InsufficientCredits(detail))
}
