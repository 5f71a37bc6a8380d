//! Writes findings to the database, in the transaction that settles the photos.

use photogate_jobs::{Embedding, Face};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{embeddings, kinds::Findings};
use crate::{ids::JobId, queue::claim::Incarnation};

/// Writes the findings of many photos and replaces earlier ones. Runs in the transaction that
/// settles the photos: others are left out by the database.
pub(crate) async fn write(
    tx: &mut PgConnection,
    me: Incarnation,
    found: &[(JobId, &Findings)],
) -> sqlx::Result<()> {
    let found: Value = found.iter().map(|(job, findings)| told(*job, findings)).collect();
    sqlx::query!("SELECT write_findings($1, $2)", me.key(), found).execute(tx).await?;
    Ok(())
}

/// The findings of a photo, as the SQL function takes them.
fn told(job: JobId, findings: &Findings) -> Value {
    match findings {
        Findings::Processing { width, height, turn, faces, bibs, lines, .. } => json!({
            "job": job,
            "width": i32::try_from(*width).unwrap_or(i32::MAX),
            "height": i32::try_from(*height).unwrap_or(i32::MAX),
            "looked_turn": turn.degrees(),
            "faces": faces.iter().map(face).collect::<Value>(),
            "bibs": bibs,
            "lines": lines,
        }),
        Findings::Rotation { rotation, upright, .. } => json!({
            "job": job,
            "turn": rotation.turn.degrees(),
            "confidence": rotation.confidence,
            "abstained": rotation.abstained,
            "upright_key": upright.as_ref().map(|(key, _)| key),
            "lossless": upright.as_ref().map(|(_, lossless)| lossless),
        }),
        Findings::Nothing => json!({ "job": job }),
    }
}

fn face((face, embedding): &(Face, Option<Embedding>)) -> Value {
    json!({
        "x": face.x,
        "y": face.y,
        "width": face.width,
        "height": face.height,
        "score": face.score,
        "embedding": embedding.as_deref().map(|embedding| hex::encode(embeddings::packed(embedding))),
    })
}
