//! A PostgreSQL and a Redis of their own, and what they cost.

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

pub(crate) struct Ground {
    pub(crate) services: Services,
    /// As the owner of the server.
    pub(crate) owner: PgConnection,
    databases: usize,
}

impl Ground {
    pub(crate) async fn prepare() -> anyhow::Result<Self> {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.photogate/bench-gate");
        let services = Services::start(&place).await?;
        let owner = PgConnection::connect(&services.postgres.url("postgres")).await?;
        Ok(Self { services, owner, databases: 0 })
    }

    /// The address of an empty database. The one before is gone: PostgreSQL would go on vacuuming it.
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

    /// A migrated database, its address and a way to it as the application.
    pub(crate) async fn database(&mut self, connections: u32) -> anyhow::Result<(String, PgPool)> {
        let url = self.empty().await?;
        database::migrate(&url).await?;
        let pool = database::connect(&url, connections).await?;
        Ok((url, pool))
    }

    /// So that no measurement pays for what the one before left to be written.
    pub(crate) async fn settle_down(&mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("CHECKPOINT").execute(&mut self.owner).await?;
        Ok(())
    }

    /// What the server and this process have used until now.
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

/// A moment.
pub(crate) struct Meter {
    at: Instant,
    server: f64,
    client: f64,
    syncs: i64,
    bytes: i64,
    commits: i64,
}

/// What was used between two moments, for so many photos.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) rate: f64,
    /// Milliseconds of CPU for 1,000.
    pub(crate) server: f64,
    pub(crate) client: f64,
    pub(crate) syncs: f64,
    pub(crate) bytes: f64,
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

/// Seconds of CPU of the server and all its processes, those that have ended too.
fn server_cpu(backend: i32) -> f64 {
    let stat = |pid: &str| -> Option<Vec<String>> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(text.rsplit(") ").next()?.split(' ').map(str::to_owned).collect())
    };
    // After the name: state, parent, …; user and system time are the 12th and 13th, of children that ended the next two.
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

/// An organisation with credits, and an event.
pub(crate) async fn club(
    pool: &PgPool,
    credits: usize,
) -> anyhow::Result<(OrganisationId, EventId)> {
    let mut db = pool.acquire().await?;
    let organisation = organisations::create(&mut db, "Bench", "UTC").await?;
    fund(pool, organisation, credits, "1").await?;
    Ok((organisation, events::create(&mut db, organisation, "Bench", false, false).await?))
}

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

/// Queues photos of an event.
pub(crate) async fn queue(pool: &PgPool, event: EventId, photos: usize) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    for call in 0..photos.div_ceil(enqueue::PHOTOS_MAX) {
        let most = (photos - call * enqueue::PHOTOS_MAX).min(enqueue::PHOTOS_MAX);
        let run = uuid::Uuid::new_v4();
        let keys: Vec<_> = (0..most).map(|i| format!("rehearsal/ok/{run}/{i}")).collect();
        enqueue::enqueue(&mut db, event, Operation::PhotoProcessing, &keys, "bench").await?;
    }
    Ok(())
}

pub(crate) async fn until_done(pool: &PgPool, event: EventId) -> anyhow::Result<()> {
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT (SELECT sum(tail - head)::bigint FROM queue WHERE event_id = $1) + (SELECT count(*) FROM in_flight)",
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
