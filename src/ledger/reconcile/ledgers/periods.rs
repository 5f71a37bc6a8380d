//! The sums by run and by month.

use sqlx::PgConnection;

use super::{Slice, on_slice};
use crate::{ids::OrganisationId, ledger::reconcile::invariant::Check};

/// A run that has moved is read as a whole.
pub(super) async fn periods(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "history_adds_up",
        "the usage and refunds of each run and month are those of the ledger",
        "SELECT coalesce(u.organisation_id, l.organisation_id),
                format('run %s, %s: claimed %s, refunded %s, committed %s, undecided %s, '
                       'duplicates %s; ledger: %s, %s, %s, %s, %s',
                       run_id, month, u.claimed, u.refunded, u.committed, u.undecided, u.duplicates,
                       l.claimed, l.refunded, l.committed, l.undecided, l.duplicates)
         FROM (SELECT u.* FROM run_moved CROSS JOIN LATERAL (
                   SELECT * FROM usage u WHERE u.run_id = run_moved.run_id OFFSET 0) u) u
         FULL JOIN (
             SELECT r.run_id, m.month, min(l.organisation_id) AS organisation_id,
                    count(*) FILTER (WHERE l.movement = 'reserve') AS claimed,
                    count(*) FILTER (WHERE l.movement = 'refund') AS refunded,
                    count(*) FILTER (WHERE l.movement = 'commit') AS committed,
                    count(*) FILTER (WHERE l.leg = 1 AND o.state = 'undecided') AS undecided,
                    count(*) FILTER (WHERE l.leg = 1 AND o.state = 'duplicate') AS duplicates
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
                 SELECT o.state FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) o ON true
             CROSS JOIN LATERAL (
                 SELECT month FROM month
                 WHERE month.organisation_id = l.organisation_id AND month.entries < l.entry
                 ORDER BY month.month DESC LIMIT 1) m
             GROUP BY r.run_id, m.month) l USING (run_id, month)
         WHERE (u.claimed, u.refunded, u.committed, u.undecided, u.duplicates)
               IS DISTINCT FROM (l.claimed, l.refunded, l.committed, l.undecided, l.duplicates)"
    );
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
         LEFT JOIN link l ON l.organisation_id = m.organisation_id AND l.last_entry = m.entries
         WHERE (m.available, m.reserved, m.spent, m.funded)
               IS DISTINCT FROM (coalesce(l.available, 0), coalesce(l.reserved, 0),
                                 coalesce(l.spent, 0),
                                 coalesce(l.available + l.reserved + l.spent, 0))
         UNION ALL
         SELECT m.organisation_id,
                format('%s began at %s: entry %s is of %s',
                       m.month, month_begins(m.month, o.time_zone), l.entry, l.at)
         FROM slice s JOIN month m ON m.organisation_id = s.organisation_id AND m.entries >= s.after
         JOIN organisation o ON o.organisation_id = m.organisation_id
         JOIN ledger l ON l.organisation_id = m.organisation_id
                      AND l.entry >= m.entries AND l.entry <= m.entries + 1
         WHERE (l.entry = m.entries) <> (l.at < month_begins(m.month, o.time_zone))
           AND NOT EXISTS (SELECT FROM clock_repair r
                           WHERE r.organisation_id = l.organisation_id AND r.entry = m.entries)"
    );
    Ok(())
}
