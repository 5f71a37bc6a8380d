//! Asks whether the store works, with files of photogate's own: no photo can make that fail.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{PhotoStore, Place, in_time};
use crate::catalog::key::Key;

/// Longest time for the answer to a probe.
const PROBE_MAX: Duration = Duration::from_secs(15);

/// When the store was asked whether it works, and what it did not do.
pub(super) type Probed = (Instant, Option<String>);

impl PhotoStore {
    /// Asks whether the store works: whether it takes a small file and gives it back. `Err` says what
    /// the store did not do.
    ///
    /// An answer counts if it was asked for after this instant. Many photos fail at the same time,
    /// and ask together.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn probe(&self, after: Instant) -> Result<(), String> {
        let mut probed = self.probed.lock().await;
        if let Some((began, trouble)) = &*probed
            && *began >= after
        {
            return trouble.clone().map_or(Ok(()), Err);
        }
        let began = Instant::now();
        let trouble = answer(self.probe_now()).await.err();
        *probed = Some((began, trouble.clone()));
        trouble.map_or(Ok(()), Err)
    }

    async fn probe_now(&self) -> Result<(), String> {
        // Each has a file of its own: all processes ask at the same time, and Google lets a file change
        // once a second.
        let key = Key::probe(Uuid::new_v4());
        let written = self.put(&key, b"photogate".to_vec()).await;
        written.map_err(|error| format!("the store cannot be written: {}", error.cause()))?;
        // Not `get`, because a probe must not wait until photos leave room in memory.
        let read = async { Ok(in_time(self.find(&key, 1 << 10).await?.bytes()).await?) };
        let read = read.await;
        if let Err(error) = self.delete(&key).await {
            tracing::warn!(%key, %error, "a file could not be deleted from the store");
        }
        read.map_err(|error: super::StoreError| {
            format!("the store cannot be read: {}", error.cause())
        })?;
        Ok(())
    }

    /// Asks whether the store has a place for uploads. In a directory, each event gets one of its own,
    /// beside the photos that others have put there: who may write below `.photogate/` may not always
    /// write there. `Err` says what to do.
    ///
    /// # Errors
    /// When nothing can be uploaded.
    pub async fn takes_uploads(&self) -> Result<(), String> {
        let Place::Directory(directory) = &self.place else { return Ok(()) };
        answer(async {
            let root = directory.open().await.map_err(|error| error.cause())?.root.clone();
            let shown = root.display().to_string();
            let made = tokio::task::spawn_blocking(move || {
                tempfile::Builder::new().prefix(".photogate-").tempdir_in(root)?.close()
            });
            let made = made.await.map_err(std::io::Error::other).and_then(|made| made);
            made.map_err(|error| {
                format!(
                    "no directory can be made in {shown} ({error}): give it to the user that \
                     photogate runs as (docs/operations.md)"
                )
            })
        })
        .await
    }
}

async fn answer(asked: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = |_elapsed| Err(format!("no answer in {} s", PROBE_MAX.as_secs()));
    timeout(PROBE_MAX, asked).await.unwrap_or_else(late)
}
