//! Uploads of photos, and the directories of the store from which people choose.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::{CommandError, Commands, enqueue::MAY_ENQUEUE};
use crate::{
    access::{Caller, audit_log},
    catalog::{
        away,
        events::Event,
        key::Key,
        organisations,
        photo_store::{PhotoStore, StoreError},
        uploads,
    },
    ids::EventId,
};

/// Directories on one page.
const DIRECTORIES: usize = 30;
/// Pages of directories that are passed over because all of them are of others.
const PAGES_OF_OTHERS_MAX: usize = 20;
/// Photos of a directory up to which they are counted.
const COUNTED: usize = 1000;
/// Directories whose photos are counted at the same time.
const COUNTED_AT_ONCE: usize = 8;

/// Where a file of an event is uploaded to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The event.
    pub event: Event,
    /// The directory, with a slash at its end.
    pub directory: String,
    /// The file's key.
    pub key: Key,
}

/// A directory of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its path, with a slash at its end; empty for the whole store.
    pub path: String,
    /// Number of photos in it and below it, at most 1,000.
    pub photos: usize,
    /// Whether there may be more photos.
    pub more: bool,
}

/// What somebody sees who chooses a directory.
#[derive(Debug)]
pub struct Browsed {
    /// The event for which they choose.
    pub event: Event,
    /// The part of the store that they may see, with a slash at its end; empty for all of it.
    pub under: String,
    /// The directory they look at.
    pub here: Directory,
    /// Directories right inside it.
    pub inside: Vec<Directory>,
    /// What to send as `after` to get the next page of these.
    pub next: Option<String>,
}

impl Commands {
    /// Checks that the caller may upload files to the event. Returns the event, and the directory of
    /// the store with its files.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn upload_directory(
        &self,
        caller: &Caller,
        event: EventId,
    ) -> Result<(Event, String), CommandError> {
        caller.must_be(MAY_ENQUEUE)?;
        let event = self.event_seen_by(caller, event).await?;
        away::must_not_be_archived(&mut *self.database.acquire().await?, event.id).await?;
        let under = self.photos_under(caller, event.organisation).await?;
        let directory = uploads::directory(&under, event.id);
        Ok((event, directory))
    }

    /// Checks that the caller may upload a file with this name to the event, before it comes.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn upload_destination(
        &self,
        caller: &Caller,
        event: EventId,
        name: &str,
    ) -> Result<Destination, CommandError> {
        let (event, directory) = self.upload_directory(caller, event).await?;
        let bad = |error: &dyn std::error::Error| CommandError::invalid("name", error);
        uploads::check_name(name).map_err(|error| bad(&error))?;
        let key = format!("{directory}{name}");
        let key = Key::parse(&key).map_err(|error| bad(&error))?;
        let mut db = self.database.acquire().await?;
        let keys = [key.to_string()];
        if !organisations::keys_outside(&mut db, event.organisation, &keys).await?.is_empty() {
            let detail = format!(
                "{directory} is in the part of the store of another organisation: ask support to \
                 give yours another part"
            );
            return Err(CommandError::Conflict { code: "photos_under_taken", detail });
        }
        Ok(Destination { event, directory, key })
    }

    /// Refuses a file of so many bytes, if its organisation has uploaded enough for today.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn may_upload(&self, to: &Destination, bytes: u64) -> Result<(), CommandError> {
        let mut db = self.database.acquire().await?;
        self.quotas.check_uploads(&mut db, to.event.organisation, bytes).await
    }

    /// Notes that the store has an uploaded file. The same file once more changes nothing.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn uploaded(
        &self,
        caller: &Caller,
        to: &Destination,
        bytes: u64,
        sha256: &[u8; 32],
    ) -> Result<(), CommandError> {
        caller.must_be(MAY_ENQUEUE)?;
        let (event, key) = (to.event.id, to.key.as_str());
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        transaction!(self, tx, {
            let audited = uploads::note(&mut tx, event, key, bytes, sha256, &caller.actor).await?;
            if audited {
                let (whose, subject) = (Some(to.event.organisation), format!("event {event}"));
                let detail = json!({ "directory": to.directory });
                audit_log::record(&mut tx, caller, whose, "photos.upload", &subject, detail)
                    .await?;
            }
        })
    }

    /// Lists the directories inside a directory of the store, for somebody who chooses one with
    /// photos of the event. Nobody sees the part of another organisation.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn browse(
        &self,
        caller: &Caller,
        event: EventId,
        store: &PhotoStore,
        here: Option<&str>,
        after: &str,
    ) -> Result<Browsed, CommandError> {
        caller.must_be(MAY_ENQUEUE)?;
        let event = self.event_seen_by(caller, event).await?;
        let under = self.photos_under(caller, event.organisation).await?;
        let here = here.unwrap_or(&under).to_owned();
        let missing = || CommandError::NotFound(format!("directory {here:?} in the store"));
        let is_directory = here.is_empty() || here.ends_with('/');
        if !is_directory || !here.starts_with(&under) || Key::parse(&format!("{here}x")).is_err() {
            return Err(missing());
        }
        if !self.outside(&event, vec![format!("{here}x")]).await?.is_empty() {
            return Err(missing());
        }
        let down = |error: StoreError| {
            tracing::warn!(%error, "the directories of the store could not be listed");
            CommandError::StoreUnavailable
        };
        let (mut after, mut paths, mut next) = (after.to_owned(), Vec::new(), None);
        for _ in 0..PAGES_OF_OTHERS_MAX {
            let listed = store.directories(&here, &after, DIRECTORIES).await.map_err(down)?;
            let places = listed.paths.iter().map(|path| format!("{path}x")).collect();
            let others = self.outside(&event, places).await?;
            let mut at = 0..;
            paths = listed.paths;
            paths.retain(|_| at.next().is_none_or(|at| !others.contains(&at)));
            let Some(last) = listed.next else { break };
            // The page ends with a path of one's own: an address tells no name of others.
            next = paths.last().cloned();
            if next.is_some() {
                break;
            }
            after = last;
        }
        paths.insert(0, here);
        let counting = paths.iter().cloned().map(|path| {
            let store = store.clone();
            async move { store.below(&path, COUNTED).await }
        });
        let counting = stream::iter(counting.collect::<Vec<_>>()).buffered(COUNTED_AT_ONCE);
        let counts = counting.try_collect::<Vec<_>>().await.map_err(down)?;
        // Of all directories at once, because many keys have few directories.
        let keys = counts.iter().flat_map(|below| below.keys.iter().cloned()).collect::<Vec<_>>();
        let others = self.outside(&event, keys).await?;
        let mut at = 0..;
        let mut inside = Vec::new();
        for (path, below) in paths.into_iter().zip(counts) {
            let own =
                below.keys.iter().filter(|_| at.next().is_none_or(|at| !others.contains(&at)));
            inside.push(Directory { path, photos: own.count(), more: below.more });
        }
        let here = inside.remove(0);
        Ok(Browsed { event, under, here, inside, next })
    }

    /// Which of these keys are of others than the event's organisation: their places in the list.
    async fn outside(
        &self,
        event: &Event,
        keys: Vec<String>,
    ) -> Result<HashSet<usize>, CommandError> {
        let mut db = self.database.acquire().await?;
        let outside = organisations::keys_outside(&mut db, event.organisation, &keys).await?;
        Ok(outside.into_iter().collect())
    }
}
