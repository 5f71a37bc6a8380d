//! Settles photos: commits or refunds their credits and writes the findings. One task settles in
//! batches: while one transaction commits, the next batch collects.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::findings::{self, Findings},
    database,
    ids::{JobId, WorkerId},
    notify::{
        progress::{Progress, Step},
        wake::Wake,
    },
    queue::claim::{GateError, Reservation, interval},
    worker::sweep,
};

/// Largest number of photos that are settled in one transaction.
const BATCH_MAX: usize = 1024;
/// How long a worker that was told to stop now still waits for an unavailable database.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// A worker's verdict about one photo.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The photo was processed: its credit is committed.
    Processed(Findings),
    /// The photo cannot be processed: its credit is refunded.
    Failed {
        /// The reason, as a stable code.
        reason: &'static str,
        /// More about the reason, as text for people.
        detail: String,
    },
    /// Trouble that may pass: the photo is tried again later, under the same reservation.
    Retry {
        /// The reason, as a stable code.
        reason: &'static str,
        /// More about the reason, as text for people.
        detail: String,
        /// The wait before the next attempt.
        after: Duration,
    },
    /// The work crashed: the photo is tried again, as a suspect from the second crash on. After
    /// [`CRASHES_MAX`](super::CRASHES_MAX) crashes it is quarantined.
    Crashed {
        /// More about the reason, as text for people.
        detail: String,
    },
    /// The work did not start, or the worker had to stop: another worker may take the photo at
    /// once.
    HandedBack,
}

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
    pub worker: WorkerId,
    /// The length of the worker's lease.
    pub lease: Duration,
    /// The signal that the worker must stop now. From then on, the task waits only a few seconds
    /// for an unavailable database.
    pub now: CancellationToken,
}

