//! Workers check the books as they go: a cheap look often, a full one now and then. One worker checks, for all. Drift
//! shows as an error in its log, and in its metrics.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::reconcile::{self, Check, Scope};
use crate::{database::in_time, gate::interval, ids::WorkerId};

/// How often it is asked whose turn it is; not the interval between two checks, which is a setting.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A check that takes longer waits for a database that has vanished.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often the books are checked.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    /// The cheap check; zero: never.
    pub incremental: Duration,
    /// The full one; zero: never.
    pub full: Duration,
}

/// Checks the books whenever it is this worker's turn, until told to stop.
pub(crate) async fn watch(pool: PgPool, worker: WorkerId, every: Every, stop: CancellationToken) {
    let shortest =
        [every.incremental, every.full].into_iter().filter(|every| !every.is_zero()).min();
    let Some(shortest) = shortest else { return };
    while stop.run_until_cancelled(tokio::time::sleep(ASK_EVERY.min(shortest))).await.is_some() {
        for (scope, every) in [(Scope::Incremental, every.incremental), (Scope::Full, every.full)] {
            if every.is_zero() {
                continue;
            }
            match stop
                .run_until_cancelled(in_time(
                    LONGEST,
                    Box::pin(take_turn(&pool, worker, scope, every)),
                ))
                .await
            {
                Some(Err(error)) => tracing::warn!(%error, "the books could not be checked"),
                Some(Ok(())) => {}
                None => return,
            }
        }
    }
}

async fn take_turn(
    pool: &PgPool,
    worker: WorkerId,
    scope: Scope,
    every: Duration,
) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    let turn = sqlx::query_scalar!(
        "SELECT begin_reconciliation($1, $2, $3)",
        worker.0,
        scope as Scope,
        interval(every)
    )
    .fetch_one(&mut *db)
    .await?;
    let Some(turn) = turn else { return Ok(()) };
    let checks = reconcile::reconcile(&mut db, scope).await?;
    tell(scope, &checks);
    let violations: i64 = checks.iter().map(|check| check.violations).sum();
    let broken: Vec<_> = checks.iter().filter(|check| check.violations > 0).collect();
    sqlx::query!(
        "SELECT end_reconciliation($1, $2, $3)",
        turn,
        violations,
        serde_json::to_value(broken).unwrap_or_default()
    )
    .execute(&mut *db)
    .await?;
    tracing::debug!(?scope, violations, "the books were checked");
    Ok(())
}

/// In the log, and in the metrics.
fn tell(scope: Scope, checks: &[Check]) {
    for check in checks {
        let violations = u32::try_from(check.violations).unwrap_or(u32::MAX);
        metrics::gauge!("photogate_books_drift", "invariant" => check.invariant)
            .set(f64::from(violations));
        if check.violations > 0 {
            for broken in &check.broken {
                tracing::error!(
                    invariant = check.invariant,
                    organisation = broken.organisation.map(|organisation| organisation.0),
                    row = broken.what,
                    "the books do not balance: {}",
                    check.meaning
                );
            }
        }
    }
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let kind = match scope {
        Scope::Incremental => "incremental",
        Scope::Full => "full",
    };
    metrics::gauge!("photogate_books_checked_timestamp_seconds", "kind" => kind)
        .set(now.as_secs_f64());
}
