//! The list of events: how far each is, and what is wrong with it.

use axum::{extract::State, response::IntoResponse};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout, standing,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    commands::MAY_CREATE_EVENTS,
    ids::EventId,
    ledger::credits::Credits,
    queue::overview::{self, Overview, Which},
    serve::{Service, authentication::Browser, input::Query},
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
    let (about, name) = (browser.about(), asked.name.trim());
    let most = PAGES.rows(asked.format);
    let which = Which { organisation: about, name, below: asked.after, most };
    let events = overview::list(&mut *service.database.acquire().await?, which).await?;
    let filters = vec![browser.filter(), ("name", asked.name.clone())];
    let table = table(View { path: "/events", filters, sort: "" }, &browser);
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
        div.row.apart {
            h1 { "Events" }
            @if about.is_some() && MAY_CREATE_EVENTS.contains(&browser.caller.role) {
                a.button href=(View { path: "/events/new", ..View::default() }
                    .address(&[(organisation, &id)])) { "New event" }
            }
        }
        form.filters method="get" action="/events" {
            input type="hidden" name=(organisation) value=(id);
            label { "Name or ID" input type="search" name="name" value=(asked.name); }
            button.quiet type="submit" { "Search" }
        }
        div.events { (table.on_page(&events, empty, next.as_ref())) }
    };
    let live = layout::Live::Every(5);
    Ok(layout::page(&browser, "/events", "Events", live, content).into_response())
}

fn table<'a>(view: View<'a>, browser: &'a Browser) -> Table<'a, Overview> {
    let on = |setting: bool| if setting { "on" } else { "off" }.to_owned();
    let zone = browser.zone();
    let table = Table::new(view)
        .column(
            "Event",
            |event: &Overview| html! { a href={ "/events/" (event.id) } { (event.name) } },
            |event| event.name.clone(),
        )
        .only_in_file("ID", |event| event.id.to_string());
    let organisation = |event: &Overview| event.organisation.to_string();
    let table = if browser.about().is_some() {
        table.only_in_file("Organisation", organisation)
    } else {
        table.column("Organisation", |event| html! { (event.organisation_name) }, organisation)
    };
    table
        .only_in_file("Bib search", move |event| on(event.bib_search))
        .only_in_file("Face search", move |event| on(event.face_search))
        .column(
            "State",
            |event| standing::chip(event.state, event.done + event.left > 0),
            |event| event.state.code().into(),
        )
        .column("Progress", progress, |event| percent(event.done, event.left).to_string())
        .number("Photos", |event| event.photos)
        .figure(
            "Failed",
            |event| {
                html! {
                    @if event.failed > 0 {
                        a href={ "/failures?event=" (event.id) } { (Credits(event.failed)) }
                    } @else { "0" }
                }
            },
            |event| event.failed.to_string(),
        )
        .number("Credits used", |event| event.used)
        .moment("Created", zone, |event| Some(event.created_at))
        .moment("Last work", zone, |event| event.worked_at)
}

/// The share of photos that are done, rounded down: 100 only when all are done.
pub(super) fn percent(done: i64, left: i64) -> i64 {
    if done + left == 0 { 0 } else { 100 * done / (done + left) }
}

fn progress(event: &Overview) -> Markup {
    html! {
        @if event.done + event.left == 0 { span.faint { "—" } } @else {
            div.far {
                progress aria-label={ "Done of " (event.name) } max=(event.done + event.left)
                    value=(event.done) {}
                span { (percent(event.done, event.left)) " %" }
            }
        }
    }
}
