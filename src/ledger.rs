//! The history an organisation sees. It adds up to its balance at every instant: credits are shown as used when they
//! leave the balance, that is when they are reserved; a commit moves nothing that is visible.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    credits::Credits,
    ids::{EventId, Operation, OrganisationId, RunId},
};

/// A row of the history.
#[derive(Debug, Clone, Serialize)]
pub struct Movement {
    /// `usage`, `refund`, `purchase`, `admin_grant` or `free_credits`.
    pub kind: String,
    /// Signed: what the balance gained.
    pub credits: Credits,
    /// For usage and refunds of photos.
    pub event: Option<EventId>,
    /// Its name.
    pub event_name: Option<String>,
    /// For usage and refunds of photos.
    pub operation: Option<Operation>,
    /// For usage and refunds of photos.
    pub run: Option<RunId>,
    /// Who: an e-mail address, or `System`.
    pub actor: String,
    /// For usage the first, for refunds the last movement of the run.
    pub at: DateTime<Utc>,
}

/// The history of an organisation, newest first. A run is one row of usage, and one of refunds if there were any.
///
/// # Errors
/// When the database has trouble.
pub async fn history(
    db: &mut PgConnection,
    organisation: OrganisationId,
    most: i64,
) -> sqlx::Result<Vec<Movement>> {
    sqlx::query_as!(
        Movement,
        r#"SELECT m.kind AS "kind!", m.credits AS "credits!: _", m.event_id AS "event: _", e.name AS "event_name?", q.operation AS "operation?: _",
                  m.run_id AS "run: _", m.actor AS "actor!", m.at AS "at!"
           FROM (
               (SELECT kind::text, amount AS credits, NULL::bigint AS event_id, NULL::bigint AS queue_id, NULL::bigint AS run_id, actor, at
                FROM top_up WHERE organisation_id = $1 ORDER BY transaction_id DESC LIMIT $2)
               UNION ALL
               (SELECT 'usage', -claimed, event_id, queue_id, run_id, actor, first_claimed_at
                FROM run WHERE organisation_id = $1 AND claimed > 0 ORDER BY run_id DESC LIMIT $2)
               UNION ALL
               (SELECT 'refund', refunded, event_id, queue_id, run_id, 'System', last_refunded_at
                FROM run WHERE organisation_id = $1 AND refunded > 0 ORDER BY run_id DESC LIMIT $2)
           ) m LEFT JOIN event e USING (event_id) LEFT JOIN queue q USING (queue_id)
           ORDER BY m.at DESC, m.run_id DESC LIMIT $2"#,
        organisation.0,
        most
    )
    .fetch_all(db)
    .await
}
