//! The worker process. It claims photos a little ahead of its slots, has them processed, settles
//! them, and adopts photos that other workers left.

mod ahead;
mod auto_top_ups;
mod claimer;
#[cfg(feature = "serve")]
mod deliver;
mod dispatch;
mod follow;
pub mod forget;
mod handler;
pub mod heartbeat;
pub mod in_hand;
#[cfg(feature = "vision")]
pub mod looker;
#[cfg(feature = "serve")]
mod mails;
mod outage;
mod pulse;
pub mod reconciler;
pub mod rehearsal;
pub mod roster;
mod schedules;
pub mod settle;
#[cfg(feature = "vision")]
mod start_lists;
pub mod verdict;
pub mod work;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "serve")]
use crate::changes::post::{Post, PostError};
use crate::{
    config::Config,
    database,
    notify::{
        progress::Progress,
        wake::{Listener, Wake},
    },
    queue::claim::{self, GateError, Incarnation},
};
use claimer::Claimer;
use in_hand::InHand;
use outage::Outage;
use settle::{Settler, Settling};
use work::{Observer, Observers, Work};

/// After this number of crashes, a photo is quarantined and refunded.
pub const CRASHES_MAX: i16 = 3;
/// After this number of automatic retries, a photo is failed and refunded, whatever its work says.
/// So no credit stays reserved for ever. It is above what the settings allow for photos.
pub const RETRIES_MAX: u32 = 1000;

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

    /// True if either signal was given.
    fn is_asked(&self) -> bool {
        self.drain.is_cancelled() || self.now.is_cancelled()
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
    /// TLS cannot be set up, so no webhook could be called.
    #[cfg(feature = "serve")]
    #[error("webhooks cannot be called ({0}): are root certificates installed?")]
    Tls(#[from] reqwest::Error),
    /// A setting of e-mail is wrong.
    #[cfg(feature = "serve")]
    #[error("a setting is wrong: {0}")]
    Mail(#[from] crate::config::MailError),
    /// E-mail cannot be sent.
    #[cfg(feature = "serve")]
    #[error(transparent)]
    Post(#[from] PostError),
}

/// A worker: it claims photos, has the work done, and settles them.
#[derive(Debug)]
pub struct Worker<W> {
    config: Config,
    pool: PgPool,
    work: Arc<W>,
    wake: Wake,
    ear: Arc<Listener>,
    observers: Observers,
    #[cfg(feature = "serve")]
    deliveries: deliver::Means,
    /// `None`: e-mail is not set up.
    #[cfg(feature = "serve")]
    post: Option<Post>,
}

impl<W: Work> Worker<W> {
    /// Creates a worker that does `work` with every photo that it claims.
    ///
    /// # Errors
    /// See [`WorkerTrouble`].
    pub fn new(config: &Config, pool: PgPool, work: W) -> Result<Self, WorkerTrouble> {
        let redis = config.redis_url.as_deref();
        let worker = Self {
            config: config.clone(),
            pool,
            work: Arc::new(work),
            wake: Wake::open(redis)?,
            ear: Arc::new(Listener::open(redis)?),
            observers: Observers::default(),
            #[cfg(feature = "serve")]
            deliveries: deliver::Means::new(config)?,
            #[cfg(feature = "serve")]
            post: config.mail()?.map(Post::new).transpose()?,
        };
        Ok(worker.observe(Progress::open(redis)?))
    }

    /// Adds an observer, who is told of every photo that this worker has settled.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers.add(observer);
        self
    }

    /// Runs until it is told to stop.
    ///
    /// A worker can lose its lease: the database may be away for longer than the lease, or the
    /// machine may sleep. Then it registers again, as a new incarnation. Other workers may have
    /// adopted its photos by then.
    ///
    /// # Errors
    /// See [`WorkerTrouble`]. Trouble with the database or Redis is not an error: the worker waits
    /// until it is over.
    pub async fn run(self, stop: Stop) -> Result<(), WorkerTrouble> {
        let observers = Arc::new(self.observers);
        while !stop.drain.is_cancelled() {
            let name = incarnation_name();
            let Some(me) = register(&self.pool, &name, &self.config, &stop).await else {
                break;
            };
            let slots = self.config.slots();
            tracing::info!(worker = %me.worker, name, slots, "the worker is ready");
            let shift = Arc::new(Shift {
                pool: self.pool.clone(),
                me,
                stop: stop.child(),
                ear: self.ear.clone(),
                room: Arc::new(Semaphore::new(slots + self.config.ahead())),
                further_ahead: self.config.further_ahead(),
                slots: Semaphore::new(slots),
                alone: Arc::new(Semaphore::new(1)),
                in_hand: InHand::default(),
                settle_trouble: Arc::default(),
                outage: Arc::default(),
                lease: self.config.lease(),
                poll: Duration::from_millis(self.config.poll_milliseconds),
                async_commit: self.config.claim_async_commit,
                unpaid_photos_max: i64::try_from(self.config.unpaid_photos_max).unwrap_or(i64::MAX),
                #[cfg(feature = "serve")]
                deliveries: self.deliveries.clone(),
                #[cfg(feature = "serve")]
                post: self.post.clone(),
            });
            let books = Settling {
                pool: self.pool.clone(),
                me,
                lease: self.config.lease(),
                now: shift.stop.now.clone(),
                trouble: shift.settle_trouble.clone(),
                in_hand: shift.in_hand.clone(),
            };
            let (settler, settling) = Settler::start(books, self.wake.clone(), observers.clone());
            let reconciling = reconciler::Every::from(&self.config);
            let wake = self.wake.clone();
            shift.work(&name, self.work.clone(), (settler, settling), reconciling, wake).await?;
            tracing::info!(worker = %me.worker, "the worker has left");
        }
        Ok(())
    }
}

/// The state that the tasks of one worker incarnation share.
#[derive(Debug)]
struct Shift {
    pool: PgPool,
    me: Incarnation,
    stop: Stop,
    ear: Arc<Listener>,
    /// One permit for each photo that may be claimed and not settled: slots plus `ahead` at first.
    room: Arc<Semaphore>,
    /// So many permits more there may be while slots are idle.
    further_ahead: usize,
    /// One permit for each photo that may be worked on at the same time.
    slots: Semaphore,
    /// One permit, for suspects. They are worked on one at a time, so that a suspect that crashes
    /// the worker does not take another one along.
    alone: Arc<Semaphore>,
    in_hand: InHand,
    settle_trouble: Arc<AtomicBool>,
    outage: Arc<Outage>,
    lease: Duration,
    poll: Duration,
    async_commit: bool,
    unpaid_photos_max: i64,
    #[cfg(feature = "serve")]
    deliveries: deliver::Means,
    #[cfg(feature = "serve")]
    post: Option<Post>,
}

impl Shift {
    /// Runs all tasks of this incarnation: it claims, works and settles until it is told to stop.
    async fn work<W: Work>(
        self: Arc<Self>,
        name: &str,
        work: Arc<W>,
        (settler, settling): (Settler, JoinHandle<Result<(), GateError>>),
        reconciling: reconciler::Every,
        wake: Wake,
    ) -> Result<(), WorkerTrouble> {
        // If this future is dropped, the tasks must not go on without anybody who handles photos.
        let pulse_stop = CancellationToken::new();
        let _stop =
            [&self.stop.drain, &self.stop.now, &pulse_stop].map(|token| token.clone().drop_guard());
        let tasks = TaskTracker::new();
        let (pool, me, drain) = (&self.pool, self.me, &self.stop.drain);
        tasks.spawn(reconciler::watch(pool.clone(), me, reconciling, drain.clone()));
        tasks.spawn(forget::forget(pool.clone(), drain.clone()));
        tasks.spawn(auto_top_ups::watch(pool.clone(), wake.clone(), drain.clone()));
        tasks.spawn(follow::follow(pool.clone(), wake, drain.clone()));
        #[cfg(feature = "serve")]
        tasks.spawn(deliver::watch(pool.clone(), me, self.deliveries.clone(), drain.clone()));
        #[cfg(feature = "serve")]
        if let Some(post) = self.post.clone() {
            tasks.spawn(mails::watch(pool.clone(), me, post, self.stop.clone()));
        }
        tasks.spawn(schedules::watch(pool.clone(), self.unpaid_photos_max, drain.clone()));
        tasks.spawn(pulse::take(pool.clone(), drain.clone()));
        tasks.spawn(outage::watch(self.outage.clone(), work.clone(), drain.clone()));
        let settling = async { settling.await.unwrap_or(Err(GateError::LeaseLost)) };
        tasks.spawn(self.clone().end_with(settling));
        let (claimed, stream) = mpsc::channel(self.room.available_permits() + self.further_ahead);
        let claiming = {
            let (shift, work) = (self.clone(), work.clone());
            async move {
                outage::ask_first(&shift.outage, &*work, &shift.stop.drain).await;
                Claimer::new(shift, work, claimed).run().await
            }
        };
        tasks.spawn(self.clone().end_with(claiming));
        tasks.close();
        // The lease must last until everything is settled, so the heartbeat ends after the tasks.
        let pulse = heartbeat::keep_alive(self.clone(), pulse_stop.clone());
        let pulse = tokio::spawn(self.clone().end_with(pulse));

        let hand = {
            let shift = self.clone();
            move |claimed| handler::handle(shift.clone(), work.clone(), settler.clone(), claimed)
        };
        // The handler owns the settler. When the stream has ended and all photos are handled, the
        // settler is dropped, and so the settling task ends too.
        let driven = dispatch::drive(name, stream, hand).await;
        if driven.is_err() {
            // Nobody works on what is claimed any more.
            self.stop.at_once();
        }
        tasks.wait().await;
        pulse_stop.cancel();
        let _ = pulse.await;
        self.retire().await;
        driven.map_err(|error| WorkerTrouble::Queue(error.to_string()))
    }

    /// Runs a task. If it ends with an error, because the lease is lost, or panics, the whole
    /// incarnation stops.
    async fn end_with(self: Arc<Self>, task: impl Future<Output = Result<(), GateError>>) {
        let stop = [&self.stop.drain, &self.stop.now].map(|token| token.clone().drop_guard());
        match task.await {
            Ok(()) => stop.into_iter().for_each(|guard| drop(guard.disarm())),
            Err(error) => {
                tracing::error!(worker = %self.me.worker, %error, "this worker incarnation has ended");
            }
        }
    }

    /// Ends the lease, and hands back what is left.
    async fn retire(&self) {
        let retired = async { claim::retire(&mut *self.pool.acquire().await?, self.me).await };
        if let Err(error) = database::in_time(database::PATIENCE, retired).await {
            tracing::warn!(
                worker = %self.me.worker,
                %error,
                "the worker could not record that it left: its lease will run out"
            );
        }
    }
}

/// Registers a new incarnation, and tries until it succeeds. `None` if the worker is stopped first.
async fn register(pool: &PgPool, name: &str, config: &Config, stop: &Stop) -> Option<Incarnation> {
    loop {
        let registered = async {
            claim::register(&mut *pool.acquire().await?, name, config.slots(), config.lease()).await
        };
        let registered = Box::pin(database::in_time(database::PATIENCE, registered));
        match stop.drain.run_until_cancelled(registered).await? {
            Ok(me) => return Some(me),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn a_shift() -> Arc<Shift> {
        // It never connects.
        let pool = PgPool::connect_lazy("postgres:///nowhere").expect("an address");
        Arc::new(Shift {
            pool,
            me: Incarnation::nobody(),
            stop: Stop::default(),
            ear: Arc::new(Listener::open(None).expect("without an address")),
            room: Arc::new(Semaphore::new(1)),
            further_ahead: 0,
            slots: Semaphore::new(1),
            alone: Arc::new(Semaphore::new(1)),
            in_hand: InHand::default(),
            settle_trouble: Arc::default(),
            outage: Arc::default(),
            lease: Duration::from_secs(1),
            poll: Duration::from_secs(1),
            async_commit: false,
            unpaid_photos_max: 1,
            #[cfg(feature = "serve")]
            deliveries: deliver::Means::new(&Config::default()).expect("there is TLS"),
            #[cfg(feature = "serve")]
            post: None,
        })
    }

    #[tokio::test]
    async fn a_task_that_panics_or_fails_stops_its_incarnation_and_one_that_ends_does_not() {
        let ended = a_shift();
        ended.clone().end_with(async { Ok(()) }).await;
        assert!(!ended.stop.is_asked());

        let failed = a_shift();
        failed.clone().end_with(async { Err(GateError::LeaseLost) }).await;
        assert!(failed.stop.drain.is_cancelled() && failed.stop.now.is_cancelled());

        let broken = a_shift();
        let task = broken.clone().end_with(async { panic!("a bug in a task") });
        assert!(tokio::spawn(task).await.is_err());
        assert!(broken.stop.drain.is_cancelled() && broken.stop.now.is_cancelled());
    }
}
