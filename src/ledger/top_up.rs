//! Top-ups. A top-up that is sent twice is credited once.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    catalog::organisations::Price,
    database,
    ids::{JobId, OrganisationId},
    ledger::credits::Credits,
};

/// Why credits come into an account.
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
    /// Credits were bought, at the organisation's current price.
    Purchase,
    /// Staff granted credits to the organisation.
    AdminGrant,
    /// The organisation got credits as a gift.
    FreeCredits,
    /// Staff corrects the account. The amount may be negative, but not below 0 available.
    Adjustment,
}

/// A top-up that is requested.
#[derive(Debug, Clone, Copy)]
pub struct TopUp<'a> {
    /// The organisation whose account changes.
    pub organisation: OrganisationId,
    /// The kind of top-up.
    pub kind: TopUpKind,
    /// Number of credits; not 0.
    pub amount: Credits,
    /// Who does it: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: &'a str,
    /// A note for people; may be empty.
    pub note: &'a str,
    /// A key that the caller chooses. Every try of the same top-up must have the same key.
    pub idempotency_key: &'a str,
}

impl TopUp<'_> {
    /// What an error of the database's functions means.
    pub(super) fn refusal(&self, error: sqlx::Error) -> TopUpError {
        let said =
            || error.as_database_error().map(|said| said.message().to_owned()).unwrap_or_default();
        let is = |code| database::is_code(&error, code);
        if is(database::NOT_FOUND) {
            TopUpError::NoOrganisation(self.organisation)
        } else if is(database::NO_PRICE) {
            TopUpError::NoPrice(self.organisation)
        } else if is(database::KEY_REUSED) {
            TopUpError::KeyReused(self.idempotency_key.to_owned())
        } else if is(database::NOT_ENOUGH_CREDITS) {
            TopUpError::NotEnoughCredits(said())
        } else if is(database::LIMIT_REACHED) {
            TopUpError::TooManyRequests(said())
        } else if database::is_refusal(&error) {
            TopUpError::BadAmount(self.amount, self.kind)
        } else {
            error.into()
        }
    }
}

/// The result of a top-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Credited {
    /// The top-up's transaction in the ledger.
    pub transaction: JobId,
    /// False if the same top-up had been credited before; then nothing changed.
    pub credited: bool,
    /// Available credits after the top-up.
    pub available: Credits,
    /// True if paused queues were resumed; then the caller should send a wake-up to the workers.
    pub resumed: bool,
}

/// Why a top-up was refused. Nothing changed then.
#[derive(Debug, thiserror::Error)]
pub enum TopUpError {
    /// There is no such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// The idempotency key was used for another top-up.
    #[error("the idempotency key {0:?} was used for another top-up: choose a new one")]
    KeyReused(String),
    /// The organisation cannot buy credits: it has no price, or staff have switched that off.
    #[error(
        "organisation {0} cannot buy credits: it has no price per credit, its purchases are switched \
         off, or it has custom billing (`photogate organisations price` and `change`). Grant the \
         credits instead"
    )]
    NoPrice(OrganisationId),
    /// An adjustment would take more credits than are available.
    #[error("{0}: an adjustment cannot take more")]
    NotEnoughCredits(String),
    /// Too many purchases of the organisation wait for approval.
    #[error("{0}")]
    TooManyRequests(String),
    /// The amount is out of bounds, or not allowed for this kind.
    #[error(
        "{0} credits cannot be topped up as {1:?}: \
         only an adjustment may be negative, and none may be 0 or above 1,000,000,000"
    )]
    BadAmount(Credits, TopUpKind),
    /// The database has trouble.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
}

/// Credits an account and resumes its paused queues, in one transaction.
///
/// # Errors
/// See [`TopUpError`].
pub async fn top_up(db: &mut PgConnection, top_up: TopUp<'_>) -> Result<Credited, TopUpError> {
    sqlx::query_as!(
        Credited,
        r#"SELECT r_transaction AS "transaction!: _", r_credited AS "credited!",
                  r_available AS "available!: _", r_resumed AS "resumed!"
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
    .map_err(|error| top_up.refusal(error))
}

/// Tries to lock an idempotency key. Returns true if no other transaction has it locked. Then no
/// other transaction can lock it until this one ends.
///
/// # Errors
/// When the database has trouble.
pub async fn is_alone(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    idempotency_key: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock(
               hashtextextended('top_up ' || $1::bigint || ' ' || $2, 0)) AS "alone!""#,
        organisation.0,
        idempotency_key
    )
    .fetch_one(tx)
    .await
}

/// Returns the price per credit of a purchase. `None`: the top-up is not a purchase, or it was made
/// before prices existed.
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
