//! Organisations: the customers. Each owns an account of credits and its events.

pub mod overview;

use std::str::FromStr;

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{ids::OrganisationId, ledger::credits::Credits};

/// An organisation: a customer that owns an account and events.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Organisation {
    /// The organisation's number.
    pub id: OrganisationId,
    /// The organisation's name.
    pub name: String,
    /// The ID that another program has for the organisation; `None` if it gave none.
    pub reference: Option<String>,
    /// Time zone of the organisation, as an IANA name. Its months begin and end in this time zone.
    pub time_zone: String,
    /// The price of one credit; `None` if the organisation cannot buy credits.
    pub price: Option<Price>,
    /// Number of credits that its people can buy in a month without approval by staff.
    pub purchase_limit: Credits,
    /// Whether staff let its people buy credits. While this is off, the price stays.
    pub purchasing: bool,
    /// Whether it pays by a contract. Then its people do not buy, and staff grant what was agreed.
    pub custom_billing: bool,
    /// Prefix of the organisation's photo keys in the store. Its people can queue no other photos.
    /// Empty: they can queue every photo.
    pub photos_under: String,
}

impl Organisation {
    /// The price at which its people can buy credits; `None` if they cannot buy.
    pub fn sells_at(&self) -> Option<&Price> {
        self.price.as_ref().filter(|_| self.purchasing && !self.custom_billing)
    }
}

/// The price of one credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Price {
    /// Price of one credit, in the currency below, with at most four decimals.
    pub per_credit: Decimal,
    /// Code of the currency as in ISO 4217, for example `EUR`.
    pub currency: String,
}

/// The text is not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a price: write an amount with at most four decimals and a currency, \
     as in 0.05 EUR"
)]
pub struct BadPrice(String);

impl FromStr for Price {
    type Err = BadPrice;

    fn from_str(text: &str) -> Result<Self, BadPrice> {
        let bad = || BadPrice(text.to_owned());
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(bad)?;
        let per_credit = Decimal::from_str_exact(amount).map_err(|_| bad())?;
        let is_currency =
            currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        let fits = per_credit >= Decimal::ZERO
            && per_credit.normalize().scale() <= 4
            && per_credit < Decimal::from(10_000_000);
        if is_currency && fits {
            Ok(Self { per_credit, currency: currency.to_owned() })
        } else {
            Err(bad())
        }
    }
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.per_credit.normalize(), self.currency)
    }
}

/// Creates an organisation with an empty account, and without a price.
///
/// # Errors
/// `PG006` for a time zone that does not exist, or trouble with the database.
pub async fn create(
    db: &mut PgConnection,
    name: &str,
    time_zone: &str,
) -> sqlx::Result<OrganisationId> {
    sqlx::query_scalar!(
        r#"SELECT create_organisation($1, $2) AS "id!: OrganisationId""#,
        name,
        time_zone
    )
    .fetch_one(db)
    .await
}

/// Creates an organisation with a reference, or finds the one with this reference and leaves it as
/// it is. Returns the organisation, and whether it is new.
///
/// # Errors
/// As [`create`].
pub async fn find_or_create(
    db: &mut PgConnection,
    name: &str,
    time_zone: &str,
    reference: &str,
) -> sqlx::Result<(OrganisationId, bool)> {
    let made = sqlx::query_scalar!(
        r#"SELECT create_organisation($1, $2, $3) AS "id: OrganisationId""#,
        name,
        time_zone,
        reference
    );
    if let Some(id) = made.fetch_one(&mut *db).await? {
        return Ok((id, true));
    }
    // A later statement than the one that waited for whoever created it.
    let found = sqlx::query_scalar!(
        r#"SELECT organisation_id AS "id: OrganisationId" FROM organisation WHERE reference = $1"#,
        reference
    );
    Ok((found.fetch_one(db).await?, false))
}

/// Sets an organisation's price of a credit from now on. With `None` it cannot buy credits.
///
/// Earlier purchases keep their price.
///
/// # Errors
/// `PG002` if there is no such organisation, or trouble with the database.
pub async fn set_price(
    db: &mut PgConnection,
    organisation: OrganisationId,
    price: Option<&Price>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT set_price($1, $2, $3)",
        organisation.0,
        price.map(|price| price.per_credit),
        price.map(|price| price.currency.as_str())
    )
    .execute(db)
    .await
    .map(|_| ())
}

