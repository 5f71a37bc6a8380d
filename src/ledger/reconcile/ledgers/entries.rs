//! The entries of a ledger, their sums, their top-ups, and the hash chain over them.

use sqlx::PgConnection;

use super::{Slice, on_slice};
use crate::{ids::OrganisationId, ledger::reconcile::invariant::Check};

/// The entries of a ledger, and their sums.
pub(super) async fn entries(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "ledger_adds_up",
        "available, reserved and spent are the sums of the organisation's ledger",
        "SELECT s.organisation_id,
                format('entry %s: %s, %s, %s; ledger: %s, %s, %s', s.upto, w.available, w.reserved,
                       w.spent, coalesce(b.available, 0) + l.available,
                       coalesce(b.reserved, 0) + l.reserved, coalesce(b.spent, 0) + l.spent)
         FROM slice s JOIN account a USING (organisation_id)
         -- What the sums were before, and what they ought to be after.
         LEFT JOIN LATERAL (
             SELECT * FROM link k
             WHERE k.organisation_id = s.organisation_id AND k.last_entry = s.after LIMIT 1) b ON true
         LEFT JOIN LATERAL (
             SELECT * FROM link k
             WHERE k.organisation_id = s.organisation_id AND k.last_entry = s.upto LIMIT 1) e ON true
         CROSS JOIN LATERAL (
             SELECT CASE WHEN s.upto = a.entries THEN a.available ELSE e.available END AS available,
                    CASE WHEN s.upto = a.entries THEN a.reserved ELSE e.reserved END AS reserved,
                    CASE WHEN s.upto = a.entries THEN a.spent ELSE e.spent END AS spent) w
         CROSS JOIN LATERAL (
             SELECT coalesce(sum(CASE movement WHEN 'top_up' THEN amount WHEN 'reserve' THEN -1
                                 WHEN 'refund' THEN 1 ELSE 0 END), 0) AS available,
                    count(*) FILTER (WHERE movement = 'reserve')
                    - count(*) FILTER (WHERE leg = 1) AS reserved,
                    count(*) FILTER (WHERE movement = 'commit') AS spent
             FROM ledger l WHERE l.organisation_id = s.organisation_id
                             AND l.entry > s.after AND l.entry <= s.upto) l
         WHERE (w.available, w.reserved, w.spent)
               IS DISTINCT FROM (coalesce(b.available, 0) + l.available,
                                 coalesce(b.reserved, 0) + l.reserved,
                                 coalesce(b.spent, 0) + l.spent)
            OR (b.organisation_id IS NULL AND s.after > 0)"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "entries_have_no_gap",
        "the entries of an organisation are numbered from 1 to the account's counter without a gap",
        "SELECT s.organisation_id,
                format('%s entries after %s, up to %s', l.n, s.after, s.upto)
         FROM slice s CROSS JOIN LATERAL (
             SELECT count(*) AS n FROM ledger l
             WHERE l.organisation_id = s.organisation_id
               AND l.entry > s.after AND l.entry <= s.upto) l
         WHERE l.n <> s.upto - s.after
         UNION ALL
         SELECT a.organisation_id, format('entry %s, the account says %s', l.entry, a.entries)
         FROM slice s JOIN account a USING (organisation_id) CROSS JOIN LATERAL (
             SELECT l.entry FROM ledger l
             WHERE l.organisation_id = s.organisation_id AND l.entry > a.entries OFFSET 0) l
         UNION ALL
         SELECT s.organisation_id, format('entry %s', l.entry)
         FROM slice s CROSS JOIN LATERAL (
             SELECT l.entry FROM ledger l
             WHERE l.organisation_id = s.organisation_id AND l.entry < 1 OFFSET 0) l"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "instants_never_decrease",
        "the times of an organisation's entries never decrease",
        "SELECT l.organisation_id,
                format('entry %s is of %s, the one before of %s', l.entry, l.at, l.before)
         FROM slice s CROSS JOIN LATERAL (
             SELECT organisation_id, entry, at, lag(at) OVER (ORDER BY entry) AS before
             FROM ledger l WHERE l.organisation_id = s.organisation_id
                             AND l.entry >= s.after AND l.entry <= s.upto) l
         WHERE l.at < l.before
           -- A person has put the account back, because the clock had been wrong.
           AND NOT EXISTS (SELECT FROM clock_repair r
                           WHERE r.organisation_id = l.organisation_id AND r.entry = l.entry - 1)"
    );
    Ok(())
}

