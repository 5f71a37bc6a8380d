//! Credit comes in. A top-up that arrives twice is credited once.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    catalog::organisations::Price,
    database,
    ids::{JobId, OrganisationId},
    ledger::credits::Credits,
};

/// Why credit comes in.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "top_up_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TopUpKind {
    /// Bought, at the organisation's price of the moment.
    Purchase,
    /// Granted by staff.
    AdminGrant,
    /// A gift.
    FreeCredits,
    /// Support's adjustment; may be negative, down to what is available.
    Refund,
}

/// A top-up to be made.
#[derive(Debug, Clone, Copy)]
pub struct TopUp<'a> {
    /// Whose account.
    pub organisation: OrganisationId,
    /// Why.
    pub kind: TopUpKind,
    /// How many; not 0.
    pub amount: Credits,
    /// Who did it: an e-mail address, or `System`.
    pub actor: &'a str,
    /// For people.
    pub note: &'a str,
    /// Chosen by the caller, the same for every try of the same top-up.
    pub idempotency_key: &'a str,
}

/// What a top-up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Credited {
    /// Its transaction in the ledger.
    pub transaction: JobId,
    /// False: the same top-up had been credited before, and nothing changed.
    pub credited: bool,
    /// Now.
    pub available: Credits,
    /// Paused queues go on: workers should be told.
    pub resumed: bool,
}

/// Why a top-up was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum TopUpError {
    /// There is no such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// The key stands for something else.
    #[error("the idempotency key {0:?} was used for another top-up: choose a new one")]
    KeyReused(String),
    /// Custom billing, or none: nothing can be bought.
    #[error(
        "organisation {0} has no price per credit: set one with `photogate organisations price`, or grant the credits"
    )]
    NoPrice(OrganisationId),
    /// An adjustment of more than there is.
    #[error("{0}: an adjustment cannot take more")]
    NotEnoughCredits(String),
    /// Not an amount, or not for this kind.
    #[error(
        "{0} credits cannot be topped up as {1:?}: only a refund may be negative, and none may be 0 or above 1,000,000,000"
    )]
    BadAmount(Credits, TopUpKind),
    /// The database has trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Credits an account, and lifts the pause of its queues, in one transaction.
///
/// # Errors
/// See [`TopUpError`].
pub async fn top_up(db: &mut PgConnection, top_up: TopUp<'_>) -> Result<Credited, TopUpError> {
    sqlx::query_as!(
        Credited,
        r#"SELECT r_transaction AS "transaction!: _", r_credited AS "credited!", r_available AS "available!: _", r_resumed AS "resumed!"
           FROM top_up($1, $2, $3, $4, $5, $6)"#,
        top_up.organisation.0,
        top_up.kind as TopUpKind,
        top_up.amount.0,
        top_up.actor,
        top_up.note,
        top_up.idempotency_key
    )
    .fetch_one(db)
    .await
    .map_err(|error| match error {
        error if database::is_code(&error, database::NOT_FOUND) => TopUpError::NoOrganisation(top_up.organisation),
        error if database::is_code(&error, database::NO_PRICE) => TopUpError::NoPrice(top_up.organisation),
        error if database::is_code(&error, database::KEY_REUSED) => TopUpError::KeyReused(top_up.idempotency_key.to_owned()),
        error if database::is_code(&error, database::NOT_ENOUGH_CREDITS) => {
            TopUpError::NotEnoughCredits(error.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default())
        }
        error if database::is_refusal(&error) => TopUpError::BadAmount(top_up.amount, top_up.kind),
        error => error.into(),
    })
}

/// Whether nobody else is bringing in a top-up with this key; if so, nobody else can until the transaction ends.
///
/// # Errors
/// When the database has trouble.
pub async fn is_alone(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    idempotency_key: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock(hashtextextended('top_up ' || $1::bigint || ' ' || $2, 0)) AS "alone!""#,
        organisation.0,
        idempotency_key
    )
    .fetch_one(tx)
    .await
}

/// What a credit of this purchase cost. `None`: it is no purchase, or from before there were prices.
///
/// # Errors
/// When the database has trouble.
pub async fn price(db: &mut PgConnection, transaction: JobId) -> sqlx::Result<Option<Price>> {
    let found = sqlx::query!(
        "SELECT price_per_credit, currency FROM top_up WHERE transaction_id = $1",
        transaction.0
    )
    .fetch_one(db)
    .await?;
    let price = found.price_per_credit.zip(found.currency);
    Ok(price.map(|(per_credit, currency)| Price { per_credit, currency }))
}
