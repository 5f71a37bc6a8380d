//! Starts a PostgreSQL and a Redis for the measurements, and measures what they use.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use photogate::{
    catalog::{events, organisations},
    database,
    ids::{EventId, Operation, OrganisationId},
    ledger::{
        credits::Credits,
        top_up::{self, TopUp, TopUpKind},
    },
    queue::enqueue,
    rig::services::Services,
};
use sqlx::{Connection, PgConnection, PgPool};

/// The servers of the measurements.
pub(crate) struct Ground {
    pub(crate) services: Services,
    /// A connection as the owner of the PostgreSQL server.
    pub(crate) owner: PgConnection,
    /// Number of databases that were created until now.
    databases: usize,
}

impl Ground {
    pub(crate) async fn prepare() -> anyhow::Result<Self> {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.photogate/bench-gate");
        let services = Services::start(&place).await?;
        let owner = PgConnection::connect(&services.postgres.url("postgres")).await?;
        Ok(Self { services, owner, databases: 0 })
    }

    /// Creates an empty database and returns its address. The database before it is dropped,
    /// because PostgreSQL would go on vacuuming it.
    pub(crate) async fn empty(&mut self) -> anyhow::Result<String> {
        let before = format!("DROP DATABASE IF EXISTS bench{} WITH (FORCE)", self.databases);
        sqlx::raw_sql(sqlx::AssertSqlSafe(before)).execute(&mut self.owner).await?;
        self.databases += 1;
        let name = format!("bench{}", self.databases);
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut self.owner)
            .await?;
        Ok(self.services.postgres.url(&name))
    }

    /// Creates a database with photogate's tables. Returns its address, and connections to it as
    /// the application.
    pub(crate) async fn database(&mut self, connections: u32) -> anyhow::Result<(String, PgPool)> {
        let url = self.empty().await?;
        database::migrate(&url).await?;
        let pool = database::connect(&url, connections).await?;
        Ok((url, pool))
    }

    /// Makes a checkpoint, so that no measurement pays for writes that the one before left.
    pub(crate) async fn settle_down(&mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("CHECKPOINT").execute(&mut self.owner).await?;
        Ok(())
    }

    /// Reads what the server and this process have used until now.
    pub(crate) async fn meter(&mut self) -> anyhow::Result<Meter> {
        let (syncs, bytes): (i64, i64) =
            sqlx::query_as("SELECT wal_sync, wal_bytes::bigint FROM pg_stat_wal")
                .fetch_one(&mut self.owner)
                .await?;
        let commits: i64 =
            sqlx::query_scalar("SELECT sum(xact_commit)::bigint FROM pg_stat_database")
                .fetch_one(&mut self.owner)
                .await?;
        let own: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut self.owner).await?;
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(Meter {
            at: Instant::now(),
            server: server_cpu(own),
            client: seconds(usage.user_time()) + seconds(usage.system_time()),
            syncs,
            bytes,
            commits,
        })
    }
}

/// What the server and this process had used at one moment.
pub(crate) struct Meter {
    at: Instant,
    /// CPU time of the server, in seconds.
    server: f64,
    /// CPU time of this process, in seconds.
    client: f64,
    /// Number of times that the server synced its WAL to disk.
    syncs: i64,
    /// Bytes of WAL that the server wrote.
    bytes: i64,
    /// Number of transactions that the server committed.
    commits: i64,
}

/// What was used between two moments, per photo.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Photos per second.
    pub(crate) rate: f64,
    /// CPU time of the server, in milliseconds per 1,000 photos.
    pub(crate) server: f64,
    /// CPU time of this process, in milliseconds per 1,000 photos.
    pub(crate) client: f64,
    /// Syncs of the WAL per photo.
    pub(crate) syncs: f64,
    /// Bytes of WAL per photo.
    pub(crate) bytes: f64,
    /// Commits per photo.
    pub(crate) commits: f64,
}

impl Meter {
    pub(crate) fn cost_until(&self, end: &Self, done: usize) -> Cost {
        let done = done as f64;
        Cost {
            rate: done / end.at.duration_since(self.at).as_secs_f64(),
            server: 1e6 * (end.server - self.server) / done,
            client: 1e6 * (end.client - self.client) / done,
            syncs: (end.syncs - self.syncs) as f64 / done,
            bytes: (end.bytes - self.bytes) as f64 / done,
            commits: (end.commits - self.commits) as f64 / done,
        }
    }
}

