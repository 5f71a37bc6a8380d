//! The list of events, and the form to create one.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use maud::html;
use serde::Deserialize;

use super::{
    Form, PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    catalog::events::{self, Event},
    commands::{MAY_CREATE_EVENTS, NewEvent},
    ids::{EventId, OrganisationId},
    serve::{Service, authentication::Browser, input::Query, problem::Problem},
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    name: String,
    after: Option<EventId>,
    #[serde(default)]
    format: Format,
}

/// Events on one page.
const PAGES: Pages = Pages(50);

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    let mut db = service.database.acquire().await?;
    let (about, name) = (browser.about(), asked.name.trim());
    let events = events::page(&mut db, about, name, asked.after, PAGES.rows(asked.format)).await?;
    let filters = vec![browser.filter(), ("name", asked.name.clone())];
    let on = |setting: bool| if setting { "on" } else { "off" }.to_owned();
    let table = Table::new(View { path: "/events", filters, sort: "" })
        .column(
            "Event",
            |event: &Event| html! { a href={ "/events/" (event.id) } { (event.name) } },
            |event| event.name.clone(),
        )
        .text("ID", |event| event.id.to_string())
        .unless(about.is_some(), "Organisation", |event| event.organisation.to_string())
        .text("Bib search", move |event| on(event.bib_search))
        .text("Face search", move |event| on(event.face_search));
    if asked.format == Format::Csv {
        return table.as_file("events", &events);
    }
    let (events, next) = PAGES.of(events, |event| event.id.to_string());
    let (organisation, id) = browser.filter();
    let empty = match (name, about) {
        ("", Some(_)) => "No events yet. Create one here, or let the upload pipeline do it.",
        ("", None) => "No events yet. Choose an organisation to create one.",
        _ => "No event has this name or ID.",
    };
    let content = html! {
        h1 { "Events" }
        form.filters method="get" action="/events" {
            input type="hidden" name=(organisation) value=(id);
            label { "Name or ID" input type="search" name="name" value=(asked.name); }
            button.quiet type="submit" { "Search" }
        }
        (table.on_page(&events, empty, next.as_ref()))
        @if let (Some(about), true) = (about, MAY_CREATE_EVENTS.contains(&browser.caller.role)) {
            h2 { "New event" }
            form.filters method="post" action="/events" {
                (layout::key(&browser))
                input type="hidden" name="organisation" value=(about);
                label { "Name" input name="name" required maxlength="200"; }
                label {
                    input type="checkbox" name="face_search" value="yes";
                    " Face search: the people on the photos agreed to it (biometric data)"
                }
                label { "Delete faces and bib numbers after so many days (empty: with the event)"
                    input type="number" name="keep_findings_days" min="1" max="3650"; }
                button type="submit" { "Create" }
            }
        }
    };
    Ok(layout::page(&browser, "/events", "Events", None, content).into_response())
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
