//! One worker process: it claims ahead of its slots by a little, works, settles, and picks up what others left.

mod dispatch;
pub mod processor;
pub mod reconciler;
pub mod rehearsal;
pub mod settle;
pub mod sweep;

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    config::Config,
    database,
    ids::{OrganisationId, WorkerId},
    notify::{
        progress::Progress,
        wake::{Listener, Wake},
    },
    queue::claim::{self, GateError, Reservation},
    telemetry::traces,
};
use processor::Work;
use settle::{Settler, Settling, Verdict};

/// Photos in one claim, at most. The more, the fewer commits; the account's lock is held for some 20 ms by this many.
const BATCH_MAX: usize = 1024;
/// What nobody has is asked for this often.
const ADOPT_EVERY: Duration = Duration::from_secs(1);
/// Between two claims while others hold every lock: longer than a claim takes, shorter than most enqueues.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);
/// A photo that was in hand when its worker died this often is quarantined and refunded.
pub const CRASHES_MAX: i16 = 3;

/// How a worker is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Claim no more, finish what runs, hand the rest back.
    pub drain: CancellationToken,
    /// Hand everything back at once.
    pub now: CancellationToken,
}

impl Stop {
    fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), now: self.now.child_token() }
    }

    fn at_once(&self) {
        self.drain.cancel();
        self.now.cancel();
    }
}

/// Why a worker ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerTrouble {
    /// apalis gave up.
    #[error("the worker's queue broke: {0}")]
    Queue(String),
    /// The address of Redis is no address.
    #[error("redis_url is not usable: {0}")]
    Redis(#[from] redis::RedisError),
}

/// A claimed photo on its way through this process, with the room it takes.
#[derive(Debug)]
pub(crate) struct Claimed {
    reservation: Reservation,
    room: Option<OwnedSemaphorePermit>,
    alone: Option<OwnedSemaphorePermit>,
    trace: Option<String>,
}

/// Works until told to stop. A worker that loses its lease (a database away for longer than the lease, a machine that
/// slept) begins anew, as another incarnation; what it had in hand is somebody else's by then.
///
/// # Errors
/// See [`WorkerTrouble`]. Trouble with the database or Redis is waited out.
pub async fn run(
    config: &Config,
    pool: PgPool,
    work: Arc<Work>,
    stop: Stop,
) -> Result<(), WorkerTrouble> {
    let wake = Wake::open(config.redis_url.as_deref())?;
    let progress = Progress::open(config.redis_url.as_deref())?;
    let ear = Arc::new(Listener::open(config.redis_url.as_deref())?);
    while !stop.drain.is_cancelled() {
        let name = incarnation_name();
        let Some(worker) = register(&pool, &name, config, &stop).await else { break };
        tracing::info!(%worker, name, slots = config.slots(), "the worker is ready");
        let shift = Arc::new(Shift {
            pool: pool.clone(),
            worker,
            stop: stop.child(),
            ear: ear.clone(),
            room: Arc::new(Semaphore::new(config.slots() + config.ahead())),
            alone: Arc::new(Semaphore::new(1)),
            in_hand: Mutex::default(),
            lease: config.lease(),
            poll: Duration::from_millis(config.poll_milliseconds),
            async_commit: config.claim_async_commit,
        });
        let books = Settling {
            pool: pool.clone(),
            worker,
            lease: config.lease(),
            now: shift.stop.now.clone(),
        };
        let (settler, settling) = Settler::start(books, wake.clone(), progress.clone());
        let pulse_stop = CancellationToken::new();
        let pulse = tokio::spawn(watch(
            sweep::keep_alive(pool.clone(), worker, config.lease(), pulse_stop.clone()),
            shift.clone(),
        ));
        let audit = tokio::spawn(reconciler::watch(
            pool.clone(),
            worker,
            config.reconcile_every(),
            shift.stop.drain.clone(),
        ));
        let forgetting = tokio::spawn(sweep::forget(pool.clone(), shift.stop.drain.clone()));
        let settling = tokio::spawn(watch(
            async { settling.await.unwrap_or(Err(GateError::LeaseLost)) },
            shift.clone(),
        ));
        let (claimed, stream) = mpsc::channel(config.slots() + config.ahead());
        let feeding = tokio::spawn(watch(feed(shift.clone(), claimed), shift.clone()));

        let hand = {
            let (shift, work) = (shift.clone(), work.clone());
            move |claimed| handle(shift.clone(), work.clone(), settler.clone(), claimed)
        };
        // The settler lives in the handler: when the stream has ended and all is handled, the settling task ends too.
        dispatch::drive(&name, stream, hand)
            .await
            .map_err(|error| WorkerTrouble::Queue(error.to_string()))?;
        let _ = tokio::join!(feeding, settling, audit, forgetting);
        pulse_stop.cancel();
        let _ = pulse.await;
        if let Ok(mut db) = pool.acquire().await
            && let Err(error) = claim::retire(&mut db, worker).await
        {
            tracing::warn!(%worker, %error, "the worker could not say goodbye: its lease runs out by itself");
        }
        tracing::info!(%worker, "the worker has left");
    }
    Ok(())
}

