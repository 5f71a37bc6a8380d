//! A directory as a store.

use std::{io, path::PathBuf};

use object_store::local::LocalFileSystem;
use tokio::{sync::OnceCell, time::timeout};

use super::{FILE_MAX, StoreError};

/// A directory. It is opened, and made if it is not there, when it is first used: one that is mounted
/// later is waited for.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    opened: OnceCell<Opened>,
}

#[derive(Debug)]
pub(super) struct Opened {
    /// Its path, without symbolic links.
    pub root: PathBuf,
    pub files: LocalFileSystem,
    /// The same. What it writes has reached the disk when it says so.
    pub durable: LocalFileSystem,
}

impl Directory {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, opened: OnceCell::new() }
    }

    pub(super) async fn open(&self) -> Result<&Opened, StoreError> {
        let opening = async {
            let path = self.path.clone();
            let opened = timeout(FILE_MAX, tokio::task::spawn_blocking(move || open(path))).await;
            let opened = opened.map_err(io::Error::from)?.map_err(io::Error::other)?;
            opened.map_err(io::Error::other)
        };
        self.opened.get_or_try_init(|| opening).await.map_err(|error: io::Error| {
            StoreError::Directory {
                path: self.path.display().to_string(),
                reason: error.to_string(),
            }
        })
    }
}

fn open(path: PathBuf) -> object_store::Result<Opened> {
    let failed =
        |error: io::Error| object_store::Error::Generic { store: "photos", source: error.into() };
    std::fs::create_dir_all(&path).map_err(failed)?;
    let root = path.canonicalize().map_err(failed)?;
    let files = LocalFileSystem::new_with_prefix(&root)?;
    let durable = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
    Ok(Opened { root, files, durable })
}
