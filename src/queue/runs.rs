//! Runs: what one call queued, and how far it is.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::{EventId, Operation, OrganisationId, RunId};

/// One call that queued photos.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// Whose photos.
    pub organisation: OrganisationId,
    /// Of which event.
    pub event: EventId,
    /// For what.
    pub operation: Operation,
    /// Who.
    pub actor: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Photos queued.
    pub queued: i64,
    /// Not claimed yet.
    pub waiting: i64,
    /// Taken out of the queue by a person.
    pub skipped: i64,
    /// Paid for and not settled.
    pub in_progress: i64,
    /// Charged.
    pub processed: i64,
    /// Failed, and refunded.
    pub failed: i64,
}

/// A run, `None` if there is no such run.
///
/// # Errors
/// When the database has trouble.
pub async fn find(db: &mut PgConnection, run: RunId) -> sqlx::Result<Option<Run>> {
    sqlx::query_as!(
        Run,
        r#"SELECT r.run_id AS "id: _", r.organisation_id AS "organisation: _", r.event_id AS "event: _", q.operation AS "operation: _", r.actor, r.created_at AS at,
                  r.queued::bigint AS "queued!", r.queued - u.claimed - s.skipped AS "waiting!", s.skipped AS "skipped!",
                  u.claimed - u.committed - u.refunded AS "in_progress!", u.committed AS "processed!", u.refunded AS "failed!"
           FROM run r JOIN queue q USING (queue_id) JOIN event e ON e.event_id = r.event_id
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed, coalesce(sum(committed), 0) AS committed, coalesce(sum(refunded), 0) AS refunded
                               FROM usage WHERE usage.run_id = r.run_id) u
           CROSS JOIN LATERAL (SELECT count(*) AS skipped FROM skip s WHERE s.queue_id = r.queue_id
                               AND s.position >= r.first_position AND s.position < r.first_position + r.queued) s
           WHERE r.run_id = $1 AND e.deleted_at IS NULL"#,
        run.0
    )
    .fetch_optional(db)
    .await
}
