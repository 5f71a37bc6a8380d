//! Creates organisations, and changes what staff set for them.

use serde_json::json;

use super::{CommandError, Commands, Created};
use crate::{
    access::{Caller, Role, audit_log},
    catalog::organisations::{self, Organisation, Price},
    ids::OrganisationId,
    ledger::credits::Credits,
};

pub(super) const MAY_CHANGE: &[Role] = &[Role::Staff];

/// An organisation to create.
#[derive(Debug)]
pub struct NewOrganisation {
    /// The organisation's name: 1 to 200 characters.
    pub name: String,
    /// The ID that the caller has for it. If an organisation has it already, that one is returned
    /// as it is.
    pub reference: Option<String>,
    /// The IANA name of its time zone. Its months begin and end in this time zone.
    pub time_zone: String,
    /// The price per credit. With `None`, the organisation cannot buy credits.
    pub price: Option<Price>,
    /// The prefix in the store below which its photos are. Its people can enqueue no other photos.
    /// Empty: wherever no other organisation's are. `None`: that for the first organisation, a directory
    /// with its name for the others.
    pub photos_under: Option<String>,
}

impl NewOrganisation {
    /// An organisation in UTC, without a price.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            reference: None,
            time_zone: "UTC".to_owned(),
            price: None,
            photos_under: None,
        }
    }

    /// Creates the organisation only if none has this reference.
    #[must_use]
    pub fn with_reference(self, reference: &str) -> Self {
        Self { reference: Some(reference.to_owned()), ..self }
    }
}

/// The changes to an organisation. A value that is `None` stays as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OrganisationChange {
    /// A new name: 1 to 200 characters.
    pub name: Option<String>,
    /// Whether its people may buy credits.
    pub purchasing: Option<bool>,
    /// Whether it pays by a contract, so that its people do not buy.
    pub custom_billing: Option<bool>,
    /// A new price per credit. With `Some(None)`, the organisation can no longer buy credits.
    pub price: Option<Option<Price>>,
    /// How many credits its people can buy in a month without approval.
    pub purchase_limit: Option<Credits>,
    /// A new prefix in the store below which its photos are.
    pub photos_under: Option<String>,
}

impl Commands {
    /// Creates an organisation, and its account with 0 credits; or finds it by its reference.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_organisation(
        &self,
        caller: &Caller,
        new: &NewOrganisation,
    ) -> Result<Created<Organisation>, CommandError> {
        caller.must_be(MAY_CHANGE)?;
        CommandError::check_reference(new.reference.as_deref())?;
        check_name(&new.name)?;
        let mut tx = self.database.begin().await?;
        let (id, is_new) = match &new.reference {
            Some(reference) => {
                organisations::find_or_create(&mut tx, &new.name, &new.time_zone, reference).await?
            }
            None => (organisations::create(&mut tx, &new.name, &new.time_zone).await?, true),
        };
        if !is_new {
            let value = found(organisations::find(&mut tx, id).await?, id)?;
            return Ok(Created { value, is_new });
        }
        let photos_under = match &new.photos_under {
            Some(prefix) => prefix.clone(),
            None => organisations::part_of_store(&mut tx, id).await?,
        };
        organisations::set_photos_under(&mut tx, id, &photos_under).await?;
        if new.price.is_some() {
            organisations::set_price(&mut tx, id, new.price.as_ref()).await?;
        }
        let detail = json!({
            "name": new.name, "reference": new.reference, "time_zone": new.time_zone,
            "price": new.price.as_ref().map(Price::to_string),
            "photos_under": photos_under,
        });
        let subject = format!("organisation {id}");
        audit_log::record(&mut tx, caller, Some(id), "organisation.create", &subject, detail)
            .await?;
        let value = found(organisations::find(&mut tx, id).await?, id)?;
        tx.commit().await?;
        Ok(Created { value, is_new })
    }

    /// Changes an organisation's name, price and part of the store, and how its people may buy.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn change_organisation(
        &self,
        caller: &Caller,
        id: OrganisationId,
        change: &OrganisationChange,
    ) -> Result<Organisation, CommandError> {
        caller.must_be(MAY_CHANGE)?;
        let mut tx = self.database.begin().await?;
        found(organisations::find(&mut tx, id).await?, id)?;
        let name = change.name.as_deref().map(str::trim);
        name.map_or(Ok(()), check_name)?;
        let (purchasing, custom_billing) = (change.purchasing, change.custom_billing);
        organisations::change(&mut tx, id, name, purchasing, custom_billing).await?;
        if let Some(price) = &change.price {
            organisations::set_price(&mut tx, id, price.as_ref()).await?;
        }
        if let Some(limit) = change.purchase_limit {
            if !(0..=1_000_000_000).contains(&limit.0) {
                let detail = "the limit of purchases is a number from 0 to 1,000,000,000";
                return Err(CommandError::invalid("/purchase_limit", detail));
            }
            organisations::set_purchase_limit(&mut tx, id, limit).await?;
        }
        if let Some(prefix) = &change.photos_under {
            organisations::set_photos_under(&mut tx, id, prefix).await?;
        }
        let price = change
            .price
            .as_ref()
            .map(|price| price.as_ref().map_or_else(|| "none".into(), Price::to_string));
        let detail = json!({
            "name": name, "price": price, "purchasing": purchasing,
            "custom_billing": custom_billing, "purchase_limit": change.purchase_limit,
            "photos_under": change.photos_under,
        });
        let subject = format!("organisation {id}");
        audit_log::record(&mut tx, caller, Some(id), "organisation.change", &subject, detail)
            .await?;
        let changed = found(organisations::find(&mut tx, id).await?, id)?;
        tx.commit().await?;
        Ok(changed)
    }
}

fn check_name(name: &str) -> Result<(), CommandError> {
    if (1..=200).contains(&name.trim().chars().count()) {
        return Ok(());
    }
    Err(CommandError::invalid("/name", "the name of an organisation has 1 to 200 characters"))
}

fn found(
    organisation: Option<Organisation>,
    id: OrganisationId,
) -> Result<Organisation, CommandError> {
    organisation.ok_or_else(|| CommandError::NotFound(format!("organisation {id}")))
}
