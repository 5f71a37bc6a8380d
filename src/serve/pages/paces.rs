//! The paces on the page Spending: how fast photos are claimed at most, and the weight of an
//! organisation.

use axum::{extract::State, response::Redirect};
use chrono::NaiveTime;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, layout};
use crate::{
    commands::{MAY_PACE, MAY_PACE_ORGANISATIONS},
    ids::{EventId, OrganisationId},
    ledger::spending::{EventSpending, Pace, Spending, time_of_day},
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

/// The pace of all events together, and the weight; with a form for who may change them. `back` is
/// where it returns to.
pub(super) fn of_organisation(found: &Spending, browser: &Browser, back: &str) -> Markup {
    let pace = found.pace.unwrap_or_default();
    html! {
        p { "All events together: " (pace) ". Weight beside other organisations: " (found.weight) "." }
        @if MAY_PACE_ORGANISATIONS.contains(&browser.caller.role) {
            details {
                summary { "Change the pace of all events together" }
                form.panel method="post" action={ "/organisations/" (found.organisation) "/pace" } {
                    (layout::key(browser))
                    input type="hidden" name="back" value=(back);
                    (fields(pace))
                    @if browser.caller.organisation.is_none() {
                        label { "Weight"
                            input type="number" name="weight" min="1" max="100" required
                                value=(found.weight);
                        }
                    }
                    p { button.quiet type="submit" { "Save" } }
                }
            }
        }
    }
}

/// The pace of an event; with a form for who may change it.
pub(super) fn of_event(event: &EventSpending, browser: &Browser) -> Markup {
    let pace = event.pace.unwrap_or_default();
    html! {
        @if MAY_PACE.contains(&browser.caller.role) {
            details {
                summary { (pace) }
                form method="post" action={ "/events/" (event.event) "/pace" } {
                    (layout::key(browser))
                    (fields(pace))
                    p { button.quiet type="submit" { "Save" } }
                }
            }
        } @else { (pace) }
    }
}

fn fields(pace: Pace) -> Markup {
    let limit = |label, name, most: Option<i32>| {
        html! {
            label { (label)
                input type="number" name=(name) min="1" max="1000000" placeholder="no limit" value=[most];
            }
        }
    };
    let time = |label, name, time: Option<NaiveTime>| {
        html! {
            label { (label) input type="time" name=(name) value=[time.map(time_of_day)]; }
        }
    };
    html! {
        (limit("Photos in progress", "in_flight_max", pace.in_flight_max))
        (limit("Photos a minute", "photos_per_minute", pace.photos_per_minute))
        (time("Quiet from", "quiet_from", pace.quiet_from))
        (time("Quiet to", "quiet_to", pace.quiet_to))
    }
}

/// A pace, as the forms send it. What is empty has no limit.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default, deserialize_with = "layout::number")]
    in_flight_max: Option<i32>,
    #[serde(default, deserialize_with = "layout::number")]
    photos_per_minute: Option<i32>,
    #[serde(default)]
    quiet_from: String,
    #[serde(default)]
    quiet_to: String,
    #[serde(default, deserialize_with = "layout::number")]
    weight: Option<i32>,
    #[serde(default)]
    back: String,
}

impl Wanted {
    fn pace(&self) -> Result<Pace, Problem> {
        let time = |name, text: &str| {
            let bad = |_| Problem::invalid(name, "write a time of day as 22:00");
            let form = if text.len() > 5 { "%H:%M:%S" } else { "%H:%M" };
            let read = || NaiveTime::parse_from_str(text, form).map_err(bad);
            (!text.is_empty()).then(read).transpose()
        };
        Ok(Pace {
            in_flight_max: self.in_flight_max,
            photos_per_minute: self.photos_per_minute,
            quiet_from: time("quiet_from", self.quiet_from.trim())?,
            quiet_to: time("quiet_to", self.quiet_to.trim())?,
        })
    }
}

pub(super) async fn set_event(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Wanted>,
) -> Result<Redirect, Problem> {
    let pace = form.fields.pace()?;
    let found = service.commands.set_event_pace(&form.browser.caller, event, pace).await?;
    Ok(back(found.organisation))
}

pub(super) async fn set_organisation(
    State(service): State<Service>,
    Path(id): Path<OrganisationId>,
    form: Form<Wanted>,
) -> Result<Redirect, Problem> {
    let (pace, weight) = (Some(form.fields.pace()?), form.fields.weight);
    service.commands.set_organisation_pace(&form.browser.caller, id, pace, weight).await?;
    let own = format!("/organisations/{id}");
    if form.fields.back == own {
        return Ok(Redirect::to(&layout::back_to(&own, "", "saved")));
    }
    Ok(back(id))
}

fn back(organisation: OrganisationId) -> Redirect {
    Redirect::to(&format!("/spending?organisation={organisation}&said=saved"))
}
