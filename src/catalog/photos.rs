//! The photos of an event, as people see them: where each stands, and what was seen on it.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use utoipa::ToSchema;

use crate::ids::{EventId, Operation, PhotoId};

/// Where a photo stands for an operation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, clap::ValueEnum, ToSchema,
)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = PhotoState)]
pub enum State {
    /// In the queue, which runs.
    Pending,
    /// In the queue, which does not: no credits, or a hold.
    Paused,
    /// Paid for, and being worked on.
    InProgress,
    /// Done, and charged.
    Processed,
    /// It cannot be done, and the credit came back.
    Failed,
    /// Taken out of the queue by a person.
    Skipped,
}

impl State {
    /// All of them, in the order a photo meets them.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Paused,
        Self::InProgress,
        Self::Processed,
        Self::Failed,
        Self::Skipped,
    ];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Paused => "Paused",
            Self::InProgress => "In Progress",
            Self::Processed => "Processed",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }

    /// As people call it, for this operation.
    pub fn name_for(self, operation: Operation) -> &'static str {
        match (operation, self) {
            (Operation::AiRotation, Self::InProgress) => "Processing",
            (Operation::AiRotation, Self::Processed) => "Completed",
            (_, state) => state.name(),
        }
    }

    /// As programs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::InProgress => "in_progress",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// A box, in pixels of the upright photo at full size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaceBox {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Of the box.
    pub width: f32,
    /// Of the box.
    pub height: f32,
    /// 0 to 1: how sure it is that this is a face.
    pub score: f32,
}

/// A number that was read, and where, in pixels of the upright photo at full size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BibBox {
    /// As it was read: capital letters and digits.
    pub number: String,
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Of the box.
    pub width: f32,
    /// Of the box.
    pub height: f32,
    /// 0 to 1: how sure the reading is.
    pub score: f32,
}

/// A photo of an event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Photo {
    /// The photo.
    pub id: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// Its photo processing; none was asked for if this is null.
    pub processing: Option<State>,
    /// Why that failed: a stable code.
    pub processing_reason: Option<String>,
    /// Its AI rotation; none was asked for if this is null.
    pub rotation: Option<State>,
    /// Why that failed: a stable code.
    pub rotation_reason: Option<String>,
    /// Of the upright photo, in pixels; null before it was processed.
    pub width: Option<i32>,
    /// Of the upright photo, in pixels; null before it was processed.
    pub height: Option<i32>,
    /// The faces on it.
    #[schema(value_type = Vec<FaceBox>)]
    pub faces: Json<Vec<FaceBox>>,
    /// The bib numbers on it.
    #[schema(value_type = Vec<BibBox>)]
    pub bibs: Json<Vec<BibBox>>,
    /// By how many degrees clockwise it had to be turned; null if nobody knows.
    pub turn: Option<i16>,
    /// Where its upright copy is in the store; null if it is upright as it is, or nobody knows.
    pub upright_key: Option<String>,
}

/// Which photos.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only in this state, for either operation.
    pub state: Option<State>,
    /// Only with this number, or with one that begins so.
    pub bib: Option<&'a str>,
    /// Only this one.
    pub photo: Option<PhotoId>,
    /// Only behind this key.
    pub after: Option<&'a str>,
    /// At most so many.
    pub most: i64,
}

/// Photos of an event, by key.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
) -> sqlx::Result<Vec<Photo>> {
    sqlx::query_as!(
        Photo,
        r#"SELECT p.photo_id AS "id!: _", p.key AS "key!", s.processing AS "processing: _", s.processing_reason, s.rotation AS "rotation: _", s.rotation_reason,
                  l.width AS "width?", l.height AS "height?",
                  coalesce((SELECT jsonb_agg(jsonb_build_object('x', f.x, 'y', f.y, 'width', f.width, 'height', f.height, 'score', f.score) ORDER BY f.number)
                            FROM face f WHERE f.photo_id = p.photo_id), '[]') AS "faces!: _",
                  coalesce((SELECT jsonb_agg(jsonb_build_object('number', b.number, 'x', b.x, 'y', b.y, 'width', b.width, 'height', b.height, 'score', b.score) ORDER BY b.number)
                            FROM bib b WHERE b.photo_id = p.photo_id), '[]') AS "bibs!: _",
                  CASE WHEN NOT r.abstained THEN r.turn END AS turn, r.upright_key AS "upright_key?"
           FROM photo p
           CROSS JOIN LATERAL (
               SELECT max(x.state) FILTER (WHERE x.operation = 'photo_processing') AS processing, max(x.reason) FILTER (WHERE x.operation = 'photo_processing') AS processing_reason,
                      max(x.state) FILTER (WHERE x.operation = 'ai_rotation') AS rotation, max(x.reason) FILTER (WHERE x.operation = 'ai_rotation') AS rotation_reason
               FROM queue q CROSS JOIN LATERAL (
                   SELECT q.operation, o.reason,
                          CASE WHEN o.state = 'processed' THEN 'processed' WHEN o.state IS NOT NULL THEN 'failed' WHEN k.position IS NOT NULL THEN 'skipped'
                               WHEN j.position <= q.head THEN 'in_progress' WHEN q.blocked & 6 <> 0 THEN 'paused' ELSE 'pending' END AS state
                   FROM job j LEFT JOIN outcome o USING (job_id) LEFT JOIN skip k ON k.queue_id = j.queue_id AND k.position = j.position
                   WHERE j.photo_id = p.photo_id AND j.queue_id = q.queue_id ORDER BY j.retry DESC LIMIT 1) x
               WHERE q.event_id = $1) s
           LEFT JOIN looked_at l ON l.photo_id = p.photo_id LEFT JOIN rotation r ON r.photo_id = p.photo_id
           WHERE p.event_id = $1 AND p.key > $2 AND ($3::uuid IS NULL OR p.photo_id = $3)
             AND ($4::text IS NULL OR s.processing = $4 OR s.rotation = $4)
             AND ($5::text IS NULL OR EXISTS (SELECT FROM bib b WHERE b.photo_id = p.photo_id AND b.number LIKE $5 || '%'))
           ORDER BY p.key LIMIT $6"#,
        event.0,
        filter.after.unwrap_or_default(),
        filter.photo.map(|photo| photo.0),
        filter.state.map(State::code),
        filter.bib,
        filter.most
    )
    .fetch_all(db)
    .await
}

/// Whose photo it is. `None`: there is no such photo, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn event_of(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT p.event_id AS "event: EventId" FROM photo p JOIN event e USING (event_id) WHERE p.photo_id = $1 AND e.deleted_at IS NULL"#,
        photo.0
    )
    .fetch_optional(db)
    .await
}

/// The keys of all photos of an event, in order, behind one; for Go Live.
///
/// # Errors
/// When the database has trouble.
pub async fn keys(
    db: &mut PgConnection,
    event: EventId,
    after: &str,
    most: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT key FROM photo WHERE event_id = $1 AND key > $2 ORDER BY key LIMIT $3",
        event.0,
        after,
        most
    )
    .fetch_all(db)
    .await
}