impl Settler {
    /// Starts the settling task of a worker. The task ends when all its settlers are dropped and
    /// all photos are settled. It ends with an error when the worker has lost its lease.
    pub fn start(
        settling: Settling,
        wake: Wake,
        progress: Progress,
    ) -> (Self, tokio::task::JoinHandle<Result<(), GateError>>) {
        let (inbox, outbox) = mpsc::unbounded_channel();
        (Self { inbox }, tokio::spawn(settling.run(wake, progress, outbox)))
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

/// The settled jobs, sorted by number, and whether paused queues resumed. Jobs that the fence
/// refused are not included.
#[derive(Debug, Default)]
struct Landed {
    jobs: Vec<i64>,
    resumed: bool,
}

impl Landed {
    fn and(mut self, other: Self) -> Self {
        self.jobs.extend(other.jobs);
        self.jobs.sort_unstable();
        Self { jobs: self.jobs, resumed: self.resumed || other.resumed }
    }
}

impl Settling {
    async fn run(
        self,
        wake: Wake,
        progress: Progress,
        mut outbox: mpsc::UnboundedReceiver<Settlement>,
    ) -> Result<(), GateError> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // While one transaction is written to disk, the next batch collects in the channel.
        while outbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let began = Instant::now();
            let landed = self.settle_batch(&batch).await?;
            metrics::histogram!("photogate_settle_duration_seconds").record(began.elapsed());
            if landed.resumed {
                wake.send().await;
            }
            for Settlement { reservation, verdict, settled } in batch.drain(..) {
                let ours = landed.jobs.binary_search(&reservation.job.0).is_ok();
                let state = if ours { verdict.name() } else { "fenced" };
                metrics::counter!("photogate_settled_photos_total", "state" => state).increment(1);
                if ours {
                    progress.tell(
                        reservation.organisation(),
                        reservation.event(),
                        step(&reservation, &verdict),
                    );
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
                    match sweep::heartbeat(&self.pool, self.worker, self.lease).await {
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
            if let Ok(jobs) = settled_before(&self.pool, self.worker, batch).await {
                earlier.jobs = jobs;
            }
        }
    }

    async fn try_batch(&self, batch: &[Settlement]) -> Result<Landed, GateError> {
        let (back, closed): (Vec<_>, Vec<_>) =
            batch.iter().partition(|one| one.verdict.goes_back());
        let mut landed = Landed::default();
        if !closed.is_empty() {
            landed = landed.and(self.in_time(close(&self.pool, self.worker, &closed)).await?);
        }
        if !back.is_empty() {
            landed = landed.and(self.in_time(release(&self.pool, self.worker, &back)).await?);
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
            self.worker.0,
            &[one.reservation.job.0],
            &[one.reservation.attempt.0],
            error.to_string()
        );
        let row = database::in_time(database::PATIENCE, row.fetch_one(&self.pool)).await?;
        Ok(Landed { jobs: row.settled, resumed: row.resumed })
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, GateError>>,
    ) -> Result<T, GateError> {
        let late =
            || GateError::Database(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        tokio::time::timeout(database::PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Commits and refunds photos, and writes their findings, in one transaction.
async fn close(
    pool: &PgPool,
    worker: WorkerId,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let found: Vec<_> = batch
        .iter()
        .filter_map(|one| match &one.verdict {
            Verdict::Processed(
                findings @ (Findings::Processing { .. } | Findings::Rotation { .. }),
            ) => Some((one.reservation.job, one.reservation.photo(), findings)),
            Verdict::Processed(Findings::Nothing)
            | Verdict::Failed { .. }
            | Verdict::Retry { .. }
            | Verdict::Crashed { .. }
            | Verdict::HandedBack => None,
        })
        .collect();
    if found.is_empty() {
        return settle(&mut *pool.acquire().await?, worker, batch).await;
    }
    let mut tx = pool.begin().await?;
    let landed = settle(&mut tx, worker, batch).await?;
    let ours: Vec<_> = found
        .iter()
        .filter(|(job, ..)| landed.jobs.binary_search(&job.0).is_ok())
        .map(|(_, photo, findings)| (*photo, *findings))
        .collect();
    findings::write(&mut tx, &ours).await?;
    tx.commit().await?;
    Ok(landed)
}

async fn settle(
    db: &mut PgConnection,
    worker: WorkerId,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let (jobs, attempts) = fences(batch);
    let states: Vec<_> = batch
        .iter()
        .map(|one| {
            if matches!(one.verdict, Verdict::Processed(_)) { "processed" } else { "failed" }
                .to_owned()
        })
        .collect();
    let reasons: Vec<_> = batch.iter().map(|one| one.verdict.reason().map(str::to_owned)).collect();
    let details: Vec<_> = batch.iter().map(|one| one.verdict.detail().map(printable)).collect();
    let row = sqlx::query!(
        r#"SELECT r_settled AS "settled!", r_resumed AS "resumed!"
           FROM settle($1, $2, $3, $4::text[]::outcome_state[], $5, $6)"#,
        worker.0,
        &jobs,
        &attempts,
        &states,
        &reasons as &[Option<String>],
        &details as &[Option<String>]
    )
    .fetch_one(db)
    .await?;
    // The SQL function returns the jobs sorted by number.
    Ok(Landed { jobs: row.settled, resumed: row.resumed })
}

/// Gives photos back, and keeps their reservations open.
async fn release(
    pool: &PgPool,
    worker: WorkerId,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let (jobs, attempts) = fences(batch);
    let ends: Vec<_> = batch
        .iter()
        .map(|one| match one.verdict {
            Verdict::Retry { .. } => "retry",
            Verdict::Crashed { .. } => "crash",
            Verdict::HandedBack | Verdict::Processed(_) | Verdict::Failed { .. } => "handed_back",
        })
        .map(str::to_owned)
        .collect();
    let reasons: Vec<_> = batch.iter().map(|one| one.verdict.reason().map(str::to_owned)).collect();
    let delays: Vec<_> = batch
        .iter()
        .map(|one| match one.verdict {
            Verdict::Retry { after, .. } => interval(after),
            Verdict::Crashed { .. }
            | Verdict::HandedBack
            | Verdict::Processed(_)
            | Verdict::Failed { .. } => interval(Duration::ZERO),
        })
        .collect();
    let released = sqlx::query_scalar!(
        r#"SELECT job AS "job!" FROM release($1, $2, $3, $4, $5, $6) AS job"#,
        worker.0,
        &jobs,
        &attempts,
        &ends,
        &reasons as &[Option<String>],
        &delays
    )
    .fetch_all(pool)
    .await?;
    Ok(Landed { jobs: released, resumed: false })
}

async fn settled_before(
    pool: &PgPool,
    worker: WorkerId,
    batch: &[Settlement],
) -> sqlx::Result<Vec<i64>> {
    let jobs: Vec<_> = batch.iter().map(|one| one.reservation.job.0).collect();
    sqlx::query_scalar!(
        "SELECT job_id FROM outcome WHERE job_id = ANY($1) AND worker_id = $2 ORDER BY job_id",
        &jobs,
        worker.0
    )
    .fetch_all(pool)
    .await
}

fn fences(batch: &[&Settlement]) -> (Vec<i64>, Vec<i32>) {
    batch.iter().map(|one| (one.reservation.job.0, one.reservation.attempt.0)).unzip()
}

fn step(reservation: &Reservation, verdict: &Verdict) -> Step {
    Step {
        job: JobId(reservation.job.0),
        photo: reservation.photo(),
        operation: reservation.operation(),
        state: match verdict {
            Verdict::Processed(_) => "processed",
            Verdict::Failed { .. } => "failed",
            Verdict::Retry { .. } | Verdict::Crashed { .. } | Verdict::HandedBack => "waiting",
        }
        .into(),
    }
}

impl Verdict {
    /// The verdict's stable name in metrics and traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Processed(_) => "committed",
            Self::Failed { .. } => "refunded",
            Self::Retry { .. } => "retried",
            Self::Crashed { .. } => "crashed",
            Self::HandedBack => "handed_back",
        }
    }

    /// True if the reservation stays open, because the photo will be tried again.
    fn goes_back(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Crashed { .. } | Self::HandedBack)
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Failed { reason, .. } | Self::Retry { reason, .. } => Some(reason),
            Self::Crashed { .. } => Some("crashed"),
            Self::Processed(_) | Self::HandedBack => None,
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Failed { detail, .. } | Self::Retry { detail, .. } | Self::Crashed { detail } => {
                Some(detail)
            }
            Self::Processed(_) | Self::HandedBack => None,
        }
    }
}

/// Makes a detail safe to store and to show: no control characters, at most 500 characters.
///
/// A decoder's message may quote the file. PostgreSQL accepts no NUL character, and one text that
/// it refuses would block the settling of a whole batch.
fn printable(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
