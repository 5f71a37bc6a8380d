//! The invariants along the ledgers: entries, their sums, and what they stand for. Slices end where
//! a link of the hash chain ends, because a link has the totals up to there.

use sqlx::PgConnection;

use super::{
    Since, all_hold,
    invariant::{Check, check},
    snapshot,
};
use crate::ids::OrganisationId;

/// The entries of a slice: of each of these organisations, those after `after`, up to `upto`.
#[derive(Debug, Default)]
struct Slice {
    organisations: Vec<i64>,
    after: Vec<i64>,
    upto: Vec<i64>,
}

/// The place where a slice ended: an organisation, and an entry if more of it is to be checked.
type Place = (i64, Option<i64>);

/// Checks the ledgers, slice by slice.
pub(super) async fn check_all(
    db: &mut PgConnection,
    since: Since,
    size: i64,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    let mut place = Some((0, None));
    while let Some(begin) = place {
        let mut found = Vec::new();
        let mut tx = snapshot(db).await?;
        let (slice, end) = next(&mut tx, since, size, begin).await?;
        // The last slice may be empty. It makes sure that every invariant is told.
        entries(&mut tx, &slice, &mut found).await?;
        top_ups(&mut tx, &slice, &mut found).await?;
        reservations(&mut tx, &slice, &mut found).await?;
        outcomes(&mut tx, &slice, &mut found).await?;
        periods(&mut tx, &slice, &mut found).await?;
        chains(&mut tx, &slice, &mut found).await?;
        tx.rollback().await?;
        if let Some(me) = since.marks()
            && all_hold(&found)
            && !slice.organisations.is_empty()
        {
            sqlx::query!(
                "SELECT mark_ledgers_checked($1, $2, $3, $4)",
                me.key(),
                &slice.organisations,
                &slice.after,
                &slice.upto
            )
            .execute(&mut *db)
            .await?;
        }
        for check in found {
            check.add_to(checks);
        }
        place = end;
    }
    Ok(())
}

/// Returns the next slice, and the place where it ends. `None`: there is nothing after it.
async fn next(
    tx: &mut PgConnection,
    since: Since,
    size: i64,
    (organisation, after): Place,
) -> sqlx::Result<(Slice, Option<Place>)> {
    let rows = sqlx::query!(
        r#"WITH moved AS (
               SELECT a.organisation_id, a.entries, s.after, coalesce(
                   (SELECT l.last_entry FROM link l
                    WHERE l.organisation_id = a.organisation_id
                      AND l.last_entry > s.after AND l.last_entry <= s.after + $4
                    ORDER BY l.last_entry DESC LIMIT 1),
                   (SELECT l.last_entry FROM link l
                    WHERE l.organisation_id = a.organisation_id AND l.last_entry > s.after
                    ORDER BY l.last_entry LIMIT 1),
                   a.entries) AS upto
               FROM account a
               LEFT JOIN ledger_checked c ON $3 AND c.organisation_id = a.organisation_id
               CROSS JOIN LATERAL (
                   SELECT CASE WHEN a.organisation_id = $1 THEN $2
                               ELSE coalesce(c.entries, 0) END AS after) s
               WHERE a.organisation_id >= $1
                 AND CASE WHEN a.organisation_id = $1 THEN $2 IS NOT NULL
                          ELSE a.entries IS DISTINCT FROM c.entries END
               ORDER BY a.organisation_id LIMIT 1000)
           SELECT organisation_id AS "organisation!", after AS "after!", upto AS "upto!",
                  upto < entries AS "is_cut!"
           FROM (SELECT *, sum(upto - after) OVER (ORDER BY organisation_id) - (upto - after)
                        AS before
                 FROM moved) m
           WHERE before < $4 ORDER BY organisation_id"#,
        organisation,
        after,
        since.marks().is_some(),
        size
    )
    .fetch_all(tx)
    .await?;
    let end = rows.last().map(|row| (row.organisation, row.is_cut.then_some(row.upto)));
    let mut slice = Slice::default();
    for row in rows {
        slice.organisations.push(row.organisation);
        slice.after.push(row.after);
        slice.upto.push(row.upto);
    }
    Ok((slice, end))
}

/// Checks one invariant on a slice. In the query, `slice` has the organisations and their bounds,
/// `moved` the ledger's entries, and `run_moved` the runs whose photos they concern.
macro_rules! on_slice {
    ($tx:expr, $slice:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        check!(
            $tx,
            $checks,
            $name,
            $meaning,
            "slice (organisation_id, after, upto) AS (
                 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])),
             moved AS (
                 SELECT l.* FROM slice s CROSS JOIN LATERAL (
                     SELECT * FROM ledger l
                     WHERE l.organisation_id = s.organisation_id
                       AND l.entry > s.after AND l.entry <= s.upto OFFSET 0) l),
             run_moved AS MATERIALIZED (
                 SELECT DISTINCT coalesce(
                     (SELECT o.run_id FROM outcome o WHERE o.job_id = m.transaction_id),
                     (SELECT f.run_id FROM in_flight f WHERE f.job_id = m.transaction_id)) AS run_id
                 FROM moved m WHERE m.movement <> 'top_up'), ",
            $sql,
            &$slice.organisations,
            &$slice.after,
            &$slice.upto
        )
    };
}

