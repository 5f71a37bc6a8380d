//! Tasks of the worker. They look every ten seconds for findings that were kept long enough, and for
//! deletions that were interrupted, and delete them; for files of deleted events; and for erasures
//! that are not in the store yet.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::catalog::events;
#[cfg(feature = "vision")]
use crate::catalog::{erasures, key::Key, photo_store::PhotoStore};

/// How often a worker looks for deletions that were interrupted.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// Finishes interrupted deletions of findings, until stopped.
pub async fn forget(pool: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(forget_all(&pool)).await {
            tracing::warn!(%error, "an interrupted deletion of findings could not go on yet");
        }
    }
}

async fn forget_all(pool: &PgPool) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    // Whatever becomes of this, what was begun is finished.
    match events::forget_what_is_due(&mut db).await {
        Ok(0) => {}
        Ok(due) => {
            tracing::info!(events = due, "findings were kept long enough, and are deleted");
        }
        Err(error) => tracing::warn!(%error, "old findings could not be looked for"),
    }
    while let Some(event) = events::forget_what_is_left(&mut db).await? {
        tracing::info!(%event, "an interrupted deletion of findings goes on");
    }
    Ok(())
}

/// Photos whose files are deleted before that is recorded.
#[cfg(feature = "vision")]
const FILES_AT_ONCE: i32 = 100;

/// Deletes thumbnails and upright copies of deleted events from the store, and writes records of
/// erasures, until stopped. The photos themselves stay: photogate did not write them.
#[cfg(feature = "vision")]
pub async fn delete_files(pool: PgPool, store: PhotoStore, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FORGET_EVERY)).await.is_some() {
        let deleting = stop.run_until_cancelled(delete_all_files(&pool, &store));
        if let Some(Err(error)) = deleting.await {
            tracing::warn!(%error, "files of deleted events could not be deleted yet");
        }
        let keeping = stop.run_until_cancelled(keep_erasures(&pool, &store));
        if let Some(Err(error)) = keeping.await {
            tracing::warn!(%error, "records of erasures could not be written to the store yet");
        }
    }
}

/// Writes a record of each new erasure into the store. A record that is written twice is the same.
#[cfg(feature = "vision")]
async fn keep_erasures(
    pool: &PgPool,
    store: &PhotoStore,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // One batch a turn: others of this task come in between.
    let new = erasures::to_store(&mut *pool.acquire().await?, FILES_AT_ONCE).await?;
    for record in &new {
        store.put_durably(&Key::erasure(record.id), serde_json::to_vec(record)?).await?;
    }
    let kept: Vec<_> = new.iter().map(|record| record.id).collect();
    erasures::are_stored(&mut *pool.acquire().await?, &kept).await?;
    Ok(())
}

#[cfg(feature = "vision")]
async fn delete_all_files(
    pool: &PgPool,
    store: &PhotoStore,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let photos = events::leftovers(&mut *pool.acquire().await?, FILES_AT_ONCE).await?;
        if photos.is_empty() {
            return Ok(());
        }
        for key in photos.iter().flat_map(|photo| Key::all_derived(*photo)) {
            store.delete(&key).await?;
        }
        for photo in &photos {
            store.delete_below(&Key::all_corrected(*photo)).await?;
        }
        events::leftovers_are_gone(&mut *pool.acquire().await?, &photos).await?;
    }
}
