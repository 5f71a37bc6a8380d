//! The page that says how an organisation spends its credits: the order of its events, and their
//! budgets. A change of the order is shown before it is made.

use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{Form, confirm, layout, paces};
use crate::{
    commands::{MAY_SEE_SPENDING, MAY_SPEND, NewOrder},
    ids::{EventId, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, EventSpending, Order, Spending},
    },
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

pub(super) async fn page(
    State(service): State<Service>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    browser.caller.must_be(MAY_SEE_SPENDING)?;
    let Some(organisation) = browser.organisation.as_ref() else {
        return Ok(Redirect::to("/organisations?to=/spending").into_response());
    };
    let mut db = service.database.acquire().await?;
    let found = spending::read(&mut db, organisation.id, None).await?;
    let found =
        found.ok_or_else(|| Problem::not_found(format!("organisation {}", organisation.id)))?;
    let may_change = MAY_SPEND.contains(&browser.caller.role);
    let content = html! {
        h1 { "Spending" @if browser.caller.organisation.is_none() { " · " (organisation.name) } }
        (layout::said(&asked.said))
        p { "Which photos get the credits, if there are fewer credits than photos, and how fast they go." }
        (standing(&found))
        @if may_change { (order(&found)) }
        @else { p { "Order: " (found.order.says()) "." } }
        (paces::of_organisation(&found, &browser, "/spending"))
        h2 { "Events" }
        @if found.events.is_empty() {
            p.faint { "No photos wait, and no event has a budget. Open an event to give it one." }
        } @else { (events(&found, &browser, may_change)) }
    };
    Ok(layout::page(&browser, "/credits", "Spending", None, content).into_response())
}

fn standing(found: &Spending) -> Markup {
    let waiting: i64 = found.events.iter().map(|event| event.waiting).sum();
    html! {
        div.strip {
            div { "Available" b { (found.available) } }
            div { "Kept for events" b { (found.kept) } }
            div { "Photos waiting" b { (Credits(waiting)) } }
        }
        @if found.underfunded > Credits(0) {
            p.notice {
                (found.underfunded) " credits are missing for what is kept for events. Add credits, or keep "
                "fewer: otherwise the event that is processed first gets them."
            }
        }
    }
}

/// The form that chooses the order.
fn order(found: &Spending) -> Markup {
    let mut turns: Vec<_> = found.events.iter().filter(|event| event.turn.is_some()).collect();
    turns.sort_by_key(|event| event.turn);
    let turns: Vec<_> = turns.iter().map(|event| event.event.to_string()).collect();
    html! {
        form.panel method="get" action="/spending/order" {
            input type="hidden" name="organisation" value=(found.organisation);
            fieldset {
                legend { "Order" }
                @for order in Order::ALL {
                    p { label {
                        input type="radio" name="order" value=(order.code())
                            checked[order == found.order];
                        " " (order.says())
                    } }
                }
            }
            label {
                "One after the other: the numbers of the events that come first, in this order"
                input name="events" value=(turns.join(" ")) placeholder="12 7";
            }
            button.quiet type="submit" { "Show what this would do" }
        }
    }
}

/// The events, with forms for what the caller may change.
fn events(found: &Spending, browser: &Browser, may_change: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Events" { table.cards-on-phone {
            thead { tr {
                th { "Event" } th.number { "Used" } th.number { "Waiting" } th.number { "Will finish" }
                th { "Budget" } th { "Pace" }
            } }
            tbody { @for event in &found.events {
                tr {
                    td data-label="Event" { a href={ "/events/" (event.event) } { (event.name) } " "
                        span.faint { "· " (event.event) }
                        @if event.class != Class::Normal { " " span.tag { (event.class.code()) } }
                    }
                    td.number data-label="Used" { (event.used) }
                    td.number data-label="Waiting" { (Credits(event.waiting)) }
                    td.number data-label="Will finish" { (Credits(event.will_finish)) }
                    td data-label="Budget" { @if may_change { (form(event, browser, "/spending")) } @else { (says(event)) } }
                    td data-label="Pace" { (paces::of_event(event, browser)) }
                }
            } }
        } }
    }
}

fn says(event: &EventSpending) -> Markup {
    html! {
        @if let Some(cap) = event.cap { "at most " (cap) " " }
        @if event.floor > Credits(0) { (event.floor) " kept" }
        @if event.cap.is_none() && event.floor == Credits(0) { "none" }
    }
}

