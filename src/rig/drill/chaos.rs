//! The faults that a drill causes.

use std::{fmt, io, time::Duration};

use rand::{Rng, rngs::StdRng};
use sqlx::{Connection, PgConnection};

use super::{DrillError, Ground, crew::Crew};

/// The number of faults of each kind so far.
#[derive(Debug, Default)]
pub(super) struct Chaos {
    round: usize,
    kills: usize,
    freezes: usize,
    plugs: usize,
    failovers: usize,
    has_standby: bool,
    cuts: usize,
    flushes: usize,
    redis_stops: usize,
    redis_is_away: bool,
    clock_jumps: usize,
    clock_is_wrong: bool,
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} freezes, PostgreSQL crashed {} times, failed over to a standby {} times, \
             its connections cut {} times, and its clock wrong {} times, Redis emptied {} times and \
             stopped {} times",
            self.kills,
            self.freezes,
            self.plugs,
            self.failovers,
            self.cuts,
            self.clock_jumps,
            self.flushes,
            self.redis_stops
        )
    }
}

impl Chaos {
    /// Returns the number of workers killed so far.
    pub(super) fn kills(&self) -> usize {
        self.kills
    }

    /// Causes the faults of one round. `left` rounds are left, including this one.
    pub(super) async fn strike(
        &mut self,
        rng: &mut StdRng,
        ground: &mut Ground,
        crew: &mut Crew,
        kills: usize,
        left: usize,
    ) -> Result<(), DrillError> {
        for _ in 0..(kills - self.kills).div_ceil(left) {
            self.kills += usize::from(crew.kill_one(rng)?);
        }
        // Each fault happens once early on, so that the shortest drill has it too; later by chance.
        self.round += 1;
        let round = self.round;
        let mut strikes = |first, one_in| round == first || rng.random_ratio(1, one_in);
        let (freeze, cut, empty) = (strikes(2, 8), strikes(3, 8), strikes(4, 10));
        let (stop, unplug, stand_by) = (strikes(5, 12), strikes(6, 16), strikes(7, 24));
        let jump = strikes(1, 10);
        if freeze {
            self.freezes += usize::from(crew.freeze_one(rng));
        }
        if cut {
            self.cuts += usize::from(cut_connections(ground).await.is_ok());
        }
        if empty {
            self.flushes += usize::from(ground.redis.empty().await.is_ok());
        }
        if self.redis_is_away {
            ground.redis.resume().await?;
            self.redis_is_away = false;
        } else if stop {
            ground.redis.stop();
            self.redis_stops += 1;
            self.redis_is_away = true;
        }
        // A standby may not know yet that the clock is right again.
        if jump && !self.has_standby {
            self.let_the_clock_jump(rng, ground).await;
        }
        self.set_the_clock_right(ground).await;
        if unplug {
            self.pull_the_plug(ground).await?;
        }
        if self.has_standby || stand_by {
            self.fail_over(ground).await?;
        }
        Ok(())
    }

    /// The clock of the books is wrong for a moment: by more than they accept, or by less, or it
    /// runs back.
    async fn let_the_clock_jump(&mut self, rng: &mut StdRng, ground: &Ground) {
        let off = ["400 days", "20 seconds", "-10 minutes"][rng.random_range(0..3)];
        self.clock_is_wrong = true;
        if set_clock(ground, off).await.is_ok() {
            self.clock_jumps += 1;
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..500))).await;
        }
    }

    /// If this fails, the next round tries again.
    async fn set_the_clock_right(&mut self, ground: &Ground) {
        if self.clock_is_wrong {
            self.clock_is_wrong = set_clock(ground, "0").await.is_err();
        }
    }

    /// Starts a standby, and fails over to it in the round after that.
    async fn fail_over(&mut self, ground: &mut Ground) -> Result<(), DrillError> {
        let Some(own) = &mut ground.own else { return Ok(()) };
        if self.has_standby {
            own.postgres.fail_over()?;
            self.failovers += 1;
        } else {
            own.postgres.stand_by().await?;
            own.postgres.wait_for_the_standby().await?;
        }
        self.has_standby = !self.has_standby;
        Ok(())
    }

    async fn pull_the_plug(&mut self, ground: &mut Ground) -> Result<(), DrillError> {
        if let Some(own) = &mut ground.own {
            own.postgres.pull_the_plug()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            own.postgres.resume().await?;
            self.plugs += 1;
        }
        Ok(())
    }

    /// Ends all faults: everything runs again.
    pub(super) async fn end(
        &mut self,
        ground: &mut Ground,
        crew: &mut Crew,
    ) -> Result<(), DrillError> {
        crew.thaw_all();
        if self.redis_is_away {
            ground.redis.resume().await?;
            self.redis_is_away = false;
        }
        while self.clock_is_wrong {
            self.set_the_clock_right(ground).await;
        }
        crew.replace_the_dead().map_err(io::Error::into)
    }
}

/// Lets the clock of the books be off by this much.
async fn set_clock(ground: &Ground, off: &str) -> sqlx::Result<()> {
    let mut db = PgConnection::connect(&ground.url).await?;
    let set = format!(
        "CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql VOLATILE \
         AS $$ SELECT clock_timestamp() + interval '{off}' $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut db).await?;
    db.close().await
}

/// Cuts all connections to the database, whatever they do: before a commit, or after it but before
/// the answer.
async fn cut_connections(ground: &Ground) -> sqlx::Result<()> {
    let mut db = PgConnection::connect(&ground.url).await?;
    // Not `query!`: this reads the server's own views, not our tables.
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut db)
    .await?;
    db.close().await
}
