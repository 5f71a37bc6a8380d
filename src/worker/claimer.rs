//! The claiming task of a worker. It takes photos from the gate, a little ahead of the slots, and
//! adopts photos that other workers left. It is the only place where photos come in.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};

use super::{CRASHES_MAX, Shift, ahead::Ahead, heartbeat, work::Work};
use crate::{
    database::{self, PATIENCE},
    ids::OrganisationId,
    queue::claim::{self, GateError, Reservation},
    telemetry::traces,
};

/// Largest number of photos in one claim. A larger batch needs fewer commits, but holds the
/// account's lock for longer: about 20 ms for this number.
const BATCH_MAX: usize = 1024;
/// How often a worker looks for photos to adopt.
const ADOPT_EVERY: Duration = Duration::from_secs(1);
/// The same, as long as there may be more: an adoption takes an equal share of each organisation, and
/// costs a look at all of them.
const ADOPT_AGAIN: Duration = Duration::from_millis(20);
/// How often a worker looks for photos that it has in the database and does not know of.
const DOUBT_EVERY: Duration = Duration::from_secs(120);
/// The first pause after an empty claim. It is longer than a claim or a small enqueue takes. Each
/// further empty claim doubles it, up to a poll.
const PAUSE: Duration = Duration::from_millis(5);
/// The first pause while other transactions hold the locks. Each further one is twice as long.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause while other transactions hold the locks. It is far below a poll, because
/// photos wait that could be claimed.
const LOCKED_PAUSE_MAX: Duration = Duration::from_millis(50);

/// A claimed photo that this process has in hand, with the permits that it takes.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) reservation: Reservation,
    pub(super) room: Option<OwnedSemaphorePermit>,
    pub(super) alone: Option<OwnedSemaphorePermit>,
    pub(super) trace: Option<String>,
}

/// The claiming task. It ends when the worker drains, and this ends the stream of photos.
pub(super) struct Claimer<W> {
    shift: Arc<Shift>,
    work: Arc<W>,
    ahead: Ahead,
    claimed: mpsc::Sender<Claimed>,
    turn: Turn,
    pause: Duration,
    /// The next pause if all that could be claimed is locked.
    locked_pause: Duration,
    /// The last claim found nothing, and no wake-up ended the pause after it.
    has_slept: bool,
}

impl<W: Work> Claimer<W> {
    /// The photos go to `claimed`, in the order in which they came.
    pub(super) fn new(shift: Arc<Shift>, work: Arc<W>, claimed: mpsc::Sender<Claimed>) -> Self {
        let turn = Turn {
            cursor: OrganisationId(0),
            claims_first: true,
            adopted: None,
            adopt_after: ADOPT_EVERY,
            suspects: false,
            unsure_until: None,
            sure_at: Instant::now(),
        };
        let ahead = Ahead::new(if W::WAITS_FOR_ITS_SLOT { shift.further_ahead } else { 0 });
        let (pause, locked_pause) = (PAUSE, LOCKED_PAUSE);
        Self { shift, work, ahead, claimed, turn, pause, locked_pause, has_slept: false }
    }

    /// Claims until the worker drains. The only error is a lost lease.
    pub(super) async fn run(mut self) -> Result<(), GateError> {
        loop {
            self.shift.outage.over(&self.shift.stop.drain).await;
            let Some(mut room) = self.room().await else { break };
            if self.shift.outage.reason().is_some() {
                // It began while this task waited for room.
                continue;
            }
            let began = Instant::now();
            let taken = self.turn.take(&self.shift, room.num_permits()).await;
            match taken {
                Ok(Taken::Photos(batch)) => {
                    if std::mem::take(&mut self.has_slept) && self.pause > PAUSE * 2 {
                        // They may have waited for as long as the pause was.
                        metrics::counter!("photogate_claims_late_total").increment(1);
                    }
                    (self.pause, self.locked_pause) = (PAUSE, LOCKED_PAUSE);
                    metrics::histogram!("photogate_claim_duration_seconds").record(began.elapsed());
                    metrics::counter!("photogate_claimed_photos_total")
                        .increment(batch.len() as u64);
                    if self.hand_over(batch, room).await.is_err() {
                        // The handlers have ended. Whoever ended them stops this worker.
                        return Ok(());
                    }
                }
                Ok(Taken::Nothing) => {
                    self.ahead.rest();
                    let away = self.ahead.take_away(room.num_permits());
                    if let Some(away) = room.split(away) {
                        away.forget();
                    }
                    drop(room);
                    // More may come soon, and the wake-up may be lost. So the first pauses are short.
                    let rings = self.shift.ear.wait(self.pause, &self.shift.stop.drain).await;
                    self.has_slept = !rings;
                    self.locked_pause = LOCKED_PAUSE;
                    self.pause = if rings { PAUSE } else { self.pause * 2 }.min(self.shift.poll);
                }
                Ok(Taken::AllLocked) => {
                    drop(room);
                    metrics::counter!("photogate_claims_locked_out_total").increment(1);
                    // Most often an enqueue has just committed, or is about to. But a lock that is
                    // held for long must not cost a claim every millisecond.
                    let most = self.locked_pause;
                    let rings = self.shift.ear.wait(most, &self.shift.stop.drain).await;
                    self.locked_pause = if rings { most } else { most * 2 }.min(LOCKED_PAUSE_MAX);
                }
                Err(GateError::LeaseLost) => {
                    drop(room);
                    self.extend_lease().await?;
                    self.sleep(self.shift.lease / 10).await;
                }
                Err(GateError::Database(error)) => {
                    drop(room);
                    tracing::warn!(%error, "a claim failed and will be tried again");
                    self.turn.doubt();
                    self.sleep(self.shift.poll).await;
                }
            }
        }
        self.tell_draining().await;
        Ok(())
    }

