//! Photos on a page and in a file: the state of each, and what was found on it.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use sqlx::PgConnection;

use super::{
    correct, photo as photo_page,
    table::Table,
    table_view::{FILE_MAX, View},
};
use crate::{
    catalog::{
        key::Key,
        photo_store::StoreError,
        photos::{self, BibBox, Filter, Photo, State as PhotoState},
    },
    ids::{EventId, Operation, PhotoId},
    queue::failures,
    serve::{
        Service, authentication::Browser, input::Path, problem::Problem, reads::event_of_photo,
    },
};

/// Photos that one query reads for a file.
const AT_ONCE: i64 = 1000;

/// All photos for a file. The result may have more than `FILE_MAX` rows: then the file is refused.
pub(super) async fn all(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
) -> sqlx::Result<Vec<Photo>> {
    let mut all: Vec<Photo> = Vec::new();
    loop {
        let after = all.last().map(|photo| photo.key.clone());
        let filter = Filter { after: after.as_deref(), most: AT_ONCE, ..filter };
        let found = photos::list(&mut *db, event, filter).await?;
        let is_last = i64::try_from(found.len()).unwrap_or(i64::MAX) < AT_ONCE;
        all.extend(found);
        if is_last || i64::try_from(all.len()).unwrap_or(i64::MAX) > FILE_MAX {
            return Ok(all);
        }
    }
}

/// The columns of the file: the state of each photo, and what was found on it.
pub(super) fn table(view: View<'_>) -> Table<'_, Photo> {
    let state = |state: Option<PhotoState>| state.map_or("", PhotoState::code).to_owned();
    Table::new(view)
        .only_in_file("Photo", |photo: &Photo| photo.key.clone())
        .only_in_file("Photo ID", |photo| photo.id.to_string())
        .only_in_file("Processing", move |photo| state(photo.processing))
        .only_in_file("Processing reason", |photo| {
            photo.processing_reason.clone().unwrap_or_default()
        })
        .only_in_file("Rotation", move |photo| state(photo.rotation))
        .only_in_file("Rotation reason", |photo| photo.rotation_reason.clone().unwrap_or_default())
        .only_in_file("Turn", |photo| photo.turn.map(|turn| turn.to_string()).unwrap_or_default())
        .only_in_file("Bibs", |photo| {
            let numbers: Vec<_> = photo.bibs.0.iter().map(|bib| bib.number.as_str()).collect();
            numbers.join(" ")
        })
        .only_in_file("Faces", |photo| photo.faces.0.len().to_string())
}

/// A photo on a page. Its picture leads to its own page. `back`: where that leads back;
/// `may_correct`: whether there is a link to correct it.
pub(super) fn card(photo: &Photo, back: &str, may_correct: bool) -> Markup {
    let state = |operation: Operation, state: Option<PhotoState>, reason: Option<&str>| {
        html! {
            @if let Some(state) = state {
                div {
                    (operation) ": "
                    span.bad[state == PhotoState::Failed].good[matches!(state, PhotoState::Processed | PhotoState::Duplicate)] {
                        (state.name_for(operation))
                    }
                    @if let Some(reason) = reason.filter(|_| state == PhotoState::Failed) {
                        " ("
                        span title=(failures::meaning(reason)) { (reason.replace('_', " ")) }
                        ")"
                    }
                }
            }
        }
    };
    html! {
        li.photo id={ "photo-" (photo.id) } {
            a href=(photo_page::address(photo.id, back)) { figure {
                (picture(photo, 0, Labels::None))
                @if let Some(turn) = photo.turn.filter(|turn| *turn != 0) {
                    (picture(photo, turn, Labels::None))
                }
            } }
            div.text {
                div { @for bib in &photo.bibs.0 { (number(bib)) " " }
                    @match photo.faces.0.len() { 0 => {}, 1 => "1 face", n => { (n) " faces" } } }
                @match photo.turn {
                    Some(0) | None => {},
                    Some(turn) => div {
                        "turned by " (turn) "°"
                        @if photo.corrected.0.turn { " by a person" }
                        ": before | after"
                    },
                }
                @if photo.may_be_sideways() { div { "Nothing found. Turn it first?" } }
                (state(
                    Operation::PhotoProcessing,
                    photo.processing,
                    photo.processing_reason.as_deref(),
                ))
                (state(Operation::AiRotation, photo.rotation, photo.rotation_reason.as_deref()))
                div.faint { (photo.key) }
                div {
                    a href={ "/receipts/" (photo.id) } aria-label={ "Receipt of " (photo.key) } {
                        "Receipt"
                    }
                    @if may_correct {
                        " · "
                        a href=(correct::address(photo.id, back))
                            aria-label={ "Correct " (photo.key) } { "Correct" }
                    }
                }
            }
        }
    }
}

/// A bib number, with what decided it. One that is not sure has a question mark.
pub(super) fn number(bib: &BibBox) -> Markup {
    let mut why = bib.settled_by.reason().to_owned();
    if let Some(was) = &bib.was {
        why = format!("{why}; {was} was read");
    }
    if !bib.sure {
        why = format!("not sure: it may be misread ({why})");
    }
    html! { span.chip title=(why) { (bib.number) @if !bib.sure { "?" } } }
}

/// Whether the numbers stand beside their boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    Shown,
    None,
}

