//! The page of an event's schedules: *Go Live* at a time, and what is scheduled already.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect},
};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Form, Page, PageOrFile, confirm, layout, process_photos, table::Table, table_view::View,
};
use crate::{
    catalog::events::{self, Event},
    commands::{CommandError, MAY_CHANGE_SCHEDULES, MAY_ENQUEUE, NewSchedule, Payloads, Which},
    ids::{EventId, Operations, ScheduleId},
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
    let event = seen_event(&service, &mut browser, id).await?;
    let mut db = service.database.acquire().await?;
    let of = schedules::Which { event: Some(id), ..schedules::Which::default() };
    let which = schedules::Which { waiting: true, ..of };
    let mut waiting = schedules::list(&mut db, which, ALL).await?;
    waiting.sort_by_key(|schedule| schedule.not_before);
    let mut ended = schedules::list(&mut db, of, ALL).await?;
    ended.retain(|schedule| schedule.ended.is_some());
    ended.truncate(usize::try_from(ENDED).unwrap_or(0));
    let may_run = MAY_ENQUEUE.contains(&browser.caller.role);
    let may_change = MAY_CHANGE_SCHEDULES.contains(&browser.caller.role);
    let zone = browser.zone();
    let content = html! {
        h1 { "Scheduled photos " span.faint { (event.name) " · Event " (id) } }
        (layout::said(&asked.said))
        @if may_run { (form(&event, &browser)) }
        h2 { "Waiting" }
        @if waiting.is_empty() { p.faint { "Nothing is scheduled." } }
        @for schedule in &waiting { (card(schedule, &browser, may_change)) }
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
        Some(End::Done) if schedule.operation == Operations::Both => {
            format!("{} were queued, a photo for each operation", schedule.queued)
        }
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

/// The form that asks what scheduling all photos of the event would cost.
fn form(event: &Event, browser: &Browser) -> Markup {
    html! {
        details.add {
            summary.button { "Go Live at …" }
            form method="get" action={ "/events/" (event.id) "/schedules/new" } {
                p {
                    "All photos that the event has then are queued. If you name a directory of the store, "
                    "the photos that it has now are queued then."
                }
                label { "What is done with them"
                    select name="operation" {
                        @for (operation, says) in [
                            (Operations::PhotoProcessing, "Photo Processing, as the photos are"),
                            (Operations::Both, "Photo Processing after AI Rotation (two credits a photo)"),
                            (Operations::AiRotation, "AI Rotation only"),
                        ] {
                            option value=(operation.code()) { (says) }
                        }
                    }
                }
                label { "Only below this directory" input name="prefix" placeholder="2026/marathon/"; }
                label {
                    "When? (time zone " (browser.zone()) ")"
                    input type="datetime-local" name="at" required;
                }
                p { button type="submit" { "Show the cost" } }
            }
        }
    }
}

fn card(schedule: &Schedule, browser: &Browser, may_change: bool) -> Markup {
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
            @if may_change { div.row {
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
    operation: Operations,
    at: String,
    #[serde(default)]
    prefix: String,
}

impl GoLive {
    /// All photos of the event, or those below a directory. The time is one of the organisation.
    fn new_schedule<'a>(
        &'a self,
        service: &'a Service,
        zone: &str,
    ) -> Result<NewSchedule<'a>, Problem> {
        let photos = match self.prefix.trim() {
            "" => Which::All,
            prefix => Which::Below(prefix, &service.store),
        };
        Ok(NewSchedule {
            operation: self.operation,
            photos,
            payloads: Payloads::default(),
            not_before: instant(&self.at, zone)?,
            priority: crate::queue::enqueue::Priority::Normal,
        })
    }
}

/// Shows what it would cost as of now, and asks.
pub(super) async fn ask(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(asked): Query<GoLive>,
) -> Page {
    browser.caller.must_be(MAY_ENQUEUE)?;
    let event = seen_event(&service, &mut browser, id).await?;
    let new = asked.new_schedule(&service, browser.zone())?;
    let plan = match service.commands.plan_schedule(&browser.caller, id, &new).await {
        Ok(plan) => Some(plan),
        // A schedule of all photos may have more than a call.
        Err(CommandError::TooMuch(_)) if matches!(new.photos, Which::All) => None,
        Err(error) => return Err(error.into()),
    };
    let says = html! {
        p { (new.operation) " of " strong { (event.name) } ", "
            @match asked.prefix.trim() {
                "" => "all photos that it has then",
                prefix => { "photos that are now below " code { (prefix) } },
            }
            ", at " (layout::instant(new.not_before, browser.zone())) "." }
        @match &plan {
            Some(plan) if plan.photos == 0 => p {
                "It has no photos now. Those that it has then are queued, each operation at one credit a photo."
            },
            Some(plan) => {
                p { "If it was done now:" }
                (process_photos::plan(plan, new.operation, &browser))
            },
            None => p.notice { "The event has more than 100,000 photos. Each operation costs one credit a photo." },
        }
        p.faint { "Credits are used when photos are processed, not before. You can change the time, or "
            "cancel it." }
    };
    let back = format!("/events/{id}/schedules");
    let question = confirm::Question {
        title: "Schedule these photos?",
        says,
        yes: Some("Schedule them"),
        action: &back,
        back: &back,
        here: "/events",
    };
    let operation = asked.operation.code().to_owned();
    let fields = [("operation", operation), ("at", asked.at), ("prefix", asked.prefix)];
    Ok(question.page(&browser, &fields))
}

/// Schedules the photos. The same form again finds the schedule that waits.
pub(super) async fn create(
    State(service): State<Service>,
    Path(id): Path<EventId>,
    mut form: Form<GoLive>,
) -> Result<Redirect, Problem> {
    seen_event(&service, &mut form.browser, id).await?;
    let new = form.fields.new_schedule(&service, form.browser.zone())?;
    service.commands.schedule(&form.browser.caller, id, &new).await?;
    Ok(Redirect::to(&format!("/events/{id}/schedules?said=scheduled")))
}

/// Reads an event that the caller may see, and looks at its organisation.
async fn seen_event(
    service: &Service,
    browser: &mut Browser,
    id: EventId,
) -> Result<Event, Problem> {
    let mut db = service.database.acquire().await?;
    let event = browser.caller.must_see_event(id, events::find(&mut db, id).await?)?;
    browser.look_at(&mut db, event.organisation).await?;
    Ok(event)
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
    let Schedule { event, not_before, .. } = seen(&service, &mut form.browser, id).await?;
    let back = Redirect::to(&format!("/events/{event}/schedules?said=scheduled"));
    // A field has no seconds, and no word on which of two hours it means when the clocks go back.
    if form.fields.at == local(not_before, form.browser.zone()) {
        return Ok(back);
    }
    let at = instant(&form.fields.at, form.browser.zone())?;
    service.commands.move_schedule(&form.browser.caller, id, at).await?;
    Ok(back)
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
    browser.caller.must_be(MAY_CHANGE_SCHEDULES)?;
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
