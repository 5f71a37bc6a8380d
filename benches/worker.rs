//! Measures figures of docs/benchmarks.md: the gate with a whole worker, recovery after a worker
//! was killed, and photo processing.
//!
//! Run it with `make bench`. `make bench ARGS='--photos DIRECTORY'` measures only photo processing,
//! on your own photos: 150 photos with one slot, and then 1,000 photos with two slots.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use photogate::{
    catalog::{events, organisations},
    config::Config,
    database,
    ids::{EventId, Operation, OrganisationId},
    ledger::{
        credits::{self, Credits},
        reconcile::{self, Scope},
        top_up::{self, TopUp, TopUpKind},
    },
    queue::{enqueue, status},
    rig::services::Services,
    worker::{Stop, Worker, rehearsal::Rehearsal},
};
use sqlx::{Connection, PgConnection, PgPool};

/// Number of photos that the rehearsal of the gate queues.
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
    let Some(photos) = photos else {
        gate(&services).await;
        recovery(&services).await;
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/marathon");
        return processing(&services, &samples, 2, 30).await;
    };
    processing(&services, &photos, 1, 150).await;
    processing(&services, &photos, 2, 1000).await;
}

/// Measures one worker in a rehearsal with 100,000 photos: it claims, reserves and settles, and
/// does nothing else.
async fn gate(services: &Services) {
    for async_commit in [false, true] {
        let (pool, url) =
            database(services, if async_commit { "gate_async" } else { "gate" }).await;
        let (_, event) = event_with(&pool, REHEARSED).await;
        let began = Instant::now();
        for call in 0..REHEARSED / enqueue::PHOTOS_MAX {
            let keys: Vec<_> =
                (0..enqueue::PHOTOS_MAX).map(|i| format!("rehearsal/ok/{call}/{i}")).collect();
            enqueue::enqueue(
                &mut pool.acquire().await.unwrap(),
                event,
                Operation::PhotoProcessing,
                &enqueue::jobs(&keys).unwrap(),
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
            let worker = Worker::new(&config, pool, Rehearsal).unwrap();
            tokio::spawn(worker.run(stop))
        };
        until_done(&pool, event).await;
        let worked = began.elapsed();
        stop.drain.cancel();
        working.await.unwrap().unwrap();
        audit(&pool).await;
        println!(
            "gate with a whole worker, rehearsal, asynchronous claims {async_commit}: \
             {:.0} photos/s (queued at {:.0} photos/s)",
            rate(worked),
            rate(queued)
        );
    }
}

/// Measures the time until the photos of a killed worker are done, with the default settings. Its
/// lease must run out before another worker adopts the photos. Each photo takes 0.4 s of waiting.
async fn recovery(services: &Services) {
    let (pool, url) = database(services, "recovery").await;
    let (_, event) = event_with(&pool, 1000).await;
    let keys: Vec<_> = (0..200).map(|i| format!("rehearsal/slow-400/{i}")).collect();
    enqueue::enqueue(
        &mut pool.acquire().await.unwrap(),
        event,
        Operation::PhotoProcessing,
        &enqueue::jobs(&keys).unwrap(),
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
    while status::of_event(&mut pool.acquire().await.unwrap(), event).await.unwrap()[0].in_progress
        < 8
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    victim.kill().unwrap();
    let began = Instant::now();
    loop {
        let done = "SELECT count(*), count(o.job_id)
                    FROM attempt a LEFT JOIN outcome o USING (job_id)
                    WHERE a.ended = 'worker_gone'";
        let (gone, done): (i64, i64) = sqlx::query_as(done).fetch_one(&pool).await.unwrap();
        if gone > 0 && gone == done {
            println!(
                "a worker was killed: its {gone} photos were done after {:.1} s",
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

/// Measures a worker process on `most` real photos. The photos of the directory are copied as often
/// as needed.
async fn processing(services: &Services, photos: &Path, slots: usize, most: usize) {
    let (pool, url) = database(services, &format!("processing_{slots}_{most}")).await;
    let (organisation, event) = event_with(&pool, 10_000).await;
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-photos");
    let keys = fill(&store, photos, most);
    enqueue::enqueue(
        &mut pool.acquire().await.unwrap(),
        event,
        Operation::PhotoProcessing,
        &enqueue::jobs(&keys).unwrap(),
        "bench",
    )
    .await
    .unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_photogate"))
        .args(["work", "--slots", &slots.to_string(), "--log", "warn", "--database-url", &url])
        .args(["--redis-url", &services.redis.url()])
        .args(["--store-url", url::Url::from_directory_path(&store).unwrap().as_str()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .spawn()
        .unwrap();
    let done = async || {
        let queues = status::of_event(&mut pool.acquire().await.unwrap(), event).await.unwrap();
        usize::try_from(queues.iter().map(|queue| queue.processed + queue.failed).sum::<i64>())
            .unwrap()
    };
    // When the first photo is done, the models are loaded.
    while done().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (began, before) = (Instant::now(), done().await);
    let (mut early, mut late) = (0, 0);
    loop {
        let done = done().await;
        let resident = with_children(process.id()).into_iter().map(resident).sum::<u64>();
        if done < most / 10 {
            early = early.max(resident);
        }
        late = late.max(resident);
        if done == most {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let worked = began.elapsed();
    let worker = cpu_of(process.id());
    let children = with_children(process.id()).into_iter().skip(1).map(cpu_of);
    let looking = children.map(|cpu| cpu.own).sum::<f64>() + worker.of_the_gone;
    kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    process.wait().unwrap();
    audit(&pool).await;
    let balance =
        credits::balance(&mut pool.acquire().await.unwrap(), organisation).await.unwrap().unwrap();
    println!(
        "photo processing, {most} photos of {}, {} of them readable, {slots} slots: \
         {:.0} ms CPU per photo in the sandbox children and {:.1} in the worker, {:.2} photos/s, \
         {early} MB resident at most in the first tenth, {late} MB at most in all",
        photos.display(),
        balance.spent,
        1000.0 * looking / to_f64(most),
        1000.0 * worker.own / to_f64(most),
        to_f64(most - before) / worked.as_secs_f64(),
    );
}

/// Fills a store with `most` photos: those of the directory, as often as needed. Returns their
/// keys.
fn fill(store: &Path, photos: &Path, most: usize) -> Vec<String> {
    let _ = fs::remove_dir_all(store);
    fs::create_dir_all(store).unwrap();
    let mut files: Vec<_> =
        fs::read_dir(photos).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension != "json"));
    files.sort();
    let mut keys = Vec::new();
    for (copy, photo) in files.iter().cycle().take(most).enumerate() {
        let key = format!("{copy}-{}", photo.file_name().unwrap().to_string_lossy());
        fs::hard_link(photo, store.join(&key))
            .or_else(|_| fs::copy(photo, store.join(&key)).map(|_| ()))
            .unwrap();
        keys.push(key);
    }
    keys
}

async fn database(services: &Services, name: &str) -> (PgPool, String) {
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
    let organisation = organisations::create(&mut db, "Bench", "UTC").await.unwrap();
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
    (
        organisation,
        events::create(&mut db, organisation, "Bench", true, false, "cli").await.unwrap(),
    )
}

async fn until_done(pool: &PgPool, event: EventId) {
    loop {
        let queues = status::of_event(&mut pool.acquire().await.unwrap(), event).await.unwrap();
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

/// CPU time of a process, in seconds.
struct Cpu {
    /// CPU time of the process itself.
    own: f64,
    /// CPU time of its children that have ended.
    of_the_gone: f64,
}

fn cpu_of(process: u32) -> Cpu {
    // The process has ended since it was listed. Its parent's `of_the_gone` includes it.
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return Cpu { own: 0.0, of_the_gone: 0.0 };
    };
    // The fields are in ticks of a hundredth of a second.
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(4)
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .collect();
    let [user, system, gone_user, gone_system] = fields[..] else { panic!("{stat}") };
    Cpu { own: user + system, of_the_gone: gone_user + gone_system }
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

/// The resident memory of a process, in MB. Shared memory counts in proportion (Pss).
fn resident(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

fn rate(elapsed: Duration) -> f64 {
    to_f64(REHEARSED) / elapsed.as_secs_f64()
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
