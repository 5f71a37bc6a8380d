//! The directories of the store, for people who choose one.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use futures::StreamExt;
use object_store::{list::PaginatedListOptions, path::Path};

use super::{Bucket, PhotoStore, Place, StoreError, in_time};
use crate::catalog::key::{DERIVED, Key, is_photo};

/// Requests to a bucket for one page of directories. One brings up to 1,000 files and directories.
const REQUESTS_MAX: usize = 10;

/// A page of directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// The directories, each with the whole path and a slash at its end, in order.
    pub paths: Vec<String>,
    /// What to send as `after` to get the next page; `None` on the last one.
    pub next: Option<String>,
}

/// The photos of a directory and of those below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Below {
    /// The keys of photos that were found.
    pub keys: Vec<String>,
    /// Whether there may be more.
    pub more: bool,
}

impl PhotoStore {
    /// Lists directories right inside a directory, which is empty or ends with a slash: at most
    /// `most`, of those after `after`.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn directories(
        &self,
        inside: &str,
        after: &str,
        most: usize,
    ) -> Result<Directories, StoreError> {
        let mut found = match &self.place {
            Place::Directory(directory) => {
                let root = directory.open().await?.root.clone();
                let (inside, after) = (inside.to_owned(), after.to_owned());
                let read = move || of_directory(&root, &inside, &after, most);
                let read = tokio::task::spawn_blocking(read).await;
                let read = read.map_err(io::Error::other).and_then(|read| read);
                read.map_err(|error| object_store::Error::Generic {
                    store: "photos",
                    source: Box::new(error),
                })?
            }
            Place::Bucket(bucket) => of_bucket(bucket, inside, after, most).await?,
        };
        // Photogate's own files are no photos, and what is no key cannot be queued.
        found
            .paths
            .retain(|path| !path.starts_with(DERIVED) && Key::parse(&format!("{path}x")).is_ok());
        Ok(found)
    }

    /// Lists the photos below a directory, which is empty or ends with a slash: at most `most`, and
    /// only as long as not too many other files are among them.
    ///
    /// # Errors
    /// [`StoreError::Trouble`] when the store fails.
    pub async fn below(&self, directory: &str, most: usize) -> Result<Below, StoreError> {
        let Ok(place) = Path::parse(directory) else { return Ok(Below::default()) };
        let mut found = self.files().await?.list(Some(&place));
        let mut below = Below::default();
        for seen in 0.. {
            let Some(file) = in_time(async { found.next().await.transpose() }).await? else {
                break;
            };
            let key = file.location.to_string();
            if is_photo(&key) && Key::parse(&key).is_ok() {
                below.keys.push(key);
            }
            if below.keys.len() > most || seen >= 4 * most {
                below.keys.truncate(most);
                below.more = true;
                break;
            }
        }
        Ok(below)
    }
}

/// A directory of any size is read, and only a page of it is kept.
fn of_directory(root: &PathBuf, inside: &str, after: &str, most: usize) -> io::Result<Directories> {
    let place = root.join(inside);
    match place.canonicalize() {
        Ok(found) if found.starts_with(root) => {}
        // A link out of the store, or nothing.
        Ok(_) => return Ok(Directories::default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Directories::default()),
        Err(error) => return Err(error),
    }
    let mut page = BTreeSet::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{inside}{name}/");
        if path.as_str() > after {
            page.insert(path);
            if page.len() > most + 1 {
                page.pop_last();
            }
        }
    }
    let more = page.len() > most;
    let paths: Vec<String> = page.into_iter().take(most).collect();
    let next = if more { paths.last().cloned() } else { None };
    Ok(Directories { paths, next })
}

/// A bucket answers in order, with the directories among the files.
async fn of_bucket(
    bucket: &Bucket,
    inside: &str,
    after: &str,
    most: usize,
) -> Result<Directories, StoreError> {
    let root = match bucket.prefix.as_ref() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let place = format!("{root}{inside}");
    // After everything in the last directory of the page before.
    let offset = (!after.is_empty()).then(|| format!("{root}{after}\u{10ffff}"));
    let (mut paths, mut token, mut last) = (Vec::new(), None, String::new());
    for _ in 0..REQUESTS_MAX {
        let options = PaginatedListOptions {
            offset: offset.clone(),
            delimiter: Some("/".into()),
            page_token: token.take(),
            ..PaginatedListOptions::default()
        };
        let page = in_time(bucket.lists.list_paginated(Some(&place), options)).await?;
        let own = |path: &Path| path.as_ref().strip_prefix(&root).map(str::to_owned);
        let found = page.result.common_prefixes.iter().filter_map(own);
        // The emulator of Azure does not know where to begin, and answers from the first one on.
        paths.extend(found.map(|path| format!("{path}/")).filter(|path| path.as_str() > after));
        let files = page.result.objects.iter().filter_map(|file| own(&file.location));
        last = files.chain(paths.last().cloned()).max().unwrap_or(last);
        token = page.page_token;
        if token.is_none() || paths.len() > most {
            break;
        }
    }
    let next = if paths.len() > most {
        paths.truncate(most);
        paths.last().cloned()
    } else {
        // So many files that the directories among them were not all reached.
        token.map(|_| last)
    };
    Ok(Directories { paths, next })
}
