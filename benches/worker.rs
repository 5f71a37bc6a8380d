//! What docs/benchmarks.md says, measured here: the gate through a whole worker, and photo processing.
//!
//! `make bench`, or `make bench ARGS='--photos DIRECTORY'` to measure on photos of your own.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use photogate::{
    books::reconcile::{self, Scope},
    config::Config,
    credits::{self, Credits},
    database, event,
    ids::{EventId, Operation, OrganisationId},
    intake, organisation,
    services::Services,
    top_up::{self, TopUp, TopUpKind},
    work::Work,
    worker::{self, Stop},
};
use sqlx::{Connection, PgConnection, PgPool};

const REHEARSED: usize = 100_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let photos = arguments
        .iter()
        .position(|argument| argument == "--photos")
        .map(|at| PathBuf::from(&arguments[at + 1]));
    let services =
        Services::start(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench")).await.unwrap();
    gate(&services).await;
    recovery(&services).await;
    processing(
        &services,
        &photos.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/marathon")),
    )
    .await;
}

/// One worker that does nothing with 100,000 photos: claims, reservations, settlements and nothing else.
async fn gate(services: &Services) {
    for async_commit in [false, true] {
        let (pool, url) =
            database(services, if async_commit { "gate_async" } else { "gate" }).await;
        let (_, event) = event_with(&pool, REHEARSED).await;
        let began = Instant::now();
        for call in 0..REHEARSED / intake::PHOTOS_MAX {
            let keys: Vec<_> =
                (0..intake::PHOTOS_MAX).map(|i| format!("rehearsal/ok/{call}/{i}")).collect();
            intake::enqueue(
                &mut pool.acquire().await.unwrap(),
                event,
                Operation::PhotoProcessing,
                &keys,
                "bench",
            )
            .await
            .unwrap();
        }
        let queued = began.elapsed();
        let config = Config {
            database_url: url.clone(),
            redis_url: Some(services.redis.url()),
            slots: 1,
            ahead: 2048,
            claim_async_commit: async_commit,
            ..Config::default()
        };
        let stop = Stop::default();
        let began = Instant::now();
        let working = {
            let (pool, stop) = (database::connect(&url, 4).await.unwrap(), stop.clone());
            tokio::spawn(async move {
                worker::run(&config, pool, Arc::new(Work::Rehearsal), stop).await
            })
        };
        until_done(&pool, event).await;
        let worked = began.elapsed();
        stop.drain.cancel();
        working.await.unwrap().unwrap();
        audit(&pool).await;
        println!(
            "gate through a worker, no-op work, asynchronous claims {async_commit}: {:.0} photos/s (queued at {:.0} photos/s)",
            rate(worked),
            rate(queued)
        );
    }
}

