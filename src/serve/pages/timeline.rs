//! The page of an event's timeline: a picture of when its queues were stopped, and the entries.

use axum::{extract::State, response::IntoResponse};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    PageOrFile, journey, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::{archive, events},
    ids::EventId,
    queue::{
        failures::{self, Group},
        timeline::{self, COLUMNS, Entry},
    },
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    after: Option<i64>,
    #[serde(default)]
    format: Format,
}

const PAGES: Pages = Pages(100);

/// As in the API.
pub(super) const MAY_LOOK: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let zone = browser.zone();
    let entries = timeline::list(&mut db, event, asked.after, PAGES.rows(asked.format)).await?;
    let path = format!("/events/{event}/timeline");
    let view = || View { path: &path, ..View::default() };
    if asked.format == Format::Csv {
        let file = COLUMNS
            .iter()
            .fold(Table::new(view()), |file, (name, cell)| file.only_in_file(name, cell));
        return file.as_file(&format!("timeline-{event}"), &entries);
    }
    let table = Table::new(view())
        .instant("Date", zone, |entry: &Entry| Some(entry.at))
        .text("Operation", |entry| {
            entry.operation.map_or_else(|| "both".to_owned(), |operation| operation.to_string())
        })
        .text("What happened", ToString::to_string)
        .text("Who", |entry| entry.actor.clone().unwrap_or_else(|| "System".into()));
    let (entries, next) = PAGES.of(entries, |entry| entry.id.to_string());
    // The newest page ends now, any other one with its newest entry.
    let newest = entries.first().map(|entry| entry.at);
    let until = if asked.after.is_none() { Utc::now() } else { newest.unwrap_or_else(Utc::now) };
    let failures = failures(&mut db, event).await?;
    let drawn = draw(&mut db, event, &entries, &failures, until, zone).await?;
    let content = html! {
        h1 { "What happened " span.faint { (found.name) " · Event " (event) } }
        (drawn)
        (table.on_page(&entries, "Nothing has happened yet: no photo was queued.", next.as_ref()))
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "What happened", None, content).into_response())
}

/// The failures of an event, as far as the database has them: what an archive has is not drawn.
pub(super) async fn failures(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Group>> {
    if archive::away(db, event).await?.is_some() {
        return Ok(Vec::new());
    }
    let which = failures::Which { event: Some(event), ..failures::Which::default() };
    failures::groups(db, which).await
}

/// The picture of these entries, the newest first. `failures` are those of the whole event: what is
/// older than the entries is left out.
pub(super) async fn draw(
    db: &mut PgConnection,
    event: EventId,
    entries: &[Entry],
    failures: &[Group],
    until: DateTime<Utc>,
    zone: &str,
) -> sqlx::Result<Markup> {
    let Some(oldest) = entries.last() else { return Ok(html! {}) };
    let lanes = timeline::lanes(db, event, entries, until).await?;
    let failures: Vec<Group> = failures
        .iter()
        .filter(|group| (oldest.at..=until).contains(&group.last_at))
        .cloned()
        .collect();
    Ok(journey::picture(&lanes, &failures, (oldest.at, until), zone))
}
