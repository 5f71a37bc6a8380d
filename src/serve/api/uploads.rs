//! Uploads of photos.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use crate::{
    access::Caller,
    catalog::uploads,
    ids::EventId,
    serve::{
        Service,
        input::{Path, created},
        problem::Problem,
        uploads::{Stored, not_stored, receive_body},
    },
};

/// A file of an event in the store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredFile)]
pub(in crate::serve) struct File {
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
    pub(in crate::serve) fn answered(stored: Stored) -> (StatusCode, axum::Json<Self>) {
        let (status, bytes) = (created(stored.is_new), stored.bytes);
        let sha256 = Some(hex::encode(stored.sha256));
        let (key, directory) = (stored.to.key.to_string(), stored.to.directory);
        (status, axum::Json(Self { key, directory, bytes, sha256 }))
    }

    /// The file with this name; a problem if there is none.
    pub(in crate::serve) async fn find(
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

/// Shows whether an event has a file with this name.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/files/{name}",
    operation_id = "get_file",
    tag = "Photos",
    params(
        ("event" = EventId, Path, description = "The event's number"),
        ("name" = String, Path, description = "The file's name, as `IMG_0001.jpg`"),
    ),
    responses((status = 200, body = File)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path((event, name)): Path<(EventId, String)>,
) -> Answer<File> {
    Ok(axum::Json(File::find(&service, &caller, event, &name).await?))
}

/// Uploads a photo of an event.
///
/// The body is the file: JPEG, PNG, WebP, GIF or TIFF, at most 100 MiB. It is stored whole or not at
/// all, and never replaces a file with another content (409, `name_taken`). The same file again
/// changes nothing, so a call can be repeated. It is not queued: see `POST /v1/events/{event}/runs`.
#[utoipa::path(
    put,
    path = "/v1/events/{event}/files/{name}",
    operation_id = "upload_file",
    tag = "Photos",
    params(
        ("event" = EventId, Path, description = "The event's number"),
        ("name" = String, Path, description = "The file's name, as `IMG_0001.jpg`"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = File),
        (status = 200, body = File, description = "The event had this file before"),
        (
            status = 409,
            body = Problem,
            description = "Another file has this name (`name_taken`), or enough was uploaded today \
                           (`limit_reached`)"
        ),
        (status = 413, body = Problem, description = "The file is larger than 100 MiB"),
    ),
)]
pub(super) async fn put(
    State(service): State<Service>,
    caller: Caller,
    Path((event, name)): Path<(EventId, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<File>), Problem> {
    let stored = receive_body(&service, &caller, event, &name, &headers, body).await?;
    Ok(File::answered(stored))
}
