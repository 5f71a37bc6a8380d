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
         WHERE o.settled_at > w.gone_at OR (a.job_id IS NOT NULL AND o.state <> 'quarantined')"
    );
    check!(
        tx,
        checks,
        "no_job_is_lost",
        "each job up to the head is either in flight, settled or skipped; \
         no job after it is in flight or settled; positions have no gap",
        "SELECT q.organisation_id,
                format('queue %s, position %s, head %s: in flight %s, outcome %s, skipped %s',
                       q.queue_id, j.position, q.head, f.job_id IS NOT NULL, o.state,
                       s.position IS NOT NULL)
         FROM job j JOIN queue q USING (queue_id) LEFT JOIN in_flight f USING (job_id)
         LEFT JOIN outcome o USING (job_id)
         LEFT JOIN skip s ON s.queue_id = j.queue_id AND s.position = j.position
         WHERE (f.job_id IS NOT NULL)::int + (o.job_id IS NOT NULL)::int
               + (s.position IS NOT NULL AND j.position <= q.head)::int
               <> (j.position <= q.head)::int
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s has %s jobs and ends at %s', q.queue_id, count(j.position), q.tail)
         FROM queue q LEFT JOIN job j USING (queue_id)
         GROUP BY q.queue_id HAVING q.tail <> count(j.position)"
    );
    check!(
        tx,
        checks,
        "skipped_is_counted",
        "a queue's count of skipped photos is the number of skips after its head",
        "SELECT q.organisation_id, format('queue %s says %s', q.queue_id, q.skipped) FROM queue q
         WHERE q.skipped <> (
             SELECT count(*) FROM skip s WHERE s.queue_id = q.queue_id AND s.position > q.head)"
    );
    Ok(())
}
