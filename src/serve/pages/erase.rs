//! Erasing one person from an event's findings: by bib number, or the faces that a selfie has found.

use axum::{
    extract::State,
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, confirm, layout};
use crate::{
    catalog::{
        away,
        erasures::FaceOf,
        events::{self, Event},
        search::{self, ByFace},
    },
    commands::{MAY_CHANGE_EVENTS, NewErasure},
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path, problem::Problem, reads::bib_number},
};

/// The form that erases a bib number, for callers who may change the event.
pub(super) fn form(browser: &Browser, event: &Event) -> Markup {
    html! {
        @if MAY_CHANGE_EVENTS.contains(&browser.caller.role) {
            details {
                summary { "Erase a person" }
                form.panel method="post" action={ "/events/" (event.id) "/erase" } {
                    (layout::key(browser))
                    label { "Bib number" input name="bib" maxlength="20" required; }
                    button.quiet type="submit" { "Continue" }
                    p.faint {
                        "To erase a face, find the person by a selfie first: the page with the "
                        "photos offers it."
                    }
                }
            }
        }
    }
}

/// The button below the photos that a selfie has found.
pub(super) fn form_of_faces(browser: &Browser, event: EventId, found: &[ByFace]) -> Markup {
    let faces: Vec<_> =
        found.iter().map(|one| FaceOf { photo: one.photo, face: one.face }).collect();
    html! {
        form method="post" action={ "/events/" (event) "/erase" } {
            (layout::key(browser))
            input type="hidden" name="faces" value=(serde_json::json!(faces));
            button.quiet type="submit" { "Erase this face from the findings" }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Person {
    #[serde(default)]
    bib: String,
    /// The faces, as JSON.
    #[serde(default)]
    faces: String,
    /// The person has confirmed it.
    #[serde(default)]
    sure: bool,
}

/// Asks first, and then erases.
pub(super) async fn erase(
    State(service): State<Service>,
    Path(id): Path<EventId>,
    form: Form<Person>,
) -> Result<Response, Problem> {
    let (mut browser, person) = (form.browser, form.fields);
    browser.caller.must_be(MAY_CHANGE_EVENTS)?;
    let bib = Some(person.bib.trim()).filter(|bib| !bib.is_empty());
    let bib = bib.map(bib_number).transpose()?;
    let faces = match person.faces.as_str() {
        "" => Vec::new(),
        text => serde_json::from_str(text).map_err(|error| Problem::invalid("faces", error))?,
    };
    let new = NewErasure { faces, bib };
    if person.sure {
        service.commands.erase_person(&browser.caller, id, &new).await?;
        return Ok(Redirect::to(&format!("/events/{id}?said=erased")).into_response());
    }
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    browser.look_at(&mut db, event.organisation).await?;
    let is_lost = away::archived(&mut db, &[id]).await?.get(&id) == Some(&true);
    let on = if is_lost {
        On::Lost
    } else if away::since(&mut db, id).await?.is_some() {
        On::Archived
    } else {
        On::Photos(match &new.bib {
            Some(bib) => search::by_bib(&mut db, id, bib, false).await?.len(),
            None => new.faces.len(),
        })
    };
    Ok(ask(&browser, &event, &new, on, person.faces).into_response())
}

/// What a person is erased from.
enum On {
    /// So many photos.
    Photos(usize),
    /// An archived event: it is restored first, and nobody knows yet on how many photos the person is.
    Archived,
    /// Nothing: the event's archive was given up. The number is still noted, for photos to come.
    Lost,
}

fn ask(browser: &Browser, event: &Event, new: &NewErasure, on: On, faces: String) -> Html<String> {
    let on = match on {
        On::Photos(photos) => html! { strong { (photos) } " photos of " (event.name) },
        On::Archived => {
            html! { "the photos of " (event.name) ". The event is archived: it is restored first" }
        }
        On::Lost => html! {
            "the photos of " (event.name) ". What was found on them was lost with the event's "
            "archive: nothing of it is left to delete"
        },
    };
    let back = format!("/events/{}", event.id);
    let question = confirm::Question {
        title: "Erase the person?",
        says: html! {
            @if let Some(bib) = &new.bib {
                p {
                    "The bib number " strong { (bib) } " is deleted from the findings of "
                    (on) ". It is not found again on photos that are processed later."
                }
            } @else {
                p {
                    "The face is deleted from the findings of " (on)
                    ". Photos that are processed later are searched anew."
                }
            }
            p.faint { "The photos themselves stay. This cannot be undone." }
        },
        yes: Some("Erase"),
        action: &format!("{back}/erase"),
        back: &back,
        here: "/events",
    };
    let bib = new.bib.clone().unwrap_or_default();
    question.page(browser, &[("bib", bib), ("faces", faces), ("sure", "true".into())])
}
