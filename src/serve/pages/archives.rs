//! The page of archives for those who run photogate; what other pages say of archived events, and how
//! staff restore one.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::TimeDelta;
use indicatif::HumanBytes;
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, PageOrFile, layout,
    login::Nothing,
    table::Table,
    table_view::{Format, Pages, View},
};
use crate::{
    access::Role,
    catalog::archive::{self, Archive, State as ArchiveState, Which},
    commands::MAY_ARCHIVE,
    ids::{ArchiveId, EventId},
    ledger::credits::Credits,
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default, deserialize_with = "layout::number")]
    after: Option<ArchiveId>,
    #[serde(default)]
    format: Format,
}

const PAGES: Pages = Pages(50);

/// The list of archives.
pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    browser.caller.must_be(&[Role::Operator, Role::Staff])?;
    browser.caller.must_run_photogate()?;
    let which = Which { organisation: browser.about(), below: asked.after, event: None };
    let mut db = service.database.acquire().await?;
    let found = archive::list(&mut db, which, PAGES.rows(asked.format)).await?;
    let table = table(&browser);
    if asked.format == Format::Csv {
        return table.as_file("archives", &found);
    }
    let totals = archive::totals(&mut db, which.organisation).await?;
    let (found, next) = PAGES.of(found, |one| one.id.to_string());
    let content = html! {
        h1 { "Archives" }
        p.faint {
            "What was found on the photos of old events is packed into the photo store, and deleted from "
            "the database. What was paid stays. "
            @match service.config.archive_after_months {
                0 => {
                    "Nothing is archived by itself, because the setting " code { "archive_after_months" }
                    " is 0: " code { "photogate archive event …" } " archives one event."
                },
                months => {
                    "Each day, events are archived in which nothing has moved for " (months) " months: "
                    code { "photogate archive due --list" } " says which come next."
                },
            }
            @if service.config.archive_key.is_none() {
                " They are not signed, because " code { "PHOTOGATE_ARCHIVE_KEY" } " is not set."
            }
        }
        div.strip {
            div { "Archived events" b { (Credits(totals.events)) } }
            div { "Photos" b { (Credits(totals.photos)) } }
            div { "In the store" b { (size(totals.bytes)) } }
            div { "Damaged archives" b { (Credits(totals.damaged)) } }
        }
        (table.on_page(&found, "No event was archived.", next.as_ref()))
    };
    Ok(layout::page(&browser, "/archives", "Archives", None, content).into_response())
}

fn table(browser: &Browser) -> Table<'_, Archive> {
    let zone = browser.zone();
    let view = View { path: "/archives", filters: vec![browser.filter()], sort: "" };
    Table::new(view)
        .rows_are(|one: &Archive| format!("archive-{}", one.id))
        .unless(browser.about().is_some(), "Organisation", |one| one.organisation_name.clone())
        .column(
            "Event",
            |one| html! { a href={ "/events/" (one.event) } { (one.event_name) } },
            |one| one.event.to_string(),
        )
        .column("State", |one| html! { (state(one)) }, |one| one.state.name().into())
        .number("Photos", |one| one.photos)
        .figure("Size", |one| html! { (size(one.bytes)) }, |one| one.bytes.to_string())
        .moment("Packed", zone, |one| one.archived_at)
        .column(
            "Verified",
            move |one| {
                html! {
                    @match one.verified_at {
                        Some(at) => (layout::moment(at, zone)),
                        None => "never",
                    }
                    @if let Some(damage) = &one.damage { div.bad.words { (damage) } }
                }
            },
            |one| one.verified_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
        )
        .only_in_file("Damage", |one| one.damage.clone().unwrap_or_default())
        .only_in_file("Trouble", |one| one.trouble.clone().unwrap_or_default())
        .tool("What comes next", move |one| comes_next(one, zone))
}

fn size(bytes: i64) -> String {
    HumanBytes(bytes.unsigned_abs()).to_string()
}

fn state(one: &Archive) -> &'static str {
    match one.state {
        ArchiveState::Deleting | ArchiveState::Archived | ArchiveState::Restoring
            if one.damage.is_some() =>
        {
            "Damaged"
        }
        ArchiveState::Packing => "Packing",
        ArchiveState::Deleting => "Packed",
        ArchiveState::Archived => "Archived",
        ArchiveState::Restoring => "Restoring",
        ArchiveState::Restored => "Restored",
        ArchiveState::Stopped => "Stopped",
        ArchiveState::GivingUp | ArchiveState::GivenUp => "Given up",
    }
}

