//! The page of an event's schedules: *Go Live* at a time, and what is scheduled already.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, Page, PageOrFile, confirm, layout, table::Table, table_view::View};
use crate::{
    catalog::events::{self, Event},
    commands::{MAY_ENQUEUE, NewSchedule, Payloads, Which},
    ids::{EventId, Operation, ScheduleId},
    queue::schedules::{self, End, Schedule},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
    },
};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    said: String,
}

/// Schedules that have ended and are shown.
const ENDED: i64 = 20;
/// More than an organisation may have.
const ALL: i64 = 1000;

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(asked): Query<Asked>,
) -> PageOrFile {
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    browser.look_at(&mut db, event.organisation).await?;
    let of = schedules::Which { event: Some(id), ..schedules::Which::default() };
    let which = schedules::Which { waiting: true, ..of };
    let mut waiting = schedules::list(&mut db, which, ALL).await?;
    waiting.sort_by_key(|schedule| schedule.not_before);
    let mut ended = schedules::list(&mut db, of, ALL).await?;
    ended.retain(|schedule| schedule.ended.is_some());
    ended.truncate(usize::try_from(ENDED).unwrap_or(0));
    let may_run = MAY_ENQUEUE.contains(&browser.caller.role);
    let zone = browser.zone();
    let content = html! {
        h1 { "Scheduled photos " span.faint { (event.name) " · " (id) } }
        (layout::said(&asked.said))
        @if may_run { (form(&event, &browser)) }
        h2 { "Waiting" }
        @if waiting.is_empty() { p.faint { "Nothing is scheduled." } }
        @for schedule in &waiting { (card(schedule, &browser, may_run)) }
        @if !ended.is_empty() {
            h2 { "Over" }
            (table(zone).on_page(&ended, "", None))
        }
        p { a href={ "/events/" (id) } { "Back to the event" } }
    };
    Ok(layout::page(&browser, "/events", "Scheduled photos", None, content).into_response())
}

fn table(zone: &str) -> Table<'_, Schedule> {
    Table::new(View::default())
        .instant("For", zone, |schedule: &Schedule| Some(schedule.not_before))
        .text("Photos", |schedule| format!("{} for {}", photos(schedule), schedule.operation))
        .text("By", |schedule| schedule.actor.clone())
        .text("Ended", outcome)
}

fn photos(schedule: &Schedule) -> String {
    if schedule.all { "all photos".to_owned() } else { format!("{} photos", schedule.photos) }
}

fn outcome(schedule: &Schedule) -> String {
    let by = schedule.ended_by.as_deref().unwrap_or("—");
    match schedule.ended {
        None => String::new(),
        Some(End::Done) => format!("{} photos were queued", schedule.queued),
        Some(End::Cancelled) => format!("cancelled by {by}"),
        Some(End::Refused) => match by {
            "actor_gone" => "not queued: who scheduled it may not come in any more".to_owned(),
            "outside_photos_under" => {
                "not queued: the photos are outside the organisation's part of the store".to_owned()
            }
            other => format!("not queued: {}", other.replace('_', " ")),
        },
    }
}

/// The form that schedules all photos of the event.
fn form(event: &Event, browser: &Browser) -> Markup {
    html! {
        details.add {
            summary.button { "Go Live at …" }
            form method="post" action={ "/events/" (event.id) "/schedules" } {
                (layout::key(browser))
                p {
                    "All photos that the event has then are queued, at one credit each. If you name a "
                    "directory of the store, the photos that it has now are queued then."
                }
                label { "Only below this directory" input name="prefix" placeholder="2026/marathon/"; }
                @for operation in Operation::ALL {
                    label {
                        input type="checkbox" name=(operation.code()) value="yes"
                            checked[operation == Operation::PhotoProcessing];
                        " " (operation.title())
                    }
                }
                label {
                    "When? (time zone " (browser.zone()) ")"
                    input type="datetime-local" name="at" required;
                }
                p { button type="submit" { "Schedule" } }
            }
        }
    }
}

fn card(schedule: &Schedule, browser: &Browser, may_run: bool) -> Markup {
    let zone = browser.zone();
    html! {
        div.panel {
            p {
                strong { (photos(schedule)) } " for " (schedule.operation) " at "
                (layout::instant(schedule.not_before, zone))
                @if schedule.queued > 0 { "; " (schedule.queued) " are queued already" }
                ". " span.faint { "Scheduled by " (schedule.actor) "." }
            }
            @if let Some(trouble) = &schedule.trouble {
                p.notice { "Not queued yet: " (trouble) ". It is tried again every minute." }
            }
            @if may_run { div.row {
                form.row method="post" action={ "/schedules/" (schedule.id) "/move" } {
                    (layout::key(browser))
                    label {
                        "Another time"
                        input type="datetime-local" name="at" required
                            value=(local(schedule.not_before, zone));
                    }
                    button.quiet type="submit" { "Change" }
                }
                a.button.quiet href={ "/schedules/" (schedule.id) "/cancel" } { "Cancel it" }
            } }
        }
    }
}

/// An instant as a field of a form has it.
fn local(at: DateTime<Utc>, zone: &str) -> String {
    at.with_timezone(&layout::zone(zone)).format("%Y-%m-%dT%H:%M").to_string()
}

