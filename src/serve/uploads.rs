//! Takes a file that is uploaded: into a temporary file, and from there into the store, when it is
//! whole and a photo. So the store never has a half of one, and a slow line takes no memory.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, header},
};
use futures::{Stream, StreamExt};
use photogate_jobs::{BYTES_MAX, Format, PhotoError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tracing::Instrument;
use utoipa::ToSchema;

use super::{Service, input::created, problem::Problem, shares};
use crate::{
    access::Caller,
    catalog::{
        photo_store::{Kept, StoreError},
        uploads,
    },
    commands::{CommandError, Destination},
    ids::{EventId, OrganisationId},
};

/// Uploads at once of a person or token, and of an organisation.
const OF_A_CALLER: usize = 4;
const OF_AN_ORGANISATION: usize = 8;
/// How long an upload waits for a place, before it gets status 429.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time in which nothing of a file comes.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a refused upload is read on. A client that still sends sees no answer.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Number of those who have places above which they are forgotten who have none.
const KNOWN_MAX: usize = 10_000;
/// The formats are told apart by so many bytes.
const HEAD: usize = 64;

/// Whether a request uploads files: it may be large, and slow.
pub(super) fn is_upload(method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["v1", "events", _, "files", _] | ["events", _, "files", _] => method == Method::PUT,
        ["events", _, "upload"] => method == Method::POST,
        _ => false,
    }
}

/// The places that an upload has, until the last of those who hold them has let go.
pub(super) type Taken = Arc<Vec<OwnedSemaphorePermit>>;

/// The places of uploads. There are not more than people, tokens and organisations.
#[derive(Debug, Default)]
pub(super) struct Places {
    callers: Mutex<HashMap<String, Arc<Semaphore>>>,
    organisations: Mutex<HashMap<OrganisationId, Arc<Semaphore>>>,
}

impl Places {
    /// Waits for a place. An upload takes none of the places of other requests, because it lasts
    /// long: a person who uploads looks at pages meanwhile.
    pub(super) async fn take(&self, caller: &Caller) -> Result<Taken, Problem> {
        shares::give_back();
        let until = Instant::now() + WAIT_MAX;
        let mut taken = Vec::new();
        let of_caller = places(&self.callers, &caller.actor, OF_A_CALLER);
        taken.push(shares::place(&of_caller, until).await?);
        if let Some(organisation) = &caller.organisation {
            let all = places(&self.organisations, organisation, OF_AN_ORGANISATION);
            taken.push(shares::place(&all, until).await?);
        }
        Ok(Arc::new(taken))
    }
}

/// The places of one of them. Those of whom nothing is known but a name are forgotten, where there
/// are many, as soon as nobody has one.
pub(super) fn places<K: Hash + Eq + Clone>(
    all: &Mutex<HashMap<K, Arc<Semaphore>>>,
    who: &K,
    most: usize,
) -> Arc<Semaphore> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() > KNOWN_MAX {
        all.retain(|_, places| Arc::strong_count(places) > 1);
    }
    all.entry(who.clone()).or_insert_with(|| Arc::new(Semaphore::new(most))).clone()
}

/// A file that the store has.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) to: Destination,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    /// False: the store had it before.
    pub(super) is_new: bool,
}

/// Takes the whole body of a request as a file.
pub(super) async fn receive_body(
    service: &Service,
    caller: &Caller,
    event: EventId,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Stored, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse().ok());
    // It is read on after its end, if the file is refused.
    let mut body = body.into_data_stream().fuse();
    // The place is held until the body has been read, also of a file that is refused.
    let places = service.uploads.take(caller).await?;
    let done = receive(service, caller, event, name, length, &mut body, &places).await;
    if done.is_err() && length.is_none_or(|length| length <= BYTES_MAX as u64) {
        drain(&mut body).await;
    }
    done
}