/// Days for which the files of a restored archive are kept (restore.sql).
const KEPT: TimeDelta = TimeDelta::days(30);

/// What happens next by itself, or what somebody has to do.
fn comes_next(one: &Archive, zone: &str) -> Markup {
    let is_damaged = one.damage.is_some();
    html! {
        div.words {
            @match one.state {
                ArchiveState::Packing => "Its rows are written into the store.",
                ArchiveState::Deleting => "Its rows are deleted from the database.",
                ArchiveState::Archived if is_damaged => (ways_out(one)),
                ArchiveState::Archived => { "Nothing, until it is restored." },
                ArchiveState::Restoring if is_damaged => (ways_out(one)),
                ArchiveState::Restoring => "Its rows are written into the database.",
                ArchiveState::Restored => { @match (one.files_gone_at, one.ended_at) {
                    (None, Some(at)) => { "Its files are deleted " (layout::moment(at + KEPT, zone)) "." },
                    _ => "Nothing: its files are deleted.",
                } },
                ArchiveState::Stopped => "Nothing: people go on with the event.",
                ArchiveState::GivingUp => "What is left of it is deleted.",
                ArchiveState::GivenUp => { "Nothing: what its photos had is lost." },
            }
            @if let Some(trouble) = one.trouble.as_ref().filter(|_| one.state.is_on_its_way()) {
                div.bad { "It waits: " (trouble) }
            }
        }
    }
}

/// What to do with a damaged archive.
fn ways_out(one: &Archive) -> Markup {
    html! {
        "Put its files back from a backup of the store, then "
        code { "photogate archive verify " (one.event) }
        ". If there is none: "
        code { "photogate archive give-up " (one.event) }
    }
}

/// Says that an event is archived, what that means, and to those who may restore it, how.
pub(super) fn notice(archive: &Archive, browser: &Browser) -> Markup {
    let at = layout::moment(archive.archived_at.unwrap_or(archive.began_at), browser.zone());
    let may_restore = MAY_ARCHIVE.contains(&browser.caller.role);
    html! {
        div.notice id="archived" {
            @match archive.state {
                ArchiveState::Packing => p {
                    strong { "This event is being archived since " (at) ". " }
                    "Nothing of it can be queued or changed."
                },
                ArchiveState::Restoring => p {
                    strong { "This event was archived on " (at) ", and is being restored. " }
                    @if archive.damage.is_none() && archive.trouble.is_none() {
                        "Its photos are here again in some minutes."
                    } @else {
                        "That takes longer: those who run photogate see why."
                    }
                    @if let Some(trouble) = archive.trouble.as_ref().filter(|_| may_restore) {
                        " It could not go on: " (trouble) "."
                    }
                },
                ArchiveState::Deleting | ArchiveState::Archived => p {
                    strong { "This event was archived on " (at) ". Restore it to see its photos. " }
                    "They are not searched, and nothing of it can be queued or changed. Receipts are "
                    "read from the archive."
                    @if !may_restore { " Ask whoever runs photogate to restore it." }
                },
                ArchiveState::GivingUp | ArchiveState::GivenUp => p {
                    strong { "The details of this event's photos were lost. " }
                    @if let (Some(by), Some(at)) = (&archive.given_up_by, archive.given_up_at) {
                        (by) " gave its archive up on " (layout::moment(at, browser.zone())) ". "
                    }
                    "Nothing can be searched or queued, and there are no receipts. What was paid stays in "
                    "the history, in statements and in the ledger."
                    @if let Some(why) = archive.given_up_why.as_ref().filter(|_| may_restore) {
                        " Why: " (why)
                    }
                },
                ArchiveState::Restored | ArchiveState::Stopped => {},
            }
            @if may_restore && may_begin(archive.state) {
                form.row method="post" action={ "/events/" (archive.event) "/restore" } {
                    (layout::key(browser))
                    button.quiet type="submit" { "Restore" }
                    span.faint { "or " code { "photogate archive restore " (archive.event) } }
                }
            }
        }
    }
}

/// Whether a restore can begin.
fn may_begin(state: ArchiveState) -> bool {
    match state {
        ArchiveState::Packing | ArchiveState::Deleting | ArchiveState::Archived => true,
        ArchiveState::Restoring
        | ArchiveState::Restored
        | ArchiveState::Stopped
        | ArchiveState::GivingUp
        | ArchiveState::GivenUp => false,
    }
}

/// Begins to restore an event. The service does the steps, within a minute.
pub(super) async fn restore(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    service.commands.restore_event(&form.browser.caller, event).await?;
    Ok(Redirect::to(&format!("/events/{event}")))
}