/// What the tasks of one incarnation share.
#[derive(Debug)]
struct Shift {
    pool: PgPool,
    worker: WorkerId,
    stop: Stop,
    ear: Arc<Listener>,
    /// Claimed and not settled, at most: the slots, and a little ahead.
    room: Arc<Semaphore>,
    /// Photos with which two workers died are worked one at a time: the one that kills does not take another along.
    alone: Arc<Semaphore>,
    in_hand: Mutex<HashSet<(i64, i32)>>,
    lease: Duration,
    poll: Duration,
    async_commit: bool,
}

impl Shift {
    fn in_hand(&self) -> std::sync::MutexGuard<'_, HashSet<(i64, i32)>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task whose end by a lost lease ends the whole incarnation.
async fn watch(task: impl Future<Output = Result<(), GateError>>, shift: Arc<Shift>) {
    if let Err(error) = task.await {
        tracing::error!(worker = %shift.worker, %error, "this incarnation of the worker is over");
        shift.stop.at_once();
    }
}

/// The one task that claims. It ends when the worker drains, and with it the stream.
async fn feed(shift: Arc<Shift>, claimed: mpsc::Sender<Claimed>) -> Result<(), GateError> {
    let mut turn =
        Turn { cursor: OrganisationId(0), adopted: None, suspects: false, unsure_until: None };
    while let Some(room) =
        shift.stop.drain.run_until_cancelled(shift.room.clone().acquire_owned()).await
    {
        let Ok(mut room) = room else { break };
        let more = shift.room.available_permits().min(BATCH_MAX - 1);
        if more > 0
            && let Ok(more) =
                shift.room.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0))
        {
            room.merge(more);
        }
        let began = Instant::now();
        let taken = turn.take(&shift, room.num_permits());
        let late =
            || GateError::Database(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        match tokio::time::timeout(database::PATIENCE, taken).await.unwrap_or_else(|_| Err(late()))
        {
            Ok(Taken::Nothing) => {
                drop(room);
                shift.ear.wait(shift.poll, &shift.stop.drain).await;
            }
            Ok(Taken::AllLocked) => {
                drop(room);
                metrics::counter!("photogate_claims_locked_out_total").increment(1);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(LOCKED_PAUSE)).await;
            }
            Ok(Taken::Photos(batch)) => {
                metrics::histogram!("photogate_claim_duration_seconds").record(began.elapsed());
                metrics::counter!("photogate_claimed_photos_total").increment(batch.len() as u64);
                let mut traces = traces::of(&shift.pool, &batch).await;
                for reservation in batch {
                    let trace = traces.remove(&reservation.job());
                    let alone = if reservation.is_suspect() {
                        shift.alone.clone().try_acquire_owned().ok()
                    } else {
                        None
                    };
                    let on_its_way = Claimed { reservation, room: room.split(1), alone, trace };
                    if claimed.send(on_its_way).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(GateError::LeaseLost) => {
                // It ran out while nobody could say that we live. If nobody took it away, it is ours still.
                if let Ok(false) = sweep::heartbeat(&shift.pool, shift.worker, shift.lease).await {
                    metrics::counter!("photogate_leases_lost_total").increment(1);
                    return Err(GateError::LeaseLost);
                }
                drop(room);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(shift.lease / 10)).await;
            }
            Err(GateError::Database(error)) => {
                tracing::warn!(%error, "claiming will be tried again");
                turn.doubt();
                drop(room);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(shift.poll)).await;
            }
        }
    }
    // For people only: the drain does not depend on it.
    let told = async { claim::drain(&mut *shift.pool.acquire().await?, shift.worker).await };
    if let Err(error) = database::in_time(shift.lease, told).await {
        tracing::warn!(%error, "nobody could be told that this worker drains");
    }
    Ok(())
}

/// What a look for work came back with.
#[derive(Debug)]
enum Taken {
    /// Photos to work on.
    Photos(Vec<Reservation>),
    /// Photos wait, and others hold the locks of all their queues: ask again at once.
    AllLocked,
    /// Nothing waits that can be paid for.
    Nothing,
}

/// Where the claiming task stands.
struct Turn {
    cursor: OrganisationId,
    adopted: Option<Instant>,
    /// There was a suspect last time, and there may be more.
    suspects: bool,
    /// An answer was lost, and until then photos may turn up that nobody here knows of: a claim whose connection was
    /// cut may still wait for a lock, and commit when it gets it.
    unsure_until: Option<Instant>,
}

impl Turn {
    fn doubt(&mut self) {
        self.unsure_until = Some(Instant::now() + database::PATIENCE);
        self.adopted = None;
    }

