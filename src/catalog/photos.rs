//! The photos of an event, as pages and the API show them: the state of each photo, and its
//! findings.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use utoipa::ToSchema;

use super::away;
use crate::ids::{EventId, Operation, PhotoId};

/// The state of a photo for one operation.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = PhotoState)]
pub enum State {
    /// The photo waits in a queue that runs.
    Pending,
    /// The photo waits in a queue that is stopped: there are no credits, or a person holds it.
    Paused,
    /// A worker claimed the photo, and one credit is reserved for it.
    InProgress,
    /// The photo was processed, and cost one credit.
    Processed,
    /// AI Rotation could not decide which way is up, and its credit was refunded.
    Undecided,
    /// The same content was paid for before, under another key of the event. Its credit was refunded,
    /// and the findings are the same.
    Duplicate,
    /// The photo cannot be processed, and its credit was refunded.
    Failed,
    /// A person took the photo out of the queue.
    Skipped,
}

impl State {
    /// All states, in the order in which a photo goes through them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Paused,
        Self::InProgress,
        Self::Processed,
        Self::Undecided,
        Self::Duplicate,
        Self::Failed,
        Self::Skipped,
    ];

    /// The name of the state, for pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Paused => "Paused",
            Self::InProgress => "In Progress",
            Self::Processed => "Processed",
            Self::Undecided => "Undecided",
            Self::Duplicate => "Duplicate",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }

    /// The name of the state for one operation, for pages.
    pub fn name_for(self, operation: Operation) -> &'static str {
        match (operation, self) {
            (Operation::AiRotation, Self::InProgress) => "Processing",
            (Operation::AiRotation, Self::Processed) => "Completed",
            (_, state) => state.name(),
        }
    }

    /// The stable code of the state, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paused => "paused",
            Self::InProgress => "in_progress",
            Self::Processed => "processed",
            Self::Undecided => "undecided",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// A face on a photo. Lengths are in pixels of the upright photo at full size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaceBox {
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
    /// Confidence that this is a face, from 0 to 1.
    pub score: f32,
}

/// Bib numbers with at least this score are sure: 65 of 65 were right on real photos. Others may be
/// misread.
pub const SURE: f32 = 0.9;

/// What decided a bib number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "settled_by", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum SettledBy {
    /// What was read in its line, alone.
    Reading,
    /// The start list of the event.
    StartList,
    /// The way in which the event's other numbers look, such as four digits.
    Numbering,
    /// The same person wears this number on another photo of the event.
    Person,
    /// A person has corrected the photo's numbers.
    Organiser,
}

impl SettledBy {
    /// What decided the number, for pages.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reading => "as it was read",
            Self::StartList => "the start list decided",
            Self::Numbering => "the event's other numbers decided",
            Self::Person => "the same person wears it on another photo",
            Self::Organiser => "corrected by a person",
        }
    }
}

/// A bib number on a photo. Lengths are in pixels of the upright photo at full size. The box is
/// null where a person has told the number, and not its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BibBox {
    /// The number: upper-case letters and digits.
    pub number: String,
    /// Left edge of the box, in pixels.
    pub x: Option<f32>,
    /// Upper edge of the box, in pixels.
    pub y: Option<f32>,
    /// Width of the box, in pixels.
    pub width: Option<f32>,
    /// Height of the box, in pixels.
    pub height: Option<f32>,
    /// Confidence in the number, from 0 to 1.
    pub score: f32,
    /// Whether the number is sure: nearly all of these are right. Others may be misread.
    pub sure: bool,
    /// What decided the number.
    pub settled_by: SettledBy,
    /// What was read in this place, where that was another number.
    pub was: Option<String>,
}

/// What people have corrected on a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Corrected {
    /// Whether a person has said which bib numbers it shows.
    pub numbers: bool,
    /// Whether a person has said by how much it must be turned.
    pub turn: bool,
}

