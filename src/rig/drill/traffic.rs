//! The calls of customers in a drill: photos (some urgent), top-ups, decisions about credits, skips,
//! cancelled runs and what is taken back, holds and deletions. Each call is sent twice at the same
//! time, and again until there is an answer.

use std::time::Duration;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use sqlx::PgPool;

use super::{
    DrillError,
    steering::{self, Steering},
};
use crate::{
    catalog::{events, organisations},
    database,
    ids::{EventId, HoldId, Operation, OrganisationId, PhotoId, RunId, UndoId},
    ledger::{
        credits::Credits,
        top_up::{self, TopUp, TopUpKind},
    },
    queue::{
        enqueue::{self, Priority},
        follow_ups, holds, runs, skips, undo,
    },
};

/// Number of organisations in a drill.
const ORGANISATIONS: usize = 4;
/// Number of events of each organisation.
const EVENTS: usize = 3;

/// The calls that were sent, and those that are left to send.
pub(super) struct Traffic {
    clubs: Vec<Club>,
    left: usize,
    sent: usize,
    holds: Vec<HoldId>,
    steering: Steering,
}

struct Club {
    organisation: OrganisationId,
    events: Vec<EventId>,
    queued: usize,
    funded: i64,
    top_ups: usize,
}

impl Traffic {
    pub(super) async fn begin(pool: &PgPool, jobs: usize) -> Result<Self, DrillError> {
        let mut db = pool.acquire().await?;
        let mut clubs = Vec::new();
        for number in 0..ORGANISATIONS {
            let name = format!("Club {number}");
            let organisation = organisations::create(&mut db, &name, "Europe/Berlin").await?;
            let mut events = Vec::new();
            for event in 0..EVENTS {
                let name = format!("Race {event}");
                events
                    .push(events::create(&mut db, organisation, &name, false, false, "cli").await?);
            }
            clubs.push(Club { organisation, events, queued: 0, funded: 0, top_ups: 0 });
        }
        let other = (clubs[1].organisation, clubs[1].events[0]);
        steering::limit_in_flight(&mut db, clubs[0].organisation, other).await?;
        let steering = Steering::default();
        Ok(Self { clubs, left: jobs, sent: 0, holds: Vec::new(), steering })
    }

    /// Returns the organisations.
    pub(super) fn organisations(&self) -> Vec<OrganisationId> {
        self.clubs.iter().map(|club| club.organisation).collect()
    }

    /// Returns what was decided about credits so far.
    pub(super) fn steering(&self) -> &Steering {
        &self.steering
    }

    /// Returns the number of photos sent so far.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Returns how many photos there must be, and the credits that each organisation must have been
    /// funded with.
    pub(super) fn expected(&self) -> super::tally::Expected {
        super::tally::Expected {
            photos: self.sent,
            funded: self.clubs.iter().map(|club| (club.organisation, club.funded)).collect(),
        }
    }

    /// Sends a share of the remaining photos, a decision about credits, and a top-up. `rounds` rounds
    /// are left.
    pub(super) async fn send(&mut self, rng: &mut StdRng, pool: &PgPool, rounds: usize) {
        let share = self.left.div_ceil(rounds);
        let club = rng.random_range(0..self.clubs.len());
        let event = self.clubs[club].events.choose(rng).copied();
        let operation = Operation::ALL.choose(rng).copied();
        if let (Some(event), Some(operation)) = (event, operation) {
            for part in 0..share.div_ceil(enqueue::PHOTOS_MAX) {
                let most = (share - part * enqueue::PHOTOS_MAX).min(enqueue::PHOTOS_MAX);
                // The first photos have one operation: each kind of them must be there.
                let both = self.sent > 10 && most.is_multiple_of(2) && rng.random_ratio(1, 4);
                let times = if both { 2 } else { 1 };
                let keys: Vec<_> =
                    (0..most / times).map(|number| act(rng, self.sent + number)).collect();
                self.sent += times * keys.len();
                self.left -= times * keys.len();
                self.clubs[club].queued += times * keys.len();
                if both {
                    twice(|| enqueue_both(pool, event, &keys)).await;
                } else {
                    let urgent = rng.random_ratio(1, 4);
                    let priority = if urgent { Priority::Urgent } else { Priority::Normal };
                    twice(|| enqueue(pool, event, operation, &keys, priority)).await;
                }
            }
            self.steering.budget(rng, pool, event, share).await;
            if rng.random_ratio(1, 6) {
                self.hold_or_lift(pool, event, operation).await;
            }
            if rng.random_ratio(1, 4) {
                skip_or_restore(pool, event, operation, rng.random_ratio(1, 2)).await;
            }
            if rng.random_ratio(1, 4) {
                let ways = (rng.random_ratio(1, 2), rng.random_ratio(1, 2));
                change_a_run(pool, event, ways).await;
            }
            if rng.random_ratio(1, 20) {
                self.delete_an_event(rng, pool, club, operation).await;
            }
        }
        let decides = &self.clubs[club];
        self.steering.decide(rng, pool, decides.organisation, &decides.events).await;
        // The top-up is mostly smaller than the number of waiting photos. So credits run out again
        // and again.
        let poor = rng.random_range(0..self.clubs.len());
        let lacking = self.clubs[poor].lacking() * rng.random_range(1..=11) / 10;
        self.top_up(pool, poor, lacking).await;
    }