/// Reads a body to its end, and forgets it.
async fn drain<E>(body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin)) {
    let mut left = BYTES_MAX;
    let read = async {
        while let Some(Ok(bytes)) = body.next().await {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(DRAIN_MAX, read).await;
}

/// Takes a file. `length` is its size, if the client has said it. The caller has a place.
pub(super) async fn receive<E: Display>(
    service: &Service,
    caller: &Caller,
    event: EventId,
    name: &str,
    length: Option<u64>,
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    places: &Taken,
) -> Result<Stored, Problem> {
    let to = service.commands.upload_destination(caller, event, name).await?;
    let length = length.unwrap_or_default();
    if length > BYTES_MAX as u64 {
        return Err(too_large(length));
    }
    service.commands.may_upload(&to, length).await?;
    let Spooled { file, bytes, sha256 } = spool(body).await?;
    let file = file.into_std().await;
    let (service, caller, place) = (service.clone(), caller.clone(), to.clone());
    let places = places.clone();
    // It goes on when the client has gone, and keeps its places: what the store has is noted.
    let keeping = async move {
        let _places = places;
        service.commands.may_upload(&place, bytes).await?;
        let kept = service.store.keep(&place.key, file, bytes, &sha256).await?;
        if kept != Kept::Other {
            let noted = service.commands.uploaded(&caller, &place, bytes, &sha256).await;
            // The event was deleted meanwhile, or the database is away: nobody would know of the file.
            if noted.is_err() && kept == Kept::New {
                service.store.delete(&place.key).await?;
            }
            noted?;
        }
        Ok::<_, NotKept>(kept)
    };
    let kept = tokio::spawn(keeping.in_current_span()).await.map_err(|_| Problem::broken())?;
    match kept? {
        Kept::Other => {
            let detail = format!(
                "another photo is called {name} here: rename the file, and upload it again"
            );
            Err(Problem::conflict("name_taken", detail))
        }
        kept @ (Kept::New | Kept::Same) => {
            Ok(Stored { to, bytes, sha256, is_new: kept == Kept::New })
        }
    }
}

fn too_large(bytes: u64) -> Problem {
    Problem::too_large(PhotoError::FileTooLarge(bytes).to_string())
}

/// Why a file that came whole is not kept.
enum NotKept {
    Store(StoreError),
    Command(CommandError),
}

impl From<StoreError> for NotKept {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CommandError> for NotKept {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<NotKept> for Problem {
    fn from(why: NotKept) -> Self {
        match why {
            NotKept::Command(error) => error.into(),
            NotKept::Store(error) => not_stored(&error),
        }
    }
}

/// The problem of a store that does not take a file, or does not say whether it has one.
fn not_stored(error: &StoreError) -> Problem {
    tracing::warn!(%error, "the store does not take an uploaded file");
    let detail = if error.is_forbidden() {
        "the photo store lets nobody upload: whoever runs photogate must give it the right to write \
         there (docs/operations.md)"
    } else {
        "the photo store does not answer as it should: try again in a moment"
    };
    Problem::unavailable("store_unavailable", detail.into())
}

/// A file on its way. It has no name, so nothing is left of it when it is closed.
struct Spooled {
    file: tokio::fs::File,
    bytes: u64,
    sha256: [u8; 32],
}

async fn spool<E: Display>(
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
) -> Result<Spooled, Problem> {
    let no_room = |error: std::io::Error| {
        tracing::error!(%error, "an uploaded file cannot be written to the temporary directory");
        let detail = "the service has no room for this file now: try again later";
        Problem::unavailable("no_room", detail.into())
    };
    let made = tokio::task::spawn_blocking(tempfile::tempfile).await;
    let file = made.map_err(|_| Problem::broken())?.map_err(no_room)?;
    let mut file = tokio::fs::File::from_std(file);
    let (mut hash, mut bytes, mut head) = (Sha256::new(), 0, Vec::with_capacity(HEAD));
    loop {
        let part = timeout(SILENCE_MAX, body.next()).await.map_err(|_| Problem::too_late())?;
        let Some(part) = part else { break };
        let part = part.map_err(|error| {
            Problem::malformed(format!("the file did not come whole: send it again ({error})"))
        })?;
        bytes += part.len() as u64;
        if bytes > BYTES_MAX as u64 {
            return Err(too_large(bytes));
        }
        if head.len() < HEAD {
            head.extend(part.iter().take(HEAD - head.len()));
            if head.len() == HEAD {
                must_be_a_photo(&head)?;
            }
        }
        hash.update(&part);
        file.write_all(&part).await.map_err(no_room)?;
    }
    must_be_a_photo(&head)?;
    file.flush().await.map_err(no_room)?;
    Ok(Spooled { file, bytes, sha256: hash.finalize().into() })
}

/// Looks at the first bytes only: whether it can be decoded is found out in a sandbox.
fn must_be_a_photo(head: &[u8]) -> Result<(), Problem> {
    Format::of(head).map(|_| ()).map_err(|error| Problem::invalid("file", error))
}

/// A file of an event in the store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredFile)]
pub(super) struct File {
    /// Its key. Queue it by this key, or with the prefix `directory`.
    key: String,
    /// The directory with the uploaded files of the event.
    directory: String,
    /// Its size.
    bytes: u64,
    /// The SHA-256 of its content, in hexadecimal. Null if it was not uploaded here.
    sha256: Option<String>,
}

impl File {
    pub(super) fn answered(stored: Stored) -> (StatusCode, axum::Json<Self>) {
        let (status, bytes) = (created(stored.is_new), stored.bytes);
        let sha256 = Some(hex::encode(stored.sha256));
        let (key, directory) = (stored.to.key.to_string(), stored.to.directory);
        (status, axum::Json(Self { key, directory, bytes, sha256 }))
    }

    /// The file with this name; a problem if there is none.
    pub(super) async fn find(
        service: &Service,
        caller: &Caller,
        event: EventId,
        name: &str,
    ) -> Result<Self, Problem> {
        let to = service.commands.upload_destination(caller, event, name).await?;
        let there = service.store.size(&to.key).await.map_err(|error| not_stored(&error))?;
        let bytes =
            there.ok_or_else(|| Problem::not_found(format!("file {name} of this event")))?;
        let mut db = service.database.acquire().await?;
        let uploaded = uploads::find(&mut db, event, to.key.as_str()).await?;
        // Somebody else may have put another file there.
        let uploaded = uploaded.filter(|one| u64::try_from(one.bytes) == Ok(bytes));
        let sha256 = uploaded.map(|one| hex::encode(one.sha256));
        Ok(Self { key: to.key.to_string(), directory: to.directory, bytes, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_uploads_may_take_its_time() {
        let is = |method: Method, path| is_upload(&method, path);
        assert!(is(Method::PUT, "/v1/events/7/files/a.jpg"));
        assert!(is(Method::PUT, "/events/7/files/a.jpg"));
        assert!(is(Method::POST, "/events/7/upload"));
        for (method, path) in [
            (Method::GET, "/events/7/files/a.jpg"),
            (Method::POST, "/v1/events/7/files/a.jpg"),
            (Method::GET, "/events/7/upload"),
            (Method::POST, "/v1/events/7/upload"),
            (Method::PUT, "/v1/events/7/start-list"),
            (Method::PUT, "/v1/events/7/files/a/b.jpg"),
        ] {
            assert!(!is(method, path), "{path}");
        }
    }
}
