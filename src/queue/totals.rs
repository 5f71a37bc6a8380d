//! Totals over all queues: how many are held, paused and running, and how many photos wait or are
//! in progress.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::OrganisationId;

/// Totals over all queues of the service, or of one organisation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Totals {
    /// Number of held queues, with or without waiting photos.
    pub held: i64,
    /// Number of paused queues, without available credits.
    pub no_credits: i64,
    /// Number of queues whose photos can be claimed.
    pub running: i64,
    /// Photos that wait in these queues.
    pub waiting: i64,
    /// Waiting photos in held queues. A top-up does not let them go on.
    pub waiting_held: i64,
    /// Waiting photos that can be claimed now: there are credits for them, and their queues are not
    /// held.
    pub funded: i64,
    /// Photos that are claimed and not settled yet.
    pub in_progress: i64,
    /// Speed in photos per second, measured over the latest photos that were settled in the last
    /// five minutes. It counts only queues that have photos in progress now.
    pub rate: f64,
    /// The time when the first photo was queued that waits in a running queue.
    pub oldest_funded: Option<DateTime<Utc>>,
}

/// Counts all queues, or those of one organisation, with their photos.
///
/// # Errors
/// When the database has trouble.
pub async fn totals(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Totals> {
    sqlx::query_as!(
        Totals,
        r#"WITH busy AS MATERIALIZED (
               SELECT q.*, a.available, h.head, t.tail - h.head - h.skipped AS waiting_here
               FROM account a JOIN queue q USING (organisation_id)
               JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
               WHERE (q.held OR NOT q.drained)
                 AND ($1::bigint IS NULL OR a.organisation_id = $1)
                 AND q.event_id NOT IN (SELECT event_id FROM event WHERE deleted_at IS NOT NULL)),
           recent AS (
               SELECT queue_id,
                      count(*)
                      / greatest(extract(epoch FROM clock_timestamp() - min(o.settled_at)), 1) AS rate
               FROM (SELECT DISTINCT queue_id FROM in_flight
                     WHERE $1::bigint IS NULL OR organisation_id = $1) f
               JOIN queue_head h USING (queue_id)
               CROSS JOIN LATERAL (SELECT job_id FROM job j
                                   WHERE j.queue_id = h.queue_id
                                     AND j.position <= h.head AND j.position > h.head - 500) j
               CROSS JOIN LATERAL (SELECT x.settled_at FROM outcome x
                                   WHERE x.job_id = j.job_id LIMIT 1) o
               WHERE o.settled_at > clock_timestamp() - interval '5 minutes'
               GROUP BY queue_id)
           SELECT count(*) FILTER (WHERE held) AS "held!",
                  count(*) FILTER (WHERE NOT held AND waiting_here > 0
                                     AND (paused_since IS NOT NULL OR available = 0))
                  AS "no_credits!",
                  count(*) FILTER (WHERE runnable AND waiting_here > 0 AND available > 0) AS "running!",
                  coalesce(sum(waiting_here), 0)::bigint AS "waiting!",
                  (SELECT coalesce(sum(least(x.claimable, x.available)), 0)::bigint FROM (
                      SELECT b.available, sum(b.waiting_here) AS claimable FROM busy b
                      WHERE NOT b.held GROUP BY b.organisation_id, b.available) x) AS "funded!",
                  (SELECT coalesce(sum(reserved), 0)::bigint FROM account
                   WHERE $1::bigint IS NULL OR organisation_id = $1) AS "in_progress!",
                  coalesce(sum(waiting_here) FILTER (WHERE held), 0)::bigint
                  AS "waiting_held!",
                  (SELECT coalesce(sum(rate), 0) FROM recent)::float8 AS "rate!",
                  (SELECT min((SELECT r.created_at FROM run r WHERE r.run_id = (
                       SELECT run_id FROM job j WHERE j.queue_id = b.queue_id AND j.position > b.head
                       ORDER BY j.position LIMIT 1)))
                   FROM busy b WHERE b.runnable AND b.available > 0) AS oldest_funded
           FROM busy"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}
