//! The page of one photo: large, with what was found on it, and the ways to its neighbours.

use axum::extract::State;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Page, correct, layout,
    photos::{Labels, number, picture},
    receipts,
};
use crate::{
    catalog::{
        events,
        photos::{self, Filter, Photo, State as PhotoState},
    },
    commands::MAY_CORRECT,
    ids::{Operation, PhotoId},
    ledger::credits::Credits,
    queue::failures,
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        reads::event_of_photo,
    },
};

/// Where the page leads back, as the address says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    back: String,
}

/// The address of the page. `back` is the event's page with its filters; it may be empty.
pub(super) fn address(photo: PhotoId, back: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if back.is_empty() {
        return format!("/photos/{photo}");
    }
    format!("/photos/{photo}?{}", query.append_pair("back", back).finish())
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<PhotoId>,
    Query(shown): Query<Shown>,
) -> Page {
    let mut db = service.database.acquire().await?;
    let event = event_of_photo(&mut db, &browser.caller, id).await?;
    let missing = || Problem::not_found(format!("photo {id}"));
    let of = events::find(&mut db, event).await?.ok_or_else(missing)?;
    browser.look_at(&mut db, of.organisation).await?;
    let filter = Filter { photo: Some(id), most: 1, ..Filter::default() };
    let photo = photos::list(&mut db, event, filter).await?.pop().ok_or_else(missing)?;
    let beside = photos::beside(&mut db, event, &photo.key).await?;
    drop(db);
    let back = layout::back_to(&format!("/events/{event}"), &shown.back, "");
    let name = photo.key.rsplit('/').next().unwrap_or(&photo.key);
    let content = html! {
        h1 { (name) }
        p { a href={ (back) "#photo-" (id) } { (of.name) } " · " span.faint { (photo.key) } }
        nav.row aria-label="Photos" {
            @for (one, way, rel) in
                [(beside.before, "Previous photo", "prev"), (beside.after, "Next photo", "next")]
            {
                @if let Some(one) = one { a.button.quiet rel=(rel) href=(address(one, &back)) { (way) } }
            }
        }
        div.large {
            div { (pictures(&photo)) }
            div.panel { (facts(&photo, &browser, &back)) }
        }
    };
    Ok(layout::page(&browser, "/events", name, None, content))
}

/// The photo; if it must be turned, as it was and as it is turned.
fn pictures(photo: &Photo) -> Markup {
    html! {
        @match photo.turn {
            Some(turn) if turn != 0 => {
                figure { (picture(photo, turn, Labels::Shown)) figcaption { "After: turned by " (turn) "°" } }
                figure.before { (picture(photo, 0, Labels::None)) figcaption { "Before: as the file is" } }
            },
            Some(_) | None => figure { (picture(photo, 0, Labels::Shown)) },
        }
    }
}

fn facts(photo: &Photo, browser: &Browser, back: &str) -> Markup {
    let role = browser.caller.role;
    let undecided = photo.rotation == Some(PhotoState::Undecided) && !photo.corrected.0.turn;
    html! {
        h2 { "What was found" }
        dl {
            dt { "Bib numbers" }
            dd { @if photo.bibs.0.is_empty() { "none" }
                @for bib in &photo.bibs.0 { (number(bib)) " " } }
            dt { "Faces" } dd { (photo.faces.0.len()) }
            dt { "Turn" }
            dd {
                @match photo.turn {
                    Some(0) => "upright as it is",
                    Some(turn) => { (turn) "° clockwise" },
                    None if undecided => "AI Rotation could not tell",
                    None => "not looked at",
                }
                @if photo.corrected.0.turn { ", says a person" }
            }
            @if let (Some(width), Some(height)) = (photo.width, photo.height) {
                dt { "Size" }
                dd { (Credits(width.into())) " × " (Credits(height.into())) " pixels" }
            }
        }
        @if photo.may_be_sideways() {
            p.notice { "Nothing was found. Does the photo lie on its side? Then run AI Rotation first, or say how to turn it." }
        }
        @if undecided { p.notice { "Say which way is up: then its numbers can be read." } }
        h2 { "What was done" }
        dl {
            (state(Operation::AiRotation, photo.rotation, photo.rotation_reason.as_deref()))
            (state(Operation::PhotoProcessing, photo.processing, photo.processing_reason.as_deref()))
        }
        @if let Some(key) = &photo.upright_key { p.faint { "The turned copy: " code { (key) } } }
        div.row {
            @if MAY_CORRECT.contains(&role) {
                a.button.quiet href=(correct::address(photo.id, back)) { "Correct" }
            }
            @if receipts::MAY_READ.contains(&role) {
                a.button.quiet href={ "/receipts/" (photo.id) } { "Receipt" }
            }
            a.button.quiet href={ "/photos/" (photo.id) "/original" } { "The whole photo" }
        }
    }
}

fn state(operation: Operation, state: Option<PhotoState>, reason: Option<&str>) -> Markup {
    html! {
        dt { (operation.name()) }
        dd {
            @match state {
                Some(state) => (state.name_for(operation)),
                None => "not queued",
            }
            @if let Some(reason) = reason.filter(|_| state == Some(PhotoState::Failed)) {
                ": " (failures::meaning(reason))
            }
        }
    }
}
