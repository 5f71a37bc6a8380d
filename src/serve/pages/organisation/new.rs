//! A new organisation: the form, and what it makes.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::super::{Form, Page, layout};
use crate::{
    catalog::organisations::{Price, overview},
    commands::{MAY_CHANGE_ORGANISATIONS, NewOrganisation},
    serve::{Service, authentication::Browser, problem::Problem},
};

/// The references of organisations that a form made begin so: a form that is sent twice makes one.
pub(super) const BY_A_FORM: &str = "page-";

pub(in super::super) async fn ask(State(service): State<Service>, browser: Browser) -> Page {
    browser.caller.must_be(MAY_CHANGE_ORGANISATIONS)?;
    let is_first = {
        let mut db = service.database.acquire().await?;
        overview::standing(&mut db).await?.organisations == 0
    };
    let content = html! {
        h1 { "New organisation" }
        form.panel.sheet method="post" action="/organisations" {
            (layout::key(&browser))
            input type="hidden" name="once" value=(Uuid::now_v7());
            label { "Name" input name="name" maxlength="200" required; }
            (zone_field())
            (price_fields(None))
            p.faint { "Leave the price empty if it is not agreed yet, or if the organisation pays by a "
                "contract: then staff grant its credits." }
            (store_fields(is_first))
            label { "Your ID for it, for instance in your bookkeeping (may be empty)"
                input name="reference" maxlength="200"; }
            div.row {
                button type="submit" { "Create" }
                a.button.quiet href="/organisations" { "Cancel" }
            }
        }
    };
    Ok(layout::page(&browser, "/organisations", "New organisation", None, content))
}

/// The field for a time zone. Typing a part of a name finds the others.
fn zone_field() -> Markup {
    let zones = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    // The old names of countries and offsets are left out.
    let zones =
        zones.filter(|name| *name == "UTC" || name.contains('/') && !name.starts_with("Etc/"));
    html! {
        label { "Time zone: its months begin and end in it. It cannot be changed later"
            input name="time_zone" list="zones" value="Europe/Berlin" required autocomplete="off"; }
        datalist id="zones" { @for zone in zones { option value=(zone); } }
    }
}

/// The fields for the price of a credit.
pub(super) fn price_fields(price: Option<&Price>) -> Markup {
    let currency = price.map_or("EUR", |price| &price.currency);
    html! {
        div.row.pair {
            label { "Price of a credit"
                input name="price" inputmode="decimal" pattern="[0-9]{1,7}([.][0-9]{1,4})?" size="10"
                    placeholder="0.05" title="An amount with at most four decimals, as 0.05"
                    value=[price.map(|price| price.per_credit.normalize())]; }
            label { "Currency"
                input name="currency" pattern="[A-Z]{3}" size="5" maxlength="3" list="currencies"
                    title="Three capital letters, as EUR" value=(currency); }
        }
        datalist id="currencies" {
            @for code in ["EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "JPY"] {
                option value=(code);
            }
        }
    }
}

/// Reads what [`price_fields`] sends. An empty amount is no price.
pub(super) fn price(amount: &str, currency: &str) -> Result<Option<Price>, Problem> {
    let (amount, currency) = (amount.trim(), currency.trim());
    if amount.is_empty() {
        return Ok(None);
    }
    let price = format!("{amount} {currency}").parse();
    price.map(Some).map_err(|error| Problem::invalid("price", error))
}

fn store_fields(is_first: bool) -> Markup {
    html! {
        fieldset {
            legend { "Where its photos are in the store. It can queue no other photos, and sees none" }
            // The command gives the first one the whole store.
            @if !is_first { p { label {
                input type="radio" name="store" value="named" checked;
                " a directory with its name"
            } } }
            p { label {
                input type="radio" name="store" value="own"; " the directory that is named here:"
            } }
            label.inset { "Directory in the store"
                input name="photos_under" maxlength="500" placeholder="athletics-club/"; }
            p { label {
                input type="radio" name="store" value="rest" checked[is_first];
                " wherever no other organisation's photos are"
                @if !is_first { " (not where others upload, too)" }
            } }
        }
    }
}

/// Where the photos of a new organisation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Store {
    /// In a directory with its name.
    Named,
    /// In the directory that is named in another field.
    Own,
    /// Wherever no other organisation's are.
    Rest,
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct Wanted {
    name: String,
    time_zone: String,
    #[serde(default)]
    price: String,
    #[serde(default)]
    currency: String,
    store: Store,
    #[serde(default)]
    photos_under: String,
    #[serde(default)]
    reference: String,
    once: String,
}

pub(in super::super) async fn create(
    State(service): State<Service>,
    form: Form<Wanted>,
) -> Result<Redirect, Problem> {
    let (browser, wanted) = (form.browser, form.fields);
    let photos_under = match wanted.store {
        // The command names it.
        Store::Named => None,
        Store::Own => Some(directory(&wanted.photos_under)?),
        Store::Rest => Some(String::new()),
    };
    let reference = match wanted.reference.trim() {
        "" => format!("{BY_A_FORM}{}", wanted.once.chars().take(64).collect::<String>()),
        own => own.to_owned(),
    };
    let new = NewOrganisation {
        name: wanted.name.trim().to_owned(),
        reference: Some(reference),
        time_zone: wanted.time_zone.trim().to_owned(),
        price: price(&wanted.price, &wanted.currency)?,
        photos_under,
    };
    let made = service.commands.create_organisation(&browser.caller, &new).await?;
    let said = if made.is_new { "created" } else { "was_there" };
    Ok(Redirect::to(&format!("/organisations/{}?said={said}", made.value.id)))
}

/// A directory of the store, with its slash.
fn directory(text: &str) -> Result<String, Problem> {
    match text.trim().trim_matches('/') {
        "" => Err(Problem::invalid("photos_under", "name the directory, as athletics-club/")),
        name => Ok(format!("{name}/")),
    }
}
