//! What was seen on a photo, in the database. Keyed by the photo: a second write is the same write.

use std::collections::HashMap;

use photogate_jobs::{Bib, Embedding, Face, Rotation};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ids::{EventId, Operation, PhotoId};

/// What an operation found. Nothing found is a finding too.
#[derive(Debug, Clone)]
pub enum Findings {
    /// Photo processing.
    Processing {
        /// Of the upright photo, in pixels.
        width: u32,
        /// Of the upright photo, in pixels.
        height: u32,
        /// With embeddings only where the event's face search is on.
        faces: Vec<(Face, Option<Embedding>)>,
        /// Each number once.
        bibs: Vec<Bib>,
    },
    /// AI rotation.
    Rotation {
        /// The decision.
        rotation: Rotation,
        /// Where the upright photo is, and whether it was turned without loss; `None` if the original is upright.
        upright: Option<(String, bool)>,
    },
    /// A rehearsal: nothing was looked at.
    Nothing,
}

/// Writes the findings of many photos, replacing what stood there. Part of the settling transaction.
pub(crate) async fn write(
    tx: &mut PgConnection,
    found: &[(PhotoId, &Findings)],
) -> sqlx::Result<()> {
    let photos: Vec<_> = found.iter().map(|(photo, _)| photo.0).collect();
    // Of events that were deleted since nothing is kept, and no embedding where face search is off by now.
    let wanted: HashMap<Uuid, bool> = sqlx::query!(
        r#"SELECT r_photo AS "photo!", r_embeddings AS "embeddings!" FROM findings_wanted($1)"#,
        &photos
    )
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .map(|row| (row.photo, row.embeddings))
    .collect();
    let found: Vec<_> = found
        .iter()
        .filter_map(|(photo, findings)| Some((*photo, *findings, *wanted.get(&photo.0)?)))
        .collect();
    write_processing(tx, &found).await?;
    write_rotations(tx, &found).await
}

#[derive(Default)]
struct Boxes {
    photo: Vec<Uuid>,
    x: Vec<f32>,
    y: Vec<f32>,
    width: Vec<f32>,
    height: Vec<f32>,
    score: Vec<f32>,
}

impl Boxes {
    fn push(&mut self, photo: PhotoId, [x, y, width, height, score]: [f32; 5]) {
        self.photo.push(photo.0);
        self.x.push(x);
        self.y.push(y);
        self.width.push(width);
        self.height.push(height);
        self.score.push(score.clamp(0.0, 1.0));
    }
}