/// Reads a field of a form, in this time zone.
fn instant(text: &str, zone: &str) -> Result<DateTime<Utc>, Problem> {
    let bad = || Problem::invalid("at", "the time must look like 2030-05-04T16:00");
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let parsed = formats.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let local = parsed.ok_or_else(bad)?;
    let zone = layout::zone(zone);
    // Where a clock change skips this time, it is the one an hour later.
    let at = local.and_local_timezone(zone).earliest();
    let later = local.checked_add_signed(TimeDelta::hours(1)).ok_or_else(bad)?;
    let at = at.or_else(|| later.and_local_timezone(zone).earliest());
    Ok(at.ok_or_else(bad)?.to_utc())
}

#[derive(Debug, Deserialize)]
pub(super) struct GoLive {
    at: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    photo_processing: String,
    #[serde(default)]
    ai_rotation: String,
}

/// Schedules all photos of an event, or those below a directory, for each operation that is ticked.
pub(super) async fn create(
    State(service): State<Service>,
    Path(id): Path<EventId>,
    mut form: Form<GoLive>,
) -> Result<Redirect, Problem> {
    let GoLive { at, prefix, photo_processing, ai_rotation } = form.fields;
    let at = {
        let mut db = service.database.acquire().await?;
        let event = form.browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
        form.browser.look_at(&mut db, event.organisation).await?;
        instant(&at, form.browser.zone())?
    };
    let operations: Vec<_> = Operation::ALL
        .into_iter()
        .filter(|operation| match operation {
            Operation::PhotoProcessing => !photo_processing.is_empty(),
            Operation::AiRotation => !ai_rotation.is_empty(),
        })
        .collect();
    if operations.is_empty() {
        return Err(Problem::invalid("operation", "choose at least one operation"));
    }
    for operation in operations {
        let photos = match prefix.trim() {
            "" => Which::All,
            prefix => Which::Below(prefix, &service.store),
        };
        let payloads = Payloads::default();
        let new = NewSchedule { operation, photos, payloads, not_before: at };
        service.commands.schedule(&form.browser.caller, id, &new).await?;
    }
    Ok(Redirect::to(&format!("/events/{id}/schedules?said=scheduled")))
}

#[derive(Debug, Deserialize)]
pub(super) struct Moved {
    at: String,
}

pub(super) async fn change(
    State(service): State<Service>,
    Path(id): Path<ScheduleId>,
    mut form: Form<Moved>,
) -> Result<Redirect, Problem> {
    let event = seen(&service, &mut form.browser, id).await?.event;
    let at = instant(&form.fields.at, form.browser.zone())?;
    service.commands.move_schedule(&form.browser.caller, id, at).await?;
    Ok(Redirect::to(&format!("/events/{event}/schedules?said=scheduled")))
}

/// Reads a schedule that the caller may see, and looks at its organisation.
async fn seen(
    service: &Service,
    browser: &mut Browser,
    id: ScheduleId,
) -> Result<Schedule, Problem> {
    let missing = || Problem::not_found(format!("schedule {id}"));
    let mut db = service.database.acquire().await?;
    let which = schedules::Which { id: Some(id), ..schedules::Which::default() };
    let found = schedules::list(&mut db, which, 1).await?.pop().ok_or_else(missing)?;
    browser.caller.must_see(found.organisation).map_err(|_| missing())?;
    browser.look_at(&mut db, found.organisation).await?;
    Ok(found)
}

/// Asks for confirmation of a cancellation.
pub(super) async fn ask_cancel(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<ScheduleId>,
) -> Page {
    browser.caller.must_be(MAY_ENQUEUE)?;
    let schedule = seen(&service, &mut browser, id).await?;
    let at = layout::instant(schedule.not_before, browser.zone());
    let says = html! {
        p { (photos(&schedule)) " for " (schedule.operation) " at " (at)
            " will not be queued." }
        @if schedule.queued > 0 { p { "The " (schedule.queued) " that are queued stay queued." } }
    };
    let question = confirm::Question {
        title: "Cancel the schedule?",
        says,
        yes: schedule.ended.is_none().then_some("Cancel it"),
        action: &format!("/schedules/{id}/cancel"),
        back: &format!("/events/{}/schedules", schedule.event),
        here: "/events",
    };
    Ok(question.page(&browser, &[]))
}

#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn cancel(
    State(service): State<Service>,
    Path(id): Path<ScheduleId>,
    form: Form<Nothing>,
) -> Result<Redirect, Problem> {
    let event = service.commands.cancel_schedule(&form.browser.caller, id).await?.event;
    Ok(Redirect::to(&format!("/events/{event}/schedules?said=unscheduled")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_organisation() {
        let berlin = "Europe/Berlin";
        let read = |text: &str| instant(text, berlin).unwrap().to_rfc3339();
        assert_eq!(read("2030-05-04T16:00"), "2030-05-04T14:00:00+00:00");
        // The clocks go forward over it, and back over it: the earlier one.
        assert_eq!(read("2030-03-31T02:30"), "2030-03-31T01:30:00+00:00");
        assert_eq!(read("2030-10-27T02:30"), "2030-10-27T00:30:00+00:00");
        assert_eq!(local(instant("2030-05-04T16:00", berlin).unwrap(), berlin), "2030-05-04T16:00");
        assert!(instant("tomorrow", berlin).is_err());
    }
}
