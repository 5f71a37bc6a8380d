//! Counts, after a drill, what was lost, charged twice, stuck or stranded, what exceeded a budget or a
//! limit, and what webhooks left out or said wrongly. All of it must be 0.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

use super::{
    Drill, DrillError,
    heard::{self, Compared, Heard},
    replay::replay,
};
use crate::{
    ids::OrganisationId,
    ledger::{
        hash_chain,
        reconcile::{self, Check, Scope},
    },
};

/// The result of a drill. All counts from `lost` to `drift` must be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Number of photos that were sent.
    pub jobs: usize,
    /// Number of workers that were killed.
    pub kills: usize,
    /// Number of lost photos: never queued, or passed by the head of their queue without a claim.
    pub lost: i64,
    /// Number of photos that were charged more than once for an operation.
    pub charged_twice: i64,
    /// Number of photos that are in progress at the end and were not settled.
    pub stuck: i64,
    /// Number of photos that wait at the end, although they are paid for and not held.
    pub stranded: i64,
    /// Number of settlements that were accepted from a worker that was gone, or for an attempt that
    /// had ended.
    pub late_settles_accepted: i64,
    /// Number of reservations with which an event used more credits than its cap allowed then.
    pub caps_exceeded: i64,
    /// Number of reservations that took a credit which a floor kept for another event.
    pub floors_violated: i64,
    /// Number of reservations with which more photos of an organisation or event were in flight
    /// than its limit.
    pub in_flight_exceeded: i64,
    /// What has happened and webhooks did not say: photos that were settled, entries of timelines,
    /// top-ups, and numbers of changes that are missing.
    pub changes_lost: i64,
    /// What webhooks said and did not happen, or was not signed.
    pub changes_untrue: i64,
    /// Number of changes that webhooks said after a later one of the same subject.
    pub changes_out_of_order: i64,
    /// Number of upgrades that were asked for and did not end.
    pub upgrades_missed: i64,
    /// Number of other errors in the books: rows that break an invariant at the end, checks by
    /// workers that found errors, broken chains, and accounts with wrong top-ups.
    pub drift: i64,
    /// Number of reservations with which an event used up its cap. Where it is 0, nothing was said
    /// about caps; the same goes for floors and limits.
    pub caps_reached: i64,
    /// Number of reservations after which only credits were left that floors kept.
    pub floors_reached: i64,
    /// Number of reservations with which a limit of photos in flight was reached.
    pub in_flight_reached: i64,
    /// What webhooks had to say: photos, entries of timelines, and top-ups.
    pub causes: i64,
    /// Number of calls that the receiver got.
    pub calls: i64,
    /// The seed, with which the drill can be repeated.
    pub seed: u64,
}

impl Tally {
    /// Tells whether all counts that must be 0 are 0.
    pub fn is_clean(&self) -> bool {
        [
            self.lost,
            self.charged_twice,
            self.stuck,
            self.stranded,
            self.late_settles_accepted,
            self.caps_exceeded,
            self.floors_violated,
            self.in_flight_exceeded,
            self.changes_lost,
            self.changes_untrue,
            self.changes_out_of_order,
            self.upgrades_missed,
            self.drift,
        ]
        .iter()
        .all(|count| *count == 0)
    }
}

/// What the database must contain after the drill.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Number of photos that must have been queued.
    pub photos: usize,
    /// Number of credits that each organisation was funded with.
    pub funded: Vec<(OrganisationId, i64)>,
}

/// What a drill observed, besides the counts from the database.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What the database must contain.
    pub expected: Expected,
    /// How often a worker reported during the drill that the books do not balance.
    pub alarms: usize,
    /// Number of workers that were killed.
    pub kills: usize,
    /// How often the late settlement of a worker that slept past its lease was accepted.
    pub late_accepted: usize,
    /// How often a late settlement was refused.
    pub refused: usize,
    /// The faults, in words.
    pub chaos: String,
    /// What was decided about credits, in words.
    pub steering: String,
    /// Number of upgrades that did not end.
    pub upgrades_missed: usize,
    /// The upgrades, in words.
    pub upgrades: String,
    /// Number of worker processes that were started.
    pub workers: usize,
    /// The calls of webhooks, in the order in which they came. `None`: nobody listened.
    pub heard: Option<Vec<Heard>>,
}

