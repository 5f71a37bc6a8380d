//! Offers photos of one event at a fixed rate, whatever the workers do (an open loop), with two
//! workers. Measures how long a photo takes, and whether the workers keep up.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use apalis::prelude::{BackendExt, TaskSink, WorkerBuilder, WorkerError};
use apalis_postgres::PostgresStorage;
use awa::{
    Client, InsertOpts, InsertParams, JobContext, JobError, JobResult, QueueConfig, QueueStorage,
    QueueStorageConfig,
};
use photogate::{
    catalog::findings::Findings,
    config::Config,
    database,
    ids::{EventId, Operation},
    notify::wake::Wake,
    queue::{claim::Reservation, enqueue},
    telemetry::metrics,
    worker::{Stop, Worker, verdict::Verdict, work::Work},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Figures,
    ground::{Ground, club},
    round,
};

/// For how long photos are offered.
const TIME: Duration = Duration::from_secs(15);
/// How much longer the workers may take to finish them.
const REST: Duration = Duration::from_secs(30);
/// Photos per second.
const RATES: [usize; 2] = [1_000, 10_000];
/// A call enqueues 1 to this number of photos.
const CALL_MAX: usize = 100;

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!(
        "\n# One event gets photos for {TIME:?}, in calls of 1 to {CALL_MAX}, whatever the two \
         workers do. From the call to the handler\n"
    );
    println!("| | offered/s | done/s | p50 ms | p99 ms | p99.9 ms | not done after {REST:?} |");
    println!("|---|---|---|---|---|---|---|");
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    metrics::answer_prometheus(address)?;
    for rate in RATES {
        let before = counters(address);
        tell(figures, "photogate", rate, &photogate(ground, rate).await?);
        for ((name, before), after) in COUNTERS.iter().zip(before).zip(counters(address)) {
            println!("| photogate, {name} | {rate} | {} | | | | |", after - before);
            figures.insert(format!("stream_{rate}_{name}"), after - before);
        }
        tell(figures, "awa", rate, &awa(ground, rate).await?);
        tell(figures, "apalis-postgres", rate, &apalis_postgres(ground, rate).await?);
    }
    Ok(())
}

/// Claims of photogate that found photos late, because no wake-up ended the pause before; claims
/// that were repeated, because others held all locks; and all that found photos.
const COUNTERS: [&str; 3] = [
    "photogate_claims_late_total",
    "photogate_claims_locked_out_total",
    "photogate_claim_duration_seconds_count",
];

/// The counters of the workers in this process.
fn counters(address: SocketAddr) -> [f64; 3] {
    let mut page = String::new();
    let read = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut page)
    });
    read.unwrap_or_default();
    COUNTERS.map(|name| {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    })
}

/// When each photo was sent and when its handler ran.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<Mutex<Vec<f64>>>);

impl Clock {
    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    /// Notes that a handler ran for a photo that was sent then.
    fn note(&self, sent: u64) {
        let milliseconds = Self::now().saturating_sub(sent) as f64 / 1e3;
        if let Ok(mut waits) = self.0.lock() {
            waits.push(milliseconds);
        }
    }

    fn count(&self) -> usize {
        self.0.lock().map(|waits| waits.len()).unwrap_or_default()
    }
}

/// What came of an offer.
struct Flow {
    offered: usize,
    took: Duration,
    waits: Vec<f64>,
}

fn tell(figures: &mut Figures, name: &str, rate: usize, flow: &Flow) {
    let mut waits = flow.waits.clone();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = waits.len().saturating_sub(1);
        waits.get((waits.len() as f64 * share) as usize).or(waits.get(last)).copied().unwrap_or(0.0)
    };
    let done = waits.len() as f64 / flow.took.as_secs_f64();
    let [p50, p99, p999] = [at(0.5), at(0.99), at(0.999)];
    let late = flow.offered - waits.len();
    println!("| {name} | {rate} | {done:.0} | {p50:.1} | {p99:.1} | {p999:.1} | {late} |");
    let name = name.replace('-', "_");
    figures.insert(format!("stream_{rate}_{name}_per_s"), round(done));
    figures.insert(format!("stream_{rate}_{name}_p50_ms"), round(p50));
    figures.insert(format!("stream_{rate}_{name}_p99_ms"), round(p99));
    figures.insert(format!("stream_{rate}_{name}_p999_ms"), round(p999));
    figures.insert(format!("stream_{rate}_{name}_not_done"), late as f64);
}

