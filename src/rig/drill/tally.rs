//! What came of a drill, counted from the database.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Drill, DrillError};
use crate::{
    database,
    ids::OrganisationId,
    ledger::{
        hash_chain,
        reconcile::{self, Check, Scope},
    },
};

/// The result: everything after `kills` must be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Photos that were sent.
    pub jobs: usize,
    /// Workers that were killed.
    pub kills: usize,
    /// Photos that are nowhere: never queued, or passed over by a claim without a trace.
    pub lost: i64,
    /// Photos that were charged more than once for an operation.
    pub charged_twice: i64,
    /// Photos that are in somebody's hands and come to no end.
    pub stuck: i64,
    /// Photos that wait although there is credit, and nobody holds them.
    pub stranded: i64,
    /// Settlements that were taken from a worker that was gone, or for an attempt that had ended.
    pub late_settles_accepted: i64,
    /// Invariants broken, at the end or when a worker looked, links of the chain that do not hold, and accounts that were
    /// not funded with what was sent.
    pub drift: i64,
    /// To hold it again.
    pub seed: u64,
}

impl Tally {
    /// Nothing went wrong.
    pub fn is_clean(&self) -> bool {
        [
            self.lost,
            self.charged_twice,
            self.stuck,
            self.stranded,
            self.late_settles_accepted,
            self.drift,
        ]
        .iter()
        .all(|count| *count == 0)
    }
}

/// What the books must say.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Photos.
    pub photos: usize,
    /// Credits, by organisation.
    pub funded: Vec<(OrganisationId, i64)>,
}

/// What a drill tells beside the tally.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What the books must say.
    pub expected: Expected,
    /// How often a worker saw the books out of balance while it all went on.
    pub alarms: usize,
    /// Workers that were killed.
    pub kills: usize,
    /// How often one that slept through its lease was told that its late settlement was taken.
    pub late_accepted: usize,
    /// How often a worker came too late with what it had done, and was refused.
    pub refused: usize,
    /// In words.
    pub chaos: String,
    /// Worker processes, in all.
    pub workers: usize,
}

/// Counts.
///
/// # Errors
/// When the database has trouble.
pub async fn tally(url: &str, drill: &Drill, told: &Told) -> Result<Tally, DrillError> {
    let pool = database::connect(url, 1).await?;
    let mut db = pool.acquire().await?;
    let checks = reconcile::reconcile(&mut db, Scope::Full).await?;
    let broken = |name: &str| -> i64 {
        checks.iter().filter(|check| check.invariant == name).map(|check| check.violations).sum()
    };
    let counts = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM (SELECT DISTINCT photo_id, queue_id FROM job) j) AS "photos!",
                  (SELECT count(*) FROM (SELECT 1 FROM ledger l JOIN job j ON j.job_id = l.transaction_id WHERE l.movement = 'commit'
                                         GROUP BY j.photo_id, j.queue_id HAVING count(*) > 1) twice) AS "charged_twice!",
                  (SELECT count(*) FROM in_flight) AS "stuck!",
                  -- By now everything is paid for, and nothing is held.
                  (SELECT coalesce(sum(tail - head - skipped), 0)::bigint FROM queue) AS "stranded!",
                  (SELECT count(*) FILTER (WHERE violations > 0) + (count(*) FILTER (WHERE ended_at IS NOT NULL) = 0)::int FROM reconciliation) AS "alarms!""#
    )
    .fetch_one(&mut *db)
    .await?;
    let sent = i64::try_from(told.expected.photos).unwrap_or(i64::MAX);
    let late = "late_workers_change_nothing";
    let drift: i64 =
        checks.iter().filter(|check| check.invariant != late).map(|check| check.violations).sum();
    let chains = hash_chain::verify(&mut db, None, |_| ()).await?;
    let unsealed = chains.iter().filter(|one| one.broken.is_some()).count() + told.alarms;
    tell(&checks);
    Ok(Tally {
        jobs: told.expected.photos,
        kills: told.kills,
        lost: (sent - counts.photos).abs() + broken("no_job_is_lost"),
        charged_twice: counts.charged_twice,
        stuck: counts.stuck,
        stranded: counts.stranded,
        late_settles_accepted: broken(late)
            .max(i64::try_from(told.late_accepted).unwrap_or(i64::MAX)),
        drift: drift
            // A worker that never looked would see nothing.
            + if told.workers > 0 { counts.alarms } else { 0 }
            + i64::try_from(unsealed).unwrap_or(i64::MAX)
            + unfunded(&mut db, &told.expected).await?,
        seed: drill.seed,
    })
}

/// Accounts that were not funded with exactly what was sent, once.
async fn unfunded(db: &mut PgConnection, expected: &Expected) -> sqlx::Result<i64> {
    let mut wrong = 0;
    for (organisation, funded) in &expected.funded {
        let found: Option<i64> = sqlx::query_scalar!(
            "SELECT funded FROM account WHERE organisation_id = $1",
            organisation.0
        )
        .fetch_optional(&mut *db)
        .await?;
        wrong += i64::from(found != Some(*funded));
    }
    Ok(wrong)
}

fn tell(checks: &[Check]) {
    for check in checks.iter().filter(|check| check.violations > 0) {
        tracing::error!(invariant = check.invariant, violations = check.violations, broken = ?check.broken, "the books do not balance");
    }
}
