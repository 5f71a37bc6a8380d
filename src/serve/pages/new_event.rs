//! The form that creates an event.

use axum::{extract::State, response::Redirect};
use maud::html;
use serde::Deserialize;

use super::{Form, Page, layout};
use crate::{
    commands::{MAY_CREATE_EVENTS, NewEvent},
    ids::OrganisationId,
    serve::{Service, authentication::Browser, problem::Problem},
};

pub(super) async fn page(browser: Browser) -> Page {
    browser.caller.must_be(MAY_CREATE_EVENTS)?;
    let about = browser.about();
    let about = about.ok_or_else(|| Problem::invalid("organisation", "choose one first"))?;
    let content = html! {
        h1 { "New event" }
        form.panel.stacked method="post" action="/events" {
            (layout::key(&browser))
            input type="hidden" name="organisation" value=(about);
            label { "Name" input name="name" required maxlength="200" autofocus
                placeholder="City Marathon 2026"; }
            label {
                input type="checkbox" name="face_search" value="yes";
                " Face search: the people on the photos agreed to it (biometric data)"
            }
            label { "Delete faces and bib numbers after so many days (empty: with the event)"
                input type="number" name="keep_findings_days" min="1" max="3650"; }
            div.row {
                button type="submit" { "Create" }
                a.button.quiet href="/events" { "Cancel" }
            }
        }
        p.faint { "It costs nothing until its photos are processed. All of this can be changed later." }
    };
    Ok(layout::page(&browser, "/events", "New event", None, content))
}

#[derive(Debug, Deserialize)]
pub(super) struct New {
    organisation: OrganisationId,
    name: String,
    face_search: Option<String>,
    #[serde(default, deserialize_with = "layout::number")]
    keep_findings_days: Option<i32>,
}

pub(super) async fn create(
    State(service): State<Service>,
    form: Form<New>,
) -> Result<Redirect, Problem> {
    let new = NewEvent {
        face_search: form.fields.face_search.is_some(),
        // The box says both.
        face_consent: form.fields.face_search.is_some(),
        keep_findings_days: form.fields.keep_findings_days,
        ..NewEvent::new(&form.fields.name, form.fields.organisation)
    };
    let event = service.commands.create_event(&form.browser.caller, &new).await?;
    Ok(Redirect::to(&format!("/events/{}", event.value.id)))
}
