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
    /// Number of paused queues, without available credits, or with credits that are kept for other
    /// events.
    pub no_credits: i64,
    /// Number of paused queues whose events have used up their budgets.
    pub budget: i64,
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
        r#"WITH budgets AS MATERIALIZED (
               SELECT * FROM spendable(ARRAY(
                   SELECT organisation_id FROM account
                   WHERE steered AND ($1::bigint IS NULL OR organisation_id = $1)))),
           busy AS MATERIALIZED (
               SELECT q.*, h.head, t.tail - h.head - h.not_waiting AS waiting_here,
                      coalesce(own.r_spendable, others.r_spendable, a.available) AS spendable,
                      own.r_cap_left AS cap_left, coalesce(own.r_floor_left, 0) AS floor_left,
                      coalesce(others.r_free, a.available) AS free
               FROM account a JOIN queue q USING (organisation_id)
               JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
               LEFT JOIN budgets others
                   ON others.r_organisation = a.organisation_id AND others.r_event IS NULL
               LEFT JOIN budgets own ON own.r_event = q.event_id
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
               CROSS JOIN LATERAL recent_jobs(h.queue_id, h.head, 500) AS j (job_id)
               CROSS JOIN LATERAL (SELECT x.settled_at FROM outcome x
                                   WHERE x.job_id = j.job_id LIMIT 1) o
               WHERE o.settled_at > clock_timestamp() - interval '5 minutes'
               GROUP BY queue_id)
           SELECT count(*) FILTER (WHERE held) AS "held!",
                  count(*) FILTER (WHERE NOT held AND waiting_here > 0
                                     AND (paused_since IS NOT NULL OR spendable = 0)
                                     AND (cap_left <= 0) IS NOT TRUE)
                  AS "no_credits!",
                  count(*) FILTER (WHERE NOT held AND waiting_here > 0 AND cap_left <= 0) AS "budget!",
                  count(*) FILTER (WHERE runnable AND waiting_here > 0 AND spendable > 0) AS "running!",
                  coalesce(sum(waiting_here), 0)::bigint AS "waiting!",
                  -- Each event spends what is kept for it, and all of them share what is free.
                  (SELECT coalesce(sum(o.kept + least(o.more, o.free)), 0)::bigint FROM (
                      SELECT x.free, sum(least(x.claimable, x.floor_left)) AS kept,
                             sum(greatest(0, least(x.claimable, x.cap_left) - x.floor_left)) AS more
                      FROM (SELECT b.organisation_id, b.free, b.floor_left, b.cap_left,
                                   sum(b.waiting_here) AS claimable
                            FROM busy b WHERE NOT b.held AND b.spendable > 0
                            GROUP BY b.organisation_id, b.event_id, b.free, b.floor_left, b.cap_left) x
                      GROUP BY x.organisation_id, x.free) o) AS "funded!",
                  (SELECT coalesce(sum(reserved), 0)::bigint FROM account
                   WHERE $1::bigint IS NULL OR organisation_id = $1) AS "in_progress!",
                  coalesce(sum(waiting_here) FILTER (WHERE held), 0)::bigint
                  AS "waiting_held!",
                  (SELECT coalesce(sum(rate), 0) FROM recent)::float8 AS "rate!",
                  (SELECT min((SELECT r.created_at FROM run r WHERE r.run_id = (
                       SELECT run_id FROM job j WHERE j.queue_id = b.queue_id AND j.position > b.head
                       ORDER BY j.position LIMIT 1)))
                   FROM busy b WHERE b.runnable AND b.spendable > 0) AS oldest_funded
           FROM busy"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}
