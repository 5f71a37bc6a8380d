//! The invariants of work: of queues, jobs, skips, holds and workers. (Those of money are in
//! `money.rs`.)

use sqlx::PgConnection;

use super::invariant::{Check, check};
use crate::ids::OrganisationId;

/// The invariants of queues, jobs and holds.
pub(super) async fn work(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "held_means_a_hold_stands",
        "a queue is marked as held if and only if a hold on it has not been lifted",
        "SELECT q.organisation_id, format('event %s, %s', q.event_id, q.operation) FROM queue q
         WHERE q.held <> EXISTS (
             SELECT FROM hold h WHERE h.queue_id = q.queue_id AND h.lifted_at IS NULL)"
    );
    check!(
        tx,
        checks,
        "late_workers_change_nothing",
        "no worker settled a photo after it was gone, or for an attempt that had ended",
        "SELECT NULL::bigint,
                format('job %s, attempt %s by worker %s', o.job_id, o.attempt, o.worker_id)
         FROM outcome o LEFT JOIN worker w USING (worker_id)
         LEFT JOIN attempt a ON a.job_id = o.job_id AND a.number >= o.attempt
         -- What a worker had is taken from it when it is gone, so the attempt tells. The time is only
         -- a second look: the clock may have stepped back in between.
         WHERE o.settled_at > w.gone_at + interval '1 hour' OR (a.job_id IS NOT NULL AND o.state <> 'quarantined')"
    );
    check!(
        tx,
        checks,
        "no_job_is_lost",
        "each job up to the head is either in flight, settled or skipped; \
         no job after it is in flight or settled; positions have no gap",
        "SELECT q.organisation_id,
                format('queue %s, position %s, head %s: in flight %s, outcome %s, skipped %s',
                       q.queue_id, j.position, h.head, f.job_id IS NOT NULL, o.state,
                       s.position IS NOT NULL)
         FROM job j JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id)
         LEFT JOIN in_flight f USING (job_id)
         LEFT JOIN outcome o USING (job_id)
         LEFT JOIN skip s ON s.queue_id = j.queue_id AND s.position = j.position
         WHERE (f.job_id IS NOT NULL)::int + (o.job_id IS NOT NULL)::int
               + (s.position IS NOT NULL AND j.position <= h.head)::int
               <> (j.position <= h.head)::int
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s has %s jobs and ends at %s', q.queue_id, count(j.position), t.tail)
         FROM queue q LEFT JOIN queue_tail t USING (queue_id) LEFT JOIN job j USING (queue_id)
         GROUP BY q.queue_id, t.tail HAVING t.tail IS DISTINCT FROM count(j.position)"
    );
    check!(
        tx,
        checks,
        "drained_is_empty",
        "nothing waits in a drained queue, and no queue's head is after its tail",
        "SELECT q.organisation_id,
                format('queue %s: drained %s, head %s, tail %s, skipped %s',
                       q.queue_id, q.drained, h.head, t.tail, h.skipped)
         FROM queue q LEFT JOIN queue_head h USING (queue_id) LEFT JOIN queue_tail t USING (queue_id)
         WHERE coalesce(t.tail - h.head - h.skipped < 0 OR (q.drained AND h.head <> t.tail), true)"
    );
    check!(
        tx,
        checks,
        "queues_count_their_photos",
        "a queue's counts of claimed, processed and refunded photos are the sums over its runs",
        "SELECT q.organisation_id,
                format('queue %s: claimed %s, committed %s, refunded %s; its runs: %s, %s, %s',
                       q.queue_id, h.claimed, s.committed, s.refunded,
                       u.claimed, u.committed, u.refunded)
         FROM queue q LEFT JOIN queue_head h USING (queue_id)
         LEFT JOIN queue_settled s USING (queue_id) LEFT JOIN (
             SELECT queue_id, sum(claimed) AS claimed, sum(committed) AS committed,
                    sum(refunded) AS refunded
             FROM usage GROUP BY queue_id) u USING (queue_id)
         WHERE (h.claimed, s.committed, s.refunded)
               IS DISTINCT FROM (coalesce(u.claimed, 0)::bigint, coalesce(u.committed, 0)::bigint,
                                 coalesce(u.refunded, 0)::bigint)"
    );
    check!(
        tx,
        checks,
        "skipped_is_counted",
        "a queue's count of skipped photos is the number of skips after its head",
        "SELECT q.organisation_id, format('queue %s says %s', q.queue_id, h.skipped)
         FROM queue q JOIN queue_head h USING (queue_id)
         WHERE h.skipped <> (
             SELECT count(*) FROM skip s WHERE s.queue_id = q.queue_id AND s.position > h.head)"
    );
    Ok(())
}
