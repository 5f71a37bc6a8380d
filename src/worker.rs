//! The worker process. It claims photos a little ahead of its slots, has them processed, settles
//! them, and adopts photos that other workers left.

mod dispatch;
pub mod forget;
pub mod heartbeat;
pub mod processor;
pub mod reconciler;
pub mod rehearsal;
pub mod roster;
pub mod settle;
pub mod verdict;

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
use settle::{Settler, Settling};
use verdict::Verdict;

/// Largest number of photos in one claim. A larger batch needs fewer commits, but holds the
/// account's lock for longer: about 20 ms for this number.
const BATCH_MAX: usize = 1024;
/// How often a worker looks for photos to adopt.
const ADOPT_EVERY: Duration = Duration::from_secs(1);
/// The pause between two claims while other transactions hold all the locks. It is longer than a
/// claim takes, and shorter than most enqueues.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);
/// The pause doubles up to this while a lock stays held. It is far below a poll, because photos
/// wait that could be claimed.
const LOCKED_PAUSE_MAX: Duration = Duration::from_millis(50);
/// After this number of crashes, a photo is quarantined and refunded.
pub const CRASHES_MAX: i16 = 3;

/// The two signals that tell a worker to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Drain: claim no more photos, finish those in work, hand back the rest.
    pub drain: CancellationToken,
    /// Stop now: hand back all photos at once.
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

/// Why a worker did not start, or ended although nobody stopped it.
#[derive(Debug, thiserror::Error)]
pub enum WorkerTrouble {
    /// apalis, the library that runs the jobs, gave up.
    #[error("the job runner (apalis) failed: {0}")]
    Queue(String),
    /// The setting `redis_url` is not valid.
    #[error("redis_url is not valid: {0}")]
    Redis(#[from] redis::RedisError),
}

/// A claimed photo that this process has in hand, with the permits that it takes.
#[derive(Debug)]
pub(crate) struct Claimed {
    reservation: Reservation,
    room: Option<OwnedSemaphorePermit>,
    alone: Option<OwnedSemaphorePermit>,
    trace: Option<String>,
}

/// Runs a worker until it is told to stop.
///
/// A worker can lose its lease: the database may be away for longer than the lease, or the machine
/// may sleep. Then it registers again, as a new incarnation. Other workers may have adopted its
/// photos by then.
///
/// # Errors
/// See [`WorkerTrouble`]. Trouble with the database or Redis is not an error: the worker waits
/// until it is over.
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
            heartbeat::keep_alive(pool.clone(), worker, config.lease(), pulse_stop.clone()),
            shift.clone(),
        ));
        let audit = tokio::spawn(reconciler::watch(
            pool.clone(),
            worker,
            reconciler::Every::from(config),
            shift.stop.drain.clone(),
        ));
        let forgetting = tokio::spawn(forget::forget(pool.clone(), shift.stop.drain.clone()));
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
        // The handler owns the settler. When the stream has ended and all photos are handled, the
        // settler is dropped, and so the settling task ends too.
        dispatch::drive(&name, stream, hand)
            .await
            .map_err(|error| WorkerTrouble::Queue(error.to_string()))?;
        let _ = tokio::join!(feeding, settling, audit, forgetting);
        pulse_stop.cancel();
        let _ = pulse.await;
        if let Ok(mut db) = pool.acquire().await
            && let Err(error) = claim::retire(&mut db, worker).await
        {
            tracing::warn!(
                %worker,
                %error,
                "the worker could not record that it left: its lease will run out"
            );
        }
        tracing::info!(%worker, "the worker has left");
    }
    Ok(())
}