/// A photo of an event, with its states and its findings.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Photo {
    /// The photo's ID.
    pub id: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// State of Photo Processing; null if it was never queued for this photo.
    pub processing: Option<State>,
    /// Why Photo Processing was refunded, as a stable code; null if it was not.
    pub processing_reason: Option<String>,
    /// State of AI Rotation; null if it was never queued for this photo.
    pub rotation: Option<State>,
    /// Why AI Rotation was refunded, as a stable code; null if it was not.
    pub rotation_reason: Option<String>,
    /// Width of the upright photo, in pixels; null before it was processed.
    pub width: Option<i32>,
    /// Height of the upright photo, in pixels; null before it was processed.
    pub height: Option<i32>,
    /// The faces on the photo.
    #[schema(value_type = Vec<FaceBox>)]
    pub faces: Json<Vec<FaceBox>>,
    /// The bib numbers on the photo.
    #[schema(value_type = Vec<BibBox>)]
    pub bibs: Json<Vec<BibBox>>,
    /// The clockwise turn that the photo needs, in degrees; null if AI Rotation abstained, or was
    /// not done.
    pub turn: Option<i16>,
    /// Key of the upright copy in the store; null if there is none, because the original is
    /// upright, AI Rotation abstained, or it was not done.
    pub upright_key: Option<String>,
    /// What people have corrected. No run of the models replaces it.
    #[schema(value_type = Corrected)]
    pub corrected: Json<Corrected>,
}

impl Photo {
    /// Whether it may lie on its side: nothing was found on it, and AI Rotation was not done.
    #[must_use]
    pub fn may_be_sideways(&self) -> bool {
        let found = !self.faces.0.is_empty() || !self.bibs.0.is_empty();
        self.processing == Some(State::Processed) && self.rotation.is_none() && !found
    }
}

/// Selects photos of an event. A photo must meet all conditions that are set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only photos that have this state for at least one operation.
    pub state: Option<State>,
    /// Only photos with a bib number that begins with this text.
    pub bib: Option<&'a str>,
    /// Only photos with a bib number that is not sure.
    pub unsure: bool,
    /// Only the photo with this ID.
    pub photo: Option<PhotoId>,
    /// Only photos whose key comes after this one.
    pub after: Option<&'a str>,
    /// Largest number of photos to return.
    pub most: i64,
}

