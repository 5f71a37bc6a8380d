//! Holds: the form that places one, and the page that lifts one.

use axum::{extract::State, response::Redirect};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, confirm, layout};
use crate::{
    catalog::events,
    commands::{MAY_HOLD, NewHold},
    ids::{EventId, HoldId, Operation},
    queue::{
        holds,
        status::{self, Queue},
    },
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

/// The form that holds a queue. `back` is the address to return to.
pub(super) fn form(queue: &Queue, browser: &Browser, back: &str) -> Markup {
    html! {
        details.add {
            summary.button.quiet aria-label={ "Hold " (queue.event_name) ", " (queue.operation) } {
                "Hold"
            }
            form method="post" action={ "/events/" (queue.event) "/hold" } {
                (layout::key(browser))
                input type="hidden" name="operation" value=(queue.operation.code());
                input type="hidden" name="back" value=(back);
                label { "Why?" input name="note" maxlength="1000" required; }
                label {
                    "For how many minutes? Leave empty to hold it until it is lifted"
                    input type="number" name="minutes" min="1" max="525600";
                }
                p.faint { "No more of its photos are claimed, even after a top-up." }
                button type="submit" { "Hold it" }
            }
        }
    }
}

/// A hold, as the form sends it.
#[derive(Debug, Deserialize)]
pub(super) struct Hold {
    operation: Operation,
    note: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    back: String,
}

/// Places a hold on a queue.
pub(super) async fn hold(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Hold>,
) -> Result<Redirect, Problem> {
    let hold = form.fields;
    let until = match hold.minutes.trim() {
        "" => None,
        minutes => {
            let minutes: i64 =
                minutes.parse().map_err(|_| Problem::invalid("minutes", "enter a number"))?;
            if !(1..=525_600).contains(&minutes) {
                return Err(Problem::invalid("minutes", "enter 1 to 525600 minutes"));
            }
            Some(Utc::now() + TimeDelta::minutes(minutes))
        }
    };
    let new = NewHold { operation: Some(hold.operation), note: hold.note, until };
    service.commands.hold(&form.browser.caller, event, &new).await?;
    Ok(Redirect::to(&layout::back_to("/queues", &hold.back, "held")))
}

/// Where to go after a hold is lifted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Lift {
    #[serde(default)]
    back: String,
}

/// Asks for confirmation of lifting a hold: what resumes, and which other holds stay.
pub(super) async fn ask_lift(
    State(service): State<Service>,
    mut browser: Browser,
    Path(hold): Path<HoldId>,
    Query(lift): Query<Lift>,
) -> Page {
    browser.caller.must_be(MAY_HOLD)?;
    let mut db = service.database.acquire().await?;
    let missing = || Problem::not_found(format!("hold {hold}"));
    let event = holds::event_of(&mut db, hold).await?.ok_or_else(missing)?;
    let found = browser.caller.must_see_event(event, events::find(&mut db, event).await?);
    let found = found.map_err(|_| missing())?;
    browser.look_at(&mut db, found.organisation).await?;
    let queues = status::of_event(&mut db, event).await?;
    let mut held = None;
    for queue in &queues {
        let holds = holds::standing(&mut db, event, Some(queue.operation)).await?;
        if holds.contains(&hold) {
            held = Some((queue, holds.len() - 1));
        }
    }
    let (queue, others) = held.ok_or_else(missing)?;
    let says = html! {
        p {
            (queue.operation) " of " strong { (queue.event_name) } " is held by "
            (queue.owner.as_deref().unwrap_or("somebody"))
            @if let Some(note) = queue.note.as_deref().filter(|note| !note.is_empty()) {
                " “" (note) "”"
            } "."
        }
        @if others > 0 {
            p.notice {
                "Other holds on this queue stay: " (others)
                ". Its photos are claimed again when no hold is left."
            }
        } @else {
            p {
                "If you lift the hold, " strong { (queue.waiting) }
                " photos resume, at one credit each. "
                "The available credits pay for " (queue.funded) " of them."
            }
        }
    };
    let question = confirm::Question {
        title: "Lift the hold?",
        says,
        yes: Some("Lift it"),
        action: &format!("/holds/{hold}/lift"),
        back: &layout::back_to("/queues", &lift.back, ""),
        here: "/queues",
    };
    Ok(question.page(&browser, &[("back", lift.back)]))
}

/// Lifts a hold.
pub(super) async fn lift(
    State(service): State<Service>,
    Path(hold): Path<HoldId>,
    form: Form<Lift>,
) -> Result<Redirect, Problem> {
    service.commands.lift_hold(&form.browser.caller, hold).await?;
    Ok(Redirect::to(&layout::back_to("/queues", &form.fields.back, "lifted")))
}