/// The state that the tasks of one worker incarnation share.
#[derive(Debug)]
struct Shift {
    pool: PgPool,
    worker: WorkerId,
    stop: Stop,
    ear: Arc<Listener>,
    /// One permit for each photo that may be claimed and not settled: slots plus `ahead`.
    room: Arc<Semaphore>,
    /// One permit, for suspects. They are worked on one at a time, so that a suspect that crashes
    /// the worker does not take another one along.
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

/// Runs a task. If it ends with an error, because the lease is lost, the whole incarnation stops.
async fn watch(task: impl Future<Output = Result<(), GateError>>, shift: Arc<Shift>) {
    if let Err(error) = task.await {
        tracing::error!(worker = %shift.worker, %error, "this worker incarnation has ended");
        shift.stop.at_once();
    }
}

/// The only task that claims. It ends when the worker drains, and this ends the stream of photos.
async fn feed(shift: Arc<Shift>, claimed: mpsc::Sender<Claimed>) -> Result<(), GateError> {
    let mut turn =
        Turn { cursor: OrganisationId(0), adopted: None, suspects: false, unsure_until: None };
    let mut locked_pause = LOCKED_PAUSE;
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
        match database::in_time(database::PATIENCE, taken).await {
            Ok(Taken::Nothing) => {
                drop(room);
                locked_pause = LOCKED_PAUSE;
                shift.ear.wait(shift.poll, &shift.stop.drain).await;
            }
            Ok(Taken::AllLocked) => {
                drop(room);
                metrics::counter!("photogate_claims_locked_out_total").increment(1);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(locked_pause)).await;
                // A lock that is held for long must not cost a claim every few milliseconds.
                locked_pause = (locked_pause * 2).min(LOCKED_PAUSE_MAX);
            }
            Ok(Taken::Photos(batch)) => {
                locked_pause = LOCKED_PAUSE;
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
                // The lease ran out while heartbeats failed. A heartbeat can still extend it,
                // unless another worker has declared this one dead.
                if let Ok(false) =
                    heartbeat::heartbeat(&shift.pool, shift.worker, shift.lease).await
                {
                    metrics::counter!("photogate_leases_lost_total").increment(1);
                    return Err(GateError::LeaseLost);
                }
                drop(room);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(shift.lease / 10)).await;
            }
            Err(GateError::Database(error)) => {
                tracing::warn!(%error, "a claim failed and will be tried again");
                turn.doubt();
                drop(room);
                shift.stop.drain.run_until_cancelled(tokio::time::sleep(shift.poll)).await;
            }
        }
    }
    // This is only for the list of workers that people see. Draining does not depend on it.
    let told = async { claim::drain(&mut *shift.pool.acquire().await?, shift.worker).await };
    if let Err(error) = database::in_time(shift.lease, told).await {
        tracing::warn!(%error, "the database could not record that this worker drains");
    }
    Ok(())
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
    adopted: Option<Instant>,
    /// The last adoption returned a suspect, so there may be more.
    suspects: bool,
    /// Set when the answer to a claim was lost. Until this time, the worker may own photos that it
    /// does not know of. A claim whose connection was cut may still wait for a lock, and commit
    /// when it gets the lock.
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
            // While there is more to adopt, adopt again at once: photos that already have a
            // reservation come before waiting photos.
            self.adopted = (batch.len() < most).then(Instant::now);
            // While a suspect was in work, no suspects were asked for, so nothing new is known.
            self.suspects =
                batch.iter().any(Reservation::is_suspect) || (self.suspects && suspects == 0);
            // Record them before the claim: they are in hand even if the claim fails.
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
                // The adopted photos are in hand. Work on them, and claim again later.
                Err(error) if !batch.is_empty() => {
                    tracing::warn!(%error, "a claim failed and will be tried again");
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

    /// Hands back photos that this worker has in the database but does not know of.
    async fn settle_doubts(&mut self, db: &mut PgConnection, shift: &Shift) -> sqlx::Result<()> {
        let known: Vec<_> = shift.in_hand().iter().map(|(job, _)| *job).collect();
        let photos = claim::hand_back_unknown(db, shift.worker, &known).await?;
        if photos > 0 {
            tracing::warn!(photos, "the answer to a claim was lost; its photos were handed back");
        }
        self.unsure_until = self.unsure_until.filter(|until| Instant::now() < *until);
        Ok(())
    }
}

/// Works on one photo and settles it.
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
            done.unwrap_or_else(|panic| {
                Verdict::Crashed { detail: processor::words(&*panic).to_owned() }
            })
        }
    };
    span.record("photogate.verdict", verdict.name());
    drop(span);
    let Claimed { reservation, room: _room, alone, .. } = claimed;
    metrics::histogram!("photogate_work_duration_seconds").record(began.elapsed());
    let something_is_down = match &verdict {
        Verdict::Retry {
            reason: processor::STORE_UNAVAILABLE | processor::SANDBOX_UNAVAILABLE,
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
        // No photo can be fetched or looked at now. Keep the permits for a while, so that the
        // worker does not claim the whole backlog and reserve credits for it.
        shift.stop.drain.run_until_cancelled(tokio::time::sleep(after)).await;
    }
    if alone.is_some() {
        // Wake the claiming task, so that the next suspect is adopted at once.
        drop(alone);
        shift.ear.nudge();
    }
}

/// Registers a new incarnation, and tries until it succeeds. `None` if the worker is stopped first.
async fn register(pool: &PgPool, name: &str, config: &Config, stop: &Stop) -> Option<WorkerId> {
    loop {
        let registered = async {
            claim::register(&mut *pool.acquire().await?, name, config.slots(), config.lease()).await
        };
        match stop.drain.run_until_cancelled(registered).await? {
            Ok(worker) => return Some(worker),
            Err(error) => tracing::warn!(%error, "the worker could not register, and tries again"),
        }
        stop.drain.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
    }
}

/// Builds a name that was never used before: host, process ID and a random number.
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
