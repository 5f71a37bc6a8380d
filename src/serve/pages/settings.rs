//! The settings of an event: what is searched for, and the start list.

use axum::{
    extract::State,
    response::{Html, IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, confirm, layout};
use crate::{
    catalog::events::{self, Event},
    commands::{EventChange, MAY_CHANGE_EVENTS},
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

/// The form, for callers who may change the event.
pub(super) fn form(browser: &Browser, event: &Event) -> Markup {
    html! {
        @if MAY_CHANGE_EVENTS.contains(&browser.caller.role) {
            details {
                summary { "Settings" }
                form.panel method="post" action={ "/events/" (event.id) "/settings" } {
                    (layout::key(browser))
                    // What was there when the page was made: only what differs from it is changed.
                    input type="hidden" name="faces_were" value=(event.face_search);
                    input type="hidden" name="days_were"
                        value=(event.keep_findings_days.unwrap_or(0));
                    p { label {
                        input type="checkbox" name="bib_search" value="yes"
                            checked[event.bib_search];
                        " read bib numbers"
                    } }
                    p { label {
                        input type="checkbox" name="face_search" value="yes"
                            checked[event.face_search];
                        " search by faces, which also settle unsure bib numbers: the people on the photos "
                        "agreed to it (biometric data; "
                        "switching it off deletes the data)"
                    } }
                    @if let (Some(by), Some(at)) = (&event.face_consent_by, event.face_consent_at) {
                        p.faint { (by) " said so, " (layout::instant(at, browser.zone())) "." }
                    }
                    p { label {
                        "Delete faces and bib numbers so many days after the last photo was "
                        "processed (empty: when the event is deleted)"
                        input type="number" name="keep_findings_days" min="1" max="3650"
                            value=[event.keep_findings_days];
                    } }
                    p { label {
                        "Start list: one bib number a line, or CSV with a column bib. "
                        "Leave empty to keep the present one"
                        textarea name="start_list" rows="4" {}
                    } }
                    button type="submit" { "Save" }
                    p.faint { "Changes apply to photos that are processed from now on. A start list also "
                        "decides the numbers of earlier photos again, without a credit." }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    bib_search: Option<String>,
    face_search: Option<String>,
    #[serde(default, deserialize_with = "layout::number")]
    keep_findings_days: Option<i32>,
    #[serde(default)]
    faces_were: bool,
    #[serde(default)]
    days_were: i32,
    #[serde(default)]
    start_list: String,
    /// The person has confirmed that face data is deleted.
    #[serde(default)]
    sure: bool,
}

pub(super) async fn save(
    State(service): State<Service>,
    Path(id): Path<EventId>,
    form: Form<Settings>,
) -> Result<Response, Problem> {
    let (mut browser, settings) = (form.browser, form.fields);
    browser.caller.must_be(MAY_CHANGE_EVENTS)?;
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    let (bibs, faces) = (settings.bib_search.is_some(), settings.face_search.is_some());
    if found.face_search && settings.faces_were && !faces && !settings.sure {
        browser.look_at(&mut db, found.organisation).await?;
        return Ok(ask_to_forget(&browser, &found, settings).into_response());
    }
    drop(db);
    let list = settings.start_list.trim();
    let change = EventChange {
        bib_search: Some(bibs),
        face_search: (faces != settings.faces_were).then_some(faces),
        // The box says both.
        face_consent: faces,
        // Left empty, there is no such day.
        keep_findings_days: Some(settings.keep_findings_days.unwrap_or(0))
            .filter(|days| *days != settings.days_were),
        // Left empty, the list stays as it is.
        start_list: (!list.is_empty()).then(|| list.as_bytes().to_vec()),
        ..EventChange::default()
    };
    service.commands.change_event(&browser.caller, id, &change).await?;
    Ok(Redirect::to(&format!("/events/{id}?said=saved")).into_response())
}

/// Asks for confirmation before face search is switched off, because its data is deleted.
fn ask_to_forget(browser: &Browser, event: &Event, settings: Settings) -> Html<String> {
    let back = format!("/events/{}", event.id);
    let question = confirm::Question {
        title: "Switch face search off?",
        says: html! {
            p {
                "The face data of all photos of " strong { (event.name) } " will be deleted now. "
                "If face search is switched on again, it covers only photos that are processed "
                "from then on."
            }
        },
        yes: Some("Switch off and delete"),
        action: &format!("{back}/settings"),
        back: &back,
        here: "/events",
    };
    let mut fields = vec![
        ("sure", "true".to_owned()),
        ("faces_were", "true".to_owned()),
        ("days_were", settings.days_were.to_string()),
        ("start_list", settings.start_list),
    ];
    fields.extend(settings.keep_findings_days.map(|days| ("keep_findings_days", days.to_string())));
    fields.extend(settings.bib_search.map(|bibs| ("bib_search", bibs)));
    question.page(browser, &fields)
}
