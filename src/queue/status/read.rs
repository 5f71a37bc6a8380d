//! The query that reads queues with their state, counts and speed, by the numbers of the queues or
//! by event.

use sqlx::PgConnection;

use super::queue::Queue;
use crate::ids::EventId;

/// Returns the queues of an event, one for each operation. Empty if there is no such event.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Queue>> {
    read(db, &[], Some(event)).await
}

/// Returns the queues with these numbers, by number. Those of deleted events are missing.
///
/// # Errors
/// When the database has trouble.
pub async fn with_numbers(db: &mut PgConnection, numbers: &[i64]) -> sqlx::Result<Vec<Queue>> {
    read(db, numbers, None).await
}

/// Reads the queues with these numbers, and those of an event.
pub(super) async fn read(
    db: &mut PgConnection,
    numbers: &[i64],
    event: Option<EventId>,
) -> sqlx::Result<Vec<Queue>> {
    sqlx::query_as!(
        Queue,
        r#"SELECT q.queue_id AS id, q.event_id AS "event: _", e.name AS event_name,
                  q.organisation_id AS "organisation: _",
                  o.name AS organisation_name, q.operation AS "operation: _",
                  c.state AS "state!: _",
                  CASE c.state WHEN 'held' THEN d.since
                               WHEN 'no_credits' THEN q.paused_since
                               WHEN 'budget' THEN q.paused_since END AS since,
                  d.hold_id AS "hold?: _", d.owner AS "owner?", d.note AS "note?",
                  d.until AS "until?",
                  t.tail - h.head - h.not_waiting AS "waiting!",
                  least(t.tail - h.head - h.not_waiting, m.spendable) AS "funded!", a.available,
                  (SELECT count(*) FROM follow_up y WHERE y.queue_id = q.queue_id) AS "following!",
                  h.claimed - u.committed - u.refunded AS "in_progress!",
                  k.kept_back_by,
                  u.committed AS "processed!", f.r_undecided AS "undecided!",
                  f.r_duplicates AS "duplicates!", f.r_failed AS "failed!",
                  w.since AS "oldest_waiting?",
                  coalesce(s.rate, 0) AS "rate!",
                  CASE WHEN s.rate > 0 AND k.kept_back_by IS DISTINCT FROM 'quiet_hours'
                       THEN least(t.tail - h.head - h.not_waiting, m.spendable) / s.rate END AS eta_seconds
           FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
           JOIN queue_settled u USING (queue_id)
           JOIN event e USING (event_id)
           JOIN organisation o ON o.organisation_id = q.organisation_id
           JOIN account a ON a.organisation_id = q.organisation_id
           LEFT JOIN LATERAL event_spendable(q.organisation_id, q.event_id) b ON a.steered
           CROSS JOIN LATERAL (SELECT coalesce(b.r_spendable, a.available) AS spendable) m
           CROSS JOIN LATERAL (SELECT CASE WHEN q.held THEN 'held' WHEN t.tail = h.head + h.not_waiting THEN 'idle'
                                           WHEN q.paused_since IS NULL AND m.spendable > 0 THEN 'running'
                                           WHEN b.r_cap_left <= 0 THEN 'budget'
                                           ELSE 'no_credits' END AS state) c
           CROSS JOIN LATERAL (SELECT CASE WHEN a.steered AND c.state = 'running'
               THEN kept_back_by(q.organisation_id, q.event_id) END AS kept_back_by) k
           CROSS JOIN LATERAL standing_refunds(q.queue_id, u.refunded, u.undecided, u.duplicates) f
           LEFT JOIN LATERAL (SELECT * FROM hold
                              WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL
                              ORDER BY since LIMIT 1) d ON true
           -- These lookups have a LIMIT. As joins, they would be planned over all jobs, runs and outcomes.
           CROSS JOIN LATERAL (SELECT (SELECT r.created_at FROM run r WHERE r.run_id = (
               SELECT j.run_id FROM job j WHERE j.queue_id = q.queue_id AND j.position > h.head
               ORDER BY j.position LIMIT 1)) AS since) w
           -- The rate comes from the last 200 claimed photos.
           LEFT JOIN LATERAL (
               SELECT count(*)
                      / greatest(extract(epoch FROM clock_timestamp() - min(x.settled_at)), 1)::float8 AS rate
               FROM recent_jobs(q.queue_id, h.head, 200) AS j (job_id)
               CROSS JOIN LATERAL (SELECT o.settled_at FROM outcome o
                                   WHERE o.job_id = j.job_id LIMIT 1) x
               WHERE x.settled_at > clock_timestamp() - interval '5 minutes') s ON true
           WHERE e.deleted_at IS NULL AND (q.queue_id = ANY($1) OR q.event_id = $2)
           ORDER BY q.queue_id"#,
        numbers,
        event.map(|event| event.0)
    )
    .fetch_all(db)
    .await
}
