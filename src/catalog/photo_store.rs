//! The store of the photos: a directory, or a bucket of S3, of Google Cloud or of Azure.

mod browse;
mod bucket;
mod directory;
mod keep;
mod probe;

use std::{collections::BTreeMap, io, path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use url::Url;

use super::{
    erasures::Record,
    key::{Key, is_photo},
};

use bucket::Bucket;
use directory::Directory;
pub use keep::Kept;
use probe::Probed;

/// Why a file could not be fetched or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configured address of the store is not usable.
    #[error(
        "the store's address {url:?} is not usable ({reason}): \
         write file:///directory, s3://bucket/prefix, gs://bucket/prefix, or \
         abfs://container@account.dfs.core.windows.net/prefix"
    )]
    Address {
        /// The address, as configured.
        url: String,
        /// What is wrong with the address.
        reason: String,
    },
    /// The directory of the store is not there, and cannot be made. It may be mounted later.
    #[error("the directory {path} cannot be opened ({reason}): mount it, or correct store_url")]
    Directory {
        /// The directory, as configured.
        path: String,
        /// Why the system refused it.
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

impl StoreError {
    /// Whether the error is of a kind that comes again for this file, if the store works at all:
    /// it has an impossible name.
    pub fn is_lasting(&self) -> bool {
        let error = match self {
            Self::Trouble(error) => error,
            Self::Directory { .. } => return false,
            Self::Address { .. } | Self::Missing(_) | Self::TooLarge { .. } | Self::Outside(_) => {
                return true;
            }
        };
        // A permission may be missing for all photos, and be given again.
        let says_so = matches!(
            error,
            object_store::Error::InvalidPath { .. } | object_store::Error::NotSupported { .. }
        );
        says_so || io_error(error).is_some_and(|kind| LASTING.contains(&kind))
    }

    /// Whether the store does not let photogate do this: a right is missing, and comes by no retry.
    pub fn is_forbidden(&self) -> bool {
        let Self::Trouble(error) = self else { return false };
        let says_so = matches!(
            error,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        );
        says_so || io_error(error).is_some_and(|kind| FORBIDDEN.contains(&kind))
    }

    /// The error without "the store failed", for a sentence that says so already.
    fn cause(&self) -> String {
        match self {
            Self::Trouble(error) => error.to_string(),
            other @ (Self::Address { .. }
            | Self::Directory { .. }
            | Self::Missing(_)
            | Self::TooLarge { .. }
            | Self::Outside(_)) => other.to_string(),
        }
    }
}

/// The kinds of errors of a file system that come again for the same file.
const LASTING: [io::ErrorKind; 4] = [
    io::ErrorKind::InvalidFilename,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::IsADirectory,
    io::ErrorKind::NotADirectory,
];

/// The kinds of errors of a file system that say who may not.
const FORBIDDEN: [io::ErrorKind; 2] =
    [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];

/// The error of the file system behind an error of the store, if there is one.
fn io_error(error: &object_store::Error) -> Option<io::ErrorKind> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}

/// Longest time for reading or writing a photo. The client of S3 has shorter ones; a file system may
/// hang for ever.
const FILE_MAX: Duration = Duration::from_secs(120);
/// Photos that are looked for at the same time.
const LOOKS_AT_ONCE: usize = 64;

/// Memory for fetched photos, in MiB. When it is in use, [`PhotoStore::get`] waits. Many large
/// photos at once must not exhaust the memory.
pub const IN_MEMORY_MIB: u32 = 512;

/// A photo's bytes. While this exists, it holds its share of the memory for fetched photos.
#[derive(Debug)]
pub struct Fetched {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Fetched {
    /// The SHA-256 of the photo. It is computed beside the tasks of the process, because 100 MiB take
    /// a while. `None` if the process ends meanwhile: then nothing comes of it anyway.
    pub(crate) async fn sha256(&self) -> Option<[u8; 32]> {
        let bytes = self.bytes.clone();
        tokio::task::spawn_blocking(move || Sha256::digest(&bytes).into()).await.ok()
    }
}

impl std::ops::Deref for Fetched {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A photo in the store's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The photo's key.
    pub key: String,
    /// What the listing says of the file: its size, and its `ETag` or the time of its last change. If it
    /// is another text than before, the file has changed.
    pub file: String,
}

/// What a listing says of a file. It is kept, so it is short.
fn file_of(file: &object_store::ObjectMeta) -> String {
    let tag = file.e_tag.clone().unwrap_or_else(|| file.last_modified.to_rfc3339());
    format!(
        "{} {}",
        file.size,
        tag.chars().filter(|c| !c.is_control()).take(250).collect::<String>()
    )
}

/// A client of the store. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct PhotoStore {
    place: Place,
    in_memory: Arc<Semaphore>,
    /// The last probe.
    probed: Arc<Mutex<Option<Probed>>>,
}

