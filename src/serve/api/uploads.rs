//! Uploads of photos.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};

use super::Answer;
use crate::{
    access::Caller,
    ids::EventId,
    serve::{
        Service,
        input::Path,
        problem::Problem,
        uploads::{File, receive_body},
    },
};

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
