//! Buying credits: the form, the confirmation with its price, and the purchase.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::{Form, Page, confirm, layout};
use crate::{
    catalog::organisations::{self, Price},
    commands::{Addition, MAY_BUY, MAY_GRANT, Twin},
    ids::{EventId, OrganisationId},
    ledger::{
        credits::Credits,
        payments,
        purchases::{self, Purchase, State as Decided},
        top_up::TopUpKind,
    },
    serve::{Service, authentication::Browser, input::Query, problem::Problem, reads::balance_of},
};

/// The form that asks how many credits to buy.
pub(super) fn form(organisation: OrganisationId) -> Markup {
    html! {
        details.add {
            summary.button { "Add Credits" }
            form method="get" action="/credits/add" {
                input type="hidden" name="organisation" value=(organisation);
                // The idempotency key: a form that is sent twice buys once.
                input type="hidden" name="once" value=(Uuid::now_v7());
                label {
                    "How many credits?"
                    input type="number" name="credits" min="1" max="1000000000" step="1" required;
                }
                p { button type="submit" { "Continue" } }
            }
        }
    }
}

/// The address of the page that asks about a purchase of so many credits.
pub(super) fn address(organisation: OrganisationId, credits: Credits) -> String {
    let once = Uuid::now_v7();
    format!("/credits/add?organisation={organisation}&credits={}&once={once}", credits.0)
}

/// A purchase, as the forms send it.
#[derive(Debug, Deserialize)]
pub(super) struct Add {
    organisation: OrganisationId,
    credits: Credits,
    once: String,
    /// The price of one credit that the confirmation page showed.
    price: Option<String>,
    /// The event whose page asked for it, and where this leads back.
    #[serde(default, deserialize_with = "layout::number")]
    event: Option<EventId>,
}

/// Asks for confirmation of a purchase: the credits, the price, and the new balance.
pub(super) async fn ask(
    State(service): State<Service>,
    browser: Browser,
    Query(add): Query<Add>,
) -> Page {
    let id = add.organisation;
    browser.caller.must_be(MAY_BUY)?;
    browser.caller.must_see(id)?;
    if !(1..=1_000_000_000).contains(&add.credits.0) {
        return Err(Problem::invalid("credits", "enter a number from 1 to 1,000,000,000"));
    }
    let mut db = service.database.acquire().await?;
    let balance = balance_of(&mut db, id).await?;
    let is_staff = MAY_GRANT.contains(&browser.caller.role);
    let found = organisations::find(&mut db, id).await?;
    // Staff buy for an organisation whose people cannot, at its price.
    let price = found.and_then(|found| {
        let sells = is_staff || found.sells_at().is_some();
        found.price.filter(|_| sells)
    });
    let price = price.ok_or_else(|| {
        Problem::conflict("purchasing_disabled", "contact support to add credits")
    })?;
    let left = purchases::left(&mut db, id).await?;
    let waits = add.credits.0 > left.0 && !is_staff;
    let pays =
        !is_staff && !price.per_credit.is_zero() && payments::provider(&mut db).await?.is_some();
    let total = price.per_credit * rust_decimal::Decimal::from(add.credits.0);
    let says = html! {
        p {
            "Buy " strong { (add.credits) } " credits for "
            strong { (money(total)) " " (price.currency) } "."
        }
        @if waits {
            p.notice {
                "You can buy " strong { (left) } " more credits this month without approval. "
                "This purchase waits until photogate's staff approve it. "
                "Until then, nothing is added or charged."
            }
        } @else if pays { p.notice {
            "You pay it next. The credits are added when the payment has arrived."
        } } @else { p.faint {
            "You have " (balance.available) " credits now, and will have "
            (Credits(balance.available.0 + add.credits.0))
            ". Photos that wait for credits resume automatically."
        } }
    };
    let fields = [
        ("organisation", id.to_string()),
        ("credits", add.credits.0.to_string()),
        ("once", add.once),
        ("price", price.to_string()),
        ("event", add.event.map(|event| event.to_string()).unwrap_or_default()),
    ];
    let back = back(add.event, id);
    let question = confirm::Question {
        title: "Add credits",
        says,
        yes: Some(if waits { "Ask for approval" } else { "Buy" }),
        action: "/credits/add",
        back: &back,
        here: "/credits",
    };
    Ok(question.page(&browser, &fields))
}

/// The page that asked: an event's, or that of the credits.
fn back(event: Option<EventId>, organisation: OrganisationId) -> String {
    match event {
        Some(event) => format!("/events/{event}"),
        None => format!("/credits?organisation={organisation}"),
    }
}

/// Formats an amount with at least two decimals.
pub(super) fn money(mut amount: rust_decimal::Decimal) -> rust_decimal::Decimal {
    amount = amount.normalize();
    if amount.scale() < 2 {
        amount.rescale(2);
    }
    amount
}

/// Buys the credits. The command checks who may buy, and how many.
pub(super) async fn add(
    State(service): State<Service>,
    form: Form<Add>,
) -> Result<Redirect, Problem> {
    let (browser, add) = (form.browser, form.fields);
    let price = add.price.as_deref().unwrap_or_default().parse();
    let price: Price = price.map_err(|error| Problem::invalid("price", error))?;
    let key = format!("page-{}", add.once.chars().take(64).collect::<String>());
    let organisation = add.organisation;
    let addition = Addition {
        organisation,
        kind: TopUpKind::Purchase,
        credits: add.credits,
        note: "",
        idempotency_key: &key,
        price: Some(&price),
        twin: Twin::Waits,
    };
    let said = match service.commands.buy(&browser.caller, &addition).await? {
        Purchase::Credited(credited) if !credited.credited => "before",
        Purchase::Credited(credited) if credited.resumed => "resumed",
        Purchase::Credited(_) => "added",
        Purchase::Asked { request, .. } => match request.state {
            Decided::Pending => "asked",
            // There it says where to pay.
            Decided::Unpaid => return Ok(Redirect::to("/purchases?said=unpaid")),
            Decided::Approved | Decided::Paid => "before",
            Decided::Refused | Decided::Expired | Decided::Failed => "not_bought",
        },
    };
    let back = back(add.event, organisation);
    Ok(Redirect::to(&layout::back_to(&back, &back, said)))
}
