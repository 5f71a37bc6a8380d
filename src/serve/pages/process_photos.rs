//! *Process Photos* and *AI Rotation*: the form, the funding plan that asks for confirmation, and
//! the enqueue.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, confirm};
use crate::{
    catalog::events,
    commands::{Enqueue, FundingPlan, MAY_ENQUEUE, OnInsufficient, Payloads, Which},
    ids::{EventId, Operation, Operations},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

/// The form that starts a run. `empty` means that the event has no photos yet, so that only the
/// store can have some.
pub(super) fn form(event: EventId, operation: Operation, name: &str, empty: bool) -> Markup {
    html! {
        details.add {
            summary.button { (name) }
            form method="get" action={ "/events/" (event) "/run" } {
                @match operation {
                    Operation::AiRotation => {
                        input type="hidden" name="operation" value=(operation.code());
                    }
                    Operation::PhotoProcessing => label { "Look at the photos"
                        select name="operation" {
                            option value=(operation.code()) { "as the photos are" }
                            option value=(Operations::Both.code()) {
                                "after AI Rotation (two credits a photo)"
                            }
                        }
                    }
                }
                label {
                    input type="radio" name="what" value="all" checked[!empty];
                    " all photos of the event"
                }
                label {
                    input type="radio" name="what" value="prefix" checked[empty];
                    " new photos of the store:"
                }
                label { "below this directory" input name="prefix" placeholder="2026/marathon/"; }
                p.row {
                    button type="submit" { "Show the cost" }
                    a href={ "/events/" (event) "/browse?operation=" (operation.code()) } {
                        "Browse the store"
                    }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    operation: Operations,
    #[serde(default)]
    what: String,
    #[serde(default)]
    prefix: String,
}

impl Asked {
    /// Enqueues, or plans. A prefix that is filled in wins over the choice "all photos".
    async fn enqueue(
        &self,
        service: &Service,
        browser: &Browser,
        event: EventId,
        dry_run: bool,
    ) -> Result<FundingPlan, Problem> {
        let prefix = self.prefix.trim();
        if self.what == "prefix" && prefix.is_empty() {
            let says =
                "enter the directory of the store with the new photos, such as 2026/marathon/";
            return Err(Problem::invalid("prefix", says));
        }
        let photos =
            if prefix.is_empty() { Which::All } else { Which::Below(prefix, &service.store) };
        let on_insufficient = OnInsufficient::Wait;
        let (operation, payloads) = (self.operation, Payloads::default());
        let priority = crate::queue::enqueue::Priority::Normal;
        let enqueue = Enqueue { operation, photos, payloads, dry_run, on_insufficient, priority };
        Ok(service.commands.enqueue(&browser.caller, event, &enqueue).await?)
    }
}

/// Shows the funding plan, and asks for confirmation.
pub(super) async fn ask(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(asked): Query<Asked>,
) -> Page {
    browser.caller.must_be(MAY_ENQUEUE)?;
    let event = {
        let mut db = service.database.acquire().await?;
        let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
        browser.look_at(&mut db, event.organisation).await?;
        event
    };
    let planned = asked.enqueue(&service, &browser, id, true).await?;
    let says = html! {
        p { (asked.operation) " of " strong { (event.name) } ", "
            @if asked.prefix.trim().is_empty() { "all of its photos" }
            @else { "photos below " code { (asked.prefix.trim()) } } ":" }
        (plan(&planned, asked.operation, &browser))
    };
    let back = format!("/events/{id}");
    let question = if planned.queued == 0 {
        let title = "No new photos to queue";
        confirm::Question { title, says, yes: None, action: "", back: &back, here: "/events" }
    } else {
        let action = format!("{back}/run");
        let title = if asked.operation == Operations::Both {
            format!("Queue photos for both operations ({} credits)?", planned.needed)
        } else {
            format!("Queue {} photos for {}?", planned.queued, asked.operation)
        };
        let question = confirm::Question {
            title: &title,
            says,
            yes: Some("Queue them"),
            action: &action,
            back: &back,
            here: "/events",
        };
        let fields = [
            ("operation", asked.operation.code().to_owned()),
            ("what", asked.what),
            ("prefix", asked.prefix),
        ];
        return Ok(question.page(&browser, &fields));
    };
    Ok(question.page(&browser, &[]))
}

pub(super) async fn run(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Asked>,
) -> Result<Redirect, Problem> {
    let done = form.fields.enqueue(&service, &form.browser, event, false).await?;
    let word = if form.fields.operation == Operations::Both { "queued_both" } else { "queued" };
    Ok(Redirect::to(&format!("/events/{event}?said={word}.{}", done.queued)))
}

/// What queueing photos would need.
pub(super) fn plan(planned: &FundingPlan, operation: Operations, browser: &Browser) -> Markup {
    let is_both = operation == Operations::Both;
    let (skipped, waits) = (planned.skipped, planned.queued - planned.will_finish);
    let photos = if is_both { "photos, counted for each operation," } else { "photos" };
    let before = [
        ("Waiting or in progress already", skipped.already_queued),
        ("Undecided before: AI Rotation could not tell which way is up", skipped.undecided_before),
        ("Failed before: retry them on the event's page", skipped.failed_before),
        ("Skipped before", skipped.skipped_before),
        ("Listed twice", skipped.repeated),
    ];
    html! {
        dl {
            dt { "Photos" } dd { (planned.photos) }
            dt { "New" @if is_both { ", for each operation" } } dd { (planned.queued - planned.changed) }
            @if planned.following > 0 { dt { "Of these, after their AI Rotation" } dd { (planned.following) } }
            @if planned.changed > 0 { dt { "Changed since they were processed" } dd { (planned.changed) } }
            dt { "Processed and paid already" } dd { (planned.already_paid) }
            @for (name, count) in before.iter().filter(|(_, count)| *count > 0) {
                dt { (name) } dd { (count) }
            }
            dt { "Credits needed" } dd { (planned.needed) }
            dt { "Credits available" } dd { (planned.available) }
        }
        @if planned.photos == 0 {
            p.notice {
                "No photos were found. Enter the directory of the store that has them, "
                "or let the upload pipeline queue them."
            }
        } @else if planned.queued == 0 {
            p.notice { "None of the photos is new: nothing would be queued, and nothing charged." }
        } @else if planned.over_cap > 0 && waits > 0 {
            p.notice {
                "The credits are enough for " (planned.will_finish) " " (photos) " and " (waits)
                " will wait. The budget of this event has none for " (planned.over_cap)
                " of its waiting photos: raise its limit first. More credits alone do not help these. "
                @if let Some(about) = browser.about() {
                    a href={ "/spending?organisation=" (about) } { "Change the budget" }
                }
            }
        } @else if planned.shortfall.0 > 0 {
            p.notice {
                "The credits are enough for " (planned.will_finish) " " (photos) " and " (waits)
                " will wait. Add " (planned.shortfall)
                " credits to process everything that waits. "
                @if let Some(about) = browser.about() {
                    a href={ "/credits?organisation=" (about) } { "Add credits" }
                }
            }
        } @else if planned.will_finish < planned.funded {
            p.notice {
                "The event is held: " (planned.queued - planned.will_finish) " photos will wait until the hold ends."
            }
        } @else if planned.will_finish < planned.queued {
            p.notice {
                "The budgets of this event and of others leave credits for " (planned.will_finish)
                " " (photos) " and " (waits) " will wait."
            }
        } @else { p { "The credits are enough for all of them." } }
    }
}
