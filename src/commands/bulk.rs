//! One act on several queues: all of it happens, or nothing, and it is taken back as one. Only queues
//! of archived events are left out.

mod new;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use utoipa::ToSchema;

use super::{CommandError, Commands, holds::MAY_HOLD, retry::MAY_RETRY};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::away,
    database,
    ids::{EventId, HoldId, OrganisationId, UndoId},
    ledger::credits::Credits,
    queue::{
        enqueue::{EnqueueError, PHOTOS_MAX},
        failures,
        holds::{self, Standing},
        retry,
        runs::{self, Newest},
        status::{self, Queue, State},
        undo,
    },
};

pub use new::{BulkVerb, NewBulk};

/// Largest number of queues of one act.
const QUEUES_MAX: usize = 200;

/// What is done to each of the queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkAct {
    /// Holds those that are not held.
    Hold {
        /// Why, for everybody who sees the queue.
        note: String,
        /// The time when the holds end by themselves. `None`: when a person lifts them.
        until: Option<DateTime<Utc>>,
    },
    /// Lifts these holds, and no others: those that the person has seen.
    Lift(Vec<HoldId>),
    /// Queues the photos again that failed, at most [`PHOTOS_MAX`] in all.
    Retry,
    /// Lets the photos of the run that was queued last go before the others of its queue.
    NewestFirst,
}

impl BulkAct {
    /// The roles that may do it: those that may do it to one queue.
    #[must_use]
    pub fn roles(&self) -> &'static [Role] {
        match self {
            Self::Hold { .. } | Self::Lift(_) => MAY_HOLD,
            Self::Retry | Self::NewestFirst => MAY_RETRY,
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "queue.hold",
            Self::Lift(_) => "queue.lift",
            Self::Retry => "photos.retry",
            Self::NewestFirst => "run.first",
        }
    }
}

/// An act, and the queues that it is for.
#[derive(Debug)]
pub struct Bulk {
    /// The numbers of the queues.
    pub queues: Vec<i64>,
    /// What is done to each of them.
    pub act: BulkAct,
}

/// What an act would do to one queue.
#[derive(Debug, Clone)]
pub struct BulkPart {
    /// The queue, as it is now.
    pub queue: Queue,
    /// Number of photos that it concerns. 0 photos of an empty queue can be held, too.
    pub photos: i64,
    /// False: it changes nothing here.
    pub does: bool,
    /// The holds that stand on the queue.
    pub holds: Vec<Standing>,
    /// The run that was queued last, if photos of it wait.
    pub newest: Option<Newest>,
    /// Why it is left out, although there would be something to do.
    pub left_out: Option<String>,
}

/// What an act would do, queue by queue.
#[derive(Debug, Clone)]
pub struct BulkPlan {
    /// The queues, by organisation and event.
    pub parts: Vec<BulkPart>,
    /// The credits that each organisation needs. Only retries need credits.
    pub needs: Vec<Need>,
}

/// The credits that an organisation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The organisation.
    pub organisation: OrganisationId,
    /// Its name.
    pub name: String,
    /// One for each photo.
    pub needed: Credits,
    /// Those that it has.
    pub available: Credits,
}

impl BulkPlan {
    /// Adds what the photos of a queue need. The queues come in the order of their organisations.
    fn need(&mut self, queue: &Queue, photos: i64) {
        if let Some(last) = self.needs.last_mut()
            && last.organisation == queue.organisation
        {
            last.needed.0 += photos;
            return;
        }
        self.needs.push(Need {
            organisation: queue.organisation,
            name: queue.organisation_name.clone(),
            needed: Credits(photos),
            available: Credits(queue.available),
        });
    }

    /// Number of photos that the act concerns.
    #[must_use]
    pub fn photos(&self) -> i64 {
        self.parts.iter().map(|part| part.photos).sum()
    }

    /// Number of queues that it changes.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.parts.iter().filter(|part| part.does).count()
    }
}

/// What an act did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BulkDone {
    /// Number of queues that it changed.
    pub queues: usize,
    /// Number of photos that it concerned.
    pub photos: i64,
    /// The number by which all of it can be taken back. Null: nothing was changed.
    pub undo: Option<UndoId>,
    /// The queues that were left out, because their events are archived.
    pub left_out: Vec<LeftOut>,
}

/// A queue that was left out of an act, which did the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeftOut {
    /// The queue's number.
    pub queue: i64,
    /// Its event.
    pub event: EventId,
    /// Why, and what to do, for people.
    pub why: String,
}

/// What was done to one queue: the photos, the numbers by which it is taken back, and details.
type Done = (i64, Vec<UndoId>, Value);