    /// Places a hold on a queue, or lifts an earlier hold, as an operator does.
    async fn hold_or_lift(&mut self, pool: &PgPool, event: EventId, operation: Operation) {
        if self.holds.len() < 3 {
            let held = async || -> sqlx::Result<holds::Held> {
                holds::hold(&mut *pool.acquire().await?, event, operation, "ops", "a drill", None)
                    .await
            };
            // This is sent only once. Sent twice, it would place two holds, and both would have to
            // be lifted.
            if let Ok(held) = held().await {
                self.holds.push(held.hold);
            }
        } else if let Some(hold) = self.holds.pop() {
            twice(async || holds::lift(&mut *pool.acquire().await?, hold, "ops").await).await;
        }
    }

    /// Creates an event, keeps credits for it, enqueues photos, and deletes it while they are worked
    /// on.
    async fn delete_an_event(
        &mut self,
        rng: &mut StdRng,
        pool: &PgPool,
        club: usize,
        operation: Operation,
    ) {
        let most = 30.min(self.left);
        let organisation = self.clubs[club].organisation;
        let event = until_answered(&async || {
            events::create(
                &mut *pool.acquire().await?,
                organisation,
                "Cancelled",
                false,
                false,
                "cli",
            )
            .await
        })
        .await;
        steering::keep_credits_for(pool, event, 50).await;
        let keys: Vec<_> = (0..most).map(|number| act(rng, self.sent + number)).collect();
        self.sent += most;
        self.left -= most;
        self.clubs[club].queued += most;
        twice(|| enqueue(pool, event, operation, &keys, Priority::Normal)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let gone = async || -> sqlx::Result<()> {
            let mut db = pool.acquire().await?;
            match events::flag_deleted(&mut db, event, "drill").await {
                // The other call, or an earlier one whose answer was lost, has deleted it.
                Err(error) if database::is_code(&error, database::NOT_FOUND) => Ok(()),
                done => done,
            }
        };
        twice(gone).await;
    }

    /// Adds credits for all remaining photos, lifts all holds, takes all rates away, and restores all
    /// skipped photos. Budgets stay.
    pub(super) async fn fund_everything(&mut self, pool: &PgPool) {
        // Reads the holds from the database, because the answers to some calls were lost.
        let standing = async || {
            sqlx::query_scalar!(
                r#"SELECT hold_id AS "hold: HoldId" FROM hold
                   WHERE lifted_at IS NULL AND NOT for_good"#
            )
            .fetch_all(pool)
            .await
        };
        for hold in until_answered(&standing).await {
            twice(async || holds::lift(&mut *pool.acquire().await?, hold, "ops").await).await;
        }
        steering::take_rates_away(pool).await;
        for event in self.clubs.iter().flat_map(|club| &club.events) {
            for operation in Operation::ALL {
                while skip_or_restore(pool, *event, operation, false).await == enqueue::PHOTOS_MAX {
                }
            }
        }
        for club in 0..self.clubs.len() {
            let lacking = self.clubs[club].lacking();
            self.top_up(pool, club, lacking).await;
        }
    }

    async fn top_up(&mut self, pool: &PgPool, club: usize, amount: i64) {
        if amount <= 0 {
            return;
        }
        let club = &mut self.clubs[club];
        club.top_ups += 1;
        club.funded += amount;
        let key = format!("drill-{}", club.top_ups);
        let top_up = TopUp {
            organisation: club.organisation,
            kind: TopUpKind::AdminGrant,
            amount: Credits(amount),
            actor: "drill",
            note: "",
            idempotency_key: &key,
        };
        twice(async || -> Result<_, top_up::TopUpError> {
            top_up::top_up(&mut *pool.acquire().await?, top_up).await
        })
        .await;
    }
}

impl Club {
    fn lacking(&self) -> i64 {
        i64::try_from(self.queued).unwrap_or(i64::MAX) - self.funded
    }
}

/// Makes the key of a photo. It says what happens to the photo; most are processed.
fn act(rng: &mut StdRng, number: usize) -> String {
    let act = match rng.random_range(0..10_000) {
        0 => "crash",
        1..10 => "panic",
        10..40 => "retry-2",
        40..240 => "fail",
        240..250 => "unsure",
        250..260 => "slow-1500",
        260..1260 => "slow-20",
        _ => "ok",
    };
    // The first photos make sure that the shortest drill has each kind, too.
    let act = match number {
        5 => "crash",
        6 => "panic",
        7 => "retry-2",
        8 => "slow-1500",
        9 => "unsure",
        _ => act,
    };
    format!("rehearsal/{act}/{number}")
}

async fn enqueue(
    pool: &PgPool,
    event: EventId,
    operation: Operation,
    keys: &[String],
    priority: Priority,
) -> Result<(), enqueue::EnqueueError> {
    let jobs = enqueue::jobs(keys)?;
    let db = &mut *pool.acquire().await?;
    enqueue::enqueue_with(db, event, operation, &jobs, "drill", priority).await?;
    // No wake-up is sent. Idle workers find the photos when they poll, as they do when Redis is
    // down.
    Ok(())
}

/// Enqueues photos for both operations, AI Rotation first.
async fn enqueue_both(
    pool: &PgPool,
    event: EventId,
    keys: &[String],
) -> Result<(), enqueue::EnqueueError> {
    let jobs = enqueue::jobs(keys)?;
    follow_ups::enqueue_both(&mut *pool.acquire().await?, event, &jobs, "drill", Priority::Normal)
        .await?;
    Ok(())
}

/// Cancels the latest run of an event's Photo Processing, or moves it to the front; and perhaps takes
/// that back. What stays cancelled is restored in the end. (A run of AI Rotation would take those
/// with it that follow it, and they are expected.)
async fn change_a_run(pool: &PgPool, event: EventId, (cancel, take_back): (bool, bool)) {
    let latest = async || {
        sqlx::query_scalar!(
            r#"SELECT r.run_id AS "run: RunId" FROM run r JOIN queue q USING (queue_id)
               WHERE q.event_id = $1 AND q.operation = 'photo_processing'
               ORDER BY r.run_id DESC LIMIT 1"#,
            event.0
        )
        .fetch_optional(pool)
        .await
    };
    let Some(run) = until_answered(&latest).await else { return };
    let change = async || -> sqlx::Result<Option<UndoId>> {
        let db = &mut *pool.acquire().await?;
        Ok(if cancel {
            runs::cancel(db, run, "drill").await?.undo
        } else {
            runs::put_first(db, run, "drill").await?.undo
        })
    };
    let (one, other) = tokio::join!(until_answered(&change), until_answered(&change));
    if let Some(id) = one.or(other).filter(|_| take_back) {
        let back = async || -> sqlx::Result<()> {
            let db = &mut *pool.acquire().await?;
            match undo::undo(db, id, "drill", Duration::from_mins(1)).await {
                // The other call has done it, or photos were claimed or restored meanwhile.
                Err(error) if database::is_code(&error, database::MOVED_ON) => Ok(()),
                done => done.map(|_| ()),
            }
        };
        twice(back).await;
    }
}

/// Skips the last few photos of a queue that wait, or restores all that were skipped.
/// Returns how many photos it named.
async fn skip_or_restore(pool: &PgPool, event: EventId, operation: Operation, skip: bool) -> usize {
    let chosen = async || {
        sqlx::query_scalar!(
            r#"SELECT j.photo_id AS "photo: PhotoId" FROM queue q JOIN job j USING (queue_id)
               WHERE q.event_id = $1 AND q.operation = $2
                 AND ($3 OR stretch_kind_at(j.queue_id, j.position) = 'skipped')
               ORDER BY j.position DESC LIMIT CASE WHEN $3 THEN 7 ELSE 10000 END"#,
            event.0,
            operation as Operation,
            skip
        )
        .fetch_all(pool)
        .await
    };
    let photos = until_answered(&chosen).await;
    if skip {
        twice(async || {
            skips::skip(&mut *pool.acquire().await?, event, operation, &photos, "drill").await
        })
        .await;
    } else {
        twice(async || {
            skips::restore(&mut *pool.acquire().await?, event, operation, &photos, "drill").await
        })
        .await;
    }
    photos.len()
}

/// Sends the same call twice at the same time.
pub(super) async fn twice<T, E: std::fmt::Display>(send: impl AsyncFn() -> Result<T, E>) {
    tokio::join!(until_answered(&send), until_answered(&send));
}

/// Sends a call again until there is an answer, as a customer's program does.
pub(super) async fn until_answered<T, E: std::fmt::Display>(
    send: &impl AsyncFn() -> Result<T, E>,
) -> T {
    loop {
        match send().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::debug!(%error, "no answer: the call is sent again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
