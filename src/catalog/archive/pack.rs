//! Packs the rows of an event: a part at a time, and then the manifest.

use futures::TryStreamExt;

use super::{ArchiveError, Archivist, LEASE, Row, State, manifest, part};
use crate::{
    catalog::{key::Key, photo_store::StoreError},
    database,
};

/// What was packed is not what the queues have counted.
const ASSERTION: &str = "P0004";

/// Lines that are read from the database at a time.
const PAGE: i32 = 200;

impl Archivist {
    /// Packs the next part, or seals what is packed. If that cannot be, the event is as it was
    /// before, and people go on with it: nothing was deleted yet.
    pub(super) async fn pack_or_give_up(&self, row: &Row) -> Result<(), ArchiveError> {
        let done = match row.stage.as_str() {
            "packed" => self.seal(row).await,
            _ => self.pack(row).await,
        };
        let is_hopeless = match &done {
            Err(ArchiveError::Database(error)) => database::is_code(error, ASSERTION),
            Err(ArchiveError::Damaged { .. }) => true,
            Ok(()) | Err(_) => false,
        };
        if is_hopeless {
            let mut tx = self.pool.begin().await?;
            let given_up = super::begin_restore(&mut tx, row.event, "System").await?;
            // Another process may have sealed it meanwhile, or archived the event anew: that stays.
            let is_ours = given_up == Some(row.id);
            if is_ours && Row::read(&mut tx, row.id).await?.state == State::Stopped {
                tx.commit().await?;
            } else {
                tx.rollback().await?;
            }
        }
        done
    }

    /// Packs the next part, or ends the stage in which nothing is left.
    ///
    /// Whoever dies after the file is written, and before it is noted, leaves a file that the next
    /// one writes again, or one that no manifest names.
    pub(super) async fn pack(&self, row: &Row) -> Result<(), ArchiveError> {
        let broken = |error: std::io::Error| row.damaged(format!("a line: {error}"));
        let mut writer = part::Writer::new().map_err(broken)?;
        let mut after = row.reached.clone();
        while !writer.is_full() {
            let mut db = self.pool.acquire().await?;
            // One at a time: lines may be long.
            let mut page = sqlx::query!(
                r#"SELECT r_key AS "key!", r_line AS "line!" FROM archive_page($1, $2, $3)"#,
                row.id.0,
                after,
                PAGE
            )
            .fetch(&mut *db);
            let mut read = 0;
            while let Some(line) = page.try_next().await? {
                read += 1;
                if !writer.is_full() {
                    writer.add(line.key, &line.line).map_err(broken)?;
                }
            }
            drop(page);
            after.clone_from(&writer.last);
            if read < PAGE {
                break;
            }
        }
        let Some(first) = writer.first.clone() else {
            let mut db = self.pool.acquire().await?;
            let ended = sqlx::query!(
                "SELECT end_archive_stage($1, $2, $3)",
                row.id.0,
                row.stage,
                row.reached
            );
            ended.execute(&mut *db).await?;
            return Ok(());
        };
        let (last, lines, text) = (writer.last.clone(), writer.lines, writer.text_bytes);
        let written = writer.finish().map_err(broken)?;
        let number = i32::try_from(row.parts + 1).unwrap_or(i32::MAX);
        let key = Key::archive_part(row.directory, number, &written.sha256);
        let bytes = i64::try_from(written.bytes.len()).unwrap_or(i64::MAX);
        let text = i64::try_from(text).unwrap_or(i64::MAX);
        self.store.put_durably(&key, written.bytes).await?;
        // What is not in the store as it was written is not noted, and so nothing of it is deleted.
        let read = self.file(row, &key, &written.sha256).await?;
        let mut found = 0;
        for line in part::lines(&read, text).map_err(broken)? {
            part::Line::parse(&line.map_err(broken)?).map_err(broken)?;
            found += 1;
        }
        if found != lines {
            return Err(row.damaged(format!("{key} has {found} lines, not {lines}")));
        }
        let mut db = self.pool.acquire().await?;
        let noted = sqlx::query_scalar!(
            r#"SELECT note_archive_part($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                        $15) AS "noted!""#,
            row.id.0,
            number,
            row.stage,
            row.reached,
            first,
            last,
            lines,
            written.jobs,
            text,
            bytes,
            &written.sha256,
            &written.ranges.from,
            &written.ranges.to,
            &written.ranges.committed,
            LEASE
        );
        if !noted.fetch_one(&mut *db).await? {
            tracing::info!(archive = %row.id, part = number, "another process has packed this part");
        }
        Ok(())
    }

    /// Writes the manifest, and says that the rows may be deleted.
    pub(super) async fn seal(&self, row: &Row) -> Result<(), ArchiveError> {
        let mut db = self.pool.acquire().await?;
        let manifest = manifest::of(&mut db, row).await?;
        drop(db);
        // The parts may have been written long ago.
        for part in &manifest.parts {
            self.part(row, part).await?;
        }
        let (bytes, sha256) = manifest.bytes();
        let key = Key::archive_manifest(row.directory, &sha256, "json");
        self.store.put_durably(&key, bytes.clone()).await?;
        if let Some(signer) = &self.key {
            let signed = serde_json::to_vec(&signer.sign(&bytes)?).unwrap_or_default();
            let key = Key::archive_manifest(row.directory, &sha256, "json.sig");
            self.store.put_durably(&key, signed.clone()).await?;
            if *self.store.get(&key, manifest::FILE_MAX).await? != *signed {
                return Err(row.damaged(format!("{key} is not as it was written")));
            }
        }
        self.file(row, &key, &sha256).await?;
        let mut db = self.pool.acquire().await?;
        sqlx::query_scalar!(r#"SELECT seal_archive($1, $2) AS "sealed!""#, row.id.0, &sha256)
            .fetch_one(&mut *db)
            .await?;
        Ok(())
    }

    /// Reads a file of an archive, and compares it with its SHA-256.
    pub(super) async fn file(
        &self,
        row: &Row,
        key: &Key,
        sha256: &[u8],
    ) -> Result<crate::catalog::photo_store::Fetched, ArchiveError> {
        let file = match self.store.get(key, part::FILE_MAX).await {
            Ok(file) => file,
            Err(StoreError::Missing(_)) => return Err(row.damaged(format!("{key} is missing"))),
            Err(error) => return Err(error.into()),
        };
        if file.sha256().await.is_none_or(|found| found != sha256) {
            return Err(row.damaged(format!("{key} was changed")));
        }
        Ok(file)
    }

    /// Reads a part.
    pub(super) async fn part(
        &self,
        row: &Row,
        part: &manifest::Part,
    ) -> Result<crate::catalog::photo_store::Fetched, ArchiveError> {
        let sha256 = hex::decode(&part.sha256).unwrap_or_default();
        self.file(row, &Key::archive_part(row.directory, part.number, &sha256), &sha256).await
    }
}
