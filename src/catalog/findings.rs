//! Writes findings to the database and reads them. The photo's ID is the key: writing the findings
//! of a photo twice has the same result as writing them once.

use std::collections::HashMap;

use photogate_jobs::{Bib, Embedding, Face, Rotation};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ids::{EventId, Operation, PhotoId};

/// What an operation found on a photo. "Nothing" is a finding, too.
#[derive(Debug, Clone)]
pub enum Findings {
    /// Findings of photo processing.
    Processing {
        /// Width of the upright photo, in pixels.
        width: u32,
        /// Height of the upright photo, in pixels.
        height: u32,
        /// Faces on the photo. A face has an embedding only if the event's face search is on.
        faces: Vec<(Face, Option<Embedding>)>,
        /// Bib numbers on the photo, each number once.
        bibs: Vec<Bib>,
    },
    /// Findings of AI rotation.
    Rotation {
        /// The turn that the photo needs, or an abstention.
        rotation: Rotation,
        /// Key of the upright copy, and whether it was made without loss. `None` if there is no
        /// copy, because the original is upright.
        upright: Option<(String, bool)>,
    },
    /// A rehearsal: no photo was processed.
    Nothing,
}

/// Writes the findings of many photos and replaces earlier ones. Runs in the transaction that
/// settles the photos.
pub(crate) async fn write(
    tx: &mut PgConnection,
    found: &[(PhotoId, &Findings)],
) -> sqlx::Result<()> {
    let photos: Vec<_> = found.iter().map(|(photo, _)| photo.0).collect();
    // The event may have changed since the claim. Findings are not kept if it was deleted, and
    // embeddings are not kept if its face search was switched off.
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
        "INSERT INTO looked_at (photo_id, width, height)
         SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[])",
        &photos,
        &widths,
        &heights
    )
    .execute(&mut *tx)
    .await?;
    // The vectors are sent as JSON, because arrays of arrays must be rectangular in PostgreSQL.
    sqlx::query!(
        "INSERT INTO face (photo_id, number, x, y, width, height, score, landmarks, embedding)
         SELECT photo_id, number, x, y, width, height, score,
                ARRAY(SELECT v::real
                      FROM jsonb_array_elements_text(landmarks) WITH ORDINALITY e (v, i)
                      ORDER BY i),
                CASE WHEN embedding = 'null' THEN NULL
                     ELSE ARRAY(SELECT v::real
                                FROM jsonb_array_elements_text(embedding) WITH ORDINALITY e (v, i)
                                ORDER BY i) END
         FROM unnest($1::uuid[], $2::smallint[], $3::real[], $4::real[], $5::real[], $6::real[],
                     $7::real[], $8::jsonb[], $9::jsonb[])
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
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::real[], $4::real[], $5::real[], $6::real[],
                              $7::real[])",
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
         SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::real[], $4::boolean[], $5::text[],
                              $6::boolean[])",
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

/// The result of one operation on one photo, for people to read.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Found {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// The operation that was done on the photo.
    pub operation: Operation,
    /// Why the photo failed, as a stable code; `None` if it was processed.
    pub reason: Option<String>,
    /// Number of faces that photo processing found.
    pub faces: i64,
    /// Bib numbers that photo processing read.
    pub bibs: Vec<String>,
    /// The clockwise turn that the photo needs, in degrees, as AI rotation found it. `None` if AI
    /// rotation abstained, or was not done.
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
