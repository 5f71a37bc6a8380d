//! The invariants of accounts and ledger.

use sqlx::PgConnection;

use super::invariant::{Check, check};
use crate::ids::OrganisationId;

/// The invariants of accounts and ledger.
pub(super) async fn money(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    entries(tx, checks).await?;
    top_ups(tx, checks).await?;
    reservations(tx, checks).await?;
    periods(tx, checks).await?;
    chains(tx, checks).await
}

/// The entries of a ledger, and their sums.
async fn entries(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "ledger_adds_up",
        "available, reserved and spent are the sums of the organisation's ledger",
        "SELECT organisation_id,
                format('account: %s, %s, %s; ledger: %s, %s, %s',
                       a.available, a.reserved, a.spent, l.available, l.reserved, l.spent)
         FROM account a FULL JOIN (
             SELECT organisation_id,
                    sum(CASE movement WHEN 'top_up' THEN amount WHEN 'reserve' THEN -1
                        WHEN 'refund' THEN 1 ELSE 0 END) AS available,
                    count(*) FILTER (WHERE movement = 'reserve')
                    - count(*) FILTER (WHERE leg = 1) AS reserved,
                    count(*) FILTER (WHERE movement = 'commit') AS spent
             FROM ledger GROUP BY organisation_id) l USING (organisation_id)
         WHERE (a.available, a.reserved, a.spent)
               IS DISTINCT FROM (coalesce(l.available, 0), coalesce(l.reserved, 0),
                                 coalesce(l.spent, 0))"
    );
    check!(
        tx,
        checks,
        "entries_have_no_gap",
        "the entries of an organisation are numbered from 1 to the account's counter without a gap",
        "SELECT organisation_id,
                format('%s entries from %s to %s, the account says %s',
                       l.n, l.first, l.last, a.entries)
         FROM account a LEFT JOIN (
             SELECT organisation_id, count(*) AS n, min(entry) AS first, max(entry) AS last
             FROM ledger GROUP BY organisation_id) l USING (organisation_id)
         WHERE a.entries <> coalesce(l.n, 0) OR coalesce(l.last, 0) <> coalesce(l.n, 0)
            OR coalesce(l.first, 1) <> 1"
    );
    check!(
        tx,
        checks,
        "instants_never_decrease",
        "the times of an organisation's entries never decrease",
        "SELECT organisation_id,
                format('entry %s is of %s, the one before of %s', entry, at, before)
         FROM (SELECT organisation_id, entry, at,
                      lag(at) OVER (PARTITION BY organisation_id ORDER BY entry) AS before
               FROM ledger) l
         WHERE at < before"
    );
    Ok(())
}

/// The credits that came in.
async fn top_ups(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "double_entry",
        "funded = available + reserved + spent = the sum of all top-ups, and none is negative",
        "SELECT organisation_id,
                format('funded %s, available %s, reserved %s, spent %s, topped up %s',
                       a.funded, a.available, a.reserved, a.spent, t.funded)
         FROM account a LEFT JOIN (
             SELECT organisation_id, sum(amount) AS funded FROM top_up GROUP BY organisation_id) t
             USING (organisation_id)
         WHERE a.funded <> a.available + a.reserved + a.spent OR a.funded <> coalesce(t.funded, 0)
            OR least(a.funded, a.available, a.reserved, a.spent) < 0"
    );
    check!(
        tx,
        checks,
        "top_ups_are_booked",
        "each top-up has one entry with the same amount and time, and the other way round",
        "SELECT coalesce(l.organisation_id, t.organisation_id),
                format('transaction %s: ledger %s, top-up %s',
                       coalesce(l.transaction_id, t.transaction_id), l.amount, t.amount)
         FROM (SELECT * FROM ledger WHERE movement = 'top_up') l
         FULL JOIN (SELECT transaction_id, organisation_id, amount, at FROM top_up) t
              USING (transaction_id)
         WHERE (l.organisation_id, l.amount, l.at)
               IS DISTINCT FROM (t.organisation_id, t.amount, t.at)"
    );
    Ok(())
}

/// The credits of photos: reserved, then spent or refunded.
async fn reservations(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "charged_once",
        "a photo is charged at most once for an operation",
        "SELECT min(l.organisation_id),
                format('photo %s, queue %s: %s commits', o.photo_id, o.queue_id, count(*))
         FROM ledger l JOIN outcome o ON o.job_id = l.transaction_id
         WHERE l.movement = 'commit' GROUP BY o.photo_id, o.queue_id HAVING count(*) > 1"
    );
    check!(
        tx,
        checks,
        "reservations_close_once",
        "a reservation is either in flight or closed, and each photo in flight has a reservation",
        "SELECT coalesce(r.organisation_id, f.organisation_id),
                format('job %s: closed %s, in flight %s', coalesce(r.transaction_id, f.job_id),
                       c.transaction_id IS NOT NULL, f.job_id IS NOT NULL)
         FROM (SELECT * FROM ledger WHERE movement = 'reserve') r
         LEFT JOIN ledger c ON c.transaction_id = r.transaction_id AND c.leg = 1
         FULL JOIN in_flight f ON f.job_id = r.transaction_id
         WHERE r.transaction_id IS NULL OR (c.transaction_id IS NULL) = (f.job_id IS NULL)"
    );
    check!(
        tx,
        checks,
        "outcomes_are_booked",
        "a processed photo has a commit, a failed or quarantined one has a refund, and vice versa",
        "SELECT l.organisation_id,
                format('job %s: outcome %s, ledger %s',
                       coalesce(o.job_id, l.transaction_id), o.state, l.movement)
         FROM outcome o
         FULL JOIN (SELECT * FROM ledger WHERE leg = 1) l ON l.transaction_id = o.job_id
         WHERE o.job_id IS NULL OR l.transaction_id IS NULL
            OR (o.state = 'processed') <> (l.movement = 'commit')"
    );
    Ok(())
}

