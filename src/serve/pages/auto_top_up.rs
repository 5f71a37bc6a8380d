//! The automatic top-up on the page of credits: how it stands, the form that sets it, and the
//! question before that.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use rust_decimal::Decimal;
use serde::Deserialize;
use sqlx::PgConnection;

use super::{Form, Page, confirm, layout, purchase::money};
use crate::{
    catalog::organisations::{self, Organisation, Price},
    commands::{MAY_BUY, NewAutoTopUp},
    ids::OrganisationId,
    ledger::{
        auto_top_up::{self, AutoTopUp, State as Standing},
        credits::Credits,
    },
    serve::{Service, authentication::Browser, input::Query, problem::Problem},
};

/// How it stands and, for who may buy, the form that sets it.
pub(super) async fn section(
    db: &mut PgConnection,
    organisation: &Organisation,
    browser: &Browser,
) -> Result<Markup, Problem> {
    let Some(found) = auto_top_up::read(db, organisation.id).await? else {
        return Ok(html! {});
    };
    let may_set = MAY_BUY.contains(&browser.caller.role);
    let is_on = found.state != Standing::Off;
    Ok(html! {
        h2 id="auto-top-up" { "Automatic Top-up" }
        @if let (true, Some(below), Some(credits), Some(most)) =
            (is_on, found.below, found.credits, found.monthly_max)
        {
            p {
                "When fewer than " strong { (below) } " credits are available, "
                strong { (credits) } " are bought, at most " strong { (most) } " in a month ("
                (found.bought_this_month) " this month so far)."
            }
        } @else { p.faint { "It is off: nothing is bought automatically." } }
        @if let Some(says) = found.says { p.notice { (says) } }
        @if may_set && (is_on || organisation.sells_at().is_some()) {
            details.add {
                summary.button.quiet { @if is_on { "Change it" } @else { "Switch it on" } }
                @if organisation.sells_at().is_some() { (form(&found)) }
                @if is_on { form method="post" action="/credits/auto-top-up/off" {
                    (layout::key(browser))
                    input type="hidden" name="organisation" value=(organisation.id);
                    p { button.quiet type="submit" { "Switch it off" } }
                } }
            }
        }
    })
}

fn form(found: &AutoTopUp) -> Markup {
    let number = |label: &str, name: &str, value: Option<Credits>| {
        html! { label { (label)
            input type="number" name=(name) min="1" max="1000000000" step="1" required
                value=[value.map(|value| value.0)];
        } }
    };
    html! {
        form method="get" action="/credits/auto-top-up" {
            input type="hidden" name="organisation" value=(found.organisation);
            (number("When fewer credits are available than", "below", found.below))
            (number("buy so many", "credits", found.credits))
            (number("at most so many in a month", "monthly_max", found.monthly_max))
            p { button type="submit" { "Show what it may cost" } }
        }
    }
}

/// The settings, as the forms send them.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    organisation: OrganisationId,
    below: Credits,
    credits: Credits,
    monthly_max: Credits,
    /// The price of one credit that the question showed.
    price: Option<String>,
}

/// Says what it may cost, and asks.
pub(super) async fn ask(
    State(service): State<Service>,
    browser: Browser,
    Query(wanted): Query<Wanted>,
) -> Page {
    let id = wanted.organisation;
    browser.caller.must_be(MAY_BUY)?;
    browser.caller.must_see(id)?;
    let found = organisations::find(&mut *service.database.acquire().await?, id).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("organisation {id}")))?;
    let price = found.sells_at().cloned().ok_or_else(|| {
        Problem::conflict("purchasing_disabled", "contact support to add credits")
    })?;
    let says = html! {
        p {
            "Whenever fewer than " strong { (wanted.below) } " credits are available, buy "
            strong { (wanted.credits) } " credits for "
            strong { (cost(wanted.credits, &price)) } ", without asking."
        }
        p {
            "In a month, it buys at most " strong { (wanted.monthly_max) } " credits: "
            strong { (cost(wanted.monthly_max, &price)) } "."
        }
        p.faint {
            "What is above the organisation's limit of " (found.purchase_limit) " credits a month "
            "waits for approval. It stops if a purchase is refused or expires, or if the price rises "
            "above " (price) "."
        }
    };
    let back = format!("/credits?organisation={id}");
    let question = confirm::Question {
        title: "Switch the automatic top-up on?",
        says,
        yes: Some("Switch it on"),
        action: "/credits/auto-top-up",
        back: &back,
        here: "/credits",
    };
    let fields = [
        ("organisation", id.to_string()),
        ("below", wanted.below.0.to_string()),
        ("credits", wanted.credits.0.to_string()),
        ("monthly_max", wanted.monthly_max.0.to_string()),
        ("price", price.to_string()),
    ];
    Ok(question.page(&browser, &fields))
}

fn cost(credits: Credits, price: &Price) -> String {
    let total = price.per_credit.checked_mul(Decimal::from(credits.0)).unwrap_or(Decimal::MAX);
    format!("{} {}", money(total), price.currency)
}

pub(super) async fn set(
    State(service): State<Service>,
    form: Form<Wanted>,
) -> Result<Redirect, Problem> {
    let (caller, wanted) = (form.browser.caller, form.fields);
    let id = wanted.organisation;
    let new = NewAutoTopUp {
        below: wanted.below,
        credits: wanted.credits,
        monthly_max: wanted.monthly_max,
        // Nobody agrees to a price that they did not see.
        price: Some(wanted.price.unwrap_or_default()),
    };
    service.commands.set_auto_top_up(&caller, id, &new).await?;
    Ok(Redirect::to(&format!("/credits?organisation={id}&said=saved")))
}

#[derive(Debug, Deserialize)]
pub(super) struct Off {
    organisation: OrganisationId,
}

pub(super) async fn switch_off(
    State(service): State<Service>,
    form: Form<Off>,
) -> Result<Redirect, Problem> {
    let id = form.fields.organisation;
    service.commands.switch_auto_top_up_off(&form.browser.caller, id).await?;
    Ok(Redirect::to(&format!("/credits?organisation={id}&said=saved")))
}
