//! Receipts of archived photos: from the archive and the ledger.

use sqlx::PgConnection;

use super::{ArchiveError, part};
use crate::{
    catalog::{
        key::Key,
        photo_store::{PhotoStore, StoreError},
    },
    ids::{ArchiveId, Operation, PhotoId},
    ledger::receipt::{self, Receipt},
};

/// Makes the receipt of a photo, wherever its rows are. See [`receipt::receipt`].
///
/// # Errors
/// See [`ArchiveError`].
pub async fn receipt(
    db: &mut PgConnection,
    store: &PhotoStore,
    photo: PhotoId,
    operation: Option<Operation>,
) -> Result<Option<Receipt>, ArchiveError> {
    loop {
        let before = place(db, photo).await?;
        let line = match &before {
            Some(place) => Some(line(store, place, photo).await?),
            None => None,
        };
        let found = receipt::receipt_of(db, photo, operation, line.as_deref()).await?;
        // Its rows may have gone into an archive meanwhile.
        if before.is_some() || place(db, photo).await?.is_none() {
            return Ok(found);
        }
    }
}

/// Where the line of a photo is.
struct Place {
    archive: ArchiveId,
    directory: uuid::Uuid,
    part: i32,
    sha256: Vec<u8>,
}

async fn place(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<Place>> {
    sqlx::query_as!(
        Place,
        r#"SELECT a.archive_id AS "archive: _", a.directory, p.part, p.sha256
           FROM photo f JOIN archive a USING (event_id)
           CROSS JOIN LATERAL (
               SELECT x.part, x.sha256 FROM archive_part x
               WHERE x.archive_id = a.archive_id AND x.stage = 'photos' AND x.last_key >= f.key
               ORDER BY x.part LIMIT 1) p
           WHERE f.photo_id = $1 AND a.state IN ('deleting', 'archived', 'restoring')"#,
        photo.0
    )
    .fetch_optional(db)
    .await
}

async fn line(store: &PhotoStore, place: &Place, photo: PhotoId) -> Result<String, ArchiveError> {
    let key = Key::archive_part(place.directory, place.part, &place.sha256);
    let damaged = |what: String| ArchiveError::Damaged { archive: place.archive, what };
    let file = match store.get(&key, part::FILE_MAX).await {
        Ok(file) => file,
        Err(StoreError::Missing(_)) => return Err(damaged(format!("{key} is missing"))),
        Err(error) => return Err(error.into()),
    };
    if file.sha256().await.is_none_or(|found| found[..] != place.sha256[..]) {
        return Err(damaged(format!("{key} was changed")));
    }
    let broken = |error: std::io::Error| damaged(format!("{key}: {error}"));
    // It is quick to tell a line of another photo: the ID is in it only once, or it is a duplicate.
    let id = photo.0.to_string();
    for line in part::lines(&file).map_err(broken)? {
        let line = line.map_err(broken)?;
        if line.contains(&id) && part::Line::parse(&line).map_err(broken)?.photo == Some(photo.0) {
            return Ok(line);
        }
    }
    Err(damaged(format!("{key} has no line of photo {photo}")))
}
