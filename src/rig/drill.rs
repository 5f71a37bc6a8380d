//! The drill: a test of the books under faults. Real worker processes are killed and frozen.
//! PostgreSQL crashes and fails over, and its clock jumps. Redis is emptied and stopped, connections
//! are cut, and every call is sent twice. Credits run out and are added again, while budgets, orders
//! and paces change. Other versions take over. Photos fail, panic and kill their workers. Webhooks hear all of it, at an address
//! that refuses, hangs, dies and comes back. Then everything is counted from the database: no photo may
//! be lost, charged twice, stuck or stranded, and no budget exceeded. And from what the address has
//! heard: no change may be lost, untrue, or out of order.

mod chaos;
mod crew;
mod heard;
mod listener;
mod replay;
mod sleeper;
mod steering;
mod tally;
mod traffic;
mod upgrades;

use std::{path::PathBuf, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    database::{self, DatabaseError},
    rig::services::{Redis, Services, ServicesError},
};
use chaos::Chaos;
use crew::Crew;
pub use heard::Heard;
use listener::Listener;
use sleeper::Sleepers;
pub use tally::{Expected, Tally, Told, tally};
use traffic::Traffic;
use upgrades::Upgrades;

/// The workers' lease. It is shorter than usual, so that many workers can die in a minute.
const LEASE: Duration = Duration::from_secs(2);
/// If no photo moves for this time although workers run, the remaining photos count as stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time of a statement of the tally: it reads all photos.
const TALLY_MAX: Duration = Duration::from_secs(3600);
/// The time between two progress messages.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The plan of a drill.
#[derive(Debug, Clone)]
pub struct Drill {
    /// Number of photos to send.
    pub jobs: usize,
    /// Number of workers to kill, not counting those that are killed by a photo.
    pub kills: usize,
    /// The seed of the random numbers. The same seed gives the same plan.
    pub seed: u64,
    /// Number of worker processes at the same time.
    pub workers: usize,
    /// The directory of the servers' data and the workers' log.
    pub place: PathBuf,
    /// The address of a PostgreSQL on which to create a database. `None`: the drill starts its own
    /// PostgreSQL, and lets it crash too.
    pub server: Option<String>,
    /// Programs of the versions that follow this one, in order. The drill upgrades to each of them.
    pub upgrades: Vec<PathBuf>,
}

/// Why a drill could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The servers did not start.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The database could not be prepared.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The database could not be migrated.
    #[error(transparent)]
    Migrate(#[from] database::MigrateError),
    /// The database has trouble that the drill did not cause.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The address of the PostgreSQL server is not valid.
    #[error("{0:?} is not a PostgreSQL address: write postgres://user@host/postgres")]
    Address(String),
}

impl Drill {
    /// Carries out the drill and counts the result. `tell` is called with a line about the progress
    /// every few seconds.
    ///
    /// # Errors
    /// See [`DrillError`]. Books that do not balance are a result, not an error.
    pub async fn hold(&self, mut tell: impl FnMut(String)) -> Result<(Tally, Told), DrillError> {
        let mut ground = Ground::prepare(self).await?;
        // Before the upgrades: in the end, the schema serves this program no more.
        let books = database::connect_for(&ground.url, 1, TALLY_MAX).await?;
        let counted = match self.on(&mut ground, &mut tell).await {
            Ok(told) => tally(&books, self, &told).await.map(|tally| (tally, told)),
            Err(error) => Err(error),
        };
        ground.leave().await?;
        counted
    }