/// Returns photos of an event, ordered by key.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
) -> sqlx::Result<Vec<Photo>> {
    away::must_be_here(db, event).await?;
    let found = sqlx::query_as!(
        Photo,
        r#"SELECT p.photo_id AS "id!: _", p.key AS "key!",
                  s.processing AS "processing: _", s.processing_reason,
                  s.rotation AS "rotation: _", s.rotation_reason,
                  l.width AS "width?", l.height AS "height?",
                  coalesce((SELECT jsonb_agg(jsonb_build_object(
                                'x', f.x, 'y', f.y, 'width', f.width, 'height', f.height,
                                'score', f.score) ORDER BY f.number)
                            FROM face f WHERE f.photo_id = p.photo_id), '[]') AS "faces!: _",
                  coalesce((SELECT jsonb_agg(jsonb_build_object(
                                'number', b.number, 'x', b.x, 'y', b.y, 'width', b.width,
                                'height', b.height, 'score', b.score, 'sure', b.score >= $7,
                                'settled_by', b.settled_by, 'was', b.was) ORDER BY b.number)
                            FROM bib b WHERE b.photo_id = p.photo_id), '[]') AS "bibs!: _",
                  CASE WHEN NOT r.abstained THEN r.turn END AS turn, r.upright_key AS "upright_key?",
                  jsonb_build_object(
                      'numbers', EXISTS (SELECT FROM number_correction c WHERE c.photo_id = p.photo_id),
                      'turn', EXISTS (SELECT FROM turn_correction c WHERE c.photo_id = p.photo_id))
                      AS "corrected!: _"
           FROM photo p
           CROSS JOIN LATERAL (
               -- A photo that is queued when its AI Rotation has ended waits already.
               SELECT coalesce(max(x.state) FILTER (WHERE x.operation = 'photo_processing'),
                               CASE WHEN EXISTS (
                                   SELECT FROM queue y JOIN follow_up f USING (queue_id)
                                   WHERE y.event_id = $1 AND f.photo_id = p.photo_id) THEN 'pending' END)
                          AS processing,
                      max(x.reason) FILTER (WHERE x.operation = 'photo_processing')
                          AS processing_reason,
                      max(x.state) FILTER (WHERE x.operation = 'ai_rotation') AS rotation,
                      max(x.reason) FILTER (WHERE x.operation = 'ai_rotation') AS rotation_reason
               FROM queue q JOIN queue_head h USING (queue_id) CROSS JOIN LATERAL (
                   SELECT q.operation, o.reason,
                          photo_state(
                              job_state(o.state, stretch_kind_at(j.queue_id, j.position), j.position, h.head),
                              q.paused_since IS NOT NULL OR q.held) AS state
                   FROM latest_job(p.photo_id, q.queue_id) j
                   LEFT JOIN outcome o USING (job_id)) x
               WHERE q.event_id = $1) s
           LEFT JOIN looked_at l ON l.photo_id = p.photo_id
           LEFT JOIN rotation r ON r.photo_id = p.photo_id
           WHERE p.event_id = $1 AND p.key > $2 AND ($3::uuid IS NULL OR p.photo_id = $3)
             AND ($4::text IS NULL OR s.processing = $4 OR s.rotation = $4)
             AND ($5::text IS NULL
                  OR EXISTS (SELECT FROM bib b WHERE b.photo_id = p.photo_id AND b.number LIKE $5 || '%'))
             AND (NOT $8 OR EXISTS (SELECT FROM bib b WHERE b.photo_id = p.photo_id AND b.score < $7))
           ORDER BY p.key LIMIT $6"#,
        event.0,
        filter.after.unwrap_or_default(),
        filter.photo.map(|photo| photo.0),
        filter.state.map(State::code),
        filter.bib,
        filter.most,
        SURE,
        filter.unsure
    )
    .fetch_all(&mut *db)
    .await?;
    away::must_be_here(db, event).await?;
    Ok(found)
}

/// The photos before and after one, by their keys. `None`: there is none.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// The one before it.
    pub before: Option<PhotoId>,
    /// The one after it.
    pub after: Option<PhotoId>,
}

/// Returns the photos of an event before and after a key.
///
/// # Errors
/// When the database has trouble.
pub async fn beside(db: &mut PgConnection, event: EventId, key: &str) -> sqlx::Result<Beside> {
    sqlx::query_as!(
        Beside,
        r#"SELECT (SELECT photo_id FROM photo WHERE event_id = $1 AND key < $2
                   ORDER BY key DESC LIMIT 1) AS "before: _",
                  (SELECT photo_id FROM photo WHERE event_id = $1 AND key > $2
                   ORDER BY key LIMIT 1) AS "after: _""#,
        event.0,
        key
    )
    .fetch_one(db)
    .await
}

/// Returns the event of a photo; `None` if there is no such photo, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn event_of(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT p.event_id AS "event: EventId" FROM photo p JOIN event e USING (event_id)
           WHERE p.photo_id = $1 AND e.deleted_at IS NULL"#,
        photo.0
    )
    .fetch_optional(db)
    .await
}

/// Returns the event and the key of a photo; `None` if there is no such photo, or its event was
/// deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn place_of(
    db: &mut PgConnection,
    photo: PhotoId,
) -> sqlx::Result<Option<(EventId, String)>> {
    let found = sqlx::query!(
        "SELECT p.event_id, p.key FROM photo p JOIN event e USING (event_id)
         WHERE p.photo_id = $1 AND e.deleted_at IS NULL",
        photo.0
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| (EventId(row.event_id), row.key)))
}

/// Returns at most `most` keys of an event's photos that come after the key `after`, in order. Go
/// Live uses it.
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
