//! Payments: what a payment provider says of purchases. A payment becomes credits once, or is kept
//! for finance with the reason.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{credits::Credits, purchases::State};
use crate::ids::{JobId, OrganisationId, PaymentId, PurchaseId};

/// Why a payment did not become credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "payment_kept", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = PaymentKept)]
pub enum Kept {
    /// It names no purchase of ours.
    UnknownPurchase,
    /// The amount or the currency is not that of the purchase.
    WrongAmount,
    /// The purchase was credited before: it was paid twice.
    PaidBefore,
    /// Staff have not approved the purchase.
    NotApproved,
    /// The purchase was refused or withdrawn.
    Refused,
    /// Another top-up has used the idempotency key of the purchase.
    KeyReused,
}

impl Kept {
    /// The reason in words.
    pub fn says(self) -> &'static str {
        match self {
            Self::UnknownPurchase => "it names no purchase of ours",
            Self::WrongAmount => "the amount or the currency is not that of the purchase",
            Self::PaidBefore => "the purchase was credited before: it was paid twice",
            Self::NotApproved => "staff have not approved the purchase",
            Self::Refused => "the purchase was refused or withdrawn",
            Self::KeyReused => "another top-up has used the key of the purchase",
        }
    }
}

/// A payment that a provider has reported.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Payment {
    /// The payment's number.
    pub id: PaymentId,
    /// The provider.
    pub provider: String,
    /// The provider's own ID of the payment.
    pub reference: String,
    /// The purchase that the payment names, as the provider sent it.
    pub purchase: String,
    /// The purchase request; null if it names none of ours.
    pub request: Option<PurchaseId>,
    /// The organisation; null if it is not known.
    pub organisation: Option<OrganisationId>,
    /// The amount, in the smallest unit of the currency.
    pub amount: i64,
    /// The currency.
    pub currency: String,
    /// When the provider reported it.
    pub received_at: DateTime<Utc>,
    /// The top-up that it has made; null if it was kept for finance.
    pub transaction: Option<JobId>,
    /// Why no credits were added; null if they were.
    pub kept: Option<Kept>,
    /// When somebody dealt with a payment that was kept; null if nobody has.
    pub settled_at: Option<DateTime<Utc>>,
    /// Who did.
    pub settled_by: Option<String>,
    /// What was done.
    pub settled_note: Option<String>,
}

/// A payment, as a provider reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The provider's own ID of the payment.
    pub reference: String,
    /// The purchase that it names, as it was sent; empty if it names none.
    pub purchase: String,
    /// The amount, in the smallest unit of the currency.
    pub amount: i64,
    /// The currency.
    pub currency: String,
}

/// What a purchase is called at a provider begins so: the provider may have payments for others.
const OURS: &str = "photogate-";

/// What a purchase is called at a provider.
pub fn name_of(purchase: PurchaseId) -> String {
    format!("{OURS}{purchase}")
}

/// The purchase of this name; `None` if it is no name of ours.
pub fn named(name: &str) -> Option<PurchaseId> {
    name.strip_prefix(OURS)?.parse().ok()
}

/// What became of a payment that was reported.
#[derive(Debug)]
pub struct Received {
    /// The payment's number.
    pub payment: PaymentId,
    /// False if it was known: nothing changed.
    pub is_new: bool,
    /// Why no credits were added; `None` if they were.
    pub kept: Option<Kept>,
    /// The top-up that it has made.
    pub transaction: Option<JobId>,
    /// The organisation, if it is known.
    pub organisation: Option<OrganisationId>,
    /// The credits of the purchase.
    pub credits: Option<Credits>,
    /// Paused queues go on.
    pub resumed: bool,
}