/// Where photos are sent to.
#[derive(Clone)]
enum Target {
    Photogate { pool: PgPool, event: EventId, wake: Wake },
    Awa { store: Arc<QueueStorage>, pool: sqlx08::PgPool },
    Apalis(PostgresStorage<Sent>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sent {
    at: u64,
}

impl Target {
    /// Sends one call with this number of photos.
    async fn send(self, photos: usize) -> anyhow::Result<()> {
        let sent = Sent { at: Clock::now() };
        match self {
            Self::Photogate { pool, event, wake } => {
                let call = uuid::Uuid::new_v4();
                let keys: Vec<_> = (0..photos).map(|n| format!("{call}/{n}")).collect();
                let mut jobs = enqueue::jobs(&keys)?;
                let payload = serde_json::to_value(&sent)?;
                for job in &mut jobs {
                    job.payload = Some(payload.clone());
                }
                let mut db = pool.acquire().await?;
                let operation = Operation::PhotoProcessing;
                let run = enqueue::enqueue(&mut db, event, operation, &jobs, "bench").await?;
                if run.woke {
                    wake.send().await;
                }
            }
            Self::Awa { store, pool } => {
                let job = InsertParams {
                    kind: "noop".into(),
                    args: serde_json::to_value(&sent)?,
                    opts: InsertOpts { queue: "noop".into(), ..InsertOpts::default() },
                };
                store.enqueue_params_copy(&pool, &vec![job; photos]).await?;
            }
            Self::Apalis(mut storage) => {
                storage.push_bulk(vec![sent; photos]).await.ok().context("not accepted")?;
            }
        }
        Ok(())
    }

    /// Offers photos at this rate, and waits until all are handled or the time is over. Calls do
    /// not wait for each other.
    async fn offer(self, rate: usize, clock: &Clock) -> anyhow::Result<Flow> {
        let (began, mut offered) = (Instant::now(), 0);
        let mut calls = JoinSet::new();
        while began.elapsed() < TIME {
            let photos = rand::random_range(1..=CALL_MAX);
            calls.spawn(self.clone().send(photos));
            offered += photos;
            while let Some(done) = calls.try_join_next() {
                done??;
            }
            let next = began + Duration::from_secs_f64(offered as f64 / rate as f64);
            tokio::time::sleep_until(next.into()).await;
        }
        while let Some(done) = calls.join_next().await {
            done??;
        }
        while clock.count() < offered && began.elapsed() < TIME + REST {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waits = clock.0.lock().map(|waits| waits.clone()).unwrap_or_default();
        Ok(Flow { offered, took: began.elapsed(), waits })
    }
}

/// The work of photogate's workers: it notes how long the photo took.
struct Noting(Clock);

impl Work for Noting {
    async fn perform(&self, photo: &Reservation, _: &CancellationToken) -> Verdict {
        if let Ok(sent) = photo.payload::<Sent>() {
            self.0.note(sent.at);
        }
        Verdict::Processed(Findings::Nothing)
    }
}

async fn photogate(ground: &mut Ground, rate: usize) -> anyhow::Result<Flow> {
    let (url, pool) = ground.database(8).await?;
    let (_, event) = club(&pool, 10_000_000).await?;
    ground.settle_down().await?;
    let clock = Clock::default();
    // The settings are the default ones, but for as many slots as the others have.
    let config = Config {
        database_url: url.clone(),
        redis_url: Some(ground.services.redis.url()),
        slots: 64,
        ..Config::default()
    };
    let stop = Stop::default();
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let pool = database::connect(&url, 5).await?;
        workers.spawn(Worker::new(&config, pool, Noting(clock.clone()))?.run(stop.clone()));
    }
    let wake = Wake::open(config.redis_url.as_deref())?;
    let flow = Target::Photogate { pool: pool.clone(), event, wake }.offer(rate, &clock).await?;
    stop.drain.cancel();
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let (settle, lost): (Option<f64>, i64) = sqlx::query_as(
        "SELECT (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY
                     1e3 * extract(epoch FROM o.settled_at - r.created_at)::float8)
                 FROM outcome o JOIN run r USING (run_id)),
                (SELECT count(*) FROM job j
                 WHERE NOT EXISTS (SELECT FROM outcome o WHERE o.job_id = j.job_id))",
    )
    .fetch_one(&pool)
    .await?;
    println!(
        "| photogate, from enqueue to settled | {rate} | | | {:.1} | | {lost} |",
        settle.unwrap_or_default()
    );
    Ok(flow)
}

