//! What staff set for an organisation: its name, its price, how its people buy, and its part of the
//! store.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    super::{Form, layout},
    new::{price, price_fields},
};
use crate::{
    catalog::organisations::{Organisation, Price},
    commands::OrganisationChange,
    ids::OrganisationId,
    ledger::credits::Credits,
    serve::{Service, authentication::Browser, input::Path, problem::Problem},
};

pub(super) fn form(browser: &Browser, organisation: &Organisation, left: Credits) -> Markup {
    html! {
        form.panel.sheet id="settings-form" method="post"
            action={ "/organisations/" (organisation.id) "/settings" } {
            (layout::key(browser))
            (were(organisation))
            label { "Name" input name="name" maxlength="200" required value=(organisation.name); }
            (price_fields(organisation.price.as_ref()))
            p.faint { "The price of purchases from now on. Earlier ones keep theirs. Empty: no price." }
            fieldset {
                legend { "Purchasing" }
                p { label {
                    input type="checkbox" name="purchasing" value="yes"
                        checked[organisation.purchasing];
                    " its people may buy credits"
                    span.faint { " · switch it off while an invoice is open; the price stays" }
                } }
                p { label {
                    input type="checkbox" name="custom_billing" value="yes"
                        checked[organisation.custom_billing];
                    " custom billing"
                    span.faint { " · it pays by a contract: its people do not buy, you grant what was agreed" }
                } }
            }
            label { "Credits that its people can buy in a month without your approval ("
                (left) " are left this month)"
                input type="number" name="purchase_limit" min="0" max="1000000000" step="1" required
                    value=(organisation.purchase_limit.0); }
            label { "Where its photos are in the store, as athletics-club/. It can queue no other photos. "
                "Empty: wherever no other organisation's photos are"
                input name="photos_under" maxlength="500" value=(organisation.photos_under); }
            p.faint { "Its time zone is " (organisation.time_zone)
                ". It cannot be changed: months that are over were closed in it." }
            div.row { button type="submit" { "Save" } }
        }
    }
}

/// What was there when the page was made: only what differs from it is changed, so that two people
/// do not undo each other's changes.
fn were(organisation: &Organisation) -> Markup {
    let yes = |is| if is { "yes" } else { "" };
    html! {
        input type="hidden" name="name_was" value=(organisation.name);
        input type="hidden" name="price_was"
            value=[organisation.price.as_ref().map(Price::to_string)];
        input type="hidden" name="purchasing_was" value=(yes(organisation.purchasing));
        input type="hidden" name="custom_billing_was" value=(yes(organisation.custom_billing));
        input type="hidden" name="purchase_limit_was" value=(organisation.purchase_limit.0);
        input type="hidden" name="photos_under_was" value=(organisation.photos_under);
    }
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct Settings {
    name: String,
    name_was: String,
    price: String,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    price_was: String,
    #[serde(default)]
    purchasing: String,
    #[serde(default)]
    purchasing_was: String,
    #[serde(default)]
    custom_billing: String,
    #[serde(default)]
    custom_billing_was: String,
    purchase_limit: Credits,
    purchase_limit_was: Credits,
    photos_under: String,
    photos_under_was: String,
}

impl Settings {
    fn change(&self) -> Result<OrganisationChange, Problem> {
        let (name, photos_under) = (self.name.trim(), self.photos_under.trim());
        let price = price(&self.price, &self.currency)?;
        let was = price.as_ref().map(ToString::to_string).unwrap_or_default();
        let switched = |is: &str, was: &str| (is != was).then_some(!is.is_empty());
        Ok(OrganisationChange {
            name: (name != self.name_was).then(|| name.to_owned()),
            price: (was != self.price_was).then_some(price),
            purchasing: switched(&self.purchasing, &self.purchasing_was),
            custom_billing: switched(&self.custom_billing, &self.custom_billing_was),
            purchase_limit: (self.purchase_limit != self.purchase_limit_was)
                .then_some(self.purchase_limit),
            photos_under: (photos_under != self.photos_under_was).then(|| photos_under.to_owned()),
        })
    }
}

pub(in super::super) async fn save(
    State(service): State<Service>,
    Path(id): Path<OrganisationId>,
    form: Form<Settings>,
) -> Result<Redirect, Problem> {
    let change = form.fields.change()?;
    if change != OrganisationChange::default() {
        service.commands.change_organisation(&form.browser.caller, id, &change).await?;
    }
    Ok(Redirect::to(&format!("/organisations/{id}?said=saved")))
}