/// The thumbnail with boxes around faces and bib numbers, turned clockwise by so many degrees.
pub(super) fn picture(photo: &Photo, turn: i16, labels: Labels) -> Markup {
    let (width, height) = (photo.width.unwrap_or(4), photo.height.unwrap_or(3));
    let (across, down) = if turn % 180 == 0 { (width, height) } else { (height, width) };
    let (right, below) = match turn {
        90 => (height, 0),
        180 => (width, height),
        270 => (0, width),
        _ => (0, 0),
    };
    let name = match turn {
        0 => photo.key.clone(),
        turn => format!("{}, turned by {turn} degrees", photo.key),
    };
    html! {
        svg viewBox={ "0 0 " (across) " " (down) } role="img" aria-label=(name) {
            g transform={ "translate(" (right) " " (below) ") rotate(" (turn) ")" } {
                // Either operation makes the thumbnail.
                @if photo.width.is_some()
                    || matches!(
                        photo.rotation,
                        Some(PhotoState::Processed | PhotoState::Undecided | PhotoState::Duplicate)
                    )
                {
                    image href={ "/photos/" (photo.id) "/thumbnail" }
                        width=(width) height=(height) {}
                } @else {
                    text.none x="50%" y="50%" font-size=(f64::from(width) / 12.0) text-anchor="middle" {
                        @if photo.processing == Some(PhotoState::Failed) { "No picture" }
                        @else { "No picture yet" }
                    }
                }
                @for face in &photo.faces.0 {
                    rect x=(face.x) y=(face.y) width=(face.width) height=(face.height) {
                        title { "face" }
                    }
                }
                @for bib in &photo.bibs.0 {
                    @if let (Some(x), Some(y), Some(width), Some(height)) =
                        (bib.x, bib.y, bib.width, bib.height)
                    {
                        rect x=(x) y=(y) width=(width) height=(height) { title { (bib.number) } }
                        @if labels == Labels::Shown {
                            (label(&bib.number, [x, y, width, height], turn, across.max(down)))
                        }
                    }
                }
            }
        }
    }
}

/// A number above its box, upright however the photo is turned.
fn label(number: &str, [x, y, width, height]: [f32; 4], turn: i16, longest: i32) -> Markup {
    let (x, y) = (x + width / 2.0, y + height / 2.0);
    #[expect(clippy::cast_precision_loss, reason = "pixels of a photo")]
    let size = longest as f32 / 32.0;
    let half = if turn % 180 == 0 { height } else { width } / 2.0;
    html! {
        text x=(x) y=(y - half - size / 3.0) font-size=(size) text-anchor="middle"
            transform={ "rotate(" (-turn) " " (x) " " (y) ")" } { (number) }
    }
}

/// Maximum size of a thumbnail, in bytes; most have a few tens of kilobytes.
const THUMBNAIL_MAX: usize = 1 << 20;

/// Serves a thumbnail, only to callers who may see the photo. Browsers may cache it for an hour,
/// shared caches may not.
pub(super) async fn thumbnail(
    State(service): State<Service>,
    browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Result<Response, Problem> {
    {
        let mut db = service.database.acquire().await?;
        event_of_photo(&mut db, &browser.caller, photo).await?;
    }
    small(&service, photo, "private, max-age=3600").await
}

/// The thumbnail of a photo. `cache`: who may keep it, and for how long.
pub(super) async fn small(
    service: &Service,
    photo: PhotoId,
    cache: &'static str,
) -> Result<Response, Problem> {
    match service.store.get(&Key::thumbnail(photo), THUMBNAIL_MAX).await {
        Ok(bytes) => {
            let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, cache)];
            Ok((headers, bytes.to_vec()).into_response())
        }
        Err(StoreError::Missing(_)) => {
            Err(Problem::not_found("thumbnail yet: it is made when the photo is processed"))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot read a thumbnail");
            Err(Problem::unavailable("store_unavailable", "the store does not answer".into()))
        }
    }
}