/// The form that sets an event's budget and its class. `back` is where it returns to.
pub(super) fn form(event: &EventSpending, browser: &Browser, back: &str) -> Markup {
    let classes = Class::ALL.map(|class| (class.code(), class.code()));
    html! {
        form.row method="post" action={ "/events/" (event.event) "/budget" } {
            (layout::key(browser))
            input type="hidden" name="back" value=(back);
            label { "At most"
                input type="number" name="cap" min="0" max="1000000000" placeholder="no limit"
                    value=[event.cap.map(|cap| cap.0)];
            }
            label { "Keep"
                input type="number" name="floor" min="0" max="1000000000"
                    value=(event.floor.0);
            }
            (layout::choice("Class", "class", &classes, event.class.code()))
            button.quiet type="submit" { "Save" }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Decided {
    #[serde(default, deserialize_with = "layout::number")]
    cap: Option<i64>,
    #[serde(default, deserialize_with = "layout::number")]
    floor: Option<i64>,
    class: Class,
    #[serde(default)]
    back: String,
}

pub(super) async fn set_budget(
    State(service): State<Service>,
    Path(event): Path<EventId>,
    form: Form<Decided>,
) -> Result<Redirect, Problem> {
    let (browser, decided) = (form.browser, form.fields);
    let budget =
        Budget { cap: decided.cap.map(Credits), floor: Credits(decided.floor.unwrap_or(0)) };
    let class = Some(decided.class);
    let found = service.commands.set_budget(&browser.caller, event, budget, class).await?;
    let back = match decided.back.as_str() {
        "/spending" => format!("/spending?organisation={}&said=saved", found.organisation),
        _ => format!("/events/{event}?said=saved"),
    };
    Ok(Redirect::to(&back))
}

/// An order, as the forms send it.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    organisation: OrganisationId,
    order: Order,
    #[serde(default)]
    events: String,
}

impl Wanted {
    fn new_order(&self) -> Result<NewOrder, Problem> {
        let unknown =
            |_| Problem::invalid("events", "write the numbers of events, with spaces between");
        let numbers = self.events.split([' ', ',']).filter(|word| !word.is_empty());
        let events =
            numbers.map(str::parse).collect::<Result<Vec<EventId>, _>>().map_err(unknown)?;
        Ok(NewOrder { order: self.order, events })
    }
}

/// Shows what an order would do, and asks.
pub(super) async fn ask_order(
    State(service): State<Service>,
    browser: Browser,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let (id, new) = (wanted.organisation, wanted.new_order()?);
    // First what checks whether the caller may.
    let after = service.commands.set_spend_order(&browser.caller, id, &new, true).await?;
    let before = spending::read(&mut *service.database.acquire().await?, id, None).await?;
    let before_of = |event: EventId| {
        let events = before.iter().flat_map(|before| &before.events);
        events.into_iter().find(|one| one.event == event).map_or(0, |one| one.will_finish)
    };
    let back = format!("/spending?organisation={id}");
    let question = confirm::Question {
        title: "Change the order?",
        says: html! {
            p { strong { (new.order.says()) } ". With the " (after.available)
                " credits that are available:" }
            div.scroll tabindex="0" role="region" aria-label="Events" { table.cards-on-phone {
                thead { tr {
                    th { "Event" } th.number { "Waiting" } th.number { "Will finish now" }
                    th.number { "Will finish then" }
                } }
                tbody { @for event in after.events.iter().filter(|event| event.waiting > 0) {
                    tr {
                        td data-label="Event" { (event.name) " " span.faint { "· " (event.event) } }
                        td.number data-label="Waiting" { (Credits(event.waiting)) }
                        td.number data-label="Will finish now" { (Credits(before_of(event.event))) }
                        td.number data-label="Will finish then" { (Credits(event.will_finish)) }
                    }
                } }
            } }
            p.faint { "It can be changed again at any time." }
        },
        yes: Some("Change it"),
        action: "/spending/order",
        back: &back,
        here: "/credits",
    };
    let fields = [
        ("organisation", id.to_string()),
        ("order", wanted.order.code().to_owned()),
        ("events", wanted.events.clone()),
    ];
    Ok(question.page(&browser, &fields).into_response())
}

pub(super) async fn set_order(
    State(service): State<Service>,
    form: Form<Wanted>,
) -> Result<Redirect, Problem> {
    let (browser, wanted) = (form.browser, form.fields);
    let (id, new) = (wanted.organisation, wanted.new_order()?);
    service.commands.set_spend_order(&browser.caller, id, &new, false).await?;
    Ok(Redirect::to(&format!("/spending?organisation={id}&said=saved")))
}
