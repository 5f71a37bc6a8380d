//! The page on which a person corrects a photo: its bib numbers, and which way is up.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, layout,
    photos::{Labels, picture},
};
use crate::{
    catalog::{
        corrections::{self, Found},
        photos::{self, Filter, Photo},
    },
    commands::{CorrectNumbers, CorrectTurn, MAY_CORRECT},
    ids::{EventId, PhotoId},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        reads::event_of_photo,
        turning::correct_turn,
    },
};

/// The address of the page, for the card of a photo. `back` is where its forms lead.
pub(super) fn address(photo: PhotoId, back: &str) -> String {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("back", back).finish();
    format!("/photos/{photo}/correct?{query}")
}

/// Where the forms lead, as the address says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    back: String,
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<PhotoId>,
    Query(shown): Query<Shown>,
) -> Page {
    browser.caller.must_be(MAY_CORRECT)?;
    let mut db = service.database.acquire().await?;
    let event = event_of_photo(&mut db, &browser.caller, id).await?;
    if let Some(event) = crate::catalog::events::find(&mut db, event).await? {
        browser.look_at(&mut db, event.organisation).await?;
    }
    let filter = Filter { photo: Some(id), most: 1, ..Filter::default() };
    let photo = photos::list(&mut db, event, filter).await?.pop();
    let photo = photo.ok_or_else(|| Problem::not_found(format!("photo {id}")))?;
    let found = corrections::found(&mut db, id).await?;
    drop(db);
    let back = layout::back_to(&format!("/events/{event}"), &shown.back, "");
    let content = html! {
        h1 { "Correct a photo" }
        p.faint { (photo.key) }
        p { "A correction costs nothing, and no later run replaces it." }
        div.correct {
            div.photo { figure { (picture(&photo, photo.turn.unwrap_or(0), Labels::None)) } }
            div {
                (numbers(&browser, &photo, &found, &back))
                (turns(&browser, &photo, &found, &back))
                p { a href={ (back) "#photo-" (id) } { "Back to the event" } }
            }
        }
    };
    Ok(layout::page(&browser, "/events", "Correct a photo", None, content))
}

/// The form for the bib numbers.
fn numbers(browser: &Browser, photo: &Photo, found: &Found, back: &str) -> Markup {
    let shown: Vec<_> = photo.bibs.0.iter().map(|bib| bib.number.as_str()).collect();
    html! {
        section.panel {
            h2 { "Bib numbers" }
            form method="post" action={ "/photos/" (photo.id) "/numbers" } {
                (layout::key(browser))
                input type="hidden" name="back" value=(back);
                label {
                    "All numbers on the photo, with a space between them; empty if there is none"
                    input name="numbers" value=(shown.join(" ")) maxlength="2000"
                        autocomplete="off" autocapitalize="characters" spellcheck="false";
                }
                p { button type="submit" { "Save the numbers" } }
            }
            @if photo.corrected.0.numbers {
                @let was = found.numbers.as_ref().map(|numbers| match numbers.as_slice() {
                    [] => "The models had found none.".to_owned(),
                    some => format!("The models had found {}.", some.join(", ")),
                });
                (taken_back(browser, photo, "numbers", was, back))
            }
        }
    }
}

/// The turns that a person can choose: degrees clockwise, and in words.
const TURNS: [(i16, &str); 4] =
    [(0, "As it is"), (180, "Upside down"), (270, "Turned left"), (90, "Turned right")];

/// The form for the turn: the photo in all four.
fn turns(browser: &Browser, photo: &Photo, found: &Found, back: &str) -> Markup {
    html! {
        section.panel {
            h2 { "Which way is up" }
            form method="post" action={ "/photos/" (photo.id) "/turn" } {
                (layout::key(browser))
                input type="hidden" name="back" value=(back);
                fieldset.turns {
                    legend { "Choose the one that is upright" }
                    @for (turn, name) in TURNS {
                        label {
                            (picture(photo, turn, Labels::None))
                            span {
                                input type="radio" name="turn" value=(turn) required
                                    checked[photo.turn == Some(turn)];
                                " " (name)
                            }
                        }
                    }
                }
                p { button type="submit" { "Save the turn" } }
                p.faint { "An upright copy is written. The original stays as it is." }
            }
            @if photo.corrected.0.turn {
                @let was = found.turn.map(|turn| match turn {
                    None => "AI Rotation could not tell.".to_owned(),
                    Some(turn) => format!("AI Rotation had found {turn}°."),
                });
                (taken_back(browser, photo, "turn", was, back))
            }
        }
    }
}

/// The form that takes a correction back. `was`: what counts then.
fn taken_back(
    browser: &Browser,
    photo: &Photo,
    what: &str,
    was: Option<String>,
    back: &str,
) -> Markup {
    html! {
        form method="post" action={ "/photos/" (photo.id) "/" (what) "/take-back" } {
            (layout::key(browser))
            input type="hidden" name="back" value=(back);
            p {
                "A person has corrected this. " (was.unwrap_or_default()) " "
                button.quiet type="submit" { "Take the correction back" }
            }
        }
    }
}

/// The fields of the forms.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    numbers: String,
    #[serde(default, deserialize_with = "layout::number")]
    turn: Option<i16>,
    #[serde(default)]
    back: String,
}

pub(super) async fn save_numbers(
    State(service): State<Service>,
    Path(id): Path<PhotoId>,
    form: Form<Said>,
) -> Result<Redirect, Problem> {
    let between = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
    let words = form.fields.numbers.split(between).filter(|word| !word.is_empty());
    let new = CorrectNumbers { numbers: words.map(str::to_owned).collect() };
    service.commands.correct_numbers(&form.browser.caller, id, &new).await?;
    leads_back(&service, &form, id, "numbers_corrected").await
}

pub(super) async fn take_numbers_back(
    State(service): State<Service>,
    Path(id): Path<PhotoId>,
    form: Form<Said>,
) -> Result<Redirect, Problem> {
    service.commands.take_numbers_back(&form.browser.caller, id).await?;
    leads_back(&service, &form, id, "taken_back").await
}

pub(super) async fn save_turn(
    State(service): State<Service>,
    Path(id): Path<PhotoId>,
    form: Form<Said>,
) -> Result<Redirect, Problem> {
    let chosen = form.fields.turn;
    let turn =
        chosen.ok_or_else(|| Problem::invalid("turn", "choose the photo that is upright"))?;
    correct_turn(&service, &form.browser.caller, id, CorrectTurn { turn }).await?;
    leads_back(&service, &form, id, "turn_corrected").await
}

pub(super) async fn take_turn_back(
    State(service): State<Service>,
    Path(id): Path<PhotoId>,
    form: Form<Said>,
) -> Result<Redirect, Problem> {
    service.commands.take_turn_back(&form.browser.caller, id).await?;
    leads_back(&service, &form, id, "taken_back").await
}

/// Leads back to the photo on the event's page, with a word about what was done.
async fn leads_back(
    service: &Service,
    form: &Form<Said>,
    id: PhotoId,
    word: &str,
) -> Result<Redirect, Problem> {
    let mut db = service.database.acquire().await?;
    let event: EventId = event_of_photo(&mut db, &form.browser.caller, id).await?;
    let back = layout::back_to(&format!("/events/{event}"), &form.fields.back, word);
    Ok(Redirect::to(&format!("{back}#photo-{id}")))
}
