//! Erasures: what was deleted because somebody asked for it, or because its time had come. Each is
//! also written into the store, because a backup of the database is older than the erasures that
//! came after it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::ids::{EventId, PhotoId};

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "erasure_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = ErasureKind)]
pub enum Kind {
    /// The faces and the bib number of one person.
    Person,
    /// All embeddings of the event: its face search was switched off.
    Embeddings,
    /// All faces and bib numbers of the event: they were kept for as long as it says.
    Findings,
    /// The event, and all that was found on its photos.
    Event,
}

impl Kind {
    /// The kind's name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Embeddings => "embeddings",
            Self::Findings => "findings",
            Self::Event => "event",
        }
    }
}

/// A face on a photo, as a search by a selfie finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaceOf {
    /// The photo's ID.
    pub photo: PhotoId,
    /// Number of the face on the photo; the first is 0.
    pub face: i16,
}

/// An erasure that was made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Erasure {
    /// The erasure's ID.
    pub id: Uuid,
    /// What was deleted.
    pub kind: Kind,
    /// Who asked for it; `System` if its time had come.
    pub actor: String,
    /// The time of the erasure.
    pub at: DateTime<Utc>,
    /// The person's bib number; `None` if none was named.
    pub bib: Option<String>,
    /// Number of faces of the person that were named.
    pub faces: i64,
    /// Whether a record of it is in the store, so that it can be made again after a restore. A
    /// worker writes it within seconds.
    pub in_store: bool,
}

/// What an erasure of a person has deleted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Erased {
    /// The erasure's ID.
    pub id: Uuid,
    /// Number of faces that were deleted.
    pub faces: i32,
    /// Number of places where the bib number had been read.
    pub bibs: i32,
}

/// Deletes faces of an event's photos, and what was read of a bib number, which is not found again.
/// `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn erase_person(
    tx: &mut PgConnection,
    event: EventId,
    faces: &[FaceOf],
    bib: Option<&str>,
    actor: &str,
) -> sqlx::Result<Erased> {
    let photos: Vec<_> = faces.iter().map(|face| face.photo.0).collect();
    let numbers: Vec<_> = faces.iter().map(|face| face.face).collect();
    sqlx::query_as!(
        Erased,
        r#"SELECT r_erasure AS "id!", r_faces AS "faces!", r_bibs AS "bibs!"
           FROM erase_person($1, $2, $3, $4, $5)"#,
        event.0,
        &photos,
        &numbers,
        bib,
        actor
    )
    .fetch_one(tx)
    .await
}

/// Lists the erasures of an event, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, event: EventId, most: i64) -> sqlx::Result<Vec<Erasure>> {
    sqlx::query_as!(
        Erasure,
        r#"SELECT erasure_id AS id, kind AS "kind: _", actor, at, bib,
                  cardinality(photos)::bigint AS "faces!", in_store
           FROM erasure WHERE event_id = $1 ORDER BY at DESC, erasure_id LIMIT $2"#,
        event.0,
        most
    )
    .fetch_all(db)
    .await
}

/// The record of an erasure in the store. It has numbers of photos and faces, and no image of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The erasure's ID.
    pub id: Uuid,
    /// The event's number.
    pub event: EventId,
    /// The time when the event was created: it tells the event from the event of another database
    /// with the same number.
    pub event_created_at: DateTime<Utc>,
    /// What was deleted.
    pub kind: Kind,
    /// Who asked for it.
    pub actor: String,
    /// The time of the erasure.
    pub at: DateTime<Utc>,
    /// The person's bib number.
    pub bib: Option<String>,
    /// The person's faces.
    pub faces: Vec<FaceOf>,
}

/// Returns erasures that are not in the store yet, oldest first, at most `most`.
#[cfg(feature = "vision")]
pub(crate) async fn to_store(db: &mut PgConnection, most: i32) -> sqlx::Result<Vec<Record>> {
    let rows = sqlx::query!(
        r#"SELECT r_erasure AS "id!", r_event AS "event!: EventId",
                  r_event_made AS "event_created_at!", r_kind AS "kind!: Kind", r_actor AS "actor!",
                  r_at AS "at!", r_bib AS bib, r_photos AS "photos!: Vec<PhotoId>",
                  r_faces AS "faces!"
           FROM erasures_to_store($1)"#,
        most
    )
    .fetch_all(db)
    .await?;
    let record = |row: Vec<PhotoId>, faces: Vec<i16>| {
        row.into_iter().zip(faces).map(|(photo, face)| FaceOf { photo, face }).collect()
    };
    Ok(rows
        .into_iter()
        .map(|row| Record {
            id: row.id,
            event: row.event,
            event_created_at: row.event_created_at,
            kind: row.kind,
            actor: row.actor,
            at: row.at,
            bib: row.bib,
            faces: record(row.photos, row.faces),
        })
        .collect())
}

/// Records that these erasures are in the store.
#[cfg(feature = "vision")]
pub(crate) async fn are_stored(db: &mut PgConnection, erasures: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("SELECT erasures_are_stored($1)", erasures).execute(db).await.map(|_| ())
}

/// Makes an erasure again, if the database does not know it. Returns whether it did. The caller must
/// call [`forget`](super::events::forget) next, after a commit. `tx` must be a transaction.
///
/// # Errors
/// `PG006` if something else is still being deleted, or trouble with the database.
pub async fn erase_again(tx: &mut PgConnection, record: &Record) -> sqlx::Result<bool> {
    let photos: Vec<_> = record.faces.iter().map(|face| face.photo.0).collect();
    let faces: Vec<_> = record.faces.iter().map(|face| face.face).collect();
    sqlx::query_scalar!(
        r#"SELECT erase_again($1, $2, $3, $4, $5, $6, $7, $8) AS "again!""#,
        record.id,
        record.event.0,
        record.event_created_at,
        record.kind as Kind,
        record.actor,
        record.bib,
        &photos,
        &faces
    )
    .fetch_one(tx)
    .await
}