    /// Waits for room for one photo, and takes all the room that there is. `None` if the worker
    /// drains.
    async fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        let mut room = loop {
            tokio::select! {
                biased;
                () = self.shift.stop.drain.cancelled() => return None,
                one = self.shift.room.clone().acquire_owned() => {
                    let one = one.ok()?;
                    if self.ahead.take_away(1) == 0 {
                        break one;
                    }
                    one.forget();
                }
                () = self.ahead.is_due() => {
                    self.shift.room.add_permits(self.ahead.look(self.work.idle_slots()));
                }
            }
        };
        let more = self.shift.room.available_permits().min(BATCH_MAX - 1);
        if more > 0
            && let Ok(more) =
                self.shift.room.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0))
        {
            room.merge(more);
        }
        Some(room)
    }

    /// Sends photos to the handlers, each with the permits that it takes.
    async fn hand_over(
        &self,
        batch: Vec<Reservation>,
        mut room: OwnedSemaphorePermit,
    ) -> Result<(), mpsc::error::SendError<Claimed>> {
        let mut traces = traces::of(&self.shift.pool, &batch).await;
        for reservation in batch {
            let trace = traces.remove(&reservation.job());
            let alone = if reservation.is_suspect() {
                self.shift.alone.clone().try_acquire_owned().ok()
            } else {
                None
            };
            let on_its_way = Claimed { reservation, room: room.split(1), alone, trace };
            self.claimed.send(on_its_way).await?;
        }
        Ok(())
    }

    /// The lease ran out while heartbeats failed. A heartbeat can still extend it, unless another
    /// worker has declared this one dead.
    async fn extend_lease(&self) -> Result<(), GateError> {
        let Shift { pool, me, lease, .. } = &*self.shift;
        if let Ok(false) = heartbeat::heartbeat(pool, *me, *lease).await {
            metrics::counter!("photogate_leases_lost_total").increment(1);
            return Err(GateError::LeaseLost);
        }
        Ok(())
    }

    /// Records that the worker drains. This is only for the list of workers that people see.
    async fn tell_draining(&self) {
        let Shift { pool, me, lease, .. } = &*self.shift;
        let told = async { claim::drain(&mut *pool.acquire().await?, *me).await };
        if let Err(error) = database::in_time(*lease, told).await {
            tracing::warn!(%error, "the database could not record that this worker drains");
        }
    }

    async fn sleep(&self, most: Duration) {
        self.shift.stop.drain.run_until_cancelled(tokio::time::sleep(most)).await;
    }
}

/// The result of looking for work.
#[derive(Debug)]
enum Taken {
    /// Photos to work on.
    Photos(Vec<Reservation>),
    /// Photos wait, but other transactions hold the locks of all their queues. Ask again very soon.
    AllLocked,
    /// No photo waits that can be claimed.
    Nothing,
}

