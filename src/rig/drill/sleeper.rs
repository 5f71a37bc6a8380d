//! Simulated workers that sleep past their lease, in the process of the drill: each claims photos,
//! sends no heartbeat until it is declared dead, and then tries to settle the photos.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use crate::{
    catalog::findings::Findings,
    ids::{OrganisationId, WorkerId},
    notify::wake::Wake,
    queue::claim::{self, Reservation},
    worker::{
        in_hand::InHand,
        settle::{Settler, Settling},
        verdict::Verdict,
    },
};

/// Maximum number of photos that a sleeper claims.
const CLAIMED: usize = 10;

/// The lease of a sleeper.
const LEASE: Duration = Duration::from_secs(1);

/// The sleepers.
#[derive(Default)]
pub(super) struct Sleepers {
    /// Each with its late settlements as the result.
    asleep: JoinSet<Late>,
    /// Ends the tries of those that have not claimed anything yet.
    enough: CancellationToken,
}

/// Number of late settlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) tried: usize,
    pub(super) accepted: usize,
}

impl Sleepers {
    pub(super) fn send_one(&mut self, pool: &PgPool, number: usize) {
        let (pool, enough) = (pool.clone(), self.enough.clone());
        // If the database is down, this sleeper has no result; a later one will.
        self.asleep.spawn(async move { sleep(&pool, number, enough).await.unwrap_or_default() });
    }

    /// Waits for all sleepers, and adds up their late settlements.
    pub(super) async fn wake(self) -> Late {
        self.enough.cancel();
        self.asleep.join_all().await.into_iter().fold(Late::default(), |sum, late| Late {
            tried: sum.tried + late.tried,
            accepted: sum.accepted + late.accepted,
        })
    }
}

async fn sleep(
    pool: &PgPool,
    number: usize,
    enough: CancellationToken,
) -> Result<Late, claim::GateError> {
    let claimed = enough.run_until_cancelled(claim(pool, number)).await;
    let Some((me, claimed)) = claimed else { return Ok(Late::default()) };
    let asleep = Instant::now();
    while !is_gone(pool, me.worker).await.unwrap_or(false) {
        if asleep.elapsed() > PATIENCE {
            return Ok(Late::default());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let books = Settling {
        pool: pool.clone(),
        me,
        lease: LEASE,
        now: CancellationToken::new(),
        trouble: Arc::default(),
        in_hand: InHand::default(),
    };
    let (settler, _) = Settler::start(books, Wake::silent(), Arc::default());
    let mut late = Late::default();
    for reservation in claimed {
        late.tried += 1;
        let verdict = Verdict::Processed(Findings::Nothing);
        late.accepted += usize::from(settler.settle(reservation, verdict).await);
    }
    Ok(late)
}

/// Claims photos as soon as some can be claimed and the database is up.
async fn claim(pool: &PgPool, number: usize) -> (claim::Incarnation, Vec<Reservation>) {
    loop {
        let name = format!("sleeper-{number}-{:08x}", rand::random::<u32>());
        let claimed = async {
            let mut db = pool.acquire().await?;
            // Each try is a worker that others must declare dead: none in vain.
            let runs = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM queue WHERE runnable) AS "runs!""#
            );
            if !runs.fetch_one(&mut *db).await? {
                return Ok(None);
            }
            let me = claim::register(&mut db, &name, 1, LEASE).await?;
            let claimed = claim::claim(&mut db, me, CLAIMED, OrganisationId(0), false).await?;
            Ok::<_, claim::GateError>(Some((me, claimed)))
        };
        match claimed.await {
            Ok(Some((me, claimed))) if !claimed.is_empty() => return (me, claimed),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn is_gone(pool: &PgPool, worker: WorkerId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT gone_at IS NOT NULL AS "gone!" FROM worker WHERE worker_id = $1"#,
        worker.0
    )
    .fetch_one(pool)
    .await
}
