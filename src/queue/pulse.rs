//! The pulse of queues: how many photos were settled, and how many of them failed, in each slot of
//! five minutes of the last three hours.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// Number of slots of five minutes.
pub const SLOTS: usize = 36;
/// The length of a slot.
pub const SLOT: Duration = Duration::from_secs(300);

/// Photos by slots of five minutes: the oldest slot first, the present one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Photos that were settled, failed ones too.
    pub settled: [i64; SLOTS],
    /// Photos that failed.
    pub failed: [i64; SLOTS],
}

impl Default for Pulse {
    fn default() -> Self {
        Self { settled: [0; SLOTS], failed: [0; SLOTS] }
    }
}

impl Pulse {
    /// Adds photos of a slot that is so many slots ago. What is too long ago is left out.
    fn add(&mut self, slots_ago: i32, settled: i64, failed: i64) {
        // A slot in the future: the clock was put back. It counts as of now.
        let ago = usize::try_from(slots_ago.max(0)).unwrap_or(usize::MAX);
        if let Some(at) = (SLOTS - 1).checked_sub(ago) {
            self.settled[at] += settled;
            self.failed[at] += failed;
        }
    }

    /// All photos that were settled.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.settled.iter().sum()
    }

    /// All photos that failed.
    #[must_use]
    pub fn total_failed(&self) -> i64 {
        self.failed.iter().sum()
    }

    /// The most photos of one slot.
    #[must_use]
    pub fn most(&self) -> i64 {
        self.settled.iter().copied().max().unwrap_or(0)
    }
}

/// Returns the pulses of these queues. One that has settled nothing lately is missing.
///
/// # Errors
/// When the database has trouble.
pub async fn of_queues(db: &mut PgConnection, queues: &[i64]) -> sqlx::Result<HashMap<i64, Pulse>> {
    // The present slot is what was settled since the last one was taken.
    let rows = sqlx::query!(
        r#"WITH now AS MATERIALIZED (SELECT slot_of(clock_timestamp()) AS slot)
           SELECT queue_id AS "queue_id!", now.slot - p.slot AS "ago!", settled AS "settled!",
                  failed AS "failed!"
           FROM pulse p, now
           WHERE queue_id = ANY ($1) AND p.slot > now.slot - 36
           UNION ALL
           SELECT queue_id, 0, settled, failed FROM pulse_since() WHERE queue_id = ANY ($1)"#,
        queues
    )
    .fetch_all(db)
    .await?;
    let mut pulses = HashMap::new();
    for row in rows {
        let pulse: &mut Pulse = pulses.entry(row.queue_id).or_default();
        pulse.add(row.ago, row.settled, row.failed);
    }
    Ok(pulses)
}

/// Returns the pulse of all queues together, or of those of one organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn of_all(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Pulse> {
    let rows = sqlx::query!(
        r#"WITH now AS MATERIALIZED (SELECT slot_of(clock_timestamp()) AS slot)
           SELECT b.ago AS "ago!", sum(b.settled)::bigint AS "settled!",
                  sum(b.failed)::bigint AS "failed!"
           FROM (SELECT queue_id, now.slot - p.slot AS ago, settled, failed FROM pulse p, now
                 WHERE p.slot > now.slot - 36
                 UNION ALL SELECT queue_id, 0, settled, failed FROM pulse_since()) b
           WHERE $1::bigint IS NULL OR b.queue_id IN (
               SELECT queue_id FROM queue WHERE organisation_id = $1)
           GROUP BY 1"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await?;
    let mut pulse = Pulse::default();
    for row in rows {
        pulse.add(row.ago, row.settled, row.failed);
    }
    Ok(pulse)
}

/// Takes the pulse of the slot that has ended last, if no other worker has. Returns the number of
/// queues that have settled something since the one before.
///
/// # Errors
/// When the database has trouble.
pub async fn take(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT take_pulse(slot_of(clock_timestamp()) - 1) AS "queues!""#)
        .fetch_one(db)
        .await
}
