//! The receipt of a photo: everything that happened to its credit.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Page, layout, reason};
use crate::{
    access::Role,
    catalog::{archive, events},
    ids::{EventId, PhotoId},
    ledger::receipt::{Booking, Job},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        reads::event_of_photo,
    },
};

pub(super) const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// The photo's ID, or its key in the store.
    #[serde(default)]
    photo: String,
    /// The event's number; needed with a key.
    #[serde(default)]
    event: String,
}

/// The form that finds a photo by its ID or key, and leads to its receipt.
pub(super) async fn find(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    browser.caller.must_be(MAY_READ)?;
    let photo = asked.photo.trim();
    let says = match (photo, photo.parse::<PhotoId>(), asked.event.trim().parse()) {
        ("", ..) => None,
        (_, Ok(photo), _) => return Ok(Redirect::to(&format!("/receipts/{photo}")).into_response()),
        (key, Err(_), Ok(id)) => {
            let mut db = service.database.acquire().await?;
            let id = EventId(id);
            let found = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
            if let Some(photo) = events::photo(&mut db, found.id, key).await? {
                return Ok(Redirect::to(&format!("/receipts/{photo}")).into_response());
            }
            Some(format!("{} has no photo {key}.", found.name))
        }
        (_, Err(_), Err(_)) => Some(
            "This is not a photo ID. To find a photo by its key, enter the event ID too.".into(),
        ),
    };
    let content = html! {
        h1 { "Receipts" }
        @if let Some(says) = says { p.notice.bad role="alert" { (says) } }
        p.faint {
            "A receipt shows who queued a photo, when its credit was reserved, which workers had "
            "it, and whether the credit was spent or refunded."
        }
        form.filters method="get" action="/receipts" {
            label {
                "Photo ID, or key in the store"
                input name="photo" size="40" required value=(asked.photo);
            }
            label {
                "Event ID (with a key)"
                input name="event" inputmode="numeric" size="8" value=(asked.event);
            }
            button type="submit" { "Show the receipt" }
        }
    };
    Ok(layout::page(&browser, "/receipts", "Receipts", None, content).into_response())
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(photo): Path<PhotoId>,
) -> Page {
    browser.caller.must_be(MAY_READ)?;
    let mut db = service.database.acquire().await?;
    event_of_photo(&mut db, &browser.caller, photo).await?;
    let missing = || Problem::not_found(format!("photo {photo}"));
    drop(db);
    let receipt = archive::receipt(&service.database, &service.store, photo, None).await?;
    let receipt = receipt.ok_or_else(missing)?;
    let mut db = service.database.acquire().await?;
    if let Some(event) = events::find(&mut db, receipt.event).await? {
        browser.look_at(&mut db, event.organisation).await?;
    }
    let content = html! {
        h1 { "Receipt" }
        p {
            strong { (receipt.key) } " · "
            a href={ "/events/" (receipt.event) } { (receipt.event_name) } br;
            span.faint { (receipt.photo) }
        }
        @for job in &receipt.jobs { (job_of(job, &browser)) }
    };
    Ok(layout::page(&browser, "/receipts", "Receipt", None, content))
}

fn job_of(job: &Job, browser: &Browser) -> Markup {
    let zone = browser.zone();
    html! {
        section.panel {
            h2 {
                (job.operation) @if job.retry { " (queued again)" }
                " · " (job.state.replace('_', " "))
            }
            (outcome(job, browser.caller.role))
            ol {
                li {
                    "queued by " strong { (job.queued_by) } " "
                    (layout::instant(job.queued_at, zone)) " in run " (job.run)
                }
                @if let Some(skipped) = &job.skipped {
                    li { "skipped by " (skipped.by) " " (layout::instant(skipped.at, zone)) }
                }
                @if let Some(booking) = &job.reserved { li { (booked(booking, zone)) } }
                @for attempt in &job.attempts {
                    li {
                        "attempt " (attempt.number) ", worker " (attempt.worker) ", "
                        (layout::instant(attempt.started_at, zone))
                        @if let Some(ended) = &attempt.ended { " · " (ended.replace('_', " ")) }
                        @if let Some(reason) = &attempt.reason { " (" (reason::what(reason)) ")" }
                    }
                }
                @if let Some(booking) = &job.closed { li { (booked(booking, zone)) } }
            }
        }
    }
}

/// What became of the credit, in words.
fn outcome(job: &Job, role: Role) -> Markup {
    let (is_open, closed) = (job.reserved.is_some(), job.closed.as_ref());
    html! {
        @match closed.map(|booking| booking.movement.as_str()) {
            Some("commit") => p.notice.good { "1 credit paid for this." },
            Some(_) => div.notice {
                strong { "The credit came back. " }
                @if let Some(reason) = &job.reason { (reason::says(reason)) }
                @if let Some(original) = &job.duplicate_of {
                    a href={ "/receipts/" (original.photo) } { (original.key) } " was paid for."
                }
                (reason::detail(role, job.detail.as_deref()))
            },
            None if is_open => p.notice { "1 credit is reserved while the photo is in progress." },
            None => p.faint { "Nothing was charged yet." },
        }
    }
}

fn booked(booking: &Booking, zone: &str) -> Markup {
    let what = match booking.movement.as_str() {
        "reserve" => "1 credit reserved",
        "commit" => "1 credit spent",
        "refund" => "1 credit refunded",
        other => other,
    };
    html! {
        strong { (what) } " · entry " (booking.entry)
        " · balance " (booking.balance_before) " → " (booking.balance_after)
        " · " (layout::instant(booking.at, zone))
        div.faint {
            "sealed by link " code { (booking.link.chars().take(16).collect::<String>()) "…" }
        }
    }
}
