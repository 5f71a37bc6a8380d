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
        settle::{Settler, Settling},
        verdict::Verdict,
    },
};

/// Maximum number of photos that a sleeper claims.
const CLAIMED: usize = 10;

/// Number of tries to claim photos, ten a second.
const TRIES: usize = 50;
/// The lease of a sleeper.
const LEASE: Duration = Duration::from_secs(1);

/// The sleepers, each with its late settlements as the result.
#[derive(Default)]
pub(super) struct Sleepers(JoinSet<Late>);

/// Number of late settlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) tried: usize,
    pub(super) accepted: usize,
}

impl Sleepers {
    pub(super) fn send_one(&mut self, pool: &PgPool, number: usize) {
        let pool = pool.clone();
        // If the database is down, this sleeper has no result; a later one will.
        self.0.spawn(async move { sleep(&pool, number).await.unwrap_or_default() });
    }

    /// Waits for all sleepers, and adds up their late settlements.
    pub(super) async fn wake(self) -> Late {
        self.0.join_all().await.into_iter().fold(Late::default(), |sum, late| Late {
            tried: sum.tried + late.tried,
            accepted: sum.accepted + late.accepted,
        })
    }
}

async fn sleep(pool: &PgPool, number: usize) -> Result<Late, claim::GateError> {
    let Some((me, claimed)) = claim(pool, number).await else { return Ok(Late::default()) };
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
async fn claim(pool: &PgPool, number: usize) -> Option<(claim::Incarnation, Vec<Reservation>)> {
    for _ in 0..TRIES {
        let name = format!("sleeper-{number}-{:08x}", rand::random::<u32>());
        let claimed = async {
            let mut db = pool.acquire().await?;
            let me = claim::register(&mut db, &name, 1, LEASE).await?;
            let claimed = claim::claim(&mut db, me, CLAIMED, OrganisationId(0), false).await?;
            Ok::<_, claim::GateError>((me, claimed))
        };
        match claimed.await {
            Ok((me, claimed)) if !claimed.is_empty() => return Some((me, claimed)),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    None
}

async fn is_gone(pool: &PgPool, worker: WorkerId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT gone_at IS NOT NULL AS "gone!" FROM worker WHERE worker_id = $1"#,
        worker.0
    )
    .fetch_one(pool)
    .await
}
