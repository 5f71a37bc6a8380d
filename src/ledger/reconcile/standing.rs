//! The invariants of what there is now: accounts, queues, photos in flight. Their cost does not
//! grow with what was.

use sqlx::PgConnection;

use super::invariant::{Check, check};
use crate::ids::OrganisationId;

/// The invariants of the cheap check.
pub(super) async fn often(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "accounts_match_their_chains",
        "an account has the totals of the last link of its hash chain",
        "SELECT a.organisation_id,
                format('account: entries %s, available %s, reserved %s, spent %s; last link: %s, %s, %s, %s',
                       a.entries, a.available, a.reserved, a.spent,
                       l.last_entry, l.available, l.reserved, l.spent)
         FROM account a
         LEFT JOIN LATERAL (
             SELECT * FROM link WHERE link.organisation_id = a.organisation_id
             ORDER BY last_entry DESC LIMIT 1) l ON true
         WHERE (a.entries, a.available, a.reserved, a.spent)
               IS DISTINCT FROM (coalesce(l.last_entry, 0), coalesce(l.available, 0),
                                 coalesce(l.reserved, 0), coalesce(l.spent, 0))"
    );
    check!(
        tx,
        checks,
        "reserved_is_in_flight",
        "an account has one credit reserved for each of its photos in flight",
        "SELECT organisation_id,
                format('%s reserved, %s in flight', coalesce(a.reserved, 0), coalesce(f.n, 0))
         FROM account a
         FULL JOIN (SELECT organisation_id, count(*) AS n FROM in_flight GROUP BY organisation_id) f
              USING (organisation_id)
         WHERE coalesce(a.reserved, 0) <> coalesce(f.n, 0)"
    );
    check!(
        tx,
        checks,
        "paused_means_no_credit",
        "a queue is paused only while its event may spend no credits, or a claim is to resume it",
        "SELECT q.organisation_id,
                format('event %s, %s: paused since %s, %s available',
                       q.event_id, q.operation, q.paused_since, a.available)
         FROM queue q JOIN account a USING (organisation_id)
         LEFT JOIN LATERAL event_spendable(q.organisation_id, q.event_id) s ON a.steered
         WHERE q.paused_since IS NOT NULL AND coalesce(s.r_spendable, a.available) > 0
           AND NOT a.resume_due"
    );
    check!(
        tx,
        checks,
        "budgets_are_kept",
        "no event uses more credits than its cap, unless it did when the cap was set, and no event \
         uses credits that are kept for another",
        "SELECT b.organisation_id,
                format('event %s uses %s of %s, and used %s then', b.event_id, u.n, b.cap, b.used_then)
         FROM budget b CROSS JOIN LATERAL event_used(b.event_id) u (n)
         WHERE b.cap IS NOT NULL AND u.n > greatest(b.cap, b.used_then)
         UNION ALL
         SELECT s.organisation_id, format('%s credits of floors are missing, and %s were', n, s.shortfall)
         FROM steering s CROSS JOIN LATERAL floors_short(s.organisation_id) f (n)
         WHERE n > s.shortfall
         UNION ALL
         SELECT a.organisation_id, format('steered: %s', a.steered)
         FROM account a
         WHERE a.steered IS DISTINCT FROM EXISTS (
             SELECT FROM steering s WHERE s.organisation_id = a.organisation_id)"
    );
    check!(
        tx,
        checks,
        "the_gone_hold_nothing",
        "no photo in flight belongs to a worker that is gone",
        "SELECT f.organisation_id, format('job %s belongs to %s', f.job_id, w.name)
         FROM in_flight f JOIN worker w USING (worker_id) WHERE w.gone_at IS NOT NULL"
    );
    Ok(())
}

