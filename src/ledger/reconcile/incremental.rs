//! The invariants whose check has a cost that does not grow with the ledger.

use sqlx::PgConnection;

use super::invariant::{Check, check};
use crate::ids::OrganisationId;

/// The invariants whose check has a cost that does not grow with the ledger.
pub(super) async fn incremental(
    tx: &mut PgConnection,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
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
        "a queue is paused only while its organisation has no credits available, or a claim is to \
         resume it",
        "SELECT q.organisation_id,
                format('event %s, %s: paused since %s, %s available',
                       q.event_id, q.operation, q.paused_since, a.available)
         FROM queue q JOIN account a USING (organisation_id)
         WHERE q.paused_since IS NOT NULL AND a.available > 0 AND NOT a.resume_due"
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