/// Sets an organisation's name, whether its people may buy credits, and whether it pays by a contract.
/// What is `None` stays as it is.
///
/// # Errors
/// `PG002` if there is no such organisation, or trouble with the database.
pub async fn change(
    db: &mut PgConnection,
    organisation: OrganisationId,
    name: Option<&str>,
    purchasing: Option<bool>,
    custom_billing: Option<bool>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT set_organisation($1, $2, $3, $4)",
        organisation.0,
        name,
        purchasing,
        custom_billing
    )
    .execute(db)
    .await
    .map(|_| ())
}

/// Sets how many credits an organisation's people can buy in a month without approval by staff.
///
/// # Errors
/// `PG002` if there is no such organisation, a limit that is out of bounds, or trouble with the
/// database.
pub async fn set_purchase_limit(
    db: &mut PgConnection,
    organisation: OrganisationId,
    credits: Credits,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_purchase_limit($1, $2)", organisation.0, credits.0)
        .execute(db)
        .await
        .map(|_| ())
}

/// Returns all organisations, ordered by number.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Organisation>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT organisation_id AS "id: _", name, reference, time_zone, price_per_credit, currency,
                  purchase_limit AS "purchase_limit: _", purchasing, custom_billing, photos_under
           FROM organisation ORDER BY organisation_id"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Organisation::from).collect())
}

/// Returns one organisation; `None` if there is no such organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn find(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<Option<Organisation>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT organisation_id AS "id: _", name, reference, time_zone, price_per_credit, currency,
                  purchase_limit AS "purchase_limit: _", purchasing, custom_billing, photos_under
           FROM organisation WHERE organisation_id = $1"#,
        organisation.0
    );
    Ok(row.fetch_optional(db).await?.map(Organisation::from))
}

struct Row {
    id: OrganisationId,
    name: String,
    reference: Option<String>,
    time_zone: String,
    price_per_credit: Option<Decimal>,
    currency: Option<String>,
    purchase_limit: Credits,
    purchasing: bool,
    custom_billing: bool,
    photos_under: String,
}

impl From<Row> for Organisation {
    fn from(row: Row) -> Self {
        let price = row.price_per_credit.zip(row.currency);
        Self {
            id: row.id,
            name: row.name,
            reference: row.reference,
            time_zone: row.time_zone,
            price: price.map(|(per_credit, currency)| Price { per_credit, currency }),
            purchase_limit: row.purchase_limit,
            purchasing: row.purchasing,
            custom_billing: row.custom_billing,
            photos_under: row.photos_under,
        }
    }
}

/// Sets the prefix of an organisation's photo keys in the store. Its people can queue no other
/// photos.
///
/// # Errors
/// `PG002` if there is no such organisation, or trouble with the database.
pub async fn set_photos_under(
    db: &mut PgConnection,
    organisation: OrganisationId,
    prefix: &str,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_photos_under($1, $2)", organisation.0, prefix)
        .execute(db)
        .await
        .map(|_| ())
}

/// A part of the store for a new organisation that nobody has named one for.
///
/// # Errors
/// An error of the database.
pub async fn part_of_store(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<String> {
    sqlx::query_scalar!(r#"SELECT part_of_store($1) AS "part!""#, organisation.0)
        .fetch_one(db)
        .await
}

/// Which of these keys are not in the organisation's part of the store: their places in the list.
///
/// # Errors
/// An error of the database.
pub async fn keys_outside(
    db: &mut PgConnection,
    organisation: OrganisationId,
    keys: &[String],
) -> sqlx::Result<Vec<usize>> {
    let places = sqlx::query_scalar!("SELECT keys_outside($1, $2)", organisation.0, keys)
        .fetch_one(db)
        .await?;
    let places = places.unwrap_or_default().into_iter();
    Ok(places.filter_map(|place| usize::try_from(place - 1).ok()).collect())
}

/// Whether another organisation may use all of the store, too.
///
/// # Errors
/// An error of the database.
pub async fn shares_store(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<bool> {
    let shares =
        sqlx::query_scalar!("SELECT shares_store($1)", organisation.0).fetch_one(db).await?;
    Ok(shares.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_an_amount_and_a_currency() {
        assert_eq!(
            "0.0500 EUR".parse::<Price>().map(|price| price.to_string()),
            Ok("0.05 EUR".into())
        );
        for wrong in
            ["", "5", "5 eur", "5 EURO", "-1 EUR", "0.00001 EUR", "1e3 EUR", "10000000 EUR"]
        {
            assert!(wrong.parse::<Price>().is_err(), "{wrong}");
        }
    }
}
