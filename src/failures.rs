//! Photos that could not be processed, and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::{EventId, Operation, PhotoId};

/// A photo whose latest job failed. It was refunded.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The photo.
    pub photo: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// What was to be done.
    pub operation: Operation,
    /// A stable code.
    pub reason: String,
    /// For a person.
    pub detail: Option<String>,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// Narrows failures down; what is `None` is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Of one operation.
    pub operation: Option<Operation>,
    /// With one reason.
    pub reason: Option<&'a str>,
}

/// The failures of an event, newest first. Photos that were queued again since are not among them.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
    most: i64,
) -> sqlx::Result<Vec<Failure>> {
    sqlx::query_as!(
        Failure,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", o.reason AS "reason!", o.detail, o.settled_at AS at
           FROM outcome o JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           WHERE q.event_id = $1 AND o.state <> 'processed'
             AND ($2::operation IS NULL OR q.operation = $2) AND ($3::text IS NULL OR o.reason = $3)
             AND o.job_id = (SELECT j.job_id FROM job j WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id ORDER BY j.retry DESC LIMIT 1)
           ORDER BY o.settled_at DESC, o.job_id DESC LIMIT $4"#,
        event.0,
        filter.operation as Option<Operation>,
        filter.reason,
        most
    )
    .fetch_all(db)
    .await
}