/// Where the files are.
#[derive(Debug, Clone)]
enum Place {
    /// Symbolic links are followed only within it.
    Directory(Arc<Directory>),
    Bucket(Bucket),
}

impl PhotoStore {
    /// Opens `file:///directory`, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`. No server is contacted, and no directory is opened yet: it may be
    /// mounted later.
    ///
    /// `options` are those of the provider's environment (`aws_region`, `aws_endpoint`, …).
    ///
    /// # Errors
    /// [`StoreError::Address`] if the address is not usable.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let address = |reason: String| StoreError::Address { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| address(error.to_string()))?;
        let place = if parsed.scheme() == "file" {
            let path = parsed.to_file_path();
            let path = path.map_err(|()| address("it is not a directory".into()))?;
            Place::Directory(Arc::new(Directory::at(path)))
        } else {
            Place::Bucket(Bucket::open(&parsed, options).map_err(address)?)
        };
        let in_memory = Arc::new(Semaphore::new(IN_MEMORY_MIB as usize));
        Ok(Self { place, in_memory, probed: Arc::default() })
    }

    /// The way to the files.
    async fn files(&self) -> Result<&dyn ObjectStore, StoreError> {
        match &self.place {
            Place::Directory(directory) => Ok(&directory.open().await?.files),
            Place::Bucket(bucket) => Ok(&bucket.files),
        }
    }

    /// The directory of the store, if it is one.
    async fn root(&self) -> Result<Option<&path::Path>, StoreError> {
        match &self.place {
            Place::Directory(directory) => Ok(Some(&directory.open().await?.root)),
            Place::Bucket(_) => Ok(None),
        }
    }

    /// Whether half of the memory for fetched photos is free.
    pub fn has_room(&self) -> bool {
        self.in_memory.available_permits() >= IN_MEMORY_MIB as usize / 2
    }

    /// Fetches a photo of at most `bytes_max` bytes. Waits while other fetched photos take 512 MiB
    /// of memory.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Address`.
    pub async fn get(&self, key: &Key, bytes_max: usize) -> Result<Fetched, StoreError> {
        let mut found = self.find(key, bytes_max).await?;
        let now = self.in_memory.clone().try_acquire_many_owned(mebibytes(found.meta.size));
        let room = match now {
            Ok(room) => room,
            Err(_) => loop {
                // An answer that stays open while it waits would run into the client's limit of time.
                let bytes = found.meta.size;
                drop(found);
                let room = self.room(key, bytes).await?;
                found = self.find(key, bytes_max).await?;
                // A larger file may have come meanwhile.
                if found.meta.size <= bytes {
                    break room;
                }
            },
        };
        Ok(Fetched { bytes: in_time(found.bytes()).await?, _room: room })
    }

    /// Returns the size of a file of at most `bytes_max` bytes, and the file, piece by piece: it is
    /// never in memory as a whole.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Address`.
    pub async fn read(
        &self,
        key: &Key,
        bytes_max: usize,
    ) -> Result<(u64, BoxStream<'static, object_store::Result<Bytes>>), StoreError> {
        let found = self.find(key, bytes_max).await?;
        Ok((found.meta.size, found.into_stream()))
    }

    async fn find(
        &self,
        key: &Key,
        bytes_max: usize,
    ) -> Result<object_store::GetResult, StoreError> {
        if let Some(root) = self.root().await? {
            let path = root.join(key.as_str());
            // If the file is missing, the store itself says so below.
            if tokio::fs::canonicalize(&path).await.is_ok_and(|path| !path.starts_with(root)) {
                return Err(StoreError::Outside(key.to_string()));
            }
        }
        let found = match in_time(self.files().await?.get(&path(key)?)).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::Missing(key.to_string()));
            }
            found => found?,
        };
        let bytes = found.meta.size;
        if usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max) {
            return Err(StoreError::TooLarge { key: key.to_string(), bytes });
        }
        Ok(found)
    }

    /// Waits for room in memory for so many bytes.
    async fn room(&self, key: &Key, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
        let room = self.in_memory.clone().acquire_many_owned(mebibytes(bytes)).await;
        room.map_err(|_| StoreError::Missing(key.to_string()))
    }

    /// Tells which of these photos are not in the store.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn missing<'a>(&self, keys: &'a [Key]) -> Result<Vec<&'a Key>, StoreError> {
        let files = self.files().await?;
        let looks = keys.iter().map(async |key| {
            let path = path(key)?;
            match in_time(files.head(&path)).await {
                Err(object_store::Error::NotFound { .. }) => Ok::<_, StoreError>(Some(key)),
                found => Ok(found.map(|_| None)?),
            }
        });
        let found: Vec<Option<&Key>> =
            futures::stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the photos whose keys begin with `prefix` and have a photo's file extension, in order,
    /// at most `most`. The prefix may end within a name.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Vec<Listed>, StoreError> {
        // The store can only list whole directories.
        let directory = prefix.rsplit_once('/').map(|(directory, _)| Path::parse(directory));
        // What is no path has no photos.
        let Ok(directory) = directory.transpose() else { return Ok(Vec::new()) };
        let mut found = self.files().await?.list(directory.as_ref());
        let mut photos = Vec::new();
        while let Some(file) = found.next().await {
            let file = file?;
            let key = file.location.to_string();
            if key.starts_with(prefix) && is_photo(&key) && Key::parse(&key).is_ok() {
                photos.push(Listed { key, file: file_of(&file) });
                if photos.len() >= most {
                    break;
                }
            }
        }
        photos.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(photos)
    }

    /// Whether there is no file at all.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.files().await?.list(None).next().await.transpose()?.is_none())
    }

    /// Reads the records of all erasures, oldest first, and the names of files that are none.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn erasures(&self) -> Result<(Vec<Record>, Vec<String>), StoreError> {
        let files = self.files().await?;
        let mut found = files.list(Some(&path(&Key::erasures())?));
        let (mut records, mut others) = (Vec::new(), Vec::new());
        while let Some(file) = found.next().await {
            let file = file?;
            let bytes = in_time(files.get(&file.location)).await?.bytes().await?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => records.push(record),
                Err(_) => others.push(file.location.to_string()),
            }
        }
        records.sort_by_key(|record| record.at);
        Ok((records, others))
    }

    /// Deletes a file, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match in_time(self.files().await?.delete(&path(key)?)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the files of a directory, if there are any.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn delete_below(&self, directory: &Key) -> Result<(), StoreError> {
        let store = self.files().await?;
        let mut found = store.list(Some(&path(directory)?));
        let mut files = Vec::new();
        while let Some(file) = found.next().await {
            files.push(file?.location);
        }
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            match in_time(store.delete(&file)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(root) = self.root().await? {
            // It is empty, unless somebody has just written into it.
            let _ = tokio::fs::remove_dir(root.join(directory.as_str())).await;
        }
        Ok(())
    }

    /// Writes a file, whole or not at all. A second write of the same key replaces the file.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), StoreError> {
        in_time(self.files().await?.put(&path(key)?, PutPayload::from(bytes))).await?;
        Ok(())
    }

    /// As [`PhotoStore::put`], for what cannot be made again: it outlives a power failure from then
    /// on. A bucket does this always.
    ///
    /// # Errors
    /// As [`PhotoStore::put`].
    pub async fn put_durably(&self, key: &Key, bytes: Vec<u8>) -> Result<(), StoreError> {
        match &self.place {
            Place::Directory(directory) => {
                let files = &directory.open().await?.durable;
                in_time(files.put(&path(key)?, PutPayload::from(bytes))).await?;
                Ok(())
            }
            Place::Bucket(_) => self.put(key, bytes).await,
        }
    }
}

/// The room in memory for so many bytes, in MiB.
fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(IN_MEMORY_MIB).min(IN_MEMORY_MIB)
}

/// Gives up on a store that hangs.
async fn in_time<T>(
    asked: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    timeout(FILE_MAX, asked).await.unwrap_or_else(|elapsed| {
        Err(object_store::Error::Generic { store: "photos", source: Box::new(elapsed) })
    })
}

/// The path that the store knows a key by. Every key has one.
fn path(key: &Key) -> Result<Path, StoreError> {
    Path::parse(key.as_str()).map_err(|_| StoreError::Missing(key.to_string()))
}
