//! Searches the photos of an event by a bib number or by a face.

use photogate_jobs::{EMBEDDABLE_WIDTH, Embedding, PhotoError};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::{
        away,
        findings::embeddings,
        photos::{SURE, SettledBy},
    },
    ids::{EventId, Operation, OrganisationId, PhotoId},
    sandbox::{Answer, Pool, PoolError, Seen, Trouble, Wants},
};

/// Largest number of photos that a search returns.
pub const FOUND_MAX: usize = 1000;
/// Two faces with at least this cosine are most likely of one person. It found 19 of 20 pairs of
/// the same person, and none of 700 pairs of different people.
pub const SAME_PERSON: f32 = 0.45;

/// A photo that was found by a bib number.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ByBib {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// The bib number on the photo.
    pub number: String,
    /// Confidence in the reading, from 0 to 1.
    pub score: f32,
    /// Whether the number is sure: nearly all of these are right. Others may be misread.
    pub sure: bool,
    /// What decided the number.
    pub settled_by: SettledBy,
}

/// Returns the photos of an event with this bib number, at most [`FOUND_MAX`].
///
/// With `prefix`, a number may also only begin with `number`. Photos with exactly this number come
/// first, then the others; among them, the highest score is first.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn by_bib(
    db: &mut PgConnection,
    event: EventId,
    number: &str,
    prefix: bool,
) -> sqlx::Result<Vec<ByBib>> {
    away::must_be_here(db, event).await?;
    let found = sqlx::query_as!(
        ByBib,
        r#"SELECT b.photo_id AS "photo: _", p.key, b.number, b.score, b.score >= $5 AS "sure!",
                  b.settled_by AS "settled_by: _"
           FROM bib b JOIN photo p USING (photo_id) JOIN event e USING (event_id)
           WHERE p.event_id = $1 AND e.deleted_at IS NULL
             AND b.number LIKE $2 || CASE WHEN $3 THEN '%' ELSE '' END
           ORDER BY b.number <> $2, b.score DESC, p.key LIMIT $4"#,
        event.0,
        number,
        prefix,
        i64::try_from(FOUND_MAX).unwrap_or(i64::MAX),
        SURE
    )
    .fetch_all(&mut *db)
    .await?;
    away::must_be_here(db, event).await?;
    Ok(found)
}

/// Why a selfie cannot be used for a search.
#[derive(Debug, thiserror::Error)]
pub enum SelfieError {
    /// The file cannot be read as a photo.
    #[error(transparent)]
    Photo(#[from] PhotoError),
    /// No face was found on the selfie.
    #[error("no face was found on the photo: take one from the front, in good light")]
    NoFace,
    /// The face is narrower than [`EMBEDDABLE_WIDTH`].
    #[error(
        "the face on the photo is less than {EMBEDDABLE_WIDTH} pixels wide: take it from closer"
    )]
    TooSmall,
    /// The sandbox child crashed while it looked at the selfie.
    #[error("the photo could not be processed ({0}): take another one")]
    Crashed(String),
    /// No sandbox child could be started.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Computes the embedding of the widest face on a selfie that somebody of this organisation has sent.
/// It is not stored.
///
/// # Errors
/// See [`SelfieError`].
pub async fn selfie(
    pool: &Pool,
    organisation: OrganisationId,
    photo: Vec<u8>,
) -> Result<Embedding, SelfieError> {
    let (bibs, embeddings, thumbnail) = (false, true, false);
    let operation = Operation::PhotoProcessing;
    let wants = Wants { operation, bibs, embeddings, thumbnail, turn: None };
    let slot = pool.slot(organisation).await;
    let faces = match pool.look(&slot, wants, photo).await {
        Ok(Answer::Seen(Seen::Processing { faces, .. })) => faces,
        Ok(Answer::Seen(Seen::Rotation { .. })) => Vec::new(),
        Ok(Answer::Refused(error)) => return Err(error.into()),
        Ok(Answer::Panicked(why)) | Err(Trouble::Crashed(why)) => {
            return Err(SelfieError::Crashed(why));
        }
        Err(Trouble::NoChild(error)) => return Err(error.into()),
    };
    let nearest = faces.into_iter().max_by(|a, b| a.0.width.total_cmp(&b.0.width));
    nearest.ok_or(SelfieError::NoFace)?.1.ok_or(SelfieError::TooSmall)
}

/// A photo that was found by a face.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ByFace {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// Number of the face on the photo; the first is 0.
    pub face: i16,
    /// Cosine of the two embeddings: 1 is the same face, 0 is a face without likeness.
    pub score: f32,
}

/// Returns the photos of an event with a face like this one, at most [`FOUND_MAX`].
///
/// The cosine is at least `score_min`. The face most alike is first, and each photo is returned
/// once.
///
/// The function compares every face of the event. 10,000 faces take about 20 ms, so there is no
/// need for an index.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn by_face(
    db: &mut PgConnection,
    event: EventId,
    face: &Embedding,
    score_min: f32,
) -> sqlx::Result<Vec<ByFace>> {
    away::must_be_here(db, event).await?;
    let mut found: Vec<(PhotoId, i16, f32)> = Vec::new();
    let (mut photo, mut number) = (uuid::Uuid::nil(), i16::MAX);
    loop {
        let page = sqlx::query!(
            r#"SELECT f.photo_id, f.number, f.embedding AS "embedding!"
               FROM photo p JOIN face f USING (photo_id)
               JOIN event e USING (event_id)
               WHERE p.event_id = $1 AND e.face_search AND f.embedding IS NOT NULL
                 AND (f.photo_id, f.number) > ($2, $3)
               ORDER BY f.photo_id, f.number LIMIT 5000"#,
            event.0,
            photo,
            number
        )
        .fetch_all(&mut *db)
        .await?;
        let Some(last) = page.last() else { break };
        (photo, number) = (last.photo_id, last.number);
        for row in &page {
            let score = embeddings::cosine(&row.embedding, face);
            if score >= score_min {
                found.push((PhotoId(row.photo_id), row.number, score));
            }
        }
    }
    // Keep only the best face of each photo.
    found.sort_by(|a, b| (a.0, b.2).partial_cmp(&(b.0, a.2)).unwrap_or(std::cmp::Ordering::Equal));
    found.dedup_by_key(|(photo, ..)| *photo);
    found.sort_by(|a, b| b.2.total_cmp(&a.2));
    found.truncate(FOUND_MAX);
    let photos: Vec<_> = found.iter().map(|(photo, ..)| photo.0).collect();
    let keys = sqlx::query!("SELECT photo_id, key FROM photo WHERE photo_id = ANY ($1)", &photos)
        .fetch_all(&mut *db)
        .await?;
    away::must_be_here(db, event).await?;
    let mut keys: std::collections::HashMap<_, _> =
        keys.into_iter().map(|row| (row.photo_id, row.key)).collect();
    Ok(found
        .into_iter()
        .filter_map(|(photo, face, score)| {
            Some(ByFace { key: keys.remove(&photo.0)?, photo, face, score })
        })
        .collect())
}
