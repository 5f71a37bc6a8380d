//! Where the photos are: a directory or an S3 bucket.

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

/// Keys that photogate writes begin with this, and no others do: an upright copy never replaces an original.
pub const DERIVED: &str = ".photogate/";

/// Bytes of a key, as S3 limits it.
const KEY_MAX: usize = 1024;

/// A place in the store that cannot lead out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Path);

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing names nothing.
    #[error("the key is empty")]
    Empty,
    /// More than 1024 bytes.
    #[error("the key has more than {KEY_MAX} bytes")]
    TooLong,
    /// Only photogate writes there.
    #[error("the key begins with \"{DERIVED}\", which is photogate's own")]
    Reserved,
    /// `..`, `//`, a control character, a leading or trailing slash.
    #[error("the key {0:?} is not a plain path such as \"2026/marathon/IMG_0001.jpg\"")]
    NotPlain(String),
}

impl Key {
    /// Checks a key that came from outside.
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

    /// Where the small picture of a photo is, upright as its tag says.
    pub(crate) fn thumbnail(photo: PhotoId) -> Self {
        Self::derived(&format!("thumbnails/{photo}.jpg"))
    }

    /// Where the upright copy of a photo is.
    pub(crate) fn upright(photo: PhotoId, extension: &str) -> Self {
        Self::derived(&format!("upright/{photo}.{extension}"))
    }

    /// A key of photogate's own, below [`DERIVED`]. The parts are ours, never from outside.
    fn derived(path: &str) -> Self {
        Self(Path::from(format!("{DERIVED}{path}")))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a photo could not be fetched or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's address is no address.
    #[error(
        "the store's address {url:?} is not usable ({reason}): write file:///directory or s3://bucket/prefix"
    )]
    Address {
        /// As configured.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such photo (yet).
    #[error("there is no photo {0} in the store")]
    Missing(String),
    /// More bytes than a photo may have.
    #[error("{key} has {bytes} bytes")]
    TooLarge {
        /// Which.
        key: String,
        /// How large.
        bytes: u64,
    },
    /// The key is a link to somewhere outside of the store.
    #[error("{0} leads out of the store")]
    Outside(String),
    /// The store has trouble.
    #[error("the store has trouble: {0}")]
    Trouble(#[from] object_store::Error),
}

/// What was fetched and not let go of, in MiB, at most: many large photos at once do not exhaust the memory.
const IN_MEMORY_MIB: u32 = 512;

/// A photo's bytes, and the room they take.
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

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PhotoStore {
    store: Arc<dyn ObjectStore>,
    in_memory: Arc<Semaphore>,
    /// The directory, where the store is one: links are followed only within it.
    root: Option<PathBuf>,
}

impl PhotoStore {
    /// Opens `file:///directory` or `s3://bucket/prefix`; `options` are those of the AWS environment (`aws_region`,
    /// `aws_endpoint`, …). Nothing is contacted yet.
    ///
    /// # Errors
    /// [`StoreError::Address`].
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let address = |reason: String| StoreError::Address { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| address(error.to_string()))?;
        match parsed.scheme() {
            "file" => {
                let root =
                    parsed.to_file_path().map_err(|()| address("it names no directory".into()))?;
                std::fs::create_dir_all(&root).map_err(|error| address(error.to_string()))?;
                let root = root.canonicalize().map_err(|error| address(error.to_string()))?;
                let store = LocalFileSystem::new_with_prefix(&root)
                    .map_err(|error| address(error.to_string()))?;
                Ok(Self { store: Arc::new(store), in_memory: in_memory(), root: Some(root) })
            }
            "s3" => {
                let mut builder = AmazonS3Builder::new().with_url(url);
                for (name, value) in options {
                    // The environment has AWS_… variables that are for other programs.
                    if let Ok(name) = name.parse() {
                        builder = builder.with_config(name, value);
                    }
                }
                // The worker retries with backoff itself, and gives the slot back meanwhile.
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

    /// Fetches a photo of at most `bytes_max` bytes; waits while 512 MiB of others are held.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Address`.
    pub async fn get(&self, key: &Key, bytes_max: usize) -> Result<Fetched, StoreError> {
        if let Some(root) = &self.root {
            let path = root.join(key.0.as_ref());
            // An absent file is told by the store itself.
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

    /// The keys below a prefix (a part of a name is one too) that are photos by their names, at most so many, in order.
    ///
    /// # Errors
    /// [`StoreError::Trouble`].
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Vec<String>, StoreError> {
        // The store lists by whole parts of names.
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

    /// Writes a file, whole or not at all; the same key again is the same write.
    ///
    /// # Errors
    /// [`StoreError::Trouble`].
    pub async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.put(&key.0, PutPayload::from(bytes)).await?;
        Ok(())
    }
}

/// By its name: what a sync brings along besides is left alone.
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
