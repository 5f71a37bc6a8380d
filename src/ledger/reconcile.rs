//! Checks the invariants of ARCHITECTURE.md. Each is a query that finds the rows that break it.

use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::ids::OrganisationId;

/// How much a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, utoipa::ToSchema)]
#[sqlx(type_name = "reconciliation_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The cheap check, whose cost does not grow with the ledger. It compares accounts with the
    /// last links of their chains, reservations with photos in flight, and pauses with balances.
    Incremental,
    /// The check of all invariants.
    Full,
}

impl Scope {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
        }
    }
}

/// The result of checking one invariant.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Check {
    /// The stable name of the invariant.
    pub invariant: &'static str,
    /// What the invariant says, in words.
    pub meaning: &'static str,
    /// Number of rows that break the invariant. Anything but 0 is an alarm.
    pub violations: i64,
    /// The first 20 rows that break the invariant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
}

/// A row that breaks an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Broken {
    /// The organisation that the row belongs to, if it belongs to one.
    pub organisation: Option<OrganisationId>,
    /// Which row it is, and what is wrong with it.
    pub what: String,
}

/// Checks one invariant: its name, its meaning, and a query that returns the rows that break it as
/// (organisation, what).
macro_rules! check {
    ($tx:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        let rows = sqlx::query!(
            "WITH broken (organisation_id, what) AS ("
                + $sql
                + ") SELECT (SELECT count(*) FROM broken) AS \"violations!\",
                          b.organisation_id AS \"organisation: OrganisationId\", b.what
                   FROM (SELECT) one LEFT JOIN (SELECT * FROM broken LIMIT 20) b ON true"
        )
        .fetch_all(&mut *$tx)
        .await?;
        $checks.push(Check {
            invariant: $name,
            meaning: $meaning,
            violations: rows.first().map_or(0, |row| row.violations),
            broken: rows
                .into_iter()
                .filter_map(|row| Some(Broken { organisation: row.organisation, what: row.what? }))
                .collect(),
        });
    };
}

/// Checks the invariants. It reads one snapshot, so other work can go on.
///
/// # Errors
/// When the database has trouble.
pub async fn reconcile(db: &mut PgConnection, scope: Scope) -> sqlx::Result<Vec<Check>> {
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // This may read everything. The timeout is meant for the gate's short statements.
    sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
    let mut checks = Vec::new();
    incremental(&mut tx, &mut checks).await?;
    if scope == Scope::Full {
        money(&mut tx, &mut checks).await?;
        work(&mut tx, &mut checks).await?;
        rights(&mut tx, &mut checks).await?;
    }
    tx.rollback().await?;
    Ok(checks)
}

/// The invariants whose check has a cost that does not grow with the ledger.
async fn incremental(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
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
        "a queue is paused only while its organisation has no credits available",
        "SELECT q.organisation_id,
                format('event %s, %s: paused since %s, %s available',
                       q.event_id, q.operation, q.paused_since, a.available)
         FROM queue q JOIN account a USING (organisation_id)
         WHERE q.paused_since IS NOT NULL AND a.available > 0"
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

/// The invariants of accounts and ledger.
#[expect(clippy::too_many_lines, reason = "a list: one entry for each invariant")]
async fn money(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
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

/// The invariants of queues, jobs and holds.
async fn work(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
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

/// The invariants of rights and triggers.
async fn rights(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "ledger_is_append_only",
        "the application cannot write money, nobody can change the ledger, and entries are sealed",
        "SELECT NULL::bigint, format('%s may write %s', r, t)
         FROM unnest(ARRAY['photogate_app', 'photogate_worker', 'photogate_organisation']) r,
              unnest(ARRAY['account', 'ledger', 'link', 'month', 'usage', 'top_up', 'outcome',
                           'in_flight', 'job', 'queue', 'run', 'hold', 'skip', 'worker']) t
         WHERE has_table_privilege(r, 'photogate.' || t, 'INSERT, UPDATE, DELETE, TRUNCATE')
         UNION ALL
         SELECT NULL, 'a worker may top up'
         WHERE has_function_privilege(
             'photogate_worker',
             'photogate.top_up(bigint, photogate.top_up_kind, bigint, text, text, text)',
             'EXECUTE')
         UNION ALL
         SELECT NULL, format('the trigger %s of %s is not in force', name, of)
         FROM (VALUES ('ledger', 'ledger_is_append_only'), ('ledger', 'ledger_is_sealed'),
                      ('top_up', 'top_up_is_append_only'), ('link', 'link_is_append_only'),
                      ('month', 'month_is_append_only')) t (of, name)
         WHERE NOT EXISTS (
             SELECT FROM pg_trigger
             WHERE tgname = name AND tgrelid = ('photogate.' || of)::regclass
               AND tgenabled = 'O')"
    );
    Ok(())
}