/// Counts the result of a drill from the database.
///
/// # Errors
/// When the database has trouble.
pub async fn tally(pool: &PgPool, drill: &Drill, told: &Told) -> Result<Tally, DrillError> {
    let mut db = pool.acquire().await?;
    let checks = reconcile::reconcile(&mut db, Scope::Full).await?;
    let broken = |name: &str| -> i64 {
        checks.iter().filter(|check| check.invariant == name).map(|check| check.violations).sum()
    };
    let counts = sqlx::query!(
        r#"SELECT (SELECT count(*)
                   FROM (SELECT DISTINCT photo_id, queue_id FROM job) j) AS "photos!",
                  (SELECT count(*) FROM (
                       SELECT 1 FROM ledger l JOIN job j ON j.job_id = l.transaction_id
                       WHERE l.movement = 'commit'
                       GROUP BY j.photo_id, j.queue_id HAVING count(*) > 1) twice)
                  AS "charged_twice!",
                  (SELECT count(*) FROM in_flight) AS "stuck!",
                  -- At this point everything is paid for, and only deleted events are held.
                  (SELECT coalesce(sum(tail - head - not_waiting), 0)::bigint
                   FROM queue_head JOIN queue_tail USING (queue_id) JOIN queue q USING (queue_id)
                   WHERE (SELECT deleted_at FROM event e WHERE e.event_id = q.event_id) IS NULL)
                  + (SELECT count(*) FROM follow_up) AS "stranded!",
                  (SELECT count(*) FILTER (WHERE violations > 0)
                          + (count(*) FILTER (WHERE ended_at IS NOT NULL) = 0)::int
                   FROM reconciliation) AS "alarms!""#
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
    let decided = replay(&mut db).await?;
    let said = match &told.heard {
        Some(calls) => heard::compare(&mut db, calls).await?,
        None => Compared::default(),
    };
    Ok(Tally {
        jobs: told.expected.photos,
        kills: told.kills,
        lost: (sent - counts.photos).abs() + broken("no_job_is_lost"),
        charged_twice: counts.charged_twice,
        stuck: counts.stuck,
        stranded: counts.stranded,
        late_settles_accepted: broken(late)
            .max(i64::try_from(told.late_accepted).unwrap_or(i64::MAX)),
        caps_exceeded: decided.caps_exceeded,
        floors_violated: decided.floors_violated,
        in_flight_exceeded: decided.in_flight_exceeded,
        changes_lost: said.lost,
        changes_untrue: said.untrue,
        changes_out_of_order: said.out_of_order,
        upgrades_missed: i64::try_from(told.upgrades_missed).unwrap_or(i64::MAX),
        drift: drift
            // If no check of the books ended, that counts as an alarm. Without workers there are no
            // checks.
            + if told.workers > 0 { counts.alarms } else { 0 }
            + i64::try_from(unsealed).unwrap_or(i64::MAX)
            + unfunded(&mut db, &told.expected).await?,
        caps_reached: decided.caps_reached,
        floors_reached: decided.floors_reached,
        in_flight_reached: decided.in_flight_reached,
        causes: said.causes,
        calls: told
            .heard
            .as_ref()
            .map_or(0, |calls| i64::try_from(calls.len()).unwrap_or(i64::MAX)),
        seed: drill.seed,
    })
}

/// Counts the accounts whose funded credits are not exactly what was sent.
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
        tracing::error!(
            invariant = check.invariant,
            violations = check.violations,
            broken = ?check.broken,
            "the books do not balance"
        );
    }
}