impl Commands {
    /// Tells what an act would do. The numbers may have changed when it is done.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn plan_bulk(&self, caller: &Caller, bulk: &Bulk) -> Result<BulkPlan, CommandError> {
        let queues = self.queues_to_change(caller, bulk).await?;
        let numbers: Vec<i64> = queues.iter().map(|queue| queue.id).collect();
        let mut db = self.database.acquire().await?;
        let mut standing: HashMap<i64, Vec<Standing>> = HashMap::new();
        for hold in holds::standing_on(&mut db, &numbers).await? {
            standing.entry(hold.queue).or_default().push(hold);
        }
        let events: Vec<_> = queues.iter().map(|queue| queue.event).collect();
        let archived = away::archived(&mut db, &events).await?;
        let mut left = most();
        let mut plan = BulkPlan { parts: Vec::new(), needs: Vec::new() };
        for queue in queues {
            let holds = standing.remove(&queue.id).unwrap_or_default();
            let newest = if bulk.act == BulkAct::NewestFirst {
                runs::newest(&mut db, queue.id).await?
            } else {
                None
            };
            let (does, photos) = match &bulk.act {
                BulkAct::Hold { .. } => (queue.state != State::Held, queue.waiting),
                BulkAct::Lift(_) => (!holds.is_empty(), queue.waiting),
                BulkAct::Retry if archived.contains_key(&queue.event) => (false, 0),
                BulkAct::Retry => (queue.failed.min(left) > 0, queue.failed.min(left)),
                BulkAct::NewestFirst => {
                    let moved = newest.filter(|newest| newest.ahead > 0);
                    (moved.is_some(), moved.map_or(0, |newest| newest.waiting))
                }
            };
            let photos = if does { photos } else { 0 };
            if bulk.act == BulkAct::Retry && does {
                left -= photos;
                plan.need(&queue, photos);
            }
            let left_out = match archived.get(&queue.event) {
                Some(is_lost) if bulk.act == BulkAct::Retry && queue.failed > 0 => {
                    Some(if *is_lost {
                        format!(
                            "the details of event {} were lost, and its archive was given up",
                            queue.event
                        )
                    } else {
                        format!("the event {} is archived: restore it first", queue.event)
                    })
                }
                Some(_) | None => None,
            };
            plan.parts.push(BulkPart { queue, photos, does, holds, newest, left_out });
        }
        Ok(plan)
    }

    /// Does something to several queues, of one organisation or of several, in one transaction. It
    /// leaves queues alone where there is nothing to do, and those of archived events.
    ///
    /// # Errors
    /// See [`CommandError`]; nothing is done then.
    pub async fn bulk(&self, caller: &Caller, bulk: &Bulk) -> Result<BulkDone, CommandError> {
        if let BulkAct::Hold { until: Some(until), .. } = &bulk.act
            && *until <= Utc::now()
        {
            let detail = "this time is in the past: give a later time, or leave it out";
            return Err(CommandError::invalid("/until", detail));
        }
        let queues = self.queues_to_change(caller, bulk).await?;
        let (done, woke) = transaction!(self, tx, {
            let (mut parts, mut woke, mut left) = (Vec::new(), false, most());
            let mut left_out = Vec::new();
            for queue in &queues {
                // In a savepoint: an event that is archived meanwhile does not end the others' act.
                let mut step = tx.begin().await?;
                match one(&mut step, caller, queue, &bulk.act, &mut left, &mut woke).await {
                    Ok(part) => {
                        step.commit().await?;
                        parts.extend(part.map(|part| (queue, part)));
                    }
                    Err(error) => {
                        let why = archived(&error).ok_or(error)?;
                        step.rollback().await?;
                        left_out.push(LeftOut { queue: queue.id, event: queue.event, why });
                    }
                }
            }
            if bulk.act == BulkAct::Retry {
                for organisation in organisations(&queues) {
                    self.quotas.check_photos(&mut tx, organisation).await?;
                }
            }
            let acts: Vec<UndoId> =
                parts.iter().flat_map(|(_, (_, acts, _))| acts.iter().copied()).collect();
            let undo = undo::tie(&mut tx, &acts).await?;
            // The audit log comes last, and its chains in the order of the organisations.
            for (queue, (_, _, detail)) in &parts {
                let mut detail = detail.clone();
                detail["operation"] = json!(queue.operation);
                detail["bulk"] = json!(undo);
                let (whose, subject) = (Some(queue.organisation), format!("event {}", queue.event));
                let action = bulk.act.action();
                audit_log::record(&mut tx, caller, whose, action, &subject, detail).await?;
            }
            let photos = parts.iter().map(|(_, (photos, ..))| photos).sum();
            (BulkDone { queues: parts.len(), photos, undo, left_out }, woke)
        })?;
        if woke {
            self.wake.send().await;
        }
        Ok(done)
    }

    /// The queues of an act, in the order of their organisations, events and numbers. The caller
    /// must be allowed to change each of them.
    async fn queues_to_change(
        &self,
        caller: &Caller,
        bulk: &Bulk,
    ) -> Result<Vec<Queue>, CommandError> {
        caller.must_be(bulk.act.roles())?;
        if bulk.queues.is_empty() {
            return Err(CommandError::invalid("/queues", "choose at least one queue"));
        }
        if bulk.queues.len() > QUEUES_MAX {
            return Err(CommandError::TooMuch(format!("choose at most {QUEUES_MAX} queues")));
        }
        let mut db = self.database.acquire().await?;
        let mut queues = status::with_numbers(&mut db, &bulk.queues).await?;
        let seen = |queue: &Queue| caller.organisation.is_none_or(|own| own == queue.organisation);
        // A queue of somebody else and one that is not there are the same to the caller.
        let missing = bulk
            .queues
            .iter()
            .find(|id| !queues.iter().any(|queue| queue.id == **id && seen(queue)));
        if let Some(id) = missing {
            return Err(CommandError::NotFound(format!("queue {id}")));
        }
        queues.sort_by_key(|queue| (queue.organisation, queue.event, queue.id));
        Ok(queues)
    }
}