/// Books a payment that a provider has reported, or keeps it for finance. `tx` must be a
/// transaction.
///
/// # Errors
/// When the database has trouble: then it must be reported again.
pub async fn receive(tx: &mut PgConnection, provider: &str, paid: &Paid) -> sqlx::Result<Received> {
    sqlx::query_as!(
        Received,
        r#"SELECT r_payment AS "payment!: _", r_is_new AS "is_new!", r_kept AS "kept: _",
                  r_transaction AS "transaction: _", r_organisation AS "organisation: _",
                  r_credits AS "credits: _", r_resumed AS "resumed!"
           FROM receive_payment($1, $2, $3, $4, $5, $6)"#,
        provider,
        paid.reference,
        paid.purchase,
        named(&paid.purchase).map(|purchase| purchase.0),
        paid.amount,
        paid.currency
    )
    .fetch_one(tx)
    .await
}

/// Ends a purchase that will not be paid. Returns its organisation and credits; `None` if it did not
/// wait for a payment.
///
/// # Errors
/// When the database has trouble.
pub async fn end(
    tx: &mut PgConnection,
    provider: &str,
    purchase: PurchaseId,
    state: State,
) -> sqlx::Result<Option<(OrganisationId, Credits)>> {
    let row = sqlx::query!(
        r#"SELECT r_ended AS "ended!", r_organisation AS "organisation: OrganisationId",
                  r_credits AS "credits: Credits"
           FROM end_unpaid_purchase($1, $2, $3)"#,
        provider,
        purchase.0,
        state as State
    )
    .fetch_one(tx)
    .await?;
    Ok(row.organisation.zip(row.credits).filter(|_| row.ended))
}

/// From now on, purchases wait for a payment. Returns false if that changes nothing.
///
/// # Errors
/// When the database has trouble.
pub async fn use_provider(
    tx: &mut PgConnection,
    provider: &str,
    pay_at: Option<&str>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT use_payment_provider($1, $2) AS "changed!""#, provider, pay_at)
        .fetch_one(tx)
        .await
}

/// From now on, purchases are credited at once. Returns false if that changes nothing.
///
/// # Errors
/// When the database has trouble.
pub async fn use_no_provider(tx: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT use_no_payment_provider() AS "changed!""#).fetch_one(tx).await
}

/// The provider that purchases wait for, if there is one.
///
/// # Errors
/// When the database has trouble.
pub async fn provider(db: &mut PgConnection) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("SELECT provider FROM payment_provider").fetch_optional(db).await
}

/// Notes that somebody has dealt with a payment that was kept. Returns false if nothing was left to
/// do.
///
/// # Errors
/// When the database has trouble.
pub async fn settle(
    tx: &mut PgConnection,
    payment: PaymentId,
    actor: &str,
    note: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT settle_payment($1, $2, $3) AS "settled!""#,
        payment.0,
        actor,
        note
    )
    .fetch_one(tx)
    .await
}

/// Which payments to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only those of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only those that were kept for finance, and that nobody has dealt with.
    pub open: bool,
    /// Only this one.
    pub id: Option<PaymentId>,
    /// Only those with a lower number: the last one of the page before.
    pub below: Option<i64>,
}

/// Lists payments, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, filter: Filter, most: i64) -> sqlx::Result<Vec<Payment>> {
    sqlx::query_as!(
        Payment,
        r#"SELECT payment_id AS "id: _", provider, reference, purchase, request_id AS "request: _",
                  organisation_id AS "organisation: _", amount, currency, received_at,
                  transaction_id AS "transaction: _", kept AS "kept: _", settled_at, settled_by,
                  settled_note
           FROM payment
           WHERE ($1::bigint IS NULL OR organisation_id = $1)
             AND (NOT $2 OR kept IS NOT NULL AND settled_at IS NULL)
             AND payment_id < $3 AND ($5::bigint IS NULL OR payment_id = $5)
           ORDER BY payment_id DESC LIMIT $4"#,
        filter.organisation.map(|organisation| organisation.0),
        filter.open,
        filter.below.unwrap_or(i64::MAX),
        most,
        filter.id.map(|payment| payment.0)
    )
    .fetch_all(db)
    .await
}