/// The entries of a ledger, and their sums.
async fn entries(
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
         LEFT JOIN link b ON b.organisation_id = s.organisation_id AND b.last_entry = s.after
         LEFT JOIN link e ON e.organisation_id = s.organisation_id AND e.last_entry = s.upto
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
         FROM slice s JOIN account a USING (organisation_id)
         JOIN ledger l ON l.organisation_id = s.organisation_id AND l.entry > a.entries
         UNION ALL
         SELECT s.organisation_id, format('entry %s', l.entry)
         FROM slice s JOIN ledger l ON l.organisation_id = s.organisation_id AND l.entry < 1"
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
async fn top_ups(
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

/// The credits of photos: reserved, then spent or refunded.
async fn reservations(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "charged_once",
        "a photo is charged at most once for an operation",
        "SELECT m.organisation_id,
                format('photo %s, queue %s: jobs %s and %s', o.photo_id, o.queue_id, o.job_id, c.job_id)
         FROM moved m CROSS JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o
         CROSS JOIN LATERAL (
             SELECT c.job_id FROM outcome c
             WHERE c.photo_id = o.photo_id AND c.queue_id + 0 = o.queue_id
               AND c.state = 'processed' AND c.job_id <> o.job_id LIMIT 1) c
         WHERE m.movement = 'commit'"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "reservations_close_once",
        "a reservation is either in flight or closed, and what was closed had been reserved",
        "SELECT m.organisation_id,
                format('job %s: reserved %s, closed %s, in flight %s', m.transaction_id,
                       r.transaction_id IS NOT NULL, c.transaction_id IS NOT NULL,
                       f.job_id IS NOT NULL)
         FROM moved m
         LEFT JOIN LATERAL (
             SELECT r.transaction_id FROM ledger r
             WHERE r.transaction_id = m.transaction_id AND r.leg = 0 AND r.movement = 'reserve'
               AND r.organisation_id + 0 = m.organisation_id LIMIT 1) r ON true
         LEFT JOIN LATERAL (
             SELECT c.transaction_id FROM ledger c
             WHERE c.transaction_id = m.transaction_id AND c.leg = 1 LIMIT 1) c ON true
         LEFT JOIN LATERAL (
             SELECT f.job_id FROM in_flight f WHERE f.job_id = m.transaction_id LIMIT 1) f ON true
         WHERE m.movement <> 'top_up'
           AND (r.transaction_id IS NULL OR (c.transaction_id IS NULL) = (f.job_id IS NULL))"
    );
    Ok(())
}

/// What came of the photos.
async fn outcomes(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "outcomes_are_booked",
        "a processed photo has a commit, a failed or quarantined one has a refund, and vice versa",
        "SELECT m.organisation_id,
                format('job %s: outcome %s, ledger %s', m.transaction_id, o.state, m.movement)
         FROM moved m LEFT JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o ON true
         WHERE m.leg = 1
           AND (o.job_id IS NULL OR (o.state = 'processed') <> (m.movement = 'commit'))"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "late_workers_change_nothing",
        "no worker settled a photo after it was gone, or for an attempt that had ended",
        "SELECT m.organisation_id,
                format('job %s, attempt %s by worker %s', o.job_id, o.attempt, o.worker_id)
         FROM moved m CROSS JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o
         -- What a worker had is taken from it when it is gone, and so its attempt ends. (The times do
         -- not tell: the clock may have been wrong.)
         WHERE m.leg = 1 AND o.state <> 'quarantined'
           AND EXISTS (SELECT FROM attempt a
                       WHERE a.job_id = o.job_id AND a.number >= o.attempt)"
    );
    Ok(())
}

/// The sums by run and by month. A run that has moved is read as a whole.
async fn periods(
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
                format('run %s, %s: claimed %s, refunded %s, committed %s; ledger: %s, %s, %s',
                       run_id, month, u.claimed, u.refunded, u.committed,
                       l.claimed, l.refunded, l.committed)
         FROM (SELECT u.* FROM run_moved CROSS JOIN LATERAL (
                   SELECT * FROM usage u WHERE u.run_id = run_moved.run_id OFFSET 0) u) u
         FULL JOIN (
             SELECT r.run_id, m.month, min(l.organisation_id) AS organisation_id,
                    count(*) FILTER (WHERE l.movement = 'reserve') AS claimed,
                    count(*) FILTER (WHERE l.movement = 'refund') AS refunded,
                    count(*) FILTER (WHERE l.movement = 'commit') AS committed
             FROM run_moved CROSS JOIN LATERAL (
                 SELECT r.run_id, r.queue_id, r.first_position, r.queued FROM run r
                 WHERE r.run_id = run_moved.run_id LIMIT 1) r
             CROSS JOIN LATERAL (
                 SELECT j.job_id FROM job j
                 WHERE j.queue_id = r.queue_id AND j.position >= r.first_position
                   AND j.position < r.first_position + r.queued OFFSET 0) j
             CROSS JOIN LATERAL (
                 SELECT * FROM ledger l WHERE l.transaction_id = j.job_id OFFSET 0) l
             CROSS JOIN LATERAL (
                 SELECT month FROM month
                 WHERE month.organisation_id = l.organisation_id AND month.entries < l.entry
                 ORDER BY month.month DESC LIMIT 1) m
             GROUP BY r.run_id, m.month) l USING (run_id, month)
         WHERE (u.claimed, u.refunded, u.committed)
               IS DISTINCT FROM (l.claimed, l.refunded, l.committed)"
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

/// The hash chains.
async fn chains(tx: &mut PgConnection, slice: &Slice, checks: &mut Vec<Check>) -> sqlx::Result<()> {
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
         FROM slice s JOIN link k ON k.organisation_id = s.organisation_id
                                 AND k.last_entry > s.after AND k.last_entry <= s.upto
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
