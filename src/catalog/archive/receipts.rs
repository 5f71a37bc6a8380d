//! Receipts of archived photos: from the archive and the ledger.

use sqlx::{PgConnection, PgPool};
use tokio::sync::Semaphore;

use super::{ArchiveError, part};
use crate::{
    catalog::{
        key::Key,
        photo_store::{PhotoStore, StoreError},
    },
    ids::{ArchiveId, Operation, PhotoId},
    ledger::receipt::{self, Receipt},
};

/// Parts that are read for receipts at a time. Each takes some 40 MiB.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Makes the receipt of a photo, wherever its rows are. See [`receipt::receipt`]. While it reads the
/// store, it has no connection.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn receipt(
    pool: &PgPool,
    store: &PhotoStore,
    photo: PhotoId,
    operation: Option<Operation>,
) -> Result<Option<Receipt>, ArchiveError> {
    loop {
        let before = place(&mut *pool.acquire().await?, photo).await?;
        let is_archived = before.is_some();
        let line = match before {
            Some(place) => Some(line(store, place, photo).await?),
            None => None,
        };
        let mut db = pool.acquire().await?;
        let found = receipt::receipt_of(&mut db, photo, operation, line.as_deref()).await?;
        // Its rows may have gone into an archive meanwhile.
        if is_archived || place(&mut db, photo).await?.is_none() {
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
    text_bytes: i64,
}

/// `None`: the database has the photo's rows. It is an error (`PG012`) if they are lost.
async fn place(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<Place>> {
    sqlx::query!("SELECT refuse_given_up(event_id) FROM photo WHERE photo_id = $1", photo.0)
        .execute(&mut *db)
        .await?;
    sqlx::query_as!(
        Place,
        r#"SELECT a.archive_id AS "archive: _", a.directory, p.part, p.sha256,
                  p.text_bytes
           FROM photo f JOIN archive a USING (event_id)
           CROSS JOIN LATERAL (
               SELECT x.part, x.sha256, x.text_bytes FROM archive_part x
               WHERE x.archive_id = a.archive_id AND x.stage = 'photos' AND x.last_key >= f.key
               ORDER BY x.part LIMIT 1) p
           WHERE f.photo_id = $1 AND a.state IN ('deleting', 'archived', 'restoring')"#,
        photo.0
    )
    .fetch_optional(db)
    .await
}

async fn line(store: &PhotoStore, place: Place, photo: PhotoId) -> Result<String, ArchiveError> {
    let _turn = AT_ONCE.acquire().await;
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
    let find = move || -> std::io::Result<String> {
        // It is quick to tell a line of another photo: the ID is in it only once, or it is a
        // duplicate.
        let id = photo.0.to_string();
        for line in part::lines(&file, place.text_bytes)? {
            let line = line?;
            if line.contains(&id) && part::Line::parse(&line)?.photo == Some(photo.0) {
                return Ok(line);
            }
        }
        Err(std::io::Error::other(format!("there is no line of photo {photo}")))
    };
    let found = tokio::task::spawn_blocking(find).await.map_err(std::io::Error::other);
    found.flatten().map_err(|error| damaged(format!("{key}: {error}")))
}
