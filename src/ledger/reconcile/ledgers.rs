//! The invariants along the ledgers: entries, their sums, and what they stand for. Slices end where
//! a link of the hash chain ends, because a link has the totals up to there.

mod entries;
mod periods;
mod photos;

use sqlx::PgConnection;

use super::{Since, invariant::Check, slices};
use crate::queue::claim::Incarnation;

/// The entries of a slice: of each of these organisations, those after `after`, up to `upto`.
#[derive(Debug, Default)]
pub(super) struct Slice {
    organisations: Vec<i64>,
    after: Vec<i64>,
    upto: Vec<i64>,
}

impl slices::Slice for Slice {
    /// An organisation, and an entry if more of it is to be checked.
    type Place = (i64, Option<i64>);

    const BEGIN: Self::Place = (0, None);

    async fn next(
        tx: &mut PgConnection,
        since: Since,
        size: i64,
        (organisation, after): Self::Place,
    ) -> sqlx::Result<(Self, Option<Self::Place>)> {
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
        let mut slice = Self::default();
        for row in rows {
            slice.organisations.push(row.organisation);
            slice.after.push(row.after);
            slice.upto.push(row.upto);
        }
        Ok((slice, end))
    }

    async fn check(&self, tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
        entries::entries(tx, self, checks).await?;
        entries::top_ups(tx, self, checks).await?;
        photos::reservations(tx, self, checks).await?;
        photos::outcomes(tx, self, checks).await?;
        periods::periods(tx, self, checks).await?;
        entries::chains(tx, self, checks).await
    }

    async fn mark(&self, db: &mut PgConnection, me: Incarnation) -> sqlx::Result<()> {
        sqlx::query!(
            "SELECT mark_ledgers_checked($1, $2, $3, $4)",
            me.key(),
            &self.organisations,
            &self.after,
            &self.upto
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Checks one invariant on a slice. In the query, `slice` has the organisations and their bounds,
/// `moved` the ledger's entries, and `run_moved` the runs whose photos they concern.
macro_rules! on_slice {
    ($tx:expr, $slice:expr, $checks:ident, $name:literal, $meaning:literal, $sql:literal) => {
        $crate::ledger::reconcile::invariant::check!(
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
                 SELECT d.run_id FROM (
                     SELECT DISTINCT coalesce(
                         (SELECT o.run_id FROM outcome o WHERE o.job_id = m.transaction_id),
                         (SELECT f.run_id FROM in_flight f WHERE f.job_id = m.transaction_id)) AS run_id
                     FROM moved m WHERE m.movement <> 'top_up') d
                 -- Of an archived event only some jobs may be here.
                 WHERE NOT EXISTS (SELECT FROM run r JOIN archive_queue a USING (queue_id)
                                   WHERE r.run_id = d.run_id)), ",
            $sql,
            &$slice.organisations,
            &$slice.after,
            &$slice.upto
        )
    };
}
use on_slice;
