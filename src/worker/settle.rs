//! Settles photos: commits or refunds their credits and writes the findings. One task settles in
//! batches: while one transaction commits, the next batch collects.

mod statements;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    database,
    notify::wake::Wake,
    queue::claim::{GateError, Incarnation, Reservation},
    worker::{heartbeat, in_hand::InHand, verdict::Verdict, work::Observers},
};
use statements::{close, release, settled_before};

/// Largest number of photos that are settled in one transaction.
const BATCH_MAX: usize = 1024;
/// How long a photo that is done waits at most for others of its worker.
const GATHER_MAX: Duration = Duration::from_millis(250);
/// How long a worker that was told to stop now still waits for an unavailable database.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// Sends verdicts to the task that settles. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Settler {
    inbox: mpsc::UnboundedSender<Settlement>,
}

#[derive(Debug)]
struct Settlement {
    reservation: Reservation,
    verdict: Verdict,
    settled: oneshot::Sender<bool>,
}

/// What the settling task of a worker needs.
#[derive(Debug, Clone)]
pub struct Settling {
    /// The connections to the database.
    pub pool: PgPool,
    /// The worker whose photos are settled.
    pub me: Incarnation,
    /// The length of the worker's lease.
    pub lease: Duration,
    /// The signal that the worker must stop now. From then on, the task waits only a few seconds
    /// for an unavailable database.
    pub now: CancellationToken,
    /// Set when a settlement had trouble. The claiming task then compares the photos that the
    /// database lists for this worker with those in hand.
    pub trouble: Arc<AtomicBool>,
    /// The photos that the worker has. Without any, a photo that is done waits for no other.
    pub in_hand: InHand,
}

impl Settler {
    /// Starts the settling task of a worker. The task ends when all its settlers are dropped and
    /// all photos are settled. It ends with an error when the worker has lost its lease.
    pub fn start(
        settling: Settling,
        wake: Wake,
        observers: Arc<Observers>,
    ) -> (Self, tokio::task::JoinHandle<Result<(), GateError>>) {
        let (inbox, outbox) = mpsc::unbounded_channel();
        (Self { inbox }, tokio::spawn(settling.run(wake, observers, outbox)))
    }

    /// Settles one photo, and returns when that is on disk. Returns false if nothing changed,
    /// because the photo no longer belonged to this worker.
    pub async fn settle(&self, reservation: Reservation, verdict: Verdict) -> bool {
        let (settled, answer) = oneshot::channel();
        // If the settling task has ended, the lease is lost, and no photo belongs to this worker.
        self.inbox.send(Settlement { reservation, verdict, settled }).is_ok()
            && answer.await.unwrap_or(false)
    }
}

