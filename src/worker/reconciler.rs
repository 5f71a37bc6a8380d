//! Workers check the books in the background: a cheap check often, a full check from time to time.
//! Workers take turns, and one worker checks for all. Drift is an error in the log of this worker,
//! and is in the metrics of every worker.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use serde::Deserialize;
use sqlx::{PgPool, types::Json};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ledger::reconcile::{self, Check, Scope, Since};
use crate::{
    database::in_time,
    queue::claim::{Incarnation, interval},
};

/// How often a worker asks whether a check is due. The interval between two checks is a setting.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The longest time for a check. After it, any worker may begin the next one, which goes on where
/// this one has come to.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// The intervals between two checks of the books.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    /// The interval of the cheap check. Zero means never.
    pub incremental: Duration,
    /// The interval of the full check. Zero means never.
    pub full: Duration,
}

impl From<&Config> for Every {
    fn from(config: &Config) -> Self {
        Self {
            incremental: Duration::from_secs(config.reconcile_seconds),
            full: Duration::from_secs(3600 * config.reconcile_full_hours),
        }
    }
}

/// Checks the books whenever a check is due and no other worker has taken it, until told to stop.
pub(crate) async fn watch(pool: PgPool, me: Incarnation, every: Every, stop: CancellationToken) {
    let shortest =
        [every.incremental, every.full].into_iter().filter(|every| !every.is_zero()).min();
    let Some(shortest) = shortest else { return };
    let mut shown = Shown::default();
    while stop.run_until_cancelled(tokio::time::sleep(ASK_EVERY.min(shortest))).await.is_some() {
        for (scope, every) in [(Scope::Incremental, every.incremental), (Scope::Full, every.full)] {
            if every.is_zero() {
                continue;
            }
            match stop
                .run_until_cancelled(in_time(
                    LONGEST,
                    Box::pin(take_turn(&pool, me, scope, every, &mut shown)),
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

/// Checks the books once, as [`watch`] does when a check is due.
///
/// # Errors
/// When the database has trouble.
pub(crate) async fn check(pool: &PgPool, me: Incarnation, scope: Scope) -> sqlx::Result<()> {
    take_turn(pool, me, scope, Duration::ZERO, &mut Shown::default()).await
}

async fn take_turn(
    pool: &PgPool,
    me: Incarnation,
    scope: Scope,
    every: Duration,
    shown: &mut Shown,
) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    let turn = sqlx::query_scalar!(
        "SELECT begin_reconciliation($1, $2, $3)",
        me.key(),
        scope as Scope,
        interval(every)
    )
    .fetch_one(&mut *db)
    .await?;
    if let Some(turn) = turn {
        let checks = match scope {
            Scope::Incremental => reconcile::reconcile(&mut db, scope).await?,
            Scope::Full => reconcile::full(&mut db, Since::LastCheck(me), reconcile::SLICE).await?,
        };
        log(&checks);
        shown.learn(scope, &checks);
        let violations: i64 = checks.iter().map(|check| check.violations).sum();
        let broken: Vec<_> = checks.iter().filter(|check| check.violations > 0).collect();
        sqlx::query!(
            "SELECT end_reconciliation($1, $2, $3, $4)",
            me.key(),
            turn,
            violations,
            serde_json::to_value(broken).unwrap_or_default()
        )
        .execute(&mut *db)
        .await?;
        tracing::debug!(?scope, violations, "the books were checked");
    }
    let latest = sqlx::query!(
        r#"SELECT ended_at AS "ended_at!", broken AS "broken: Json<Vec<Drift>>" FROM reconciliation
           WHERE kind = $1 AND ended_at IS NOT NULL ORDER BY reconciliation_id DESC LIMIT 1"#,
        scope as Scope
    )
    .fetch_optional(&mut *db)
    .await?;
    if let Some(latest) = latest {
        shown.show(scope, latest.ended_at, latest.broken.map_or_else(Vec::new, |broken| broken.0));
    }
    Ok(())
}

fn log(checks: &[Check]) {
    for check in checks {
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

/// An invariant that the latest check found broken.
#[derive(Debug, Deserialize)]
struct Drift {
    invariant: String,
    violations: u32,
}

/// The drift metrics: the result of the latest check of each kind, from any worker.
///
/// Every worker shows the latest result, so that an alarm ends everywhere, also if another worker
/// raised it.
#[derive(Debug, Default)]
struct Shown(BTreeMap<(&'static str, String), u32>);

impl Shown {
    /// Adds the checked invariants to the metrics, with 0 violations.
    fn learn(&mut self, scope: Scope, checks: &[Check]) {
        for check in checks {
            self.0.entry((scope.name(), check.invariant.to_owned())).or_default();
        }
    }

    fn show(&mut self, scope: Scope, checked_at: DateTime<Utc>, drifts: Vec<Drift>) {
        self.0
            .iter_mut()
            .filter(|((kind, _), _)| *kind == scope.name())
            .for_each(|(_, violations)| *violations = 0);
        for drift in drifts {
            self.0.insert((scope.name(), drift.invariant), drift.violations);
        }
        for ((kind, invariant), violations) in &self.0 {
            metrics::gauge!(
                "photogate_books_drift",
                "kind" => *kind,
                "invariant" => invariant.clone()
            )
            .set(f64::from(*violations));
        }
        #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit until 2255")]
        let seconds = checked_at.timestamp_micros() as f64 / 1e6;
        metrics::gauge!("photogate_books_checked_timestamp_seconds", "kind" => scope.name())
            .set(seconds);
    }
}