    async fn on(
        &self,
        ground: &mut Ground,
        tell: &mut impl FnMut(String),
    ) -> Result<Told, DrillError> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let pool = database::connect(&ground.url, 8).await?;
        let mut traffic = Traffic::begin(&pool, self.jobs).await?;
        let mut listener = Listener::start(&pool, &traffic.organisations(), self.seed).await?;
        let mut crew = Crew::hire(self, &ground.url, &ground.redis.url())?;
        let mut chaos = Chaos::default();
        let mut sleepers = Sleepers::default();
        let rounds = self.kills.max(self.jobs.div_ceil(2000)).max(8);
        let mut upgrades = Upgrades::plan(self, &ground.url, rounds)?;
        let mut last = Instant::now();
        for round in 0..rounds {
            traffic.send(&mut rng, &pool, rounds - round).await;
            chaos.strike(&mut rng, ground, &mut crew, self.kills, rounds - round).await?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(20..200))).await;
            if round == 2 || rng.random_ratio(1, 20) {
                sleepers.send_one(&pool, round);
            }
            upgrades.go_on(&mut crew)?;
            crew.replace_the_dead()?;
            if round % 4 == 3 {
                listener.turn().await?;
            }
            if last.elapsed() > TELL_EVERY {
                last = Instant::now();
                tell(format!(
                    "round {} of {rounds}: {} photos sent, {chaos}, {} workers started",
                    round + 1,
                    traffic.sent(),
                    crew.started()
                ));
            }
        }
        chaos.end(ground, &mut crew).await?;
        upgrades.finish(&mut crew).await?;
        listener.get_well().await?;
        traffic.fund_everything(&pool).await;
        tell(format!("no more faults after {chaos}: the workers process the rest"));
        self.until_quiet(&pool, &mut crew, Left::WithinBudgets, tell).await?;
        // No credits come in any more: what waits behind a budget goes on because that is gone.
        steering::take_budgets_away(&pool).await;
        self.until_quiet(&pool, &mut crew, Left::All, tell).await?;
        let late = sleepers.wake().await;
        self.until_quiet(&pool, &mut crew, Left::All, tell).await?;
        self.until_quiet(&pool, &mut crew, Left::Changes, tell).await?;
        crew.dismiss().await?;
        Ok(Told {
            expected: traffic.expected(),
            alarms: crew.alarms()?,
            kills: chaos.kills(),
            late_accepted: late.accepted,
            refused: crew.refused()? + late.tried - late.accepted,
            chaos: chaos.to_string(),
            upgrades_missed: upgrades.left(),
            upgrades: upgrades.to_string(),
            steering: traffic.steering().to_string(),
            workers: crew.started(),
            heard: Some(listener.heard()),
        })
    }

    /// Waits until none of these photos is left, or until no photo has moved for [`PATIENCE`].
    async fn until_quiet(
        &self,
        pool: &PgPool,
        crew: &mut Crew,
        which: Left,
        tell: &mut impl FnMut(String),
    ) -> Result<(), DrillError> {
        let (mut before, mut moved, mut last) = (None, Instant::now(), Instant::now());
        loop {
            crew.replace_the_dead()?;
            let open: i64 = sqlx::query_scalar!(
                r#"SELECT (SELECT coalesce(sum(tail - head - not_waiting), 0)::bigint
                           FROM queue_head JOIN queue_tail USING (queue_id) JOIN queue q USING (queue_id)
                           -- Photos of deleted events wait for ever.
                           WHERE (SELECT deleted_at FROM event e
                                  WHERE e.event_id = q.event_id) IS NULL
                             AND ($1 OR q.paused_since IS NULL))
                          + (SELECT count(*) FROM in_flight WHERE $1)
                          + (SELECT count(*) FROM follow_up WHERE $1)
                          + (SELECT count(*) FROM new_change WHERE $2 AND organisation_id > 0)
                          + (SELECT count(*) FROM delivery WHERE $2 AND state = 'waiting')
                          AS "open!""#,
                which != Left::WithinBudgets,
                which == Left::Changes
            )
            .fetch_one(pool)
            .await?;
            if open == 0 {
                return Ok(());
            }
            if before != Some(open) {
                (before, moved) = (Some(open), Instant::now());
            }
            if last.elapsed() > TELL_EVERY {
                last = Instant::now();
                let what = if which == Left::Changes { "changes" } else { "photos" };
                tell(format!("{open} {what} are left"));
            }
            if moved.elapsed() > PATIENCE {
                tracing::error!(open, "the remaining photos do not move any more");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// All photos.
    All,
    /// Photos that wait, and whose event may spend something.
    WithinBudgets,
    /// All photos, and the changes that are to be delivered.
    Changes,
}

/// The servers of a drill, and the database on them.
struct Ground {
    own: Option<Services>,
    redis: Redis,
    _sockets: TempDir,
    /// The address of the drill's database.
    url: String,
    /// The address of the server's default database.
    server: String,
    /// The name of the drill's database.
    name: String,
}

impl Ground {
    async fn prepare(drill: &Drill) -> Result<Self, DrillError> {
        std::fs::create_dir_all(&drill.place)?;
        let (redis, sockets) = Services::redis_alone().await?;
        let name = format!("photogate_drill_{:08x}", rand::random::<u32>());
        let (own, server, url) = match &drill.server {
            None => {
                let own = Services::start(&drill.place.join("services")).await?;
                let (server, url) = (own.postgres.url("postgres"), own.postgres.url(&name));
                (Some(own), server, url)
            }
            Some(server) => {
                let mut url =
                    url::Url::parse(server).map_err(|_| DrillError::Address(server.clone()))?;
                url.set_path(&name);
                (None, server.clone(), url.into())
            }
        };
        // A database's name cannot be a parameter. This one is made above, so it is safe.
        execute(&server, format!("CREATE DATABASE {name}")).await?;
        database::migrate(&url).await?;
        Ok(Self { own, redis, _sockets: sockets, url, server, name })
    }

    async fn leave(self) -> Result<(), DrillError> {
        if self.own.is_none() {
            execute(&self.server, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?;
        }
        Ok(())
    }
}

async fn execute(url: &str, statement: String) -> sqlx::Result<()> {
    let mut db = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut db).await?;
    db.close().await
}
