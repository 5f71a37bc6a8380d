//! Compares whole workers on jobs that do nothing. Photogate reserves and settles each job; awa and
//! apalis-postgres, the nearest alternatives, have no gate.
//!
//! The time runs from the start of the worker to the last durable completion. The time to enqueue
//! is not counted.

use std::time::Duration;

use anyhow::Context;
use apalis::prelude::{TaskSink, WorkerBuilder, WorkerError};
use apalis_postgres::PostgresStorage;
use awa::{
    Client, InsertOpts, InsertParams, JobContext, JobError, JobResult, QueueConfig, QueueStorage,
    QueueStorageConfig,
};
use photogate::{
    config::Config,
    database,
    worker::{Stop, Worker, rehearsal::Rehearsal},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    Figures,
    ground::{Cost, Ground, club, queue, until_done},
    median, round,
};

/// Number of jobs in one measurement.
const JOBS: usize = 60_000;
/// Number of rounds. Each worker is measured once in a round.
const ROUNDS: usize = 2;

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!("\n# {JOBS} jobs that do nothing, with a whole worker, {ROUNDS} rounds in turn\n");
    println!(
        "| | jobs/s | CPU ms per 1,000: server | client | both | WAL bytes per job \
         | commits per job |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut ours = Vec::new();
    let mut awas: Vec<Vec<Cost>> = vec![Vec::new(); AWA.len()];
    let mut apalis: Vec<Vec<Cost>> = vec![Vec::new(); APALIS.len()];
    for _ in 0..ROUNDS {
        ours.push(photogate(ground).await?);
        for (at, setting) in AWA.iter().enumerate() {
            awas[at].push(awa(ground, setting).await?);
        }
        for (at, setting) in APALIS.iter().enumerate() {
            apalis[at].push(apalis_postgres(ground, setting).await?);
        }
    }
    let ours = tell("photogate, reserved and settled", &ours);
    let of_awa: Vec<_> = AWA
        .iter()
        .zip(&awas)
        .map(|(setting, costs)| tell(&format!("awa 0.6.9, {setting:?}"), costs))
        .collect();
    let of_apalis: Vec<_> = APALIS
        .iter()
        .zip(&apalis)
        .map(|(setting, costs)| tell(&format!("apalis-postgres 1.0, {setting:?}"), costs))
        .collect();
    let best = |of: &[Cost]| {
        of.iter().copied().max_by(|one, other| one.rate.total_cmp(&other.rate)).unwrap_or_default()
    };
    let (awa, apalis) = (best(&of_awa), best(&of_apalis));
    let cpu = |cost: Cost| cost.server + cost.client;
    figures.insert("worker_noop_photos_per_s".into(), round(ours.rate));
    figures.insert("vs_awa".into(), round(ours.rate / awa.rate));
    figures.insert("vs_apalis_postgres".into(), round(ours.rate / apalis.rate));
    figures.insert("cpu_vs_awa".into(), round(cpu(ours) / cpu(awa)));
    figures.insert("cpu_vs_apalis_postgres".into(), round(cpu(ours) / cpu(apalis)));
    figures.insert("wal_bytes_per_job".into(), round(ours.bytes));
    figures.insert("wal_bytes_per_job_awa".into(), round(awa.bytes));
    figures.insert("commits_per_job".into(), round(ours.commits));
    figures.insert("commits_per_job_awa".into(), round(awa.commits));
    Ok(())
}

/// Prints the median of the costs as a row of the table, and returns it.
fn tell(name: &str, costs: &[Cost]) -> Cost {
    let of = |what: fn(&Cost) -> f64| median(costs.iter().map(what).collect());
    let cost = Cost {
        rate: of(|cost| cost.rate),
        server: of(|cost| cost.server),
        client: of(|cost| cost.client),
        syncs: of(|cost| cost.syncs),
        bytes: of(|cost| cost.bytes),
        commits: of(|cost| cost.commits),
    };
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.4} |",
        cost.rate,
        cost.server,
        cost.client,
        cost.server + cost.client,
        cost.bytes,
        cost.commits
    );
    cost
}

async fn photogate(ground: &mut Ground) -> anyhow::Result<Cost> {
    let (url, pool) = ground.database(2).await?;
    let (_, event) = club(&pool, JOBS).await?;
    queue(&pool, event, JOBS).await?;
    ground.settle_down().await?;
    // The worker has 1,024 jobs in hand at once, as the alternatives have.
    let config = Config {
        database_url: url.clone(),
        redis_url: Some(ground.services.redis.url()),
        slots: 1,
        ahead: 1023,
        ..Config::default()
    };
    let stop = Stop::default();
    let before = ground.meter().await?;
    let working = {
        let (pool, stop) = (database::connect(&url, 5).await?, stop.clone());
        tokio::spawn(Worker::new(&config, pool, Rehearsal)?.run(stop))
    };
    until_done(&pool, event).await?;
    let after = ground.meter().await?;
    stop.drain.cancel();
    working.await??;
    Ok(before.cost_until(&after, JOBS))
}

#[derive(Debug)]
struct AwaSetting {
    workers: u32,
    claimers: u16,
    shards: i16,
}