    async fn take(&mut self, shift: &Shift, most: usize) -> Result<Taken, GateError> {
        let mut db = shift.pool.acquire().await?;
        let suspects = shift.alone.available_permits();
        let mut batch = Vec::new();
        if self.adopted.is_none_or(|at| at.elapsed() >= ADOPT_EVERY)
            || (self.suspects && suspects > 0)
        {
            if self.unsure_until.is_some() {
                self.settle_doubts(&mut db, shift).await?;
            }
            batch = claim::adopt(&mut db, shift.worker, most, suspects, CRASHES_MAX).await?;
            // As long as there is more of it, what was paid for earlier comes before what is waiting.
            self.adopted = (batch.len() < most).then(Instant::now);
            // Nothing was learnt of them while one was worked on.
            self.suspects =
                batch.iter().any(Reservation::is_suspect) || (self.suspects && suspects == 0);
            // Known from here on, whatever becomes of the claim.
            shift.in_hand().extend(batch.iter().map(Reservation::fence));
        }
        if batch.len() < most {
            let claimed = match claim::claim(
                &mut db,
                shift.worker,
                most - batch.len(),
                self.cursor,
                shift.async_commit,
            )
            .await
            {
                Ok(claimed) => claimed,
                // What was adopted is in hand: work on it, and ask again later.
                Err(error) if !batch.is_empty() => {
                    tracing::warn!(%error, "claiming will be tried again");
                    self.doubt();
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            shift.in_hand().extend(claimed.iter().map(Reservation::fence));
            self.cursor =
                claimed.iter().map(Reservation::organisation).max().unwrap_or(OrganisationId(0));
            batch.extend(claimed);
        }
        if !batch.is_empty() {
            Ok(Taken::Photos(batch))
        } else if claim::is_claimable(&mut db).await? {
            Ok(Taken::AllLocked)
        } else {
            Ok(Taken::Nothing)
        }
    }

    /// Hands back what the books say is ours and nobody here knows of.
    async fn settle_doubts(&mut self, db: &mut PgConnection, shift: &Shift) -> sqlx::Result<()> {
        let known: Vec<_> = shift.in_hand().iter().map(|(job, _)| *job).collect();
        let photos = claim::hand_back_unknown(db, shift.worker, &known).await?;
        if photos > 0 {
            tracing::warn!(photos, "an answer of the gate was lost; what it held was handed back");
        }
        self.unsure_until = self.unsure_until.filter(|until| Instant::now() < *until);
        Ok(())
    }
}

/// One photo: worked on, settled, forgotten.
async fn handle(shift: Arc<Shift>, work: Arc<Work>, settler: Settler, claimed: Claimed) {
    let Claimed { reservation, trace, .. } = &claimed;
    let fence = reservation.fence();
    let began = Instant::now();
    let span = traces::work(reservation, trace.as_deref());
    let working = work.on(reservation, &shift.stop.drain).instrument(span.clone());
    let verdict = tokio::select! {
        biased;
        () = shift.stop.now.cancelled() => Verdict::HandedBack,
        done = AssertUnwindSafe(working).catch_unwind() => {
            done.unwrap_or_else(|panic| Verdict::Crashed { detail: processor::words(&*panic).to_owned() })
        }
    };
    span.record("photogate.verdict", verdict.name());
    drop(span);
    let Claimed { reservation, room: _room, alone, .. } = claimed;
    metrics::histogram!("photogate_work_duration_seconds").record(began.elapsed());
    let something_is_down = match &verdict {
        Verdict::Retry {
            reason: processor::STORE_UNAVAILABLE | processor::POOL_UNAVAILABLE,
            after,
            ..
        } => Some(*after),
        Verdict::Processed(_)
        | Verdict::Failed { .. }
        | Verdict::Retry { .. }
        | Verdict::Crashed { .. }
        | Verdict::HandedBack => None,
    };
    settler.settle(reservation, verdict).await;
    shift.in_hand().remove(&fence);
    if let Some(after) = something_is_down {
        // No photo can be fetched, or looked at: do not claim, and so reserve, the whole backlog meanwhile.
        shift.stop.drain.run_until_cancelled(tokio::time::sleep(after)).await;
    }
    if alone.is_some() {
        // The next suspect need not wait for the next look around.
        drop(alone);
        shift.ear.nudge();
    }
}

/// Registers as often as it takes; `None` when the worker was stopped meanwhile.
async fn register(pool: &PgPool, name: &str, config: &Config, stop: &Stop) -> Option<WorkerId> {
    loop {
        let registered = async {
            claim::register(&mut *pool.acquire().await?, name, config.slots(), config.lease()).await
        };
        match stop.drain.run_until_cancelled(registered).await? {
            Ok(worker) => return Some(worker),
            Err(error) => tracing::warn!(%error, "the worker could not register yet"),
        }
        stop.drain.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
    }
}

/// Host, process, and something never used before.
fn incarnation_name() -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|host| host.into_string().ok())
        .unwrap_or_else(|| "worker".into());
    format!(
        "{}-{}-{:08x}",
        host.chars().take(150).collect::<String>(),
        std::process::id(),
        rand::random::<u32>()
    )
}