/// The sums by run and by month.
async fn periods(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "history_adds_up",
        "the usage and refunds of each run and month are those of the ledger",
        "SELECT coalesce(u.organisation_id, l.organisation_id),
                format('run %s, %s: claimed %s, refunded %s, committed %s; ledger: %s, %s, %s',
                       run_id, month, u.claimed, u.refunded, u.committed,
                       l.claimed, l.refunded, l.committed)
         FROM usage u FULL JOIN (
             SELECT j.run_id, m.month, min(l.organisation_id) AS organisation_id,
                    count(*) FILTER (WHERE l.movement = 'reserve') AS claimed,
                    count(*) FILTER (WHERE l.movement = 'refund') AS refunded,
                    count(*) FILTER (WHERE l.movement = 'commit') AS committed
             FROM ledger l JOIN job j ON j.job_id = l.transaction_id
             CROSS JOIN LATERAL (
                 SELECT month FROM month
                 WHERE month.organisation_id = l.organisation_id AND month.entries < l.entry
                 ORDER BY month.month DESC LIMIT 1) m
             GROUP BY j.run_id, m.month) l USING (run_id, month)
         WHERE (u.claimed, u.refunded, u.committed)
               IS DISTINCT FROM (l.claimed, l.refunded, l.committed)"
    );
    check!(
        tx,
        checks,
        "months_add_up",
        "each month's opening is the sum of the ledger before the month began",
        "SELECT m.organisation_id,
                format('%s: funded %s, available %s, reserved %s, spent %s; ledger: %s, %s, %s',
                       m.month, m.funded, m.available, m.reserved, m.spent,
                       l.available, l.reserved, l.spent)
         FROM month m
         LEFT JOIN link l ON l.organisation_id = m.organisation_id AND l.last_entry = m.entries
         WHERE (m.available, m.reserved, m.spent, m.funded)
               IS DISTINCT FROM (coalesce(l.available, 0), coalesce(l.reserved, 0),
                                 coalesce(l.spent, 0),
                                 coalesce(l.available + l.reserved + l.spent, 0))
         UNION ALL
         SELECT m.organisation_id,
                format('%s began at %s: entry %s is of %s',
                       m.month, month_begins(m.month, o.time_zone), l.entry, l.at)
         FROM month m JOIN organisation o USING (organisation_id)
         JOIN ledger l ON l.organisation_id = m.organisation_id
                      AND l.entry IN (m.entries, m.entries + 1)
         WHERE (l.entry = m.entries) <> (l.at < month_begins(m.month, o.time_zone))"
    );
    Ok(())
}

/// The hash chains.
async fn chains(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "chains_are_whole",
        "the links of a hash chain have no gap, and their totals are the sums of their entries",
        "SELECT organisation_id,
                format('link %s-%s: after %s, and %s, %s, %s with %s, %s, %s',
                       first_entry, last_entry, before, available, reserved, spent,
                       w_available, w_reserved, w_spent)
         FROM (
             SELECT k.*, coalesce(lag(k.last_entry) OVER w, 0) AS before,
                    coalesce(lag(k.available) OVER w, 0) + s.available AS w_available,
                    coalesce(lag(k.reserved) OVER w, 0) + s.reserved AS w_reserved,
                    coalesce(lag(k.spent) OVER w, 0) + s.spent AS w_spent, s.same
             FROM link k CROSS JOIN LATERAL (
                 SELECT coalesce(sum(CASE l.movement WHEN 'top_up' THEN l.amount
                                     WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END), 0)
                        AS available,
                        count(*) FILTER (WHERE l.movement = 'reserve')
                        - count(*) FILTER (WHERE l.leg = 1) AS reserved,
                        count(*) FILTER (WHERE l.movement = 'commit') AS spent,
                        coalesce(bool_and(l.at = k.at
                                          AND l.worker_id IS NOT DISTINCT FROM k.worker_id), false)
                        AS same
                 FROM ledger l
                 WHERE l.organisation_id = k.organisation_id
                   AND l.entry BETWEEN k.first_entry AND k.last_entry) s
             WINDOW w AS (PARTITION BY k.organisation_id ORDER BY k.last_entry)) c
         WHERE first_entry <> before + 1 OR NOT same
            OR (available, reserved, spent)
               IS DISTINCT FROM (w_available, w_reserved, w_spent)"
    );
    Ok(())
}
