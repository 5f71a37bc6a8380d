//! Finds photos of an event by a selfie: the form, and the page with the photos that it finds.

use axum::extract::{Multipart, State};
use maud::{Markup, html};

use super::{Page, erase, layout, photos::card};
use crate::{
    access,
    catalog::{
        events::{self, Event},
        photos::{self, Filter},
        search::SAME_PERSON,
    },
    commands::{MAY_CORRECT, MAY_SEARCH_FACES},
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path, problem::Problem, reads::by_selfie},
};

/// The form, for callers who may change the event, if its face search is on.
pub(super) fn form(browser: &Browser, event: &Event) -> Markup {
    html! {
        @if event.face_search && MAY_SEARCH_FACES.contains(&browser.caller.role) {
            form.filters method="post" enctype="multipart/form-data"
                action={ "/events/" (event.id) "/selfie" } {
                (layout::key(browser))
                label {
                    "Find by a selfie (it is not kept)"
                    input type="file" name="selfie" accept="image/*" required;
                }
                button.quiet type="submit" { "Find" }
            }
        }
    }
}

/// Photos on the result page of a search.
const SHOWN: usize = 48;

/// Shows the photos of the event that have the face of the selfie.
pub(super) async fn find(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    mut parts: Multipart,
) -> Page {
    browser.caller.must_be(MAY_SEARCH_FACES)?;
    let unreadable =
        |error: axum::extract::multipart::MultipartError| Problem::invalid("", error.body_text());
    let (mut key, mut photo) = (String::new(), None);
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        match part.name() {
            Some("form_key") => key = part.text().await.map_err(unreadable)?,
            Some("selfie") => photo = Some(part.bytes().await.map_err(unreadable)?),
            _ => {}
        }
    }
    if key != access::form_key(&browser.session) {
        return Err(Problem::forbidden("the form belongs to another session: load the page again"));
    }
    let photo = photo.ok_or_else(|| Problem::invalid("selfie", "choose a photo of one person"))?;
    let found = by_selfie(&service, &browser.caller, id, photo, SAME_PERSON).await?;
    let mut db = service.database.acquire().await?;
    if let Some(event) = events::find(&mut db, id).await? {
        browser.look_at(&mut db, event.organisation).await?;
    }
    let mut shown = Vec::new();
    for one in found.iter().take(SHOWN) {
        let filter = Filter { photo: Some(one.photo), most: 1, ..Filter::default() };
        shown.extend(photos::list(&mut db, id, filter).await?);
    }
    let (back, may_correct) = (format!("/events/{id}"), MAY_CORRECT.contains(&browser.caller.role));
    let content = html! {
        h1 { "Photos with this face" }
        @if found.is_empty() {
            p.notice {
                "No photo of this event shows this face. Photos that were processed before face "
                "search was switched on are not searched."
            }
        } @else {
            p {
                (found.len()) " photos found, most similar first."
                @if found.len() > SHOWN { " These are the first " (SHOWN) "." }
            }
        }
        ul.grid { @for photo in &shown { (card(photo, &back, may_correct)) } }
        @if !found.is_empty() { (erase::form_of_faces(&browser, id, &found)) }
        p { a href={ "/events/" (id) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "Found", None, content))
}