/// The invariants that only the full check looks at.
pub(super) async fn rarely(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "flights_are_reserved",
        "each photo in flight has a reservation in the ledger of its organisation",
        "SELECT f.organisation_id, format('job %s has no reservation', f.job_id)
         FROM in_flight f
         LEFT JOIN LATERAL (
             SELECT r.transaction_id FROM ledger r
             WHERE r.transaction_id = f.job_id AND r.leg = 0 AND r.movement = 'reserve'
               AND r.organisation_id + 0 = f.organisation_id LIMIT 1) r ON true
         WHERE r.transaction_id IS NULL"
    );
    check!(
        tx,
        checks,
        "no_job_is_lost",
        "each job up to the head is either in flight, settled, skipped or put back; of those after it, \
         only what was claimed before its turn is in flight or settled; positions have no gap",
        "SELECT f.organisation_id,
                format('job %s is in flight, and waits at %s', f.job_id, j.position)
         FROM in_flight f CROSS JOIN LATERAL latest_job(f.photo_id, f.queue_id) j
         JOIN queue_head h ON h.queue_id = f.queue_id
         WHERE stretch_kind_at(j.queue_id, j.position) = 'first'
            OR stretch_kind_at(j.queue_id, j.position) IS NULL AND j.position > h.head"
    );
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
        "timeline_tells_pauses",
        "a queue is paused if and only if the last pause or resumption of its timeline is a pause",
        "SELECT q.organisation_id,
                format('event %s, %s: paused since %s, and the timeline says %s',
                       q.event_id, q.operation, q.paused_since, t.kind)
         FROM queue q LEFT JOIN LATERAL (
             SELECT t.kind FROM timeline t
             WHERE t.event_id = q.event_id AND t.operation = q.operation
               AND t.kind IN ('paused', 'resumed')
               AND (t.cause IS NULL OR t.cause NOT IN ('lift', 'expiry'))
             ORDER BY t.entry_id DESC LIMIT 1) t ON true
         WHERE (q.paused_since IS NOT NULL) <> coalesce(t.kind = 'paused', false)"
    );
    check!(
        tx,
        checks,
        "drained_is_empty",
        "nothing waits in a drained queue, and no queue's head is after its tail",
        "SELECT q.organisation_id,
                format('queue %s: drained %s, head %s, tail %s, not waiting %s',
                       q.queue_id, q.drained, h.head, t.tail, h.not_waiting)
         FROM queue q LEFT JOIN queue_head h USING (queue_id) LEFT JOIN queue_tail t USING (queue_id)
         WHERE coalesce(t.tail - h.head - h.not_waiting < 0 OR (q.drained AND h.head <> t.tail), true)"
    );
    archives(tx, checks).await?;
    check!(
        tx,
        checks,
        "stretches_are_counted",
        "a queue counts what is not claimed in its turn; its stretches reach over neither each other \
         nor its head nor its tail",
        "SELECT q.organisation_id, format('queue %s says %s', q.queue_id, h.not_waiting)
         FROM queue q JOIN queue_head h USING (queue_id)
         WHERE h.not_waiting <> (
             SELECT coalesce(sum(CASE WHEN s.from_position > h.head AND s.kind <> 'first'
                                      THEN s.to_position - s.from_position + 1
                                      WHEN s.from_position <= h.head AND s.kind = 'first'
                                      THEN s.from_position - s.to_position - 1 END), 0)
             FROM stretch s WHERE s.queue_id = q.queue_id)
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s: its stretch from %s to %s (%s), head %s, tail %s, stretched %s',
                       q.queue_id, s.from_position, s.to_position, s.kind, h.head, t.tail,
                       q.stretched)
         FROM stretch s JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id)
         JOIN queue_tail t USING (queue_id)
         WHERE s.from_position <= h.head AND s.to_position > h.head OR s.to_position > t.tail
            OR EXISTS (SELECT FROM stretch x WHERE x.queue_id = s.queue_id
                       AND x.from_position > s.from_position AND x.from_position <= s.to_position)
            OR NOT q.stretched AND (s.kind = 'first' OR s.from_position > h.head)
            OR s.kind = 'taken' AND s.from_position <= h.head"
    );
    Ok(())
}

/// What of the books is in archives.
async fn archives(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "archives_keep_the_books",
        "an archive has as many jobs, and as many that were processed and refunded, as the queues of its \
         event have counted",
        "SELECT q.organisation_id,
                format('queue %s: archive %s has %s jobs, %s committed, %s refunded, %s undecided, '
                       '%s duplicates; the queue: %s, %s, %s, %s, %s',
                       a.queue_id, a.archive_id, a.jobs, a.committed, a.refunded, a.undecided,
                       a.duplicates, t.tail - u.n, s.committed, s.refunded, s.undecided, s.duplicates)
         FROM archive_queue a JOIN queue q USING (queue_id) LEFT JOIN queue_tail t USING (queue_id)
         LEFT JOIN queue_settled s USING (queue_id) CROSS JOIN LATERAL (
             SELECT coalesce(sum(x.to_position - x.from_position + 1), 0) AS n
             FROM stretch x WHERE x.queue_id = a.queue_id AND x.kind = 'undone') u
         WHERE (a.jobs, a.committed, a.refunded, a.undecided, a.duplicates) IS DISTINCT FROM
               (t.tail - u.n, s.committed, s.refunded, s.undecided, s.duplicates)
         UNION ALL
         SELECT q.organisation_id,
                format('archive %s has the outcomes of %s committed and %s refunded jobs, and its queues '
                       'of %s and %s', q.archive_id, j.committed, j.refunded, q.committed, q.refunded)
         FROM (SELECT a.archive_id, min(q.organisation_id) AS organisation_id,
                      sum(a.committed) AS committed, sum(a.refunded) AS refunded
               FROM archive_queue a JOIN queue q USING (queue_id) GROUP BY a.archive_id) q
         CROSS JOIN LATERAL (
             SELECT coalesce(sum(j.to_job - j.from_job + 1) FILTER (WHERE j.committed), 0) AS committed,
                    coalesce(sum(j.to_job - j.from_job + 1) FILTER (WHERE NOT j.committed), 0)
                    AS refunded
             FROM archive_jobs j WHERE j.archive_id = q.archive_id) j
         WHERE (j.committed, j.refunded) IS DISTINCT FROM (q.committed, q.refunded)"
    );
    Ok(())
}