/// The state of the claiming task between two claims.
struct Turn {
    cursor: OrganisationId,
    /// The last time, claiming came before adopting.
    claims_first: bool,
    adopted: Option<Instant>,
    /// The time until the next adoption.
    adopt_after: Duration,
    /// The last adoption returned a suspect, so there may be more.
    suspects: bool,
    /// Set when the answer to a claim was lost. Until this time, the worker may own photos that it
    /// does not know of. A claim whose connection was cut may still wait for a lock, and commit
    /// when it gets the lock.
    unsure_until: Option<Instant>,
    /// When the photos in the database were last compared with those in hand. They can also differ
    /// when a standby was promoted that did not have the latest settlements.
    sure_at: Instant,
}

impl Turn {
    fn doubt(&mut self) {
        self.unsure_until = Some(Instant::now() + PATIENCE);
        self.adopted = None;
    }

    /// Adopts photos if it is time to, and claims others. One of the two has the first choice of the
    /// room, in turn: photos that are tried again and again must not keep new photos waiting.
    async fn take(&mut self, shift: &Shift, most: usize) -> Result<Taken, GateError> {
        // Each question has a time limit of its own: a limit for all of them together would drop
        // what the first has brought in.
        let mut db = database::in_time(PATIENCE, shift.pool.acquire()).await?;
        let mut batch = Vec::new();
        self.claims_first = !self.claims_first;
        for claims in [self.claims_first, !self.claims_first] {
            let most = most - batch.len();
            let more = if most == 0 {
                break;
            } else if claims {
                database::in_time(PATIENCE, self.claim(&mut db, shift, most)).await
            } else {
                database::in_time(PATIENCE, self.adopt(&mut db, shift, most)).await
            };
            match more {
                Ok(more) => batch.extend(more),
                // The first photos are in hand. Work on them, and ask again later.
                Err(error) if !batch.is_empty() => {
                    tracing::warn!(%error, "a claim failed and will be tried again");
                    self.doubt();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !batch.is_empty() {
            return Ok(Taken::Photos(batch));
        }
        let empty = claim::after_empty(&mut db, most, self.cursor);
        let empty = database::in_time(PATIENCE, empty).await?;
        self.cursor = empty.cursor;
        Ok(if empty.claimable { Taken::AllLocked } else { Taken::Nothing })
    }

    async fn adopt(
        &mut self,
        db: &mut PgConnection,
        shift: &Shift,
        most: usize,
    ) -> Result<Vec<Reservation>, GateError> {
        let suspects = shift.alone.available_permits();
        let is_due = self.adopted.is_none_or(|at| at.elapsed() >= self.adopt_after);
        let may_be_suspects = self.suspects && suspects > 0;
        if !is_due && !may_be_suspects {
            return Ok(Vec::new());
        }
        if shift.settle_trouble.swap(false, Ordering::Relaxed) {
            self.doubt();
        }
        if self.unsure_until.is_some() || self.sure_at.elapsed() >= DOUBT_EVERY {
            self.settle_doubts(db, shift).await?;
        }
        let batch = claim::adopt(db, shift.me, most, suspects, CRASHES_MAX).await?;
        self.adopted = Some(Instant::now());
        self.adopt_after = if batch.is_empty() { ADOPT_EVERY } else { ADOPT_AGAIN };
        // While a suspect was in work, no suspects were asked for, so nothing new is known.
        self.suspects =
            batch.iter().any(Reservation::is_suspect) || (self.suspects && suspects == 0);
        // Record them before the claim: they are in hand even if the claim fails.
        shift.in_hand.take(&batch);
        Ok(batch)
    }

    async fn claim(
        &mut self,
        db: &mut PgConnection,
        shift: &Shift,
        most: usize,
    ) -> Result<Vec<Reservation>, GateError> {
        let claimed = claim::claim(db, shift.me, most, self.cursor, shift.async_commit).await?;
        shift.in_hand.take(&claimed);
        // The last one whose turn it was: those up to the cursor come after those behind it.
        let turn = |one: &OrganisationId| (*one <= self.cursor, *one);
        let last = claimed.iter().map(Reservation::organisation).max_by_key(turn);
        self.cursor = last.unwrap_or(self.cursor);
        Ok(claimed)
    }

    /// Hands back photos that this worker has in the database but does not know of.
    async fn settle_doubts(&mut self, db: &mut PgConnection, shift: &Shift) -> sqlx::Result<()> {
        let photos = claim::hand_back_unknown(db, shift.me, &shift.in_hand.jobs()).await?;
        if photos > 0 {
            tracing::warn!(
                photos,
                "the database had photos of this worker that it did not know of; they were handed back"
            );
        }
        self.unsure_until = self.unsure_until.filter(|until| Instant::now() < *until);
        self.sure_at = Instant::now();
        Ok(())
    }
}