/// The credits that came in.
pub(super) async fn top_ups(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "double_entry",
        "funded = available + reserved + spent = the sum of all top-ups, and none is negative",
        "SELECT a.organisation_id,
                format('funded %s, available %s, reserved %s, spent %s, topped up %s',
                       a.funded, a.available, a.reserved, a.spent, t.funded)
         FROM slice s JOIN account a USING (organisation_id)
         CROSS JOIN LATERAL (
             SELECT coalesce(sum(amount), 0) AS funded FROM top_up t
             WHERE t.organisation_id = a.organisation_id) t
         WHERE a.funded <> a.available + a.reserved + a.spent OR a.funded <> t.funded
            OR least(a.funded, a.available, a.reserved, a.spent) < 0"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "top_ups_are_booked",
        "each top-up has one entry with the same amount and time, and the other way round",
        "SELECT m.organisation_id,
                format('transaction %s: ledger %s, top-up %s', m.transaction_id, m.amount, t.amount)
         FROM moved m LEFT JOIN LATERAL (
             SELECT t.organisation_id, t.amount, t.at, t.shown_at FROM top_up t
             WHERE t.transaction_id = m.transaction_id LIMIT 1) t ON true
         WHERE m.movement = 'top_up'
           AND ((m.organisation_id, m.amount, m.at)
                IS DISTINCT FROM (t.organisation_id, t.amount, t.at)
                OR t.shown_at <> t.at AND NOT EXISTS (
                    SELECT FROM clock_repair r
                    WHERE r.organisation_id = t.organisation_id AND r.at = t.shown_at))
         UNION ALL
         SELECT t.organisation_id,
                format('transaction %s: top-up %s, no entry', t.transaction_id, t.amount)
         FROM slice s JOIN top_up t USING (organisation_id)
         LEFT JOIN LATERAL (
             SELECT l.entry FROM ledger l
             WHERE l.transaction_id = t.transaction_id AND l.leg = 0 LIMIT 1) l ON true
         WHERE l.entry IS NULL"
    );
    Ok(())
}

/// The hash chains.
pub(super) async fn chains(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "chains_are_whole",
        "the links of a hash chain have no gap, and their totals are the sums of their entries",
        "SELECT k.organisation_id,
                format('link %s-%s: after %s, and %s, %s, %s with %s, %s, %s',
                       k.first_entry, k.last_entry, p.last_entry, k.available, k.reserved, k.spent,
                       w.available, w.reserved, w.spent)
         FROM slice s CROSS JOIN LATERAL (
             SELECT * FROM link k
             WHERE k.organisation_id = s.organisation_id
               AND k.last_entry > s.after AND k.last_entry <= s.upto OFFSET 0) k
         LEFT JOIN LATERAL (
             SELECT * FROM link p
             WHERE p.organisation_id = k.organisation_id AND p.last_entry < k.last_entry
             ORDER BY p.last_entry DESC LIMIT 1) p ON true
         CROSS JOIN LATERAL (
             SELECT coalesce(p.available, 0)
                    + coalesce(sum(CASE l.movement WHEN 'top_up' THEN l.amount WHEN 'reserve' THEN -1
                                   WHEN 'refund' THEN 1 ELSE 0 END), 0) AS available,
                    coalesce(p.reserved, 0) + count(*) FILTER (WHERE l.movement = 'reserve')
                    - count(*) FILTER (WHERE l.leg = 1) AS reserved,
                    coalesce(p.spent, 0) + count(*) FILTER (WHERE l.movement = 'commit') AS spent,
                    coalesce(bool_and(l.at = k.at AND l.worker_id IS NOT DISTINCT FROM k.worker_id),
                             false) AS same
             FROM ledger l WHERE l.organisation_id = k.organisation_id
                             AND l.entry >= k.first_entry AND l.entry <= k.last_entry) w
         WHERE k.first_entry <> coalesce(p.last_entry, 0) + 1 OR NOT w.same
            OR (k.available, k.reserved, k.spent)
               IS DISTINCT FROM (w.available, w.reserved, w.spent)"
    );
    Ok(())
}
