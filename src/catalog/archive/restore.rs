//! Restores an event: writes the rows of its archive into the database again.

use super::{ArchiveError, Archivist, LEASE, Row, Signature, manifest, part};

/// Lines that are written in one transaction.
const LINES: usize = 200;

impl Archivist {
    /// Writes the next part again, in batches; or ends the restore. Before the first one, the whole
    /// archive is verified: nothing is written from one that is damaged.
    pub(super) async fn restore(&self, row: &Row) -> Result<(), ArchiveError> {
        if row.restored_part == 1 && row.restored_lines == 0 {
            let verified = self.verify(row.id, &mut |_| {}).await?;
            if let Some(what) = verified.broken.first() {
                return Err(row.damaged(what.clone()));
            }
            // The database knows the SHA-256 of the manifest: a key that was changed is no damage.
            if verified.signature == Signature::Bad {
                tracing::warn!(archive = %row.id, "its signature is not that of our key");
            }
        }
        let mut db = self.pool.acquire().await?;
        let manifest = manifest::of(&mut db, row).await?;
        let Some(found) = manifest.parts.iter().find(|part| part.number == row.restored_part)
        else {
            sqlx::query_scalar!(r#"SELECT end_restore($1) AS "ended!""#, row.id.0)
                .fetch_one(&mut *db)
                .await?;
            return Ok(());
        };
        drop(db);
        let file = self.part(row, found).await?;
        let broken = |error: std::io::Error| row.damaged(format!("part {}: {error}", found.number));
        let done = usize::try_from(row.restored_lines).unwrap_or(0);
        let mut lines = part::lines(&file, found.text_bytes).map_err(broken)?.skip(done);
        let mut done = row.restored_lines;
        loop {
            let batch: Vec<String> =
                lines.by_ref().take(LINES).collect::<Result<_, _>>().map_err(broken)?;
            if batch.is_empty() {
                return Ok(());
            }
            let mut db = self.pool.acquire().await?;
            let written = sqlx::query_scalar!(
                r#"SELECT restore_lines($1, $2, $3, $4, $5) AS "written!""#,
                row.id.0,
                found.number,
                done,
                &batch,
                LEASE
            );
            if !written.fetch_one(&mut *db).await? {
                tracing::info!(archive = %row.id, "another process restores this archive");
                return Ok(());
            }
            done += i32::try_from(batch.len()).unwrap_or(i32::MAX);
        }
    }
}
