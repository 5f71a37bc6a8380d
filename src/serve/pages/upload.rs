//! Uploads photos of an event: the page, its form, which works without scripts, and what the script
//! `assets/upload.js` calls for each file.

use axum::{
    body::Body,
    extract::{DefaultBodyLimit, Multipart, State, multipart::MultipartError},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, get},
};
use maud::{Markup, html};
use photogate_jobs::BYTES_MAX;
use serde::Deserialize;
use tokio::time::timeout;

use super::{PageOrFile, layout};
use crate::{
    access,
    catalog::{
        events::Event,
        uploads::{self, Counts, Upload},
    },
    ids::{EventId, Operation, Operations},
    ledger::credits,
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        uploads::{DRAIN_MAX, File, SILENCE_MAX, Taken, receive, receive_body},
    },
};

/// Largest form that is sent without a script, in bytes, and most files in it.
const FORM_MAX: usize = 128 << 20;
const FORM_FILES_MAX: usize = 500;
/// A form key is shorter, in bytes.
const KEY_MAX: usize = 128;
/// Uploads that the page lists.
const LISTED: i64 = 10;

/// The link to the page.
pub(super) fn link(event: EventId) -> Markup {
    html! { a.button href={ "/events/" (event) "/upload" } { "Upload photos" } }
}

/// The page, and its form.
pub(super) fn form_route() -> MethodRouter<Service> {
    get(page).post(take).layer(DefaultBodyLimit::max(FORM_MAX))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// What the form has just brought: how many files, and how many were there before.
    #[serde(default)]
    new: u32,
    #[serde(default)]
    known: u32,
}

async fn page(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<EventId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    let said = html! {
        @if asked.new + asked.known > 0 {
            p.notice.good role="status" { (asked.new) " photos were uploaded."
                @if asked.known > 0 { " " (asked.known) " were there before." } }
        }
    };
    Ok(render(&service, browser, id, said).await?.into_response())
}

/// The page, with what is said at its top.
async fn render(
    service: &Service,
    mut browser: Browser,
    id: EventId,
    said: Markup,
) -> Result<axum::response::Html<String>, Problem> {
    let (event, directory) = service.commands.upload_directory(&browser.caller, id).await?;
    let mut db = service.database.acquire().await?;
    browser.look_at(&mut db, event.organisation).await?;
    let counts = uploads::count(&mut db, id).await?;
    let latest = uploads::latest(&mut db, id, LISTED).await?;
    let available = credits::balance(&mut db, event.organisation).await?;
    let available = available.map(|balance| balance.available.0).unwrap_or_default();
    let content = html! {
        h1 { "Upload photos" }
        p { "They become photos of " a href={ "/events/" (id) } { (event.name) } ". Uploading costs nothing." }
        (said)
        (form(&event, &browser))
        section id="after" {
            (next(&event, counts, &directory, available))
            (list(&latest, &directory, browser.zone()))
        }
        p { a href={ "/events/" (id) "/browse" } { "Choose photos that are in the store already" } }
        script src="/assets/upload.js" defer {}
    };
    Ok(layout::page(&browser, "/events", "Upload photos", None, content))
}

/// The form. The script takes it over, and then shows what the form cannot: how far it is.
fn form(event: &Event, browser: &Browser) -> Markup {
    html! {
        form.upload id="upload" method="post" enctype="multipart/form-data"
            action={ "/events/" (event.id) "/upload" } data-files={ "/events/" (event.id) "/files/" }
            data-most=(BYTES_MAX) {
            (layout::key(browser))
            label { b { "Choose photos" } span data-with-script hidden { ", or drop them here" }
                input type="file" name="photos" multiple required aria-describedby="upload-kinds"
                    accept=".jpg,.jpeg,.png,.webp,.gif,.tif,.tiff";
            }
            p.faint id="upload-kinds" {
                "JPEG, PNG, WebP, GIF or TIFF, at most " (BYTES_MAX >> 20) " MiB each. A photo that is "
                "there already is passed over, so you can choose all of them again after an interruption."
            }
            button type="submit" { "Upload" }
            div id="upload-state" hidden {
                p role="status" {}
                progress max="1" value="0" aria-label="Uploaded" {}
                ul {}
                button.quiet type="button" hidden { "Try these again" }
            }
        }
    }
}

/// What to do with the photos that were uploaded.
fn next(event: &Event, counts: Counts, directory: &str, available: i64) -> Markup {
    let new = counts.new;
    let (numbers, upright) = (Operation::PhotoProcessing, Operation::AiRotation);
    let ways = [
        (numbers.code(), numbers.name(), "finds faces and bib numbers", new),
        (upright.code(), upright.name(), "turns photos upright", new),
        (Operations::Both.code(), "Both", "one after the other: rotation comes first", 2 * new),
    ];
    html! {
        @if counts.files > 0 {
            h2 { (counts.files) " photos are uploaded" }
            form.panel method="get" action={ "/events/" (event.id) "/run" } {
                input type="hidden" name="what" value="prefix";
                input type="hidden" name="prefix" value=(directory);
                fieldset.operations {
                    legend {
                        @if new > 0 { "What to do with the " (new) " that are new" }
                        @else { "All of them were queued before. What else to do with them" }
                    }
                    @for (at, (code, name, says, cost)) in ways.iter().enumerate() {
                        label {
                            input type="radio" name="operation" value=(code) checked[at == 0];
                            span { b { (name) } " " (says) }
                            @if new > 0 { span.number { (cost) " credits" } }
                        }
                    }
                }
                p.faint { (available) " credits are available. The next page shows the exact cost." }
                button type="submit" { "Process Photos" }
            }
        }
    }
}

