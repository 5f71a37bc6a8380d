//! The page of an event's timeline: a picture of when its queues were stopped, and the entries.

use axum::{extract::State, response::IntoResponse};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    PageOrFile, layout,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    catalog::events,
    ids::EventId,
    queue::timeline::{self, Entry, Kind, Lane, Stop},
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

/// The width of the picture. It is stretched to the width of the page.
const WIDTH: i64 = 1000;

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(event): Path<EventId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    let mut db = service.database.acquire().await?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?)?;
    browser.look_at(&mut db, found.organisation).await?;
    let zone = browser.zone();
    let entries = timeline::list(&mut db, event, asked.after, PAGES.rows(asked.format)).await?;
    let path = format!("/events/{event}/timeline");
    let table = Table::new(View { path: &path, ..View::default() })
        .instant("Date", zone, |entry: &Entry| Some(entry.at))
        .text("Operation", |entry| {
            entry.operation.map_or_else(|| "both".to_owned(), |operation| operation.to_string())
        })
        .only_in_file("Kind", |entry| entry.kind.code().to_owned())
        .text("What happened", ToString::to_string)
        .text("Who", |entry| entry.actor.clone().unwrap_or_else(|| "System".into()));
    if asked.format == Format::Csv {
        return table.as_file(&format!("timeline-{event}"), &entries);
    }
    let (entries, next) = PAGES.of(entries, |entry| entry.id.to_string());
    // The newest page ends now, any other one with its newest entry.
    let newest = entries.first().map(|entry| entry.at);
    let until = if asked.after.is_none() { Utc::now() } else { newest.unwrap_or_else(Utc::now) };
    let lanes = timeline::lanes(&mut db, event, &entries, until).await?;
    let content = html! {
        h1 { "What happened " span.faint { (found.name) " · " (event) } }
        @if let Some(oldest) = entries.last() { (picture(&lanes, oldest.at, until, zone)) }
        (table.on_page(&entries, "Nothing has happened yet: no photo was queued.", next.as_ref()))
        p { a href={ "/events/" (event) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "What happened", None, content).into_response())
}

/// Draws the lanes, one below the other, over the same time.
fn picture(lanes: &[Lane], oldest: DateTime<Utc>, until: DateTime<Utc>, zone: &str) -> Markup {
    let instants = lanes.iter().flat_map(|lane| {
        let bands = lane.bands.iter().flat_map(|band| [band.from, band.to]);
        bands.chain(lane.marks.iter().map(|(at, _)| *at))
    });
    let (from, until) =
        instants.fold((oldest, until), |(from, until), at| (from.min(at), until.max(at)));
    let length = (until - from).num_milliseconds().max(1);
    let x = |at: DateTime<Utc>| (at - from).num_milliseconds() * WIDTH / length;
    html! {
        section aria-label="Picture" {
            @for lane in lanes {
                h2 { (lane.operation.title()) }
                svg.lane role="img" viewBox={ "0 0 " (WIDTH) " 20" } preserveAspectRatio="none" {
                    title { (summary(lane)) }
                    rect x="0" y="8" width=(WIDTH) height="4" {}
                    @for band in &lane.bands {
                        @let class = match band.stop { Stop::Paused => "paused", Stop::Held => "held" };
                        @let y = match band.stop { Stop::Paused => 2, Stop::Held => 10 };
                        rect class=(class) x=(x(band.from)) y=(y)
                            width=((x(band.to) - x(band.from)).max(2)) height="8" {}
                    }
                    @for (at, kind) in &lane.marks {
                        rect class=(mark(*kind)) x=(x(*at).min(WIDTH - 2)) y="0" width="2" height="20" {}
                    }
                }
            }
            div.row.apart.faint {
                (layout::instant(from, zone)) (layout::instant(until, zone))
            }
            div.row {
                span.key.paused { "Paused" } span.key.held { "Held" }
                span.key.mark { "Photos queued, run started, budget set" } span.key.done { "Run finished" }
            }
        }
    }
}

fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Finished | Kind::Drained => "done",
        Kind::Deleted => "held",
        Kind::Queued
        | Kind::Started
        | Kind::Paused
        | Kind::Resumed
        | Kind::Held
        | Kind::Lifted
        | Kind::Budget
        | Kind::Cancelled
        | Kind::First
        | Kind::Undone => "mark",
    }
}

/// What the lane shows, for those who do not see it.
fn summary(lane: &Lane) -> String {
    let count = |stop| lane.bands.iter().filter(|band| band.stop == stop).count();
    format!(
        "{}: paused {} times, held {} times; {} other entries",
        lane.operation.title(),
        count(Stop::Paused),
        count(Stop::Held),
        lane.marks.len()
    )
}
