//! The store of the photos: a directory or an S3 bucket.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path, prefix::PrefixStore,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::ids::PhotoId;

/// Prefix of every key that photogate writes. No photo's key may begin with it, so that an upright
/// copy never replaces an original.
pub const DERIVED: &str = ".photogate/";

/// Longest key, in bytes. This is the limit of S3.
const KEY_MAX: usize = 1024;

/// The key of a file in the store. It is checked, and cannot lead out of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Path);

/// Why a text is not a valid key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has no characters.
    #[error("the key is empty")]
    Empty,
    /// The key has more than 1024 bytes.
    #[error("the key has more than {KEY_MAX} bytes")]
    TooLong,
    /// The key begins with [`DERIVED`], which is reserved for files that photogate writes.
    #[error("the key begins with \"{DERIVED}\", which is reserved for photogate's own files")]
    Reserved,
    /// The key has `..`, `//`, a backslash, a control character, or a leading or trailing slash.
    #[error("the key {0:?} is not a plain path such as \"2026/marathon/IMG_0001.jpg\"")]
    NotPlain(String),
}

impl Key {
    /// Checks a key that comes from outside photogate.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > KEY_MAX {
            return Err(KeyError::TooLong);
        }
        if key.starts_with(DERIVED) {
            return Err(KeyError::Reserved);
        }
        let path = Path::parse(key).ok().filter(|path| {
            path.as_ref() == key && !key.contains('\\') && !key.chars().any(char::is_control)
        });
        path.map(Self).ok_or_else(|| KeyError::NotPlain(key.to_owned()))
    }

    /// Key of the thumbnail of a photo. The thumbnail is upright as the photo's EXIF tag says.
    pub(crate) fn thumbnail(photo: PhotoId) -> Self {
        Self::derived(&format!("thumbnails/{photo}.jpg"))
    }

    /// Key of the upright copy of a photo.
    pub(crate) fn upright(photo: PhotoId, extension: &str) -> Self {
        Self::derived(&format!("upright/{photo}.{extension}"))
    }

    /// Makes a key below [`DERIVED`]. The caller must not put text from outside into `path`,
    /// because it is not checked.
    fn derived(path: &str) -> Self {
        Self(Path::from(format!("{DERIVED}{path}")))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a file could not be fetched or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configured address of the store is not usable.
    #[error(
        "the store's address {url:?} is not usable ({reason}): \
         write file:///directory or s3://bucket/prefix"
    )]
    Address {
        /// The address, as configured.
        url: String,
        /// What is wrong with the address.
        reason: String,
    },
    /// The store has no photo with this key, or does not have it yet.
    #[error("there is no photo {0} in the store")]
    Missing(String),
    /// The photo has more bytes than the caller allows.
    #[error("{key} has {bytes} bytes")]
    TooLarge {
        /// The photo's key.
        key: String,
        /// Size of the photo, in bytes.
        bytes: u64,
    },
    /// The key is a symbolic link to a file outside the store.
    #[error("{0} leads out of the store")]
    Outside(String),
    /// The store answered with an error, or not at all.
    #[error("the store failed: {0}")]
    Trouble(#[from] object_store::Error),
}

/// Memory for fetched photos, in MiB. When it is in use, [`PhotoStore::get`] waits. Many large
/// photos at once must not exhaust the memory.
const IN_MEMORY_MIB: u32 = 512;

