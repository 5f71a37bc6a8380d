//! Runs: the photos that one call queued, and their progress.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::{EventId, Operation, OrganisationId, RunId};

/// A run: the photos that one enqueue, retry or restore call queued. The counts are photos.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Run {
    /// The run's number.
    pub id: RunId,
    /// The organisation that pays for the photos.
    pub organisation: OrganisationId,
    /// The event that the photos belong to.
    pub event: EventId,
    /// The operation that they were queued for.
    pub operation: Operation,
    /// Who queued them: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: String,
    /// The time of the call.
    pub at: DateTime<Utc>,
    /// Photos that the call queued.
    pub queued: i64,
    /// Photos that are not claimed yet.
    pub waiting: i64,
    /// Photos that a person took out of the queue.
    pub skipped: i64,
    /// Photos that are claimed and not settled yet. Each has a reserved credit.
    pub in_progress: i64,
    /// Photos that were processed. Each cost one credit.
    pub processed: i64,
    /// Photos of which AI rotation could not decide which way is up. Their credits were refunded.
    pub undecided: i64,
    /// Photos with the content of one that was paid for before. Their credits were refunded.
    pub duplicates: i64,
    /// Photos that failed. Their credits were refunded.
    pub failed: i64,
}

/// Returns a run and its progress. `None` if there is no such run, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn find(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Run>> {
    sqlx::query_as!(
        Run,
        r#"SELECT r.run_id AS "id: _", r.organisation_id AS "organisation: _",
                  r.event_id AS "event: _", q.operation AS "operation: _",
                  r.actor, r.created_at AS at,
                  r.queued::bigint AS "queued!",
                  r.queued - u.claimed - s.skipped AS "waiting!", s.skipped AS "skipped!",
                  u.claimed - u.committed - u.refunded AS "in_progress!",
                  u.committed AS "processed!", u.undecided AS "undecided!",
                  u.duplicates AS "duplicates!",
                  u.refunded - u.undecided - u.duplicates AS "failed!"
           FROM run r JOIN queue q USING (queue_id) JOIN event e ON e.event_id = r.event_id
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed,
                                      coalesce(sum(committed), 0) AS committed,
                                      coalesce(sum(refunded), 0) AS refunded,
                                      coalesce(sum(undecided), 0) AS undecided,
                                      coalesce(sum(duplicates), 0) AS duplicates
                               FROM usage WHERE usage.run_id = r.run_id) u
           CROSS JOIN LATERAL (SELECT count(*) AS skipped FROM skip s
                               WHERE s.queue_id = r.queue_id
                                 AND s.position >= r.first_position
                                 AND s.position < r.first_position + r.queued) s
           WHERE r.run_id = $1 AND e.deleted_at IS NULL"#,
        run.0
    )
    .fetch_optional(db)
    .await
}