/// How long the photos of a worker that is killed take, with the default settings: its lease runs out, they are adopted
/// and done. Each takes 0.4 s of doing nothing.
async fn recovery(services: &Services) {
    let (pool, url) = database(services, "recovery").await;
    let (_, event) = event_with(&pool, 1000).await;
    let keys: Vec<_> = (0..200).map(|i| format!("rehearsal/slow-400/{i}")).collect();
    intake::enqueue(
        &mut pool.acquire().await.unwrap(),
        event,
        Operation::PhotoProcessing,
        &keys,
        "bench",
    )
    .await
    .unwrap();
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_photogate"))
            .args(["work", "--rehearse", "--slots", "2", "--log", "warn", "--database-url", &url])
            .spawn()
            .unwrap()
    };
    let (mut victim, mut other) = (start(), start());
    while event::queues(&mut pool.acquire().await.unwrap(), event).await.unwrap()[0].in_progress < 8
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    victim.kill().unwrap();
    let began = Instant::now();
    loop {
        let done = "SELECT count(*), count(o.job_id) FROM attempt a LEFT JOIN outcome o USING (job_id) WHERE a.ended = 'worker_gone'";
        let (gone, done): (i64, i64) = sqlx::query_as(done).fetch_one(&pool).await.unwrap();
        if gone > 0 && gone == done {
            println!(
                "a worker is killed: its {gone} photos are done after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    victim.wait().unwrap();
    kill(Pid::from_raw(other.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    other.wait().unwrap();
    audit(&pool).await;
}

/// A worker process with two slots, on real photos, each three times.
async fn processing(services: &Services, photos: &Path) {
    let (pool, url) = database(services, "processing").await;
    let (organisation, event) = event_with(&pool, 10_000).await;
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-photos");
    let _ = fs::remove_dir_all(&store);
    fs::create_dir_all(&store).unwrap();
    let mut keys = Vec::new();
    for photo in fs::read_dir(photos).unwrap().map(Result::unwrap) {
        if photo.path().extension().is_some_and(|extension| extension != "json") {
            for copy in 0..3 {
                let key = format!("{copy}-{}", photo.file_name().to_string_lossy());
                fs::copy(photo.path(), store.join(&key)).unwrap();
                keys.push(key);
            }
        }
    }
    intake::enqueue(
        &mut pool.acquire().await.unwrap(),
        event,
        Operation::PhotoProcessing,
        &keys,
        "bench",
    )
    .await
    .unwrap();
    let began = Instant::now();
    let mut process = Command::new(env!("CARGO_BIN_EXE_photogate"))
        .args([
            "work",
            "--slots",
            "2",
            "--log",
            "warn",
            "--database-url",
            &url,
            "--redis-url",
            &services.redis.url(),
        ])
        .args(["--store-url", url::Url::from_directory_path(&store).unwrap().as_str()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .spawn()
        .unwrap();
    until_done(&pool, event).await;
    // The worker, and the processes that look at photos for it; what they share is counted in each.
    let all = with_children(process.id());
    let (cpu, peak) = (
        all.iter().map(|id| cpu_of(*id)).sum::<f64>(),
        all.iter().map(|id| peak_of(*id)).sum::<u64>(),
    );
    let worked = began.elapsed();
    kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    process.wait().unwrap();
    audit(&pool).await;
    let balance =
        credits::balance(&mut pool.acquire().await.unwrap(), organisation).await.unwrap().unwrap();
    println!(
        "photo processing of {}, {} photos, {} of them readable, 2 slots: {:.0} ms CPU a photo, {:.2} photos/s, at most {peak} MB resident",
        photos.display(),
        keys.len(),
        balance.spent,
        1000.0 * cpu / to_f64(keys.len()),
        to_f64(keys.len()) / worked.as_secs_f64(),
    );
}

async fn database(services: &Services, name: &'static str) -> (PgPool, String) {
    let mut db = PgConnection::connect(&services.postgres.url("postgres")).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut db)
        .await
        .unwrap();
    let url = services.postgres.url(name);
    database::migrate(&url).await.unwrap();
    (database::connect(&url, 2).await.unwrap(), url)
}

async fn event_with(pool: &PgPool, credits: usize) -> (OrganisationId, EventId) {
    let mut db = pool.acquire().await.unwrap();
    let organisation = organisation::create(&mut db, "Bench", "UTC").await.unwrap();
    let amount = Credits(credits.try_into().unwrap());
    let top_up = TopUp {
        organisation,
        kind: TopUpKind::AdminGrant,
        amount,
        actor: "bench",
        note: "",
        idempotency_key: "1",
    };
    top_up::top_up(&mut db, top_up).await.unwrap();
    (organisation, event::create(&mut db, organisation, "Bench", true, false).await.unwrap())
}

async fn until_done(pool: &PgPool, event: EventId) {
    loop {
        let queues = event::queues(&mut pool.acquire().await.unwrap(), event).await.unwrap();
        if queues.iter().all(|queue| queue.waiting + queue.in_progress == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn audit(pool: &PgPool) {
    let checks =
        reconcile::reconcile(&mut pool.acquire().await.unwrap(), Scope::Full).await.unwrap();
    assert!(checks.iter().all(|check| check.violations == 0), "{checks:#?}");
}

/// Seconds of CPU that a process has used.
fn cpu_of(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // User and system time, in ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn with_children(process: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or_default();
        after.split(' ').nth(1) == Some(process.to_string().as_str())
    };
    std::iter::once(process).chain(ids.filter(is_child)).collect()
}

/// The most memory that a process ever had resident, in MB.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn rate(elapsed: Duration) -> f64 {
    to_f64(REHEARSED) / elapsed.as_secs_f64()
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