/// A photo's bytes. While this exists, it holds its share of the memory for fetched photos.
#[derive(Debug)]
pub struct Fetched {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl std::ops::Deref for Fetched {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A client of the store. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct PhotoStore {
    store: Arc<dyn ObjectStore>,
    in_memory: Arc<Semaphore>,
    /// The directory of the store, if it is one. Symbolic links are followed only within it.
    root: Option<PathBuf>,
}

impl PhotoStore {
    /// Opens `file:///directory` or `s3://bucket/prefix`. No server is contacted yet.
    ///
    /// `options` are those of the AWS environment (`aws_region`, `aws_endpoint`, …).
    ///
    /// # Errors
    /// [`StoreError::Address`] if the address is not usable.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let address = |reason: String| StoreError::Address { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| address(error.to_string()))?;
        match parsed.scheme() {
            "file" => {
                let root =
                    parsed.to_file_path().map_err(|()| address("it is not a directory".into()))?;
                std::fs::create_dir_all(&root).map_err(|error| address(error.to_string()))?;
                let root = root.canonicalize().map_err(|error| address(error.to_string()))?;
                let store = LocalFileSystem::new_with_prefix(&root)
                    .map_err(|error| address(error.to_string()))?;
                Ok(Self { store: Arc::new(store), in_memory: in_memory(), root: Some(root) })
            }
            "s3" => {
                let mut builder = AmazonS3Builder::new().with_url(url);
                for (name, value) in options {
                    // Unknown names are ignored: some AWS_… variables are for other programs.
                    if let Ok(name) = name.parse() {
                        builder = builder.with_config(name, value);
                    }
                }
                // Few retries here: the worker itself retries with backoff, and gives its slot to
                // another photo while it waits.
                let retry = RetryConfig {
                    max_retries: 2,
                    retry_timeout: Duration::from_secs(10),
                    ..RetryConfig::default()
                };
                let limits = ClientOptions::new()
                    .with_timeout(Duration::from_secs(60))
                    .with_connect_timeout(Duration::from_secs(5));
                let allow_http = options.get("aws_allow_http").is_some_and(|value| value == "true");
                let store = builder
                    .with_retry(retry)
                    .with_client_options(limits.with_allow_http(allow_http))
                    .build()
                    .map_err(|error| address(error.to_string()))?;
                let prefix = Path::from_url_path(parsed.path())
                    .map_err(|error| address(error.to_string()))?;
                Ok(Self {
                    store: Arc::new(PrefixStore::new(store, prefix)),
                    in_memory: in_memory(),
                    root: None,
                })
            }
            other => Err(address(format!("{other} is not supported"))),
        }
    }

    /// Fetches a photo of at most `bytes_max` bytes. Waits while other fetched photos take 512 MiB
    /// of memory.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Address`.
    pub async fn get(&self, key: &Key, bytes_max: usize) -> Result<Fetched, StoreError> {
        if let Some(root) = &self.root {
            let path = root.join(key.0.as_ref());
            // If the file is missing, the store itself says so below.
            if tokio::fs::canonicalize(&path).await.is_ok_and(|path| !path.starts_with(root)) {
                return Err(StoreError::Outside(key.to_string()));
            }
        }
        let found = match self.store.get(&key.0).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::Missing(key.to_string()));
            }
            found => found?,
        };
        let bytes = found.meta.size;
        if usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max) {
            return Err(StoreError::TooLarge { key: key.to_string(), bytes });
        }
        let mebibytes =
            u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(IN_MEMORY_MIB).min(IN_MEMORY_MIB);
        let room = self.in_memory.clone().acquire_many_owned(mebibytes).await;
        let room = room.map_err(|_| StoreError::Missing(key.to_string()))?;
        Ok(Fetched { bytes: found.bytes().await?, _room: room })
    }

    /// Returns the keys that begin with `prefix` and have a photo's file extension, in order, at
    /// most `most`. The prefix may end within a name.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // The store can only list whole directories.
        let directory = prefix.rsplit_once('/').map(|(directory, _)| Path::from(directory));
        let mut found = self.store.list(directory.as_ref());
        let mut keys = Vec::new();
        while let Some(file) = found.next().await {
            let key = file?.location.to_string();
            if key.starts_with(prefix) && is_photo(&key) && Key::parse(&key).is_ok() {
                keys.push(key);
                if keys.len() >= most {
                    break;
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Writes a file, whole or not at all. A second write of the same key replaces the file.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.put(&key.0, PutPayload::from(bytes)).await?;
        Ok(())
    }
}

/// Whether a key has the extension of a photo. A directory may also contain other files, for
/// example from a sync program.
fn is_photo(key: &str) -> bool {
    let extension = key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| {
        ["jpg", "jpeg", "png", "webp", "gif", "tif", "tiff"].contains(&extension.as_str())
    })
}

fn in_memory() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(IN_MEMORY_MIB as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_lead_out_of_the_store() {
        for key in
            ["../secret", "a/../../b", "/etc/passwd", "a//b", "a/", "a\\..\\b", "a\nb", "./a"]
        {
            assert!(matches!(Key::parse(key), Err(KeyError::NotPlain(_))), "{key}");
        }
        assert_eq!(Key::parse(""), Err(KeyError::Empty));
        assert_eq!(Key::parse(".photogate/upright/x.jpg"), Err(KeyError::Reserved));
        assert_eq!(Key::parse(&"a".repeat(1025)), Err(KeyError::TooLong));
        assert!(Key::parse("2026/Köln Marathon/IMG_0001.JPG").is_ok());
    }
}
