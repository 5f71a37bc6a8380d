//! What an event would cost, before anything is uploaded.

use maud::{Markup, html};
use rust_decimal::Decimal;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    catalog::organisations::Organisation,
    ledger::credits::{Balance, Credits},
    serve::pages::{layout, purchase::money},
};

/// What the form asks. Empty: nothing yet.
#[derive(Debug, Default, Deserialize)]
pub(in crate::serve::pages) struct Event {
    #[serde(default, deserialize_with = "layout::number")]
    photos: Option<u32>,
    #[serde(default)]
    operations: String,
}

/// The form, and its answer.
pub(super) fn section(
    asked: &Event,
    organisation: &Organisation,
    balance: &Balance,
    may_buy: bool,
) -> Markup {
    let choices =
        [("photo_processing", "Photo Processing"), ("both", "Photo Processing and AI Rotation")];
    html! {
        details id="estimate" open[asked.photos.is_some()] {
            summary { "What does an event cost?" }
            div.panel {
                form.filters method="get" action="/credits#estimate" {
                    input type="hidden" name="organisation" value=(organisation.id);
                    label {
                        "Photos"
                        input name="photos" type="number" min="1" max="10000000" required
                            value=[asked.photos];
                    }
                    (layout::choice("Operations", "operations", &choices, &asked.operations))
                    button.quiet type="submit" { "Estimate" }
                }
                @if let Some(photos) = asked.photos {
                    (answer(photos, asked.operations == "both", organisation, balance, may_buy))
                }
            }
        }
    }
}

fn answer(
    photos: u32,
    both: bool,
    organisation: &Organisation,
    balance: &Balance,
    may_buy: bool,
) -> Markup {
    let cost = Credits(i64::from(photos) * if both { 2 } else { 1 });
    let missing = Credits(cost.0 - balance.available.0);
    html! {
        p role="status" {
            (layout::grouped(photos)) " photos cost at most " strong { (cost) " credits" }
            @if let Some(price) = &organisation.price {
                ", which is " (money(price.per_credit * Decimal::from(cost.0))) " " (price.currency)
            }
            ". Photos that fail, and copies of a photo, are refunded. "
            @if missing.0 <= 0 { "You have enough: " (Credits(-missing.0)) " would be left." }
            @else { "You have " (balance.available) ": " strong { (missing) } " are missing." }
        }
        @if may_buy && missing.0 > 0 {
            a.button href={
                "/credits/add?organisation=" (organisation.id) "&credits=" (missing.0)
                "&once=" (Uuid::now_v7())
            } { "Add " (missing) " credits" }
        }
    }
}