struct Noop(Clock);

#[async_trait::async_trait]
impl awa::Worker for Noop {
    fn kind(&self) -> &'static str {
        "noop"
    }

    async fn perform(&self, context: &JobContext) -> Result<JobResult, JobError> {
        if let Some(at) = context.job.args.get("at").and_then(serde_json::Value::as_u64) {
            self.0.note(at);
        }
        Ok(JobResult::Completed)
    }
}

async fn awa(ground: &mut Ground, rate: usize) -> anyhow::Result<Flow> {
    let url = ground.empty().await?;
    let pool = sqlx08::postgres::PgPoolOptions::new().max_connections(24).connect(&url).await?;
    awa::migrations::run(&pool).await?;
    let config = QueueStorageConfig::default();
    let store = QueueStorage::new(config.clone())?;
    store.install(&pool).await?;
    ground.settle_down().await?;
    let clock = Clock::default();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let queue = QueueConfig { max_workers: 64, ..QueueConfig::default() };
        let client = Client::builder(pool.clone())
            .queue("noop", queue)
            .queue_storage(config.clone(), Duration::from_secs(1), Duration::from_secs(1))
            .register_worker(Noop(clock.clone()))
            .build()?;
        client.start().await?;
        clients.push(client);
    }
    let flow =
        Target::Awa { store: Arc::new(store), pool: pool.clone() }.offer(rate, &clock).await?;
    for client in clients {
        client.shutdown(Duration::from_secs(5)).await;
    }
    pool.close().await;
    Ok(flow)
}

async fn apalis_postgres(ground: &mut Ground, rate: usize) -> anyhow::Result<Flow> {
    let url = ground.empty().await?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(12).connect(&url).await?;
    PostgresStorage::setup(&pool).await?;
    ground.settle_down().await?;
    let clock = Clock::default();
    let config = apalis_postgres::Config::default()
        .queue("noop")
        .batch_size(64)
        .lock_tasks(false)
        .persist_results(true);
    let (stop, stopped) = watch::channel(false);
    let mut working = Vec::new();
    for number in 0..2 {
        let backend = PostgresStorage::<Sent>::new(&pool)
            .with_config(config.clone())
            .poll_with_interval(Duration::from_millis(20));
        let noting = clock.clone();
        let worker = WorkerBuilder::new(format!("noop-{number}")).backend(backend).build(
            move |sent: Sent| {
                noting.note(sent.at);
                std::future::ready(())
            },
        );
        let mut stopped = stopped.clone();
        working.push(tokio::spawn(worker.run_until(async move {
            let _ = stopped.changed().await;
            Ok::<(), WorkerError>(())
        })));
    }
    let sink = PostgresStorage::<Sent>::new(&pool).with_config(config);
    let flow = Target::Apalis(sink).offer(rate, &clock).await?;
    stop.send(true)?;
    for worker in working {
        let _ = worker.await;
    }
    pool.close().await;
    Ok(flow)
}
