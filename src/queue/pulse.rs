//! The pulse of queues: how many photos were settled, and how many of them failed, in each slot of
//! five minutes of the last three hours.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// Number of slots of five minutes.
pub const SLOTS: usize = 36;

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
    let rows = sqlx::query!(
        r#"SELECT queue_id, slot_of(clock_timestamp()) - last_slot AS "ago!",
                  lately_settled AS settled, lately_failed AS failed
           FROM queue_settled
           WHERE queue_id = ANY ($1) AND last_slot > slot_of(clock_timestamp()) - 36"#,
        queues
    )
    .fetch_all(db)
    .await?;
    let mut pulses = HashMap::new();
    for row in rows {
        let pulse: &mut Pulse = pulses.entry(row.queue_id).or_default();
        for (ago, (settled, failed)) in (row.ago..).zip(row.settled.iter().zip(&row.failed)) {
            pulse.add(ago, i64::from(*settled), i64::from(*failed));
        }
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
    // It looks at each queue, and only adds up those that have settled something lately.
    let rows = sqlx::query!(
        r#"WITH now AS MATERIALIZED (SELECT slot_of(clock_timestamp()) AS slot)
           SELECT ((SELECT slot FROM now) - s.last_slot + u.n - 1)::integer AS "ago!",
                  sum(u.settled) AS "settled!", sum(u.failed) AS "failed!"
           FROM queue_settled s
           CROSS JOIN LATERAL unnest(s.lately_settled, s.lately_failed)
               WITH ORDINALITY u (settled, failed, n)
           WHERE s.last_slot > (SELECT slot FROM now) - 36
             AND ($1::bigint IS NULL OR s.queue_id IN (
                 SELECT queue_id FROM queue WHERE organisation_id = $1))
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
