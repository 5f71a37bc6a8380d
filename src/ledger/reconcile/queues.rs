//! The invariants along the queues: no job is lost, and the counts are right.

use sqlx::PgConnection;

use super::{
    Since,
    invariant::{Check, check},
    slices,
};
use crate::{ids::OrganisationId, queue::claim::Incarnation};

/// The jobs of a slice: of each of these queues, those that were claimed or passed over, after
/// `head_after` and up to `head`, and those that were appended, after `tail_after` and up to
/// `tail`.
#[derive(Debug, Default)]
pub(super) struct Slice {
    queues: Vec<i64>,
    head_after: Vec<i64>,
    head: Vec<i64>,
    tail_after: Vec<i64>,
    tail: Vec<i64>,
    settled: Vec<i64>,
}

impl slices::Slice for Slice {
    /// A queue, and its two positions if more of it is to be checked.
    type Place = (i64, Option<(i64, i64)>);

    const BEGIN: Self::Place = (0, None);

    async fn next(
        tx: &mut PgConnection,
        since: Since,
        size: i64,
        (queue, after): Self::Place,
    ) -> sqlx::Result<(Self, Option<Self::Place>)> {
        let rows = sqlx::query!(
            r#"WITH moved AS (
                   SELECT q.queue_id, s.head_after, least(n.head, s.head_after + $5) AS head_upto,
                          s.tail_after, least(n.tail, s.tail_after + $5) AS tail_upto, n.head, n.tail,
                          n.settled
                   FROM queue q LEFT JOIN queue_head h USING (queue_id)
                   LEFT JOIN queue_tail t USING (queue_id) LEFT JOIN queue_settled x USING (queue_id)
                   CROSS JOIN LATERAL (
                       SELECT coalesce(h.head, 0) AS head, coalesce(t.tail, 0) AS tail,
                              coalesce(x.committed + x.refunded, -2) AS settled) n
                   LEFT JOIN queue_checked c ON $4 AND c.queue_id = q.queue_id
                   CROSS JOIN LATERAL (
                       SELECT CASE WHEN q.queue_id = $1 THEN $2 ELSE coalesce(c.head, 0) END
                              AS head_after,
                              CASE WHEN q.queue_id = $1 THEN $3 ELSE coalesce(c.tail, 0) END
                              AS tail_after) s
                   WHERE q.queue_id >= $1
                     AND CASE WHEN q.queue_id = $1 THEN $2 IS NOT NULL
                              ELSE (n.head, n.tail, n.settled)
                                   IS DISTINCT FROM (c.head, c.tail, c.settled) END
                   ORDER BY q.queue_id LIMIT 1000),
               sized AS (
                   SELECT *, greatest(0, head_upto - head_after)
                             + greatest(0, tail_upto - tail_after) AS size FROM moved)
               SELECT queue_id AS "queue!", head_after AS "head_after!", head_upto AS "head!",
                      tail_after AS "tail_after!", tail_upto AS "tail!", settled AS "settled!",
                      head_upto < head OR tail_upto < tail AS "is_cut!"
               FROM (SELECT *, sum(size) OVER (ORDER BY queue_id) - size AS before FROM sized) m
               WHERE before < $5 ORDER BY queue_id"#,
            queue,
            after.map(|(head, _)| head),
            after.map(|(_, tail)| tail),
            since.marks().is_some(),
            size
        )
        .fetch_all(tx)
        .await?;
        let end = rows.last().map(|row| (row.queue, row.is_cut.then_some((row.head, row.tail))));
        let mut slice = Self::default();
        for row in rows {
            slice.queues.push(row.queue);
            slice.head_after.push(row.head_after);
            slice.head.push(row.head);
            slice.tail_after.push(row.tail_after);
            slice.tail.push(row.tail);
            // If the queue goes on in the next slice, it is not done.
            slice.settled.push(if row.is_cut { -1 } else { row.settled });
        }
        Ok((slice, end))
    }

    async fn check(&self, tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
        jobs(tx, self, checks).await?;
        outcomes(tx, self, checks).await?;
        counts(tx, self, checks).await
    }

    async fn mark(&self, db: &mut PgConnection, me: Incarnation) -> sqlx::Result<()> {
        sqlx::query!(
            "SELECT mark_queues_checked($1, $2, $3, $4, $5, $6, $7)",
            me.key(),
            &self.queues,
            &self.head_after,
            &self.head,
            &self.tail_after,
            &self.tail,
            &self.settled
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Checks one invariant on a slice. In the query, `slice` has the queues and their bounds, and
/// `passed` the jobs that were claimed or passed over.
macro_rules! on_slice {
    ($tx:expr, $slice:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        check!(
            $tx,
            $checks,
            $name,
            $meaning,
            "slice (queue_id, head_after, head_upto, tail_after, tail_upto) AS (
                 SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
                                      $5::bigint[])),
             passed AS (
                 SELECT q.organisation_id, j.* FROM slice s JOIN queue q USING (queue_id)
                 CROSS JOIN LATERAL (
                     SELECT * FROM job j
                     WHERE j.queue_id = s.queue_id
                       AND j.position > s.head_after AND j.position <= s.head_upto OFFSET 0) j), ",
            $sql,
            &$slice.queues,
            &$slice.head_after,
            &$slice.head,
            &$slice.tail_after,
            &$slice.tail
        )
    };
}