/// CPU time of the server with all its processes, in seconds. Processes that have ended are
/// included.
fn server_cpu(backend: i32) -> f64 {
    let stat = |pid: &str| -> Option<Vec<String>> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(text.rsplit(") ").next()?.split(' ').map(str::to_owned).collect())
    };
    // After the name come state, parent, …. The 12th and 13th field are user and system time, the
    // next two are the same of children that have ended.
    let ticks = |fields: &[String], at: usize| fields[at].parse::<f64>().unwrap_or_default();
    let postmaster = stat(&backend.to_string()).map(|fields| fields[1].clone()).unwrap_or_default();
    let mut sum =
        stat(&postmaster).map_or(0.0, |fields| (11..15).map(|at| ticks(&fields, at)).sum());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(fields) = stat(&name)
            && fields[1] == postmaster
        {
            sum += ticks(&fields, 11) + ticks(&fields, 12);
        }
    }
    sum / 100.0
}

/// Creates an organisation with credits, and an event of it.
pub(crate) async fn club(
    pool: &PgPool,
    credits: usize,
) -> anyhow::Result<(OrganisationId, EventId)> {
    let mut db = pool.acquire().await?;
    let organisation = organisations::create(&mut db, "Bench", "UTC").await?;
    fund(pool, organisation, credits, "1").await?;
    Ok((organisation, events::create(&mut db, organisation, "Bench", false, false, "cli").await?))
}

/// Adds credits to an organisation. `key` is the idempotency key.
pub(crate) async fn fund(
    pool: &PgPool,
    organisation: OrganisationId,
    credits: usize,
    key: &str,
) -> anyhow::Result<()> {
    let amount = Credits(i64::try_from(credits)?);
    let top_up = TopUp {
        organisation,
        kind: TopUpKind::AdminGrant,
        amount,
        actor: "bench",
        note: "",
        idempotency_key: key,
    };
    top_up::top_up(&mut *pool.acquire().await?, top_up).await?;
    Ok(())
}

/// Queues this number of photos of an event.
pub(crate) async fn queue(pool: &PgPool, event: EventId, photos: usize) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    for call in 0..photos.div_ceil(enqueue::PHOTOS_MAX) {
        let most = (photos - call * enqueue::PHOTOS_MAX).min(enqueue::PHOTOS_MAX);
        let run = uuid::Uuid::new_v4();
        let keys: Vec<_> = (0..most).map(|i| format!("rehearsal/ok/{run}/{i}")).collect();
        let jobs = enqueue::jobs(&keys)?;
        enqueue::enqueue(&mut db, event, Operation::PhotoProcessing, &jobs, "bench").await?;
    }
    Ok(())
}

/// Waits until no photo of the event waits and none is in progress.
pub(crate) async fn until_done(pool: &PgPool, event: EventId) -> anyhow::Result<()> {
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT (SELECT sum(tail - head)::bigint FROM queue JOIN queue_head USING (queue_id) JOIN queue_tail USING (queue_id)
                     WHERE event_id = $1)
                    + (SELECT count(*) FROM in_flight)",
        )
        .bind(event.0)
        .fetch_one(pool)
        .await?;
        if open == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Registers a worker. Returns its key.
pub(crate) async fn register(db: &mut PgConnection) -> anyhow::Result<uuid::Uuid> {
    let name = uuid::Uuid::new_v4().to_string();
    let key = sqlx::query_scalar("SELECT r_key FROM register_worker($1, 1, '1 hour')")
        .bind(name)
        .fetch_one(db)
        .await?;
    Ok(key)
}

/// Settles photos as processed.
pub(crate) async fn settle(
    db: &mut PgConnection,
    key: uuid::Uuid,
    jobs: &[i64],
) -> anyhow::Result<()> {
    sqlx::query(
        "SELECT settle($1, $2, array_fill(1, ARRAY[$3]),
                       array_fill('processed'::outcome_state, ARRAY[$3]),
                       array_fill(NULL::text, ARRAY[$3]), array_fill(NULL::text, ARRAY[$3]))",
    )
    .bind(key)
    .bind(jobs)
    .bind(i32::try_from(jobs.len())?)
    .execute(db)
    .await?;
    Ok(())
}
