//! The photos behind a Usage or Refund row: those of its run, each with its charge and refund.

use axum::{extract::State, response::IntoResponse};
use maud::html;
use serde::Deserialize;

use super::MAY_LOOK;
use crate::{
    catalog::{archive, events},
    ids::RunId,
    ledger::history::{self, PhotoOfRun},
    queue::{failures, runs},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        pages::{
            PageOrFile, archives, layout,
            table::Table,
            table_view::{Format, Pages, View},
        },
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(in crate::serve::pages) struct Asked {
    /// The position of the last photo on the page before.
    #[serde(default, deserialize_with = "layout::number")]
    after: Option<i64>,
    #[serde(default)]
    format: Format,
}

const PAGES: Pages = Pages(200);

pub(in crate::serve::pages) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<RunId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(MAY_LOOK)?;
    let mut db = service.database.acquire().await?;
    let found = runs::find(&mut db, id).await?;
    let found = found.filter(|run| {
        browser.caller.organisation.is_none_or(|organisation| organisation == run.organisation)
    });
    let run = found.ok_or_else(|| Problem::not_found(format!("run {id}")))?;
    browser.look_at(&mut db, run.organisation).await?;
    let zone = browser.zone();
    let event = events::find(&mut db, run.event).await?;
    let after = asked.after.unwrap_or(0);
    let archive = archive::away(&mut db, run.event).await?;
    let photos = if archive.is_none() || asked.format == Format::Csv {
        history::photos_of_run(&mut db, id, after, PAGES.rows(asked.format)).await?
    } else {
        Vec::new()
    };
    let path = format!("/runs/{id}");
    let table = Table::new(View { path: &path, filters: Vec::new(), sort: "" })
        .column(
            "Photo",
            |photo: &PhotoOfRun| html! { a href={ "/receipts/" (photo.photo) } { (photo.key) } },
            |photo| photo.key.clone(),
        )
        .only_in_file("Photo ID", |photo| photo.photo.to_string())
        .text("State", |photo| photo.state.replace('_', " "))
        .instant("Charged", zone, |photo| photo.charged_at)
        .instant("Refunded", zone, |photo| photo.refunded_at)
        .column(
            "Why",
            |photo| html! { @if let Some(reason) = &photo.reason { (failures::meaning(reason)) } },
            |photo| photo.reason.clone().unwrap_or_default(),
        );
    if asked.format == Format::Csv {
        return table.as_file(&format!("run-{id}"), &photos);
    }
    let (photos, next) = PAGES.of(photos, |photo| photo.position.to_string());
    let content = html! {
        h1 { "Photos of run " (id) }
        p {
            (layout::grouped(run.queued)) " photos of "
            a href={ "/events/" (run.event) } {
                (event.map_or_else(|| format!("event {}", run.event), |event| event.name))
            }
            " were queued for " (run.operation) " by " (run.actor) ", "
            (layout::instant(run.at, zone)) "."
        }
        div.strip {
            @for (name, photos) in [
                ("Waiting", run.waiting), ("In progress", run.in_progress),
                ("Processed", run.processed), ("Refunded", run.undecided + run.duplicates + run.failed),
                ("Skipped", run.skipped),
            ] {
                div { (name) b { (layout::grouped(photos)) } }
            }
        }
        @if let Some(archive) = &archive { (archives::notice(archive, &browser)) } @else {
            (table.on_page(&photos, "The run queued no photos.", next.as_ref()))
            p.faint { "The name of a photo leads to its receipt." }
        }
    };
    Ok(layout::page(&browser, "/credits", "Photos of a run", None, content).into_response())
}