/// No job is lost. What happens to a job after it was claimed is checked along the ledger.
async fn jobs(tx: &mut PgConnection, slice: &Slice, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "no_job_is_lost",
        "each job up to the head is either in flight, settled, skipped or put back; of those after it, \
         only what was claimed before its turn is in flight or settled; positions have no gap",
        "SELECT j.organisation_id,
                format('queue %s, position %s: in flight %s, outcome %s, stretch %s',
                       j.queue_id, j.position, f.job_id IS NOT NULL, o.state, s.kind)
         FROM passed j LEFT JOIN LATERAL (
             SELECT f.job_id FROM in_flight f WHERE f.job_id = j.job_id LIMIT 1) f ON true
         LEFT JOIN LATERAL (
             SELECT o.job_id, o.state FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) o ON true
         CROSS JOIN LATERAL (SELECT stretch_kind_at(j.queue_id, j.position) AS kind) s
         WHERE (f.job_id IS NOT NULL)::int + (o.job_id IS NOT NULL)::int
               + coalesce(s.kind IN ('skipped', 'first'), false)::int <> 1
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s, position %s, after the head: in flight %s, outcome %s, stretch %s',
                       j.queue_id, j.position, f.job_id IS NOT NULL, o.state, k.kind)
         FROM slice s JOIN queue q USING (queue_id) LEFT JOIN queue_head h USING (queue_id)
         CROSS JOIN LATERAL (
             SELECT * FROM job j
             WHERE j.queue_id = s.queue_id AND j.position > greatest(s.tail_after, h.head)
               AND j.position <= s.tail_upto OFFSET 0) j
         LEFT JOIN LATERAL (
             SELECT f.job_id FROM in_flight f WHERE f.job_id = j.job_id LIMIT 1) f ON true
         LEFT JOIN LATERAL (
             SELECT o.job_id, o.state FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) o ON true
         CROSS JOIN LATERAL (SELECT stretch_kind_at(j.queue_id, j.position) AS kind) k
         WHERE (f.job_id IS NOT NULL)::int + (o.job_id IS NOT NULL)::int
               <> coalesce(k.kind = 'taken', false)::int
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s has %s jobs after %s, up to %s',
                       s.queue_id, n, s.tail_after, s.tail_upto)
         FROM slice s JOIN queue q USING (queue_id) CROSS JOIN LATERAL (
             SELECT count(*) AS n FROM job j WHERE j.queue_id = s.queue_id
             AND j.position > s.tail_after AND j.position <= s.tail_upto) j
         CROSS JOIN LATERAL (
             -- What was taken back is not there.
             SELECT coalesce(sum(least(x.to_position, s.tail_upto)
                                 - greatest(x.from_position, s.tail_after + 1) + 1), 0) AS undone
             FROM stretch x
             WHERE x.queue_id = s.queue_id AND x.kind = 'undone' AND x.from_position <= s.tail_upto
               AND x.to_position > s.tail_after) u
         WHERE n + undone <> s.tail_upto - s.tail_after
           -- `archives_keep_the_books` counts those that are in an archive.
           AND NOT EXISTS (SELECT FROM archive_queue a WHERE a.queue_id = s.queue_id)
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s has a job at %s and ends at %s', q.queue_id, j.position, t.tail)
         FROM slice s JOIN queue q USING (queue_id) LEFT JOIN queue_tail t USING (queue_id)
         CROSS JOIN LATERAL (
             SELECT j.position FROM job j
             WHERE j.queue_id = s.queue_id AND j.position > coalesce(t.tail, 0) OFFSET 0) j
         UNION ALL
         SELECT q.organisation_id, format('queue %s has a job at %s', q.queue_id, j.position)
         FROM slice s JOIN queue q USING (queue_id) CROSS JOIN LATERAL (
             SELECT j.position FROM job j
             WHERE j.queue_id = s.queue_id AND j.position < 1 OFFSET 0) j
         UNION ALL
         SELECT q.organisation_id,
                format('queue %s went back: its head from %s to %s, its tail from %s to %s',
                       s.queue_id, s.head_after, s.head_upto, s.tail_after, s.tail_upto)
         FROM slice s JOIN queue q USING (queue_id)
         WHERE s.head_upto < s.head_after OR s.tail_upto < s.tail_after
         UNION ALL
         SELECT f.organisation_id,
                format('photo %s follows job %s at %s of queue %s, which is not there',
                       f.photo_id, f.after_job, f.after_position, f.after_queue)
         FROM slice s CROSS JOIN LATERAL (
             SELECT q.organisation_id, x.photo_id, x.after_job, x.after_position, x.after_queue
             FROM queue q JOIN follow_up x ON x.after_queue = q.queue_id
             WHERE q.queue_id = s.queue_id OFFSET 0) f
         WHERE NOT EXISTS (
             SELECT FROM job j WHERE j.queue_id = f.after_queue AND j.position = f.after_position
                               AND j.job_id = f.after_job AND j.photo_id = f.photo_id)
         UNION ALL
         SELECT j.organisation_id,
                format('job %s at %s of queue %s does not belong to run %s',
                       j.job_id, j.position, j.queue_id, j.run_id)
         FROM passed j
         WHERE NOT EXISTS (
             SELECT FROM run r
             WHERE r.run_id = j.run_id AND r.queue_id + 0 = j.queue_id
               AND j.position >= r.first_position AND j.position < r.first_position + r.queued)"
    );
    Ok(())
}

