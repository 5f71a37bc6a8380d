//! The sums by run, by day and by month.

use sqlx::PgConnection;

use super::{Slice, on_slice};
use crate::{ids::OrganisationId, ledger::reconcile::invariant::Check};

pub(super) async fn periods(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    runs(tx, slice, checks).await?;
    months(tx, slice, checks).await
}

/// A run that has moved is read as a whole.
async fn runs(tx: &mut PgConnection, slice: &Slice, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "history_adds_up",
        "the usage and refunds of each run, by day and by month, are those of the ledger",
        "WITH entries AS MATERIALIZED (
             SELECT r.run_id, l.organisation_id, l.entry, l.movement, l.leg, o.state
             FROM run_moved CROSS JOIN LATERAL (
                 SELECT r.run_id, r.queue_id, r.first_position, r.queued FROM run r
                 WHERE r.run_id = run_moved.run_id LIMIT 1) r
             CROSS JOIN LATERAL (
                 SELECT j.job_id FROM job j
                 WHERE j.queue_id = r.queue_id AND j.position >= r.first_position
                   AND j.position < r.first_position + r.queued OFFSET 0) j
             CROSS JOIN LATERAL (
                 SELECT * FROM ledger l WHERE l.transaction_id = j.job_id OFFSET 0) l
             LEFT JOIN LATERAL (
                 SELECT o.state FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) o ON true),
         days AS MATERIALIZED (
             -- The entries of a day's row are those after the row before it, up to its own.
             SELECT u.*, max(u.claimed_entry) OVER upto AS claimed_upto,
                    max(u.refunded_entry) OVER upto AS refunded_upto
             FROM run_moved CROSS JOIN LATERAL (
                 SELECT * FROM usage u WHERE u.run_id = run_moved.run_id OFFSET 0) u
             WINDOW upto AS (PARTITION BY u.run_id ORDER BY u.day))
         SELECT coalesce(u.organisation_id, l.organisation_id),
                format('run %s, %s: claimed %s, refunded %s, committed %s, undecided %s, '
                       'duplicates %s; ledger: %s, %s, %s, %s, %s',
                       run_id, month, u.claimed, u.refunded, u.committed, u.undecided, u.duplicates,
                       l.claimed, l.refunded, l.committed, l.undecided, l.duplicates)
         FROM (SELECT run_id, date_trunc('month', day)::date AS month,
                      min(organisation_id) AS organisation_id, sum(claimed) AS claimed,
                      sum(refunded) AS refunded, sum(committed) AS committed,
                      sum(undecided) AS undecided, sum(duplicates) AS duplicates
               FROM days GROUP BY 1, 2) u
         FULL JOIN (
             SELECT e.run_id, m.month, min(e.organisation_id) AS organisation_id,
                    count(*) FILTER (WHERE e.movement = 'reserve') AS claimed,
                    count(*) FILTER (WHERE e.movement = 'refund') AS refunded,
                    count(*) FILTER (WHERE e.movement = 'commit') AS committed,
                    count(*) FILTER (WHERE e.leg = 1 AND e.state = 'undecided') AS undecided,
                    count(*) FILTER (WHERE e.leg = 1 AND e.state = 'duplicate') AS duplicates
             FROM entries e CROSS JOIN LATERAL (
                 SELECT month FROM month
                 WHERE month.organisation_id = e.organisation_id AND month.entries < e.entry
                 ORDER BY month.month DESC LIMIT 1) m
             GROUP BY e.run_id, m.month) l USING (run_id, month)
         WHERE (u.claimed, u.refunded, u.committed, u.undecided, u.duplicates)
               IS DISTINCT FROM (l.claimed, l.refunded, l.committed, l.undecided, l.duplicates)
         UNION ALL
         SELECT d.organisation_id,
                format('run %s, %s: claimed %s up to entry %s, refunded %s up to entry %s; '
                       'ledger: %s, %s', d.run_id, d.day, d.claimed, d.claimed_entry, d.refunded,
                       d.refunded_entry, d.l_claimed, d.l_refunded)
         FROM (
             -- What a day's row counts is what there was up to its entry, less what there was up to the
             -- entry of the row before. A join of days and entries would have to compare each with
             -- each, if the planner expects a single one.
             SELECT x.*, x.claims - lag(x.claims, 1, 0::bigint) OVER of_run AS l_claimed,
                    x.refunds - lag(x.refunds, 1, 0::bigint) OVER of_run AS l_refunded
             FROM (
                 SELECT x.*,
                        count(*) FILTER (WHERE movement = 'reserve')
                        OVER (PARTITION BY run_id ORDER BY claim_place, day NULLS FIRST) AS claims,
                        count(*) FILTER (WHERE movement = 'refund')
                        OVER (PARTITION BY run_id ORDER BY refund_place, day NULLS FIRST) AS refunds
                 FROM (
                     SELECT run_id, day, organisation_id, claimed, refunded, claimed_entry,
                            refunded_entry, NULL::movement AS movement,
                            coalesce(claimed_upto, 0) AS claim_place,
                            coalesce(refunded_upto, 0) AS refund_place
                     FROM days
                     UNION ALL
                     SELECT run_id, NULL, organisation_id, NULL, NULL, NULL, NULL, movement, entry, entry
                     FROM entries) x) x
             WHERE x.day IS NOT NULL
             WINDOW of_run AS (PARTITION BY x.run_id ORDER BY x.day)) d
         WHERE (d.claimed, d.refunded) IS DISTINCT FROM (d.l_claimed, d.l_refunded)"
    );
    Ok(())
}

async fn months(tx: &mut PgConnection, slice: &Slice, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "months_add_up",
        "each month's opening is the sum of the ledger before the month began",
        "SELECT m.organisation_id,
                format('%s: funded %s, available %s, reserved %s, spent %s; ledger: %s, %s, %s',
                       m.month, m.funded, m.available, m.reserved, m.spent,
                       l.available, l.reserved, l.spent)
         FROM slice s JOIN month m ON m.organisation_id = s.organisation_id AND m.entries >= s.after
         LEFT JOIN LATERAL (
             SELECT * FROM link l
             WHERE l.organisation_id = m.organisation_id AND l.last_entry = m.entries LIMIT 1) l ON true
         WHERE (m.available, m.reserved, m.spent, m.funded)
               IS DISTINCT FROM (coalesce(l.available, 0), coalesce(l.reserved, 0),
                                 coalesce(l.spent, 0),
                                 coalesce(l.available + l.reserved + l.spent, 0))
         UNION ALL
         SELECT m.organisation_id,
                format('%s began at %s: entry %s is of %s',
                       m.month, day_begins(m.month, o.time_zone), l.entry, l.at)
         FROM slice s JOIN month m ON m.organisation_id = s.organisation_id AND m.entries >= s.after
         JOIN organisation o ON o.organisation_id = m.organisation_id
         CROSS JOIN LATERAL (
             SELECT * FROM ledger l
             WHERE l.organisation_id = m.organisation_id
               AND l.entry >= m.entries AND l.entry <= m.entries + 1 OFFSET 0) l
         WHERE (l.entry = m.entries) <> (l.at < day_begins(m.month, o.time_zone))
           AND NOT EXISTS (SELECT FROM clock_repair r
                           WHERE r.organisation_id = l.organisation_id AND r.entry = m.entries)"
    );
    Ok(())
}
