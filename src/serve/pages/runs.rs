//! Runs that wait in an event, each with its ways: cancel, go first; and what can be undone.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, layout, login::Nothing};
use crate::{
    commands::{MAY_RETRY, Undo},
    ids::{EventId, RunId, UndoId},
    ledger::credits::Credits,
    queue::{
        runs::{self, Run},
        undo::{Act, Open},
    },
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

/// What was done last and can be taken back, each with a button.
pub(super) fn undoable(event: EventId, open: &[Open], browser: &Browser, zone: &str) -> Markup {
    html! {
        @for one in open.iter().take(3) {
            form.notice method="post" action={ "/events/" (event) "/undo" } {
                (layout::key(browser))
                input type="hidden" name="undo" value=(one.id);
                (sentence(one)) " until " (layout::instant(one.until, zone)) ". "
                button.quiet type="submit" { "Undo" }
            }
        }
    }
}

/// What was done, by whom, up to "can be undone".
fn sentence(one: &Open) -> Markup {
    let photos = Credits(one.photos.unwrap_or_default());
    let queue = one.operation.map_or_else(|| "both operations".to_owned(), |one| one.to_string());
    let run = one.runs.first().map_or_else(String::new, ToString::to_string);
    html! {
        @match one.act {
            Act::Queue => { (photos) " photos were queued for " (queue) },
            Act::Retry => { (photos) " photos were queued again for " (queue) },
            Act::Skip => { (photos) " photos were skipped" },
            Act::Restore => { (photos) " photos were restored" },
            Act::Cancel => { "Run " (run) " was cancelled (" (photos) " photos)" },
            Act::First => { "Run " (run) " goes first (" (photos) " photos)" },
            Act::Hold => { (queue) " was held" },
            Act::Lift => { "The hold of " (queue) " was lifted" },
        }
        " by " (one.actor) ". This can be undone"
    }
}

/// The runs that wait.
pub(super) fn waiting(found: &[Run], browser: &Browser, zone: &str) -> Markup {
    let may = MAY_RETRY.contains(&browser.caller.role);
    html! {
        @if !found.is_empty() { details {
            summary { "Runs that wait" }
            div.panel {
                table.cards-on-phone {
                    thead { tr {
                        th { "Run" } th { "Operation" } th { "Queued" } th { "By" }
                        th.number { "Waiting" } th { span.hidden { "Actions" } }
                    } }
                    tbody { @for run in found { tr {
                        td data-label="Run" { (run.id) }
                        td data-label="Operation" { (run.operation) }
                        td data-label="Queued" { (layout::instant(run.at, zone)) }
                        td data-label="By" { (run.actor) }
                        td.number data-label="Waiting" { (Credits(run.waiting)) }
                        td data-label="Actions" { @if may { (ways(run, browser)) } }
                    } } }
                }
                p.faint {
                    "Cancelled photos are skipped, and cost nothing; photos in progress are finished. "
                    "A run that goes first is claimed before the others of this event."
                }
            }
        } }
    }
}

fn ways(run: &Run, browser: &Browser) -> Markup {
    html! {
        div.row {
            @for (way, name) in [("first", "Go first"), ("cancel", "Cancel")] {
                form method="post" action={ "/runs/" (run.id) "/" (way) } {
                    (layout::key(browser))
                    button.quiet type="submit" aria-label={ (name) ", run " (run.id) } { (name) }
                }
            }
        }
    }
}

pub(super) async fn cancel(
    State(service): State<Service>,
    Path(run): Path<RunId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    let done = service.commands.cancel_run(&form.browser.caller, run).await?;
    back(&service, run, &format!("cancelled.{}", done.cancelled)).await
}

pub(super) async fn first(
    State(service): State<Service>,
    Path(run): Path<RunId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    let done = service.commands.put_run_first(&form.browser.caller, run).await?;
    back(&service, run, &format!("first.{}", done.moved)).await
}

/// Back to the event of a run.
async fn back(service: &Service, run: RunId, word: &str) -> Result<Redirect, Problem> {
    let found = runs::find(&mut *service.database.acquire().await?, run).await?;
    let event = found.ok_or_else(|| Problem::not_found(format!("run {run}")))?.event;
    Ok(Redirect::to(&layout::back_to(&format!("/events/{event}"), "", word)))
}

/// What to take back.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    undo: UndoId,
}

pub(super) async fn undo(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Which>,
) -> Result<Redirect, Problem> {
    let asked = Undo { undo: vec![form.fields.undo] };
    service.commands.undo(&form.browser.caller, &asked).await?;
    Ok(Redirect::to(&layout::back_to(&format!("/events/{event}"), "", "undone")))
}