/// Each outcome is in the ledger.
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
        "a processed photo has a commit, any other that has ended has a refund, and vice versa",
        "SELECT j.organisation_id, format('job %s: outcome %s, ledger %s, run %s or %s',
                                          o.job_id, o.state, l.entry, o.run_id, j.run_id)
         FROM passed j CROSS JOIN LATERAL (
             SELECT o.job_id, o.state, o.run_id FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) o
         LEFT JOIN LATERAL (
             SELECT l.entry FROM ledger l
             WHERE l.transaction_id = o.job_id AND l.leg = 1 LIMIT 1) l ON true
         WHERE l.entry IS NULL OR o.run_id <> j.run_id"
    );
    Ok(())
}

/// The counts of a queue.
async fn counts(tx: &mut PgConnection, slice: &Slice, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "queues_count_their_photos",
        "a queue's counts of claimed, processed and refunded photos are the sums over its runs",
        "SELECT q.organisation_id,
                format('queue %s: claimed %s, committed %s, refunded %s, undecided %s, '
                       'duplicates %s; its runs: %s, %s, %s, %s, %s',
                       q.queue_id, h.claimed, x.committed, x.refunded, x.undecided, x.duplicates,
                       u.claimed, u.committed, u.refunded, u.undecided, u.duplicates)
         FROM slice s JOIN queue q USING (queue_id) LEFT JOIN queue_head h USING (queue_id)
         LEFT JOIN queue_settled x USING (queue_id) CROSS JOIN LATERAL (
             SELECT bool_or(claimed + committed + refunded = 0) AS has_empty,
                     coalesce(sum(claimed), 0) AS claimed, coalesce(sum(committed), 0) AS committed,
                    coalesce(sum(refunded), 0) AS refunded,
                    coalesce(sum(undecided), 0) AS undecided,
                    coalesce(sum(duplicates), 0) AS duplicates
             FROM usage u WHERE u.queue_id = s.queue_id) u
         WHERE (h.claimed, x.committed, x.refunded, x.undecided, x.duplicates)
               IS DISTINCT FROM (u.claimed::bigint, u.committed::bigint, u.refunded::bigint,
                                 u.undecided::bigint, u.duplicates::bigint)
            OR u.has_empty"
    );
    Ok(())
}
