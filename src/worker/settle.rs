//! The credit is earned or given back: group commit of whatever has piled up.

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

/// Photos settled in one transaction, at most.
const BATCH_MAX: usize = 1024;
/// A worker that was told to stop at once waits for a database that is away for so long.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// What became of a photo in the hands of a worker.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Done: the credit is earned.
    Processed(Findings),
    /// It cannot be done, now or ever: the credit goes back.
    Failed {
        /// A stable code.
        reason: &'static str,
        /// For a person.
        detail: String,
    },
    /// Transient trouble: again later, under the same reservation.
    Retry {
        /// A stable code.
        reason: &'static str,
        /// For a person.
        detail: String,
        /// How much later.
        after: Duration,
    },
    /// The work itself crashed: again later, alone; the last time it is quarantined.
    Crashed {
        /// For a person.
        detail: String,
    },
    /// Not started, or given up because the worker has to stop: somebody else, at once.
    HandedBack,
}

/// Hands verdicts to the one task that settles.
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

/// The worker whose photos are settled, and its way to the books.
#[derive(Debug, Clone)]
pub struct Settling {
    /// To the database.
    pub pool: PgPool,
    /// Who settles.
    pub worker: WorkerId,
    /// How long its lease is.
    pub lease: Duration,
    /// When the worker has to stop at once, a database that is away is not waited for any more.
    pub now: CancellationToken,
}

impl Settler {
    /// Starts the settling task of a worker. It ends when all its settlers are dropped and everything is settled, or
    /// with an error when the worker's lease is gone.
    pub fn start(
        settling: Settling,
        wake: Wake,
        progress: Progress,
    ) -> (Self, tokio::task::JoinHandle<Result<(), GateError>>) {
        let (inbox, outbox) = mpsc::unbounded_channel();
        (Self { inbox }, tokio::spawn(settling.run(wake, progress, outbox)))
    }

    /// Settles one photo, and returns when that is on disk. False: it was not this worker's any more, nothing changed.
    pub async fn settle(&self, reservation: Reservation, verdict: Verdict) -> bool {
        let (settled, answer) = oneshot::channel();
        // If the settling task has ended, the lease is gone: nothing is this worker's any more.
        self.inbox.send(Settlement { reservation, verdict, settled }).is_ok()
            && answer.await.unwrap_or(false)
    }
}

/// Jobs that were the worker's to settle, sorted.
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
        // While one transaction is on its way to the disk, the next batch piles up by itself.
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
                    tracing::warn!(job = %reservation.job, attempt = %reservation.attempt, "a late settle was refused: the photo has another owner");
                }
                let _ = settled.send(ours);
            }
        }
        Ok(())
    }

    /// Settles a batch, however long the database is away. Only a lease that is gone is an error.
    async fn settle_batch(&self, batch: &[Settlement]) -> Result<Landed, GateError> {
        let mut earlier = Landed::default();
        let mut pause = Duration::from_millis(50);
        let mut told_to_stop = None;
        loop {
            let error = match self.try_batch(batch).await {
                Ok(landed) => return Ok(landed.and(earlier)),
                Err(GateError::LeaseLost) => {
                    // It ran out while nobody could say that we live. If nobody took it away, it is ours still.
                    match sweep::heartbeat(&self.pool, self.worker, self.lease).await {
                        Ok(true) => continue,
                        Ok(false) => return Err(GateError::LeaseLost),
                        Err(error) => error,
                    }
                }
                // The database refuses the batch itself: find the one it refuses, and let the others through.
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
                        // Not even that: it must not keep the others from being settled. It stays reserved until
                        // this worker leaves, and is then handed back.
                        Err(GateError::Database(error)) if database::is_refusal(&error) => {
                            tracing::error!(job = %batch[0].reservation.job, %error, "the refund was refused too");
                            return Ok(earlier);
                        }
                        Err(GateError::Database(error)) => error,
                    }
                }
                Err(GateError::Database(error)) => error,
            };
            tracing::warn!(%error, photos = batch.len(), "settling will be tried again");
            if self.now.is_cancelled()
                && told_to_stop.get_or_insert_with(Instant::now).elapsed() > STOPPING_MAX
            {
                // Our lease runs out, and somebody else takes over: nothing is lost but the work.
                return Err(GateError::LeaseLost);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            // The answer may have been lost after the commit: what the books say is ours was settled then.
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

    /// A verdict that the database will never take (findings that break a constraint, say) is a failure of ours: the
    /// photo is refunded and the trouble logged, instead of trying for ever.
    async fn refuse(&self, one: &Settlement, error: &sqlx::Error) -> Result<Landed, GateError> {
        tracing::error!(job = %one.reservation.job, %error, "the database refused a verdict; the photo is refunded");
        let row = sqlx::query!(
            r#"SELECT r_settled AS "settled!", r_resumed AS "resumed!" FROM settle($1, $2, $3, ARRAY['failed']::outcome_state[], ARRAY['verdict_refused'], ARRAY[$4::text])"#,
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

/// Commits and refunds, with the findings, in one transaction.
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
        r#"SELECT r_settled AS "settled!", r_resumed AS "resumed!" FROM settle($1, $2, $3, $4::text[]::outcome_state[], $5, $6)"#,
        worker.0,
        &jobs,
        &attempts,
        &states,
        &reasons as &[Option<String>],
        &details as &[Option<String>]
    )
    .fetch_one(db)
    .await?;
    // The function answers in the order of the jobs' ids.
    Ok(Landed { jobs: row.settled, resumed: row.resumed })
}

/// Gives photos back under their reservations.
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
    /// For those who count and trace.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Processed(_) => "committed",
            Self::Failed { .. } => "refunded",
            Self::Retry { .. } => "retried",
            Self::Crashed { .. } => "crashed",
            Self::HandedBack => "handed_back",
        }
    }

    /// True when the reservation stays open and somebody takes the photo up again.
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

/// As it may be stored and shown: a decoder's words may quote the file. PostgreSQL takes no NUL, and one text that it does
/// not take would keep a whole batch from being settled.
fn printable(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
