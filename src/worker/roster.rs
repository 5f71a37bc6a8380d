//! Lists the workers that live, with their lease, slots, photos in hand and speed. Pages and the
//! API show it to operators.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

/// A worker incarnation that has not left and was not declared dead.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Worker {
    /// The worker's name: host, process ID and a random number, joined by `-`.
    pub name: String,
    /// The time when the worker registered.
    pub since: DateTime<Utc>,
    /// Seconds until the lease runs out, if the worker sends no heartbeat. Negative if it is late.
    pub lease_seconds: f64,
    /// The time since when the worker is draining. Null if it was not told to stop.
    pub draining_since: Option<DateTime<Utc>>,
    /// The time since when the worker claims nothing, because something that all photos need is
    /// away. Null if it claims.
    pub stopped_since: Option<DateTime<Utc>>,
    /// What is away, as a stable code: `store_unavailable` or `sandbox_unavailable`.
    pub stopped_by: Option<String>,
    /// Number of photos that the worker processes at the same time.
    pub slots: i32,
    /// Number of photos that the worker has claimed and not settled yet.
    pub in_hand: i64,
    /// Speed in photos per second over the last five minutes. It counts only queues that have
    /// photos in progress now.
    pub rate: f64,
    /// The reason of the worker's latest failure in the last five minutes.
    pub last_reason: Option<String>,
    /// The time of this failure.
    pub last_failed_at: Option<DateTime<Utc>>,
}

impl Worker {
    /// Number of slots that have a photo: what is in hand beyond them waits on the worker.
    #[must_use]
    pub fn in_use(&self) -> i64 {
        self.in_hand.min(i64::from(self.slots))
    }

    /// The worker's state in a word or two: `late`, `draining`, `stopped` or `in time`.
    pub fn state(&self) -> &'static str {
        if self.lease_seconds < 0.0 {
            "late"
        } else if self.draining_since.is_some() {
            "draining"
        } else if self.stopped_by.is_some() {
            "stopped"
        } else {
            "in time"
        }
    }
}

/// Returns at most 1,000 workers: those that have not left and were not declared dead.
///
/// # Errors
/// When the database has trouble.
pub async fn workers(db: &mut PgConnection) -> sqlx::Result<Vec<Worker>> {
    sqlx::query_as!(
        Worker,
        r#"WITH recent AS (
               SELECT o.worker_id, o.settled_at, o.reason
               FROM (SELECT DISTINCT queue_id FROM in_flight) f JOIN queue_head h USING (queue_id)
               CROSS JOIN LATERAL recent_jobs(h.queue_id, h.head, 500) AS j (job_id)
               CROSS JOIN LATERAL (SELECT x.worker_id, x.settled_at, x.reason FROM outcome x
                                   WHERE x.job_id = j.job_id LIMIT 1) o
               WHERE o.settled_at > clock_timestamp() - interval '5 minutes')
           SELECT w.name, w.started_at AS since,
                  extract(epoch FROM w.lease_until - clock_timestamp())::float8 AS "lease_seconds!",
                  w.draining_since, w.stopped_since, w.stopped_by, w.slots,
                  (SELECT count(*) FROM in_flight f WHERE f.worker_id = w.worker_id) AS "in_hand!",
                  coalesce((SELECT count(*)
                                   / greatest(extract(epoch FROM clock_timestamp() - min(r.settled_at)), 1)
                            FROM recent r WHERE r.worker_id = w.worker_id), 0)::float8 AS "rate!",
                  (SELECT r.reason FROM recent r
                   WHERE r.worker_id = w.worker_id AND r.reason IS NOT NULL
                   ORDER BY r.settled_at DESC LIMIT 1) AS last_reason,
                  (SELECT max(r.settled_at) FROM recent r
                   WHERE r.worker_id = w.worker_id AND r.reason IS NOT NULL) AS last_failed_at
           FROM worker w WHERE w.gone_at IS NULL AND w.worker_id <> 0
           ORDER BY w.worker_id LIMIT 1000"#
    )
    .fetch_all(db)
    .await
}