async fn write_processing(
    tx: &mut PgConnection,
    found: &[(PhotoId, &Findings, bool)],
) -> sqlx::Result<()> {
    let (mut photos, mut widths, mut heights) = (Vec::new(), Vec::new(), Vec::new());
    let (mut face_boxes, mut face_numbers, mut landmarks, mut embeddings) =
        (Boxes::default(), Vec::new(), Vec::new(), Vec::new());
    let (mut bib_boxes, mut bib_numbers) = (Boxes::default(), Vec::new());
    for (photo, findings, keeps_embeddings) in found {
        let Findings::Processing { width, height, faces, bibs } = findings else { continue };
        photos.push(photo.0);
        widths.push(i32::try_from(*width).unwrap_or(i32::MAX));
        heights.push(i32::try_from(*height).unwrap_or(i32::MAX));
        for (number, (face, embedding)) in faces.iter().enumerate() {
            face_boxes.push(*photo, [face.x, face.y, face.width, face.height, face.score]);
            face_numbers.push(i16::try_from(number).unwrap_or(i16::MAX));
            landmarks.push(serde_json::json!(face.landmarks.as_flattened()));
            embeddings.push(
                embedding
                    .as_ref()
                    .filter(|_| *keeps_embeddings)
                    .map_or(serde_json::Value::Null, |embedding| serde_json::json!(embedding)),
            );
        }
        for bib in bibs {
            bib_boxes.push(*photo, [bib.x, bib.y, bib.width, bib.height, bib.score]);
            bib_numbers.push(bib.number.clone());
        }
    }
    if photos.is_empty() {
        return Ok(());
    }
    sqlx::query!("DELETE FROM looked_at WHERE photo_id = ANY($1)", &photos)
        .execute(&mut *tx)
        .await?;
    sqlx::query!("DELETE FROM face WHERE photo_id = ANY($1)", &photos).execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM bib WHERE photo_id = ANY($1)", &photos).execute(&mut *tx).await?;
    sqlx::query!(
        "INSERT INTO looked_at (photo_id, width, height) SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[])",
        &photos,
        &widths,
        &heights
    )
    .execute(&mut *tx)
    .await?;
    // Arrays of arrays must be rectangular in PostgreSQL: the vectors travel as JSON.
    sqlx::query!(
        "INSERT INTO face (photo_id, number, x, y, width, height, score, landmarks, embedding)
         SELECT photo_id, number, x, y, width, height, score,
                ARRAY(SELECT v::real FROM jsonb_array_elements_text(landmarks) WITH ORDINALITY e (v, i) ORDER BY i),
                CASE WHEN embedding = 'null' THEN NULL
                     ELSE ARRAY(SELECT v::real FROM jsonb_array_elements_text(embedding) WITH ORDINALITY e (v, i) ORDER BY i) END
         FROM unnest($1::uuid[], $2::smallint[], $3::real[], $4::real[], $5::real[], $6::real[], $7::real[], $8::jsonb[], $9::jsonb[])
              AS f (photo_id, number, x, y, width, height, score, landmarks, embedding)",
        &face_boxes.photo,
        &face_numbers,
        &face_boxes.x,
        &face_boxes.y,
        &face_boxes.width,
        &face_boxes.height,
        &face_boxes.score,
        &landmarks,
        &embeddings
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO bib (photo_id, number, x, y, width, height, score)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::real[], $4::real[], $5::real[], $6::real[], $7::real[])",
        &bib_boxes.photo,
        &bib_numbers,
        &bib_boxes.x,
        &bib_boxes.y,
        &bib_boxes.width,
        &bib_boxes.height,
        &bib_boxes.score
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn write_rotations(
    tx: &mut PgConnection,
    found: &[(PhotoId, &Findings, bool)],
) -> sqlx::Result<()> {
    let (mut photos, mut turns, mut confidences, mut abstained) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut lossless) = (Vec::new(), Vec::new());
    for (photo, findings, _) in found {
        let Findings::Rotation { rotation, upright } = findings else { continue };
        photos.push(photo.0);
        turns.push(i16::try_from(rotation.turn.degrees()).unwrap_or(0));
        confidences.push(rotation.confidence);
        abstained.push(rotation.abstained);
        keys.push(upright.as_ref().map(|(key, _)| key.clone()));
        lossless.push(upright.as_ref().map(|(_, lossless)| *lossless));
    }
    if photos.is_empty() {
        return Ok(());
    }
    sqlx::query!("DELETE FROM rotation WHERE photo_id = ANY($1)", &photos)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "INSERT INTO rotation (photo_id, turn, confidence, abstained, upright_key, lossless)
         SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::real[], $4::boolean[], $5::text[], $6::boolean[])",
        &photos,
        &turns,
        &confidences,
        &abstained,
        &keys as &[Option<String>],
        &lossless as &[Option<bool>]
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// What became of a photo, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Found {
    /// The photo.
    pub photo: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// What was done.
    pub operation: Operation,
    /// Why it failed, if it did; a stable code.
    pub reason: Option<String>,
    /// Faces, by photo processing.
    pub faces: i64,
    /// Bib numbers, by photo processing.
    pub bibs: Vec<String>,
    /// The clockwise turn that was needed, in degrees, by AI rotation; `None`: it could not tell.
    pub turn: Option<i16>,
    /// The upright copy, if one was needed.
    pub upright_key: Option<String>,
}

/// What became of the photos of an event whose latest job has ended, in the order they ended.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", o.reason,
                  (SELECT count(*) FROM face f WHERE f.photo_id = o.photo_id) AS "faces!",
                  ARRAY(SELECT b.number FROM bib b WHERE b.photo_id = o.photo_id ORDER BY b.number) AS "bibs!",
                  CASE WHEN NOT r.abstained THEN r.turn END AS turn, r.upright_key AS "upright_key?"
           FROM outcome o JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           LEFT JOIN rotation r ON r.photo_id = o.photo_id AND q.operation = 'ai_rotation'
           WHERE q.event_id = $1
             AND o.job_id = (SELECT j.job_id FROM job j WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id ORDER BY j.retry DESC LIMIT 1)
           ORDER BY o.settled_at, o.job_id"#,
        event.0
    )
    .fetch_all(db)
    .await
}
