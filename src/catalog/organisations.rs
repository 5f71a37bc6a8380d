//! Organisations: they own the credits.

use std::str::FromStr;

use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// An organisation.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Organisation {
    /// Its number.
    pub id: OrganisationId,
    /// As it calls itself.
    pub name: String,
    /// IANA name; its months begin and end there.
    pub time_zone: String,
    /// What a credit costs it; `None` where nothing can be bought.
    pub price: Option<Price>,
    /// Where its photos are in the store: its people can queue no others. Empty: anywhere.
    pub photos_under: String,
}

/// What a credit costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Price {
    /// In the currency; at most four decimals.
    pub per_credit: Decimal,
    /// ISO 4217: `EUR`.
    pub currency: String,
}

/// Not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no price: write an amount with at most four decimals and a currency, as in 0.05 EUR"
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

/// Sets what a credit costs an organisation from now on; `None`: nothing can be bought. What was bought keeps its price.
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

/// All organisations, by number.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Organisation>> {
    let rows = sqlx::query_as!(Row, r#"SELECT organisation_id AS "id: _", name, time_zone, price_per_credit, currency, photos_under FROM organisation ORDER BY organisation_id"#)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(Organisation::from).collect())
}

/// Organisations with this number, or whose name has this text in it: by name, or by number. `own`: only this one.
///
/// # Errors
/// When the database has trouble.
pub async fn search(
    db: &mut PgConnection,
    own: Option<OrganisationId>,
    text: &str,
    by_name: bool,
    most: i64,
) -> sqlx::Result<Vec<Organisation>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT organisation_id AS "id: _", name, time_zone, price_per_credit, currency, photos_under FROM organisation
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND (name ILIKE '%' || $2 || '%' OR organisation_id::text = $2)
           ORDER BY CASE WHEN $3 THEN lower(name) END, organisation_id LIMIT $4"#,
        own.map(|own| own.0),
        text,
        by_name,
        most
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Organisation::from).collect())
}

/// One organisation, `None` if there is no such.
///
/// # Errors
/// When the database has trouble.
pub async fn find(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<Option<Organisation>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT organisation_id AS "id: _", name, time_zone, price_per_credit, currency, photos_under FROM organisation WHERE organisation_id = $1"#,
        organisation.0
    );
    Ok(row.fetch_optional(db).await?.map(Organisation::from))
}

struct Row {
    id: OrganisationId,
    name: String,
    time_zone: String,
    price_per_credit: Option<Decimal>,
    currency: Option<String>,
    photos_under: String,
}

impl From<Row> for Organisation {
    fn from(row: Row) -> Self {
        let price = row.price_per_credit.zip(row.currency);
        Self {
            id: row.id,
            name: row.name,
            time_zone: row.time_zone,
            price: price.map(|(per_credit, currency)| Price { per_credit, currency }),
            photos_under: row.photos_under,
        }
    }
}

/// Says where an organisation's photos are in the store: its people can queue no others.
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
