//! A task of the worker. It numbers new changes, and delivers them to webhooks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    changes::{
        alerts,
        courier::{self, Courier},
        deliveries::{self, Answer, Call, Patience},
        feed,
    },
    config::Config,
    ids::OrganisationId,
    queue::claim::Incarnation,
};

/// How often a worker looks for new changes. Photos that are settled within this time are one.
const NUMBER_EVERY: Duration = Duration::from_secs(1);
/// How often a worker looks for calls that are due, if none ends meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often alerts are judged that no movement of credits judges.
const JUDGE_EVERY: Duration = Duration::from_secs(10);
/// How often old changes are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Calls at the same time: to webhooks that answer, and to those whose last call has failed.
const CALLS: [(bool, usize); 2] = [(false, 24), (true, 8)];
/// A call is this worker's for so long. It ends earlier, and what came of it is written.
const LEASE: Duration = Duration::from_secs(20);
/// Connections for what came of calls.
const WRITE_AT_ONCE: usize = 2;
/// How long what came of a call is tried to be written.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// After this time without success, a webhook is disabled.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);

/// What a worker delivers with.
#[derive(Debug, Clone)]
pub(super) struct Means {
    courier: Courier,
    pause: Duration,
    keep_days: u32,
}

impl Means {
    pub(super) fn new(config: &Config) -> reqwest::Result<Self> {
        Ok(Self {
            courier: Courier::new(config.webhooks_to_private_addresses)?,
            pause: Duration::from_millis(config.webhook_pause_milliseconds),
            keep_days: config.changes_days,
        })
    }
}

/// Numbers and delivers until stopped; then the calls that run end, and what came of them is written.
pub(super) async fn watch(pool: PgPool, me: Incarnation, means: Means, stop: CancellationToken) {
    let writing = Semaphore::new(WRITE_AT_ONCE);
    let deliverer = Arc::new(Deliverer { pool, me, means, writing });
    let calls = TaskTracker::new();
    let ended = Arc::new(Notify::new());
    let room = CALLS.map(|(failing, most)| (failing, Arc::new(Semaphore::new(most))));
    let mut last = OrganisationId(0);
    let (mut number_at, mut judge_at, mut forget_at) =
        (Instant::now(), Instant::now(), Instant::now());
    loop {
        if number_at <= Instant::now() {
            number_at = Instant::now() + NUMBER_EVERY;
            if let Err(error) = deliverer.number(&mut last).await {
                tracing::warn!(%error, "new changes could not be numbered yet");
            }
        }
        if judge_at <= Instant::now() {
            judge_at = Instant::now() + JUDGE_EVERY;
            if let Err(error) = deliverer.judge().await {
                tracing::warn!(%error, "alerts could not be judged yet");
            }
        }
        if forget_at <= Instant::now() {
            forget_at = Instant::now() + FORGET_EVERY;
            if let Err(error) = deliverer.forget().await {
                tracing::warn!(%error, "old changes could not be deleted yet");
            }
        }
        for (failing, room) in &room {
            if let Err(error) = deliverer.clone().start(*failing, room, &calls, &ended).await {
                tracing::warn!(%error, "changes to deliver could not be looked for");
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = ended.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    calls.close();
    calls.wait().await;
}

#[derive(Debug)]
struct Deliverer {
    pool: PgPool,
    me: Incarnation,
    means: Means,
    /// For what came of calls. Claims and heartbeats must not wait for a connection.
    writing: Semaphore,
}

impl Deliverer {
    async fn number(&self, last: &mut OrganisationId) -> sqlx::Result<()> {
        let mut db = self.pool.acquire().await?;
        let organisations = feed::to_number(&mut db, *last).await?;
        for organisation in &organisations {
            feed::number(&mut db, *organisation).await?;
        }
        // A hundred at once: then it goes on behind them, and else from the start.
        *last = organisations.get(99).copied().unwrap_or(OrganisationId(0));
        Ok(())
    }

    async fn judge(&self) -> sqlx::Result<()> {
        alerts::judge(&mut *self.pool.acquire().await?, JUDGE_EVERY).await?;
        Ok(())
    }

    async fn forget(&self) -> sqlx::Result<()> {
        let mut db = self.pool.acquire().await?;
        let days = i32::try_from(self.means.keep_days).unwrap_or(i32::MAX);
        while feed::forget(&mut db, days).await? > 0 {}
        Ok(())
    }

    /// Starts calls that are due, as many as there is room for.
    async fn start(
        self: Arc<Self>,
        failing: bool,
        room: &Arc<Semaphore>,
        calls: &TaskTracker,
        ended: &Arc<Notify>,
    ) -> sqlx::Result<()> {
        let free = room.available_permits();
        if free == 0 {
            return Ok(());
        }
        let mut db = self.pool.acquire().await?;
        for call in deliveries::take(&mut db, self.me, failing, free, LEASE).await? {
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (this, ended) = (self.clone(), ended.clone());
            calls.spawn(async move {
                this.deliver(call).await;
                drop(permit);
                ended.notify_one();
            });
        }
        Ok(())
    }

    async fn deliver(&self, call: Call) {
        let answer = self.means.courier.call(&call).await;
        let written = tokio::time::timeout(WRITE_MAX, self.write(&call, &answer)).await;
        let (webhook, change) = (call.webhook, call.position);
        match written {
            Ok(Ok(true)) => tracing::warn!(%webhook, change, ?answer, "a webhook is disabled"),
            Ok(Ok(false)) => tracing::debug!(%webhook, change, ?answer, "a webhook was called"),
            // The lease runs out, and the change is delivered again.
            Ok(Err(error)) => {
                tracing::warn!(%webhook, change, %error, "the answer of a webhook is lost");
            }
            Err(_) => tracing::warn!(%webhook, change, "the answer of a webhook is lost"),
        }
    }

    async fn write(&self, call: &Call, answer: &Answer) -> sqlx::Result<bool> {
        let _one_of_few = self.writing.acquire().await;
        let mut db = self.pool.acquire().await?;
        let patience = Patience { pause: self.means.pause, give_up_after: GIVE_UP_AFTER };
        deliveries::end(&mut db, call, answer, patience).await
    }
}

const _: () = assert!(courier::CALL_MAX.as_secs() + WRITE_MAX.as_secs() < LEASE.as_secs());
