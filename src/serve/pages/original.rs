//! The photo itself, as it is in the store.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use photogate_jobs::{BYTES_MAX, Format};

use crate::{
    catalog::{key::Key, photo_store::StoreError, photos},
    ids::PhotoId,
    serve::{
        Service, authentication::Browser, input::Path, problem::Problem, reads::event_of_photo,
        shares,
    },
};

/// Serves the file of a photo, only to callers who may see the photo. It is sent as what it is, so
/// nothing but a photo is.
pub(super) async fn file(
    State(service): State<Service>,
    browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Result<Response, Problem> {
    let key = {
        let mut db = service.database.acquire().await?;
        event_of_photo(&mut db, &browser.caller, photo).await?;
        photos::place_of(&mut db, photo).await?.map(|(_, key)| key)
    };
    let missing =
        || Problem::not_found("file of this photo in the store: was it deleted or renamed");
    let key = key.ok_or_else(missing)?;
    let name = key.rsplit('/').next().unwrap_or_default().to_owned();
    let key = Key::parse(&key).map_err(|_| missing())?;
    let (bytes, mut pieces) = match service.store.read(&key, BYTES_MAX).await {
        Ok(read) => read,
        Err(StoreError::Missing(_) | StoreError::Outside(_)) => return Err(missing()),
        Err(error) => {
            tracing::warn!(%error, "cannot read a photo");
            return Err(Problem::unavailable(
                "store_unavailable",
                "the store does not answer".into(),
            ));
        }
    };
    let first = pieces.next().await.transpose().map_err(|error| {
        tracing::warn!(%error, "cannot read a photo");
        Problem::unavailable("store_unavailable", "the store does not answer".into())
    })?;
    let first = first.unwrap_or_default();
    let kind = Format::of(&first)
        .map_err(|error| Problem::not_found(format!("photo in this file: {error}")))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type(kind))),
        (header::CONTENT_LENGTH, HeaderValue::from(bytes)),
        (header::CONTENT_DISPOSITION, disposition(&name)),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600")),
    ];
    let all = stream::once(async { Ok::<Bytes, object_store::Error>(first) }).chain(pieces);
    // A slow reader keeps a place of its own organisation until all is sent.
    let places = shares::keep();
    let all = all.inspect(move |_| {
        let _ = &places;
    });
    Ok((headers, Body::from_stream(all)).into_response())
}

/// The browser shows it, and offers this name to whoever saves it.
fn disposition(name: &str) -> HeaderValue {
    let plain: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || " ._-".contains(*c)).collect();
    let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    HeaderValue::from_str(&format!("inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}"))
        .unwrap_or(HeaderValue::from_static("inline"))
}

fn media_type(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "image/jpeg",
        Format::Png => "image/png",
        Format::WebP => "image/webp",
        Format::Gif => "image/gif",
        Format::Tiff => "image/tiff",
    }
}
