//! The entries of photos: each is reserved, and then spent or refunded as its outcome says.

use sqlx::PgConnection;

use super::{Slice, on_slice};
use crate::{ids::OrganisationId, ledger::reconcile::invariant::Check};

/// The credits of photos: reserved, then spent or refunded.
pub(super) async fn reservations(
    tx: &mut PgConnection,
    slice: &Slice,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    on_slice!(
        tx,
        slice,
        checks,
        "charged_once",
        "a photo is charged at most once for an operation, unless its file has changed",
        "SELECT m.organisation_id,
                format('photo %s, queue %s: jobs %s and %s', o.photo_id, o.queue_id, o.job_id, c.job_id)
         FROM moved m CROSS JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o
         CROSS JOIN LATERAL (
             SELECT c.job_id FROM outcome c
             WHERE c.photo_id = o.photo_id AND c.queue_id + 0 = o.queue_id
               AND c.state = 'processed' AND c.job_id <> o.job_id AND c.version = o.version
             LIMIT 1) c
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
pub(super) async fn outcomes(
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
        "SELECT m.organisation_id,
                format('job %s: outcome %s, ledger %s', m.transaction_id, o.state, m.movement)
         FROM moved m LEFT JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o ON true
         LEFT JOIN LATERAL (
             -- The outcome is in an archive. Ranges of jobs do not overlap.
             SELECT a.committed FROM (
                 SELECT * FROM archive_jobs a
                 WHERE a.organisation_id = m.organisation_id AND a.from_job <= m.transaction_id
                 ORDER BY a.from_job DESC LIMIT 1) a
             WHERE o.job_id IS NULL AND a.to_job >= m.transaction_id) a ON true
         WHERE m.leg = 1
           AND coalesce(o.state = 'processed', a.committed) IS DISTINCT FROM (m.movement = 'commit')"
    );
    on_slice!(
        tx,
        slice,
        checks,
        "duplicates_were_paid_for",
        "the content of a duplicate was charged before, in the same queue",
        "SELECT m.organisation_id, format('job %s: a duplicate of job %s', o.job_id, o.same_as)
         FROM moved m CROSS JOIN LATERAL (
             SELECT * FROM outcome o WHERE o.job_id = m.transaction_id LIMIT 1) o
         WHERE m.leg = 1 AND o.state = 'duplicate'
           AND NOT EXISTS (SELECT FROM outcome c
                           WHERE c.job_id = o.same_as AND c.queue_id + 0 = o.queue_id
                             AND c.state = 'processed')
           -- It may be in an archive, while others of its event are still here.
           AND NOT EXISTS (SELECT FROM archive_queue a WHERE a.queue_id = o.queue_id)"
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