/// Waits a moment for more photos of this worker, so that they are settled in one transaction: each
/// one locks the account, is written to disk, and is a link of the hash chain. A worker with few
/// slots would settle every photo alone. Once half of the photos in hand are done, it does not wait
/// for the others.
async fn gather<T>(
    outbox: &mut mpsc::UnboundedReceiver<T>,
    batch: &mut Vec<T>,
    mut in_hand: impl FnMut() -> usize,
) {
    let until = Instant::now() + GATHER_MAX;
    while batch.len() < BATCH_MAX && 2 * batch.len() < in_hand() {
        match timeout_at(until, outbox.recv_many(batch, BATCH_MAX - batch.len())).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// The settled jobs, sorted by number, which of them are duplicates, and whether paused queues
/// resumed. Jobs that the fence refused are not included.
#[derive(Debug, Default)]
struct Landed {
    jobs: Vec<i64>,
    duplicates: Vec<i64>,
    resumed: bool,
}

impl Landed {
    fn and(mut self, other: Self) -> Self {
        self.jobs.extend(other.jobs);
        self.jobs.sort_unstable();
        self.duplicates.extend(other.duplicates);
        self.resumed |= other.resumed;
        self
    }
}

impl Settling {
    async fn run(
        self,
        wake: Wake,
        observers: Arc<Observers>,
        mut outbox: mpsc::UnboundedReceiver<Settlement>,
    ) -> Result<(), GateError> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // While one transaction is written to disk, the next batch collects in the channel.
        while outbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
            gather(&mut outbox, &mut batch, || self.in_hand.number()).await;
            let began = Instant::now();
            let landed = self.settle_batch(&batch).await?;
            self.in_hand.give_up(batch.iter().map(|one| &one.reservation));
            metrics::histogram!("photogate_settle_duration_seconds").record(began.elapsed());
            if landed.resumed {
                wake.send().await;
            }
            for Settlement { reservation, verdict, settled } in batch.drain(..) {
                let ours = landed.jobs.binary_search(&reservation.job.0).is_ok();
                let state = if !ours {
                    "fenced"
                } else if landed.duplicates.contains(&reservation.job.0) {
                    "duplicate"
                } else {
                    verdict.name()
                };
                metrics::counter!("photogate_settled_photos_total", "state" => state).increment(1);
                if ours {
                    observers.tell(&reservation, &verdict);
                } else {
                    tracing::warn!(
                        job = %reservation.job,
                        attempt = %reservation.attempt,
                        "a late settle was refused: the photo has another owner"
                    );
                }
                let _ = settled.send(ours);
            }
        }
        Ok(())
    }

    /// Settles a batch, and tries again for as long as the database is unavailable. The only error
    /// is a lost lease.
    async fn settle_batch(&self, batch: &[Settlement]) -> Result<Landed, GateError> {
        let mut earlier = Landed::default();
        let mut pause = Duration::from_millis(50);
        let mut told_to_stop = None;
        loop {
            let error = match self.try_batch(batch).await {
                Ok(landed) => return Ok(landed.and(earlier)),
                Err(GateError::LeaseLost) => {
                    // The lease ran out while heartbeats failed. A heartbeat can still extend it,
                    // unless another worker has declared this one dead.
                    match heartbeat::heartbeat(&self.pool, self.me, self.lease).await {
                        Ok(true) => continue,
                        Ok(false) => return Err(GateError::LeaseLost),
                        Err(error) => error,
                    }
                }
                // The database refuses something in the batch. Settle the photos one by one, so
                // that only the refused photo is left out.
                Err(GateError::Database(error))
                    if database::is_refusal(&error) && batch.len() > 1 =>
                {
                    for one in batch.chunks(1) {
                        earlier = earlier.and(Box::pin(self.settle_batch(one)).await?);
                    }
                    return Ok(earlier);
                }
                Err(GateError::Database(error)) if database::is_refusal(&error) => {
                    match self.refuse(&batch[0], &error).await {
                        Ok(landed) => return Ok(landed.and(earlier)),
                        Err(GateError::LeaseLost) => return Err(GateError::LeaseLost),
                        // The database refuses the refund too. This photo must not block the
                        // others. It stays reserved until this worker leaves, and is handed back
                        // then.
                        Err(GateError::Database(error)) if database::is_refusal(&error) => {
                            tracing::error!(
                                job = %batch[0].reservation.job,
                                %error,
                                "the database refused the refund of a photo too"
                            );
                            return Ok(earlier);
                        }
                        Err(GateError::Database(error)) => error,
                    }
                }
                Err(GateError::Database(error)) => error,
            };
            tracing::warn!(%error, photos = batch.len(), "settling failed and will be tried again");
            self.trouble.store(true, Ordering::Relaxed);
            if self.now.is_cancelled()
                && told_to_stop.get_or_insert_with(Instant::now).elapsed() > STOPPING_MAX
            {
                // Give up. The lease will run out, and another worker will adopt the photos. Only
                // the work is lost, no credits.
                return Err(GateError::LeaseLost);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            // The answer may have been lost after the commit. Then the outcomes of this worker are
            // in the database, and count as settled.
            let settled = settled_before(&self.pool, self.me, batch);
            if let Ok(jobs) = database::in_time(database::PATIENCE, settled).await {
                earlier.jobs = jobs;
            }
        }
    }

    async fn try_batch(&self, batch: &[Settlement]) -> Result<Landed, GateError> {
        let (back, closed): (Vec<_>, Vec<_>) =
            batch.iter().partition(|one| one.verdict.goes_back());
        let mut landed = Landed::default();
        if !closed.is_empty() {
            landed = landed.and(
                database::in_time(database::PATIENCE, close(&self.pool, self.me, &closed)).await?,
            );
        }
        if !back.is_empty() {
            landed = landed.and(
                database::in_time(database::PATIENCE, release(&self.pool, self.me, &back)).await?,
            );
        }
        Ok(landed)
    }

    /// Refunds a photo whose verdict the database will never accept, for example because its
    /// findings break a constraint. That is a bug in photogate, so it is logged as an error.
    /// Without this, the worker would try for ever.
    async fn refuse(&self, one: &Settlement, error: &sqlx::Error) -> Result<Landed, GateError> {
        tracing::error!(
            job = %one.reservation.job,
            %error,
            "the database refused a verdict; the photo will be refunded"
        );
        let row = sqlx::query!(
            r#"SELECT r_settled AS "settled!", r_resumed AS "resumed!"
               FROM settle($1, $2, $3, ARRAY['failed']::outcome_state[],
                           ARRAY['verdict_refused'], ARRAY[$4::text])"#,
            self.me.key(),
            &[one.reservation.job.0],
            &[one.reservation.attempt.0],
            error.to_string()
        );
        let row = database::in_time(database::PATIENCE, row.fetch_one(&self.pool)).await?;
        Ok(Landed { jobs: row.settled, resumed: row.resumed, ..Landed::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How many photos the next transaction settles, if the worker has so many in hand and this many
    /// end while the first one waits.
    async fn gathered(in_hand: usize, more: usize) -> usize {
        let (inbox, mut outbox) = mpsc::unbounded_channel();
        let (left, mut batch) = (Cell::new(more), vec![()]);
        gather(&mut outbox, &mut batch, || {
            if left.get() > 0 {
                left.set(left.get() - 1);
                inbox.send(()).unwrap();
            }
            in_hand
        })
        .await;
        batch.len()
    }

    #[tokio::test]
    async fn photos_that_end_soon_after_each_other_are_settled_together() {
        assert_eq!(gathered(20, 6).await, 7, "all that came in time");
        assert_eq!(gathered(20, 50).await, 10, "half of what is in hand");
        assert_eq!(gathered(2, 50).await, 1, "the other one may take long");
        assert_eq!(gathered(0, 50).await, 1, "who settles by hand");
        assert_eq!(gathered(20, 0).await, 1, "slow work");
        assert_eq!(gathered(10 * BATCH_MAX, 2 * BATCH_MAX).await, BATCH_MAX);
    }

    #[tokio::test]
    async fn a_worker_that_ends_waits_for_nobody() {
        let (inbox, mut outbox) = mpsc::unbounded_channel::<()>();
        drop(inbox);
        let (mut batch, mut asked) = (vec![()], 0);

        gather(&mut outbox, &mut batch, || {
            asked += 1;
            20
        })
        .await;

        assert_eq!((batch.len(), asked), (1, 1));
    }
}
