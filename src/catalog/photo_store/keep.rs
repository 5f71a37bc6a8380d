//! Writes a file that must not replace another one.

use std::{
    fs::File,
    io::{self, Read, Seek},
};

use object_store::{ObjectStoreExt, PutMode, PutPayload};

use super::{PhotoStore, StoreError, in_time, path};
use crate::catalog::key::Key;

/// What came of [`PhotoStore::keep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The store has the file now.
    New,
    /// The store had a file with this content under the key.
    Same,
    /// The store has a file with another content under the key, and keeps that.
    Other,
}

impl PhotoStore {
    /// Writes a file of so many bytes, whole or not at all, unless there is one with its key. Of two
    /// calls at the same time with the same key, one writes.
    ///
    /// # Errors
    /// [`StoreError::Outside`], or [`StoreError::Trouble`] when the store fails or cannot tell
    /// whether a file is there.
    pub async fn keep(
        &self,
        key: &Key,
        file: File,
        bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<Kept, StoreError> {
        self.must_be_within(key).await?;
        let made = {
            let _room = self.room(key, bytes).await?;
            let read = tokio::task::spawn_blocking(move || whole(file)).await;
            let read = read.map_err(io::Error::other).and_then(|read| read);
            let read = read.map_err(|error| object_store::Error::Generic {
                store: "uploads",
                source: Box::new(error),
            })?;
            // Stores need the whole file at once for this: they write no file in parts only if there
            // is none.
            let create = PutMode::Create.into();
            let files = self.files().await?;
            in_time(files.put_opts(&path(key)?, PutPayload::from(read), create)).await
        };
        match made {
            Ok(_) => return Ok(Kept::New),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Its room is free again: whoever waits for room while it has some could wait for ever.
        match self.get(key, usize::try_from(bytes).unwrap_or(usize::MAX)).await {
            Ok(there) => {
                let same = there.sha256().await.as_ref() == Some(sha256);
                Ok(if same { Kept::Same } else { Kept::Other })
            }
            Err(StoreError::TooLarge { .. }) => Ok(Kept::Other),
            Err(error) => Err(error),
        }
    }

    /// The size of a file in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match in_time(self.files().await?.head(&path(key)?)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a key whose directory is a symbolic link out of the store.
    async fn must_be_within(&self, key: &Key) -> Result<(), StoreError> {
        let Some(root) = self.root().await? else { return Ok(()) };
        let mut directory = root.join(key.as_str());
        // A directory that is not there yet is made in the next one above.
        while directory.pop() && directory.starts_with(root) {
            match tokio::fs::canonicalize(&directory).await {
                Ok(found) if found.starts_with(root) => return Ok(()),
                Ok(_) => return Err(StoreError::Outside(key.to_string())),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn whole(mut file: File) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.rewind()?;
    file.read_to_end(&mut read)?;
    Ok(read)
}
