//! What pages say of archived events, and how staff restore one.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};

use super::{Form, layout, login::Nothing};
use crate::{
    catalog::archive::{Archive, State as ArchiveState},
    commands::MAY_ARCHIVE,
    ids::EventId,
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

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
                    "Its photos are here again in some minutes."
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