/// What the database says, if it refuses because the event is archived, or its archive was given up.
fn archived(error: &CommandError) -> Option<String> {
    let (CommandError::Database(error) | CommandError::Enqueue(EnqueueError::Database(error))) =
        error
    else {
        return None;
    };
    let is_archived = database::is_code(error, database::ARCHIVED)
        || database::is_code(error, database::DETAILS_LOST);
    is_archived.then(|| database::sentence(error))
}

/// Largest number of photos that one act queues again.
fn most() -> i64 {
    i64::try_from(PHOTOS_MAX).unwrap_or(i64::MAX)
}

/// The organisations of these queues, each once.
fn organisations(queues: &[Queue]) -> Vec<OrganisationId> {
    let mut found: Vec<_> = queues.iter().map(|queue| queue.organisation).collect();
    found.dedup();
    found
}

/// Does it to one queue. `None`: there is nothing to do. `left`: so many photos may be queued again.
async fn one(
    tx: &mut PgConnection,
    caller: &Caller,
    queue: &Queue,
    act: &BulkAct,
    left: &mut i64,
    woke: &mut bool,
) -> Result<Option<Done>, CommandError> {
    let actor = &caller.actor;
    let (event, operation) = (queue.event, queue.operation);
    Ok(match act {
        BulkAct::Hold { note, until } => {
            // Under the queue's lock: somebody who presses twice holds it once.
            let held = holds::hold_if_free(tx, event, operation, actor, note, *until).await?;
            let Some(held) = held else { return Ok(None) };
            let detail = json!({ "note": note, "until": until, "holds": [held.hold] });
            Some((queue.waiting, held.undo.into_iter().collect(), detail))
        }
        BulkAct::Lift(asked) => {
            let (mut lifted, mut acts) = (Vec::new(), Vec::new());
            for hold in holds::standing(tx, event, Some(operation)).await? {
                if asked.contains(&hold) {
                    let done = holds::lift(tx, hold, actor).await?;
                    *woke |= done.woke;
                    acts.extend(done.undo);
                    // Somebody else may have lifted it while we waited for the queue.
                    if done.lifted {
                        lifted.push(hold);
                    }
                }
            }
            let detail = json!({ "holds": lifted });
            (!lifted.is_empty()).then_some((queue.waiting, acts, detail))
        }
        BulkAct::Retry => {
            let filter = failures::Filter { operation: Some(operation), reason: None };
            let failed = failures::list(tx, event, filter, *left).await?;
            if failed.is_empty() {
                return Ok(None);
            }
            let photos: Vec<_> = failed.into_iter().map(|failure| failure.photo).collect();
            let run = retry::retry(tx, event, operation, &photos, false, actor).await?;
            *woke |= run.woke;
            *left -= i64::from(run.queued);
            let detail = json!({ "run": run.run, "queued": run.queued });
            Some((i64::from(run.queued), run.undo.into_iter().collect(), detail))
        }
        BulkAct::NewestFirst => {
            let newest = runs::newest(tx, queue.id).await?;
            let Some(newest) = newest.filter(|newest| newest.ahead > 0) else { return Ok(None) };
            let moved = runs::put_first(tx, newest.run, actor).await?;
            let detail = json!({ "run": newest.run, "photos": moved.moved });
            Some((moved.moved, moved.undo.into_iter().collect(), detail))
        }
    })
}
