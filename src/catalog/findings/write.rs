//! Writes findings to the database, in the transaction that settles the photos.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    columns::{Bibs, Faces, Sizes},
    kinds::Findings,
};
use crate::ids::PhotoId;

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

async fn write_processing(
    tx: &mut PgConnection,
    found: &[(PhotoId, &Findings, bool)],
) -> sqlx::Result<()> {
    let mut sizes = Sizes::default();
    let mut all_faces = Faces::default();
    let mut all_bibs = Bibs::default();
    for (photo, findings, keeps_embeddings) in found {
        let Findings::Processing { width, height, faces, bibs } = findings else { continue };
        sizes.push(*photo, *width, *height);
        all_faces.extend(*photo, faces, *keeps_embeddings);
        all_bibs.extend(*photo, bibs);
    }
    if sizes.photo.is_empty() {
        return Ok(());
    }
    forget_processing(tx, &sizes.photo).await?;
    insert_sizes(tx, &sizes).await?;
    insert_faces(tx, &all_faces).await?;
    insert_bibs(tx, &all_bibs).await
}

/// Deletes what an earlier run found on these photos.
async fn forget_processing(tx: &mut PgConnection, photos: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM looked_at WHERE photo_id = ANY($1)", photos)
        .execute(&mut *tx)
        .await?;
    sqlx::query!("DELETE FROM face WHERE photo_id = ANY($1)", photos).execute(&mut *tx).await?;
    sqlx::query!("DELETE FROM bib WHERE photo_id = ANY($1)", photos).execute(&mut *tx).await?;
    Ok(())
}

async fn insert_sizes(tx: &mut PgConnection, sizes: &Sizes) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO looked_at (photo_id, width, height)
         SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[])",
        &sizes.photo,
        &sizes.width,
        &sizes.height
    )
    .execute(tx)
    .await
    .map(|_| ())
}

async fn insert_faces(tx: &mut PgConnection, faces: &Faces) -> sqlx::Result<()> {
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
        &faces.boxes.photo,
        &faces.number,
        &faces.boxes.x,
        &faces.boxes.y,
        &faces.boxes.width,
        &faces.boxes.height,
        &faces.boxes.score,
        &faces.landmarks,
        &faces.embedding
    )
    .execute(tx)
    .await
    .map(|_| ())
}

async fn insert_bibs(tx: &mut PgConnection, bibs: &Bibs) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO bib (photo_id, number, x, y, width, height, score)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::real[], $4::real[], $5::real[], $6::real[],
                              $7::real[])",
        &bibs.boxes.photo,
        &bibs.number,
        &bibs.boxes.x,
        &bibs.boxes.y,
        &bibs.boxes.width,
        &bibs.boxes.height,
        &bibs.boxes.score
    )
    .execute(tx)
    .await
    .map(|_| ())
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
