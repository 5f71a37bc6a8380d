//! Reads the results of all photos of an event: one row for each photo and operation. The demo
//! prints them.

use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::{EventId, Operation, PhotoId};

/// The result of one operation on one photo, for people to read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// The operation that was done on the photo.
    pub operation: Operation,
    /// Why its credit was refunded, as a stable code; `None` if it was processed.
    pub reason: Option<String>,
    /// Number of faces that Photo Processing found.
    pub faces: i64,
    /// Bib numbers that Photo Processing read.
    pub bibs: Vec<String>,
    /// The clockwise turn that the photo needs, in degrees, as AI Rotation found it. `None` if AI
    /// Rotation abstained, or was not done.
    pub turn: Option<i16>,
    /// Key of the upright copy in the store; `None` if no copy was needed.
    pub upright_key: Option<String>,
}

/// Returns the results of the photos of an event whose latest job has ended, in the order in which
/// the jobs ended.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", o.reason,
                  (SELECT count(*) FROM face f WHERE f.photo_id = o.photo_id) AS "faces!",
                  ARRAY(SELECT b.number FROM bib b WHERE b.photo_id = o.photo_id
                        ORDER BY b.number) AS "bibs!",
                  CASE WHEN NOT r.abstained THEN r.turn END AS turn, r.upright_key AS "upright_key?"
           FROM outcome o JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           LEFT JOIN rotation r ON r.photo_id = o.photo_id AND q.operation = 'ai_rotation'
           WHERE q.event_id = $1
             AND o.job_id = (SELECT l.job_id FROM latest_job(o.photo_id, o.queue_id) l)
           ORDER BY o.settled_at, o.job_id"#,
        event.0
    )
    .fetch_all(db)
    .await
}