/// The settings that awa's documentation calls fastest, for larger machines and for small ones.
const AWA: [AwaSetting; 3] = [
    AwaSetting { workers: 1024, claimers: 1, shards: 1 },
    AwaSetting { workers: 1024, claimers: 2, shards: 4 },
    AwaSetting { workers: 256, claimers: 1, shards: 4 },
];

struct Noop;

#[async_trait::async_trait]
impl awa::Worker for Noop {
    fn kind(&self) -> &'static str {
        "noop"
    }

    async fn perform(&self, _: &JobContext) -> Result<JobResult, JobError> {
        Ok(JobResult::Completed)
    }
}

async fn awa(ground: &mut Ground, setting: &AwaSetting) -> anyhow::Result<Cost> {
    let url = ground.empty().await?;
    let pool = sqlx08::postgres::PgPoolOptions::new().max_connections(24).connect(&url).await?;
    awa::migrations::run(&pool).await?;
    let config = QueueStorageConfig::default();
    let store = QueueStorage::new(config.clone())?;
    store.install(&pool).await?;
    sqlx08::query(
        "INSERT INTO awa.queue_meta (queue, enqueue_shards) VALUES ('noop', $1)
         ON CONFLICT (queue) DO UPDATE SET enqueue_shards = EXCLUDED.enqueue_shards",
    )
    .bind(setting.shards)
    .execute(&pool)
    .await?;
    for _ in 0..JOBS / 2000 {
        let job = |number| InsertParams {
            kind: "noop".into(),
            args: serde_json::json!({ "n": number }),
            opts: InsertOpts { queue: "noop".into(), ..InsertOpts::default() },
        };
        store.enqueue_params_copy(&pool, &(0..2000).map(job).collect::<Vec<_>>()).await?;
    }
    ground.settle_down().await?;
    let queue = QueueConfig {
        max_workers: setting.workers,
        claimers: setting.claimers,
        claim_batch_size: 512,
        poll_interval: Duration::from_millis(50),
        deadline_duration: Duration::ZERO,
        ..QueueConfig::default()
    };
    let client = Client::builder(pool.clone())
        .queue("noop", queue)
        .queue_storage(config, Duration::from_secs(1), Duration::from_secs(1))
        .queue_stats_interval(Duration::from_secs(300))
        .runtime_snapshot_interval(Duration::from_secs(300))
        .register_worker(Noop)
        .build()?;
    let before = ground.meter().await?;
    client.start().await?;
    loop {
        // Handlers return before their completion is written. Only committed completions count.
        let done: i64 = sqlx08::query_scalar(
            "SELECT ((SELECT coalesce(sum(completed_count), 0)
                      FROM awa.receipt_completion_batches WHERE queue = 'noop')
                   + (SELECT count(*)
                      FROM awa.done_entries WHERE queue = 'noop' AND state = 'completed')
                   + (SELECT coalesce(sum(pruned_completed_count), 0)
                      FROM awa.queue_terminal_rollups WHERE queue = 'noop'))::bigint",
        )
        .fetch_one(&pool)
        .await?;
        if usize::try_from(done)? >= JOBS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = ground.meter().await?;
    client.shutdown(Duration::from_secs(5)).await;
    pool.close().await;
    Ok(before.cost_until(&after, JOBS))
}

#[derive(Debug)]
struct ApalisSetting {
    workers: usize,
    batch: usize,
}

const APALIS: [ApalisSetting; 3] = [
    ApalisSetting { workers: 1, batch: 1000 },
    ApalisSetting { workers: 4, batch: 256 },
    ApalisSetting { workers: 2, batch: 1000 },
];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Number {
    n: usize,
}

async fn nothing(_: Number) {}

async fn apalis_postgres(ground: &mut Ground, setting: &ApalisSetting) -> anyhow::Result<Cost> {
    let url = ground.empty().await?;
    let connections = u32::try_from(setting.workers)? + 4;
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(connections).connect(&url).await?;
    PostgresStorage::setup(&pool).await?;
    let config = apalis_postgres::Config::default()
        .queue("noop")
        .batch_size(setting.batch)
        .lock_tasks(false)
        .persist_results(true);
    let mut sink = PostgresStorage::<Number>::new(&pool).with_config(config.clone());
    for call in 0..JOBS / 5000 {
        let jobs = (0..5000).map(|n| Number { n: call * 5000 + n }).collect();
        sink.push_bulk(jobs).await.ok().context("apalis-postgres did not accept the jobs")?;
    }
    ground.settle_down().await?;
    let (stop, stopped) = watch::channel(false);
    let before = ground.meter().await?;
    let mut working = Vec::new();
    for number in 0..setting.workers {
        use apalis::prelude::BackendExt;
        let backend = PostgresStorage::<Number>::new(&pool)
            .with_config(config.clone())
            .poll_with_interval(Duration::from_millis(20));
        let worker = WorkerBuilder::new(format!("noop-{number}")).backend(backend).build(nothing);
        let mut stopped = stopped.clone();
        working.push(tokio::spawn(worker.run_until(async move {
            let _ = stopped.changed().await;
            Ok::<(), WorkerError>(())
        })));
    }
    loop {
        let done: i64 =
            sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status = 'Done'")
                .fetch_one(&pool)
                .await?;
        if usize::try_from(done)? >= JOBS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = ground.meter().await?;
    stop.send(true)?;
    for worker in working {
        let _ = worker.await;
    }
    pool.close().await;
    Ok(before.cost_until(&after, JOBS))
}
