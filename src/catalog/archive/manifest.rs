//! The manifest of an archive: what is in it, and the SHA-256 of each of its parts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Row;
use crate::ids::{ArchiveId, EventId, OrganisationId};

/// What this program writes. A later one reads it too.
pub(super) const FORMAT: u32 = 1;
/// Largest manifest: some 40,000 parts, which are 400 million photos.
pub(super) const FILE_MAX: usize = 16 << 20;

/// The manifest of an archive.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) archive: ArchiveId,
    pub(super) directory: Uuid,
    pub(super) event: EventId,
    /// It tells the event from one of another database with the same number.
    pub(super) event_created_at: DateTime<Utc>,
    pub(super) organisation: OrganisationId,
    pub(super) photos: i64,
    pub(super) jobs: i64,
    /// Credits that were spent on these photos, and that were given back.
    pub(super) committed: i64,
    pub(super) refunded: i64,
    pub(super) parts: Vec<Part>,
}

/// A part, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "part")]
    pub(super) number: i32,
    pub(super) stage: String,
    pub(super) lines: i32,
    pub(super) jobs: i64,
    pub(super) committed: i64,
    pub(super) refunded: i64,
    /// Length of its text, and of its file.
    pub(super) text_bytes: i64,
    pub(super) bytes: i64,
    pub(super) sha256: String,
}

/// The manifest that an archive has, from what was noted of its parts.
pub(super) async fn of(db: &mut PgConnection, row: &Row) -> sqlx::Result<Manifest> {
    let parts = sqlx::query_as!(
        Part,
        r#"SELECT part AS number, stage, lines, jobs, committed, refunded, text_bytes, bytes,
                  encode(sha256, 'hex') AS "sha256!"
           FROM archive_part WHERE archive_id = $1 ORDER BY part"#,
        row.id.0
    )
    .fetch_all(&mut *db)
    .await?;
    let created =
        sqlx::query_scalar!("SELECT created_at FROM event WHERE event_id = $1", row.event.0)
            .fetch_one(db)
            .await?;
    let sum = |of: fn(&Part) -> i64| parts.iter().map(of).sum();
    Ok(Manifest {
        format: FORMAT,
        archive: row.id,
        directory: row.directory,
        event: row.event,
        event_created_at: created,
        organisation: row.organisation,
        photos: sum(|part| if part.stage == "photos" { part.lines.into() } else { 0 }),
        jobs: sum(|part| part.jobs),
        committed: sum(|part| part.committed),
        refunded: sum(|part| part.refunded),
        parts,
    })
}

impl Manifest {
    /// Its file, and the SHA-256 of that.
    pub(super) fn bytes(&self) -> (Vec<u8>, [u8; 32]) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let sha256 = Sha256::digest(&bytes).into();
        (bytes, sha256)
    }
}