fn list(latest: &[Upload], directory: &str, zone: &str) -> Markup {
    html! {
        @if !latest.is_empty() {
            h3 { "The latest" }
            div.scroll { table.cards-on-phone {
                thead { tr { th { "Photo" } th.number { "Size" } th { "User" } th { "When" } } }
                tbody { @for one in latest { tr {
                    td data-label="Photo" { span.words { (one.key.strip_prefix(directory).unwrap_or(&one.key)) } }
                    td.number data-label="Size" { (size(one.bytes)) }
                    td data-label="User" { span.words { (one.actor) } }
                    td data-label="When" { (layout::moment(one.at, zone)) }
                } } }
            } }
        }
    }
}

/// A size for people, as `4.2 MB`.
fn size(bytes: i64) -> String {
    let kilobytes = bytes.unsigned_abs().div_ceil(1000);
    if kilobytes < 1000 {
        format!("{kilobytes} kB")
    } else {
        format!("{}.{} MB", kilobytes / 1000, kilobytes % 1000 / 100)
    }
}

/// Takes the form of a browser without scripts: all files, one after the other.
async fn take(
    State(service): State<Service>,
    browser: Browser,
    Path(id): Path<EventId>,
    mut parts: Multipart,
) -> PageOrFile {
    // They are held until the form has been read, also if it is refused.
    let places = service.uploads.take(&browser.caller).await?;
    let done = taken(&service, browser, id, &mut parts, &places).await;
    if done.is_err() {
        // A browser that still sends sees no answer.
        let rest = async { while let Ok(Some(_)) = parts.next_field().await {} };
        let _ = timeout(DRAIN_MAX, rest).await;
    }
    done
}

async fn taken(
    service: &Service,
    browser: Browser,
    id: EventId,
    parts: &mut Multipart,
    places: &Taken,
) -> PageOrFile {
    let unreadable = |error: MultipartError| {
        let says = error.body_text();
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(format!("{says}: choose fewer photos, and then the others"))
        } else {
            Problem::malformed(says)
        }
    };
    let (mut has_key, mut asked, mut refused) = (false, Asked::default(), Vec::new());
    service.commands.upload_directory(&browser.caller, id).await?;
    loop {
        let next = timeout(SILENCE_MAX, parts.next_field()).await;
        let next = next.map_err(|_elapsed| Problem::too_late())?.map_err(unreadable)?;
        let Some(mut part) = next else { break };
        if part.name() == Some("form_key") {
            let mut key = Vec::new();
            while let Some(bytes) = part.chunk().await.map_err(unreadable)? {
                key.extend_from_slice(&bytes);
                if key.len() > KEY_MAX {
                    break;
                }
            }
            has_key = key == access::form_key(&browser.session).as_bytes();
            continue;
        }
        // The key is the first field of our form: nothing is taken before it is seen.
        if !has_key {
            let says = "the form belongs to another session: load the page again";
            return Err(Problem::forbidden(says));
        }
        let name = part.file_name().unwrap_or_default().to_owned();
        // A browser sends a file without a name if none was chosen.
        if part.name() != Some("photos") || name.is_empty() {
            continue;
        }
        if asked.new as usize + asked.known as usize + refused.len() >= FORM_FILES_MAX {
            let says =
                format!("a form has at most {FORM_FILES_MAX} photos: choose the others next");
            return Err(Problem::too_large(says));
        }
        match receive(service, &browser.caller, id, &name, None, &mut part, places).await {
            Ok(stored) if stored.is_new => asked.new += 1,
            Ok(_) => asked.known += 1,
            Err(problem) if problem.status() == StatusCode::NOT_FOUND => return Err(problem),
            Err(problem) => refused.push((name, problem.detail().to_owned())),
        }
    }
    if !has_key || asked.new + asked.known == 0 && refused.is_empty() {
        return Err(Problem::invalid("photos", "choose at least one photo"));
    }
    if refused.is_empty() {
        let Asked { new, known } = asked;
        let to = format!("/events/{id}/upload?new={new}&known={known}");
        return Ok(Redirect::to(&to).into_response());
    }
    let said = html! {
        div.notice.bad role="alert" {
            p { (asked.new + asked.known) " photos were uploaded, and " (refused.len()) " were not:" }
            ul { @for (name, why) in &refused { li { b { (name) } ": " (why) } } }
        }
    };
    let page = render(service, browser, id, said).await?;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Ok((status, page).into_response())
}

/// Tells the script whether the event has a file.
pub(super) async fn show(
    State(service): State<Service>,
    browser: Browser,
    Path((event, name)): Path<(EventId, String)>,
) -> Result<axum::Json<File>, Problem> {
    File::find(&service, &browser.caller, event, &name).await.map(axum::Json)
}

/// Takes one file from the script.
pub(super) async fn put(
    State(service): State<Service>,
    browser: Browser,
    Path((event, name)): Path<(EventId, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // A page of another site can set no such header.
    let key = headers.get("x-form-key").and_then(|key| key.to_str().ok());
    if key != Some(access::form_key(&browser.session).as_str()) {
        return Err(Problem::forbidden("the form belongs to another session: load the page again"));
    }
    let stored = receive_body(&service, &browser.caller, event, &name, &headers, body).await?;
    Ok(File::answered(stored).into_response())
}
