//! The books, proven: every invariant of ARCHITECTURE.md as a query that counts its violations.

use serde::Serialize;
use sqlx::{Connection, PgConnection};

/// An invariant and how often it is broken.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// A stable name.
    pub invariant: &'static str,
    /// In words.
    pub meaning: &'static str,
    /// Rows that break it; 0 is the only good number.
    pub violations: i64,
}

macro_rules! check {
    ($tx:expr, $name:literal, $meaning:literal, $sql:literal) => {
        Check {
            invariant: $name,
            meaning: $meaning,
            violations: sqlx::query_scalar!($sql).fetch_one(&mut *$tx).await?.unwrap_or(0),
        }
    };
}

#[allow(clippy::too_many_lines, reason = "a list: one entry an invariant")]
/// Checks every invariant in one snapshot, while everything goes on.
///
/// # Errors
/// When the database has trouble.
pub async fn reconcile(db: &mut PgConnection) -> sqlx::Result<Vec<Check>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // It reads everything: the limit for the gate's short statements is not for it.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    let checks = vec![
        check!(
            tx,
            "ledger_adds_up",
            "available, reserved and spent are the sums of the organisation's ledger",
            "SELECT count(*) FROM account a LEFT JOIN (
                 SELECT organisation_id,
                        sum(CASE movement WHEN 'top_up' THEN amount WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END) AS available,
                        count(*) FILTER (WHERE movement = 'reserve') - count(*) FILTER (WHERE leg = 1) AS reserved,
                        count(*) FILTER (WHERE movement = 'commit') AS spent
                 FROM ledger GROUP BY organisation_id) l USING (organisation_id)
             WHERE (a.available, a.reserved, a.spent) IS DISTINCT FROM (coalesce(l.available, 0), coalesce(l.reserved, 0), coalesce(l.spent, 0))"
        ),
        check!(
            tx,
            "entries_have_no_gap",
            "an organisation's ledger is numbered 1 to the account's counter",
            "SELECT count(*) FROM account a LEFT JOIN (
                 SELECT organisation_id, count(*) AS n, min(entry) AS first, max(entry) AS last FROM ledger GROUP BY organisation_id) l USING (organisation_id)
             WHERE a.entries <> coalesce(l.n, 0) OR coalesce(l.last, 0) <> coalesce(l.n, 0) OR coalesce(l.first, 1) <> 1"
        ),
        check!(
            tx,
            "double_entry",
            "funded = available + reserved + spent = what was topped up, and none is negative",
            "SELECT count(*) FROM account a LEFT JOIN (SELECT organisation_id, sum(amount) AS funded FROM top_up GROUP BY organisation_id) t USING (organisation_id)
             WHERE a.funded <> a.available + a.reserved + a.spent OR a.funded <> coalesce(t.funded, 0)
                OR least(a.funded, a.available, a.reserved, a.spent) < 0"
        ),
        check!(
            tx,
            "charged_once",
            "a photo is charged at most once for an operation",
            "SELECT count(*) FROM (
                 SELECT o.photo_id, o.queue_id FROM ledger l JOIN outcome o ON o.job_id = l.transaction_id
                 WHERE l.movement = 'commit' GROUP BY o.photo_id, o.queue_id HAVING count(*) > 1) twice"
        ),
        check!(
            tx,
            "reservations_close_once",
            "a reservation is in flight or closed, never both and never neither",
            "SELECT count(*) FROM ledger r LEFT JOIN ledger c ON c.transaction_id = r.transaction_id AND c.leg = 1
                 LEFT JOIN in_flight f ON f.job_id = r.transaction_id
             WHERE r.movement = 'reserve' AND (c.transaction_id IS NULL) = (f.job_id IS NULL)"
        ),
        check!(
            tx,
            "outcomes_are_booked",
            "processed is a commit, failed and quarantined are a refund, and the other way round",
            "SELECT count(*) FROM outcome o FULL JOIN (SELECT * FROM ledger WHERE leg = 1) l ON l.transaction_id = o.job_id
             WHERE o.job_id IS NULL OR l.transaction_id IS NULL OR (o.state = 'processed') <> (l.movement = 'commit')"
        ),
        check!(
            tx,
            "reserved_is_in_flight",
            "an account has one credit reserved for each of its photos in flight",
            "SELECT count(*) FROM account a LEFT JOIN (SELECT organisation_id, count(*) AS n FROM in_flight GROUP BY organisation_id) f USING (organisation_id)
             WHERE a.reserved <> coalesce(f.n, 0)"
        ),
        check!(
            tx,
            "paused_means_no_credit",
            "a queue paused for want of credit belongs to an organisation without any",
            "SELECT count(*) FROM queue q JOIN account a USING (organisation_id) WHERE q.blocked & 2 <> 0 AND a.available > 0"
        ),
        check!(
            tx,
            "held_means_a_hold_stands",
            "a queue is held if and only if somebody's hold on it stands",
            "SELECT count(*) FROM queue q WHERE (q.blocked & 4 <> 0) <> EXISTS (SELECT FROM hold h WHERE h.queue_id = q.queue_id AND h.lifted_at IS NULL)"
        ),
        check!(
            tx,
            "late_workers_change_nothing",
            "nothing was settled by a worker after it was gone",
            "SELECT count(*) FROM outcome o JOIN worker w USING (worker_id) WHERE o.settled_at > w.gone_at"
        ),
        check!(
            tx,
            "no_job_is_lost",
            "what was claimed is in flight or has an outcome, what was not has neither, and no position is empty",
            "SELECT (SELECT count(*) FROM job j JOIN queue q USING (queue_id) LEFT JOIN in_flight f USING (job_id) LEFT JOIN outcome o USING (job_id)
                     WHERE (j.position <= q.head) <> (f.job_id IS NOT NULL OR o.job_id IS NOT NULL) OR (f.job_id IS NOT NULL AND o.job_id IS NOT NULL))
                  + (SELECT count(*) FROM queue q WHERE q.tail <> (SELECT count(*) FROM job j WHERE j.queue_id = q.queue_id))"
        ),
        check!(
            tx,
            "the_gone_hold_nothing",
            "no photo in flight belongs to a worker that is gone",
            "SELECT count(*) FROM in_flight f JOIN worker w USING (worker_id) WHERE w.gone_at IS NOT NULL"
        ),
        check!(
            tx,
            "history_adds_up",
            "the runs' counts are those of the ledger, so that the history adds up to the balance",
            "SELECT count(*) FROM run r LEFT JOIN (
                 SELECT j.run_id, count(*) FILTER (WHERE l.movement = 'reserve') AS claimed, count(*) FILTER (WHERE l.movement = 'refund') AS refunded,
                        count(*) FILTER (WHERE l.movement = 'commit') AS committed
                 FROM job j JOIN ledger l ON l.transaction_id = j.job_id GROUP BY j.run_id) l USING (run_id)
             WHERE (r.claimed, r.refunded, r.committed) IS DISTINCT FROM (coalesce(l.claimed, 0), coalesce(l.refunded, 0), coalesce(l.committed, 0))"
        ),
        check!(
            tx,
            "ledger_is_append_only",
            "the application can write no money, and nobody can change the ledger",
            "SELECT (SELECT count(*) FROM unnest(ARRAY['account', 'ledger', 'top_up', 'outcome', 'in_flight', 'job', 'queue', 'run', 'hold', 'worker']) t
                     WHERE has_table_privilege('photogate_app', 'photogate.' || t, 'INSERT, UPDATE, DELETE, TRUNCATE')
                        OR has_table_privilege('photogate_worker', 'photogate.' || t, 'INSERT, UPDATE, DELETE, TRUNCATE'))
                  + has_function_privilege('photogate_worker', 'photogate.top_up(bigint, photogate.top_up_kind, bigint, text, text, text)', 'EXECUTE')::int
                  + (SELECT 2 - count(*) FROM pg_trigger WHERE tgname IN ('ledger_is_append_only', 'top_up_is_append_only') AND tgenabled = 'O')"
        ),
    ];
    tx.rollback().await?;
    Ok(checks)
}
