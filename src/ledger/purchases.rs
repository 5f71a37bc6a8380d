//! Purchases, and those that wait: for approval, above the organisation's limit of the month, and
//! for their payment, where there is a payment provider.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    credits::Credits,
    payments,
    top_up::{Credited, TopUp, TopUpError, TopUpKind},
};
use crate::{
    catalog::organisations::Price,
    ids::{JobId, OrganisationId, PurchaseId},
};

/// What became of a purchase that waits, or waited, for approval or payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "purchase_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = PurchaseState)]
pub enum State {
    /// Staff have not decided yet.
    Pending,
    /// It must be paid; staff have approved it, or need not.
    Unpaid,
    /// Staff approved it, and the credits were added.
    Approved,
    /// It was paid, and the credits were added.
    Paid,
    /// Somebody refused it, or the organisation withdrew it.
    Refused,
    /// Nobody decided, or nobody paid, in time.
    Expired,
    /// The payment has failed.
    Failed,
}

impl State {
    /// The state's name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unpaid => "unpaid",
            Self::Approved => "approved",
            Self::Paid => "paid",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// What a purchase in this state waits for; `None` if it has ended.
    pub fn waits_for(self) -> Option<WaitsFor> {
        match self {
            Self::Pending => Some(WaitsFor::Approval),
            Self::Unpaid => Some(WaitsFor::Payment),
            Self::Approved | Self::Paid | Self::Refused | Self::Expired | Self::Failed => None,
        }
    }
}

/// What a purchase waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Staff approve or refuse it.
    Approval,
    /// The customer pays it.
    Payment,
}

impl WaitsFor {
    /// As pages and the command line say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Payment => "payment",
        }
    }
}

/// A purchase that waits, or waited, for approval or payment. No credits were added unless it is
/// approved or paid.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PurchaseRequest {
    /// The number of the request.
    pub id: PurchaseId,
    /// The organisation that wants to buy.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub organisation_name: String,
    /// Number of credits.
    pub credits: Credits,
    /// The price of one credit that the buyer saw.
    pub price: Price,
    /// What all of them cost, in that currency, with its decimals.
    pub amount: Decimal,
    /// Who asked: an e-mail address, or the name of a token.
    pub actor: String,
    /// The buyer's note.
    pub note: String,
    /// The time when it was asked for.
    pub asked_at: DateTime<Utc>,
    /// It expires at this time, if nobody decides or pays.
    pub expires_at: DateTime<Utc>,
    /// What became of it.
    pub state: State,
    /// What it waits for; `None` if it has ended.
    pub waits_for: Option<WaitsFor>,
    /// Where the customer pays it; `None` if it does not wait for a payment.
    pub pay_at: Option<String>,
    /// The time when staff approved it.
    pub approved_at: Option<DateTime<Utc>>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// The time when it ended; `None` while it waits.
    pub decided_at: Option<DateTime<Utc>>,
    /// Who ended it; `System` if it expired, the payment provider if it was paid or its payment
    /// failed.
    pub decided_by: Option<String>,
    /// The top-up that the approval or the payment made.
    pub transaction: Option<JobId>,
}

/// The result of a purchase.
#[derive(Debug)]
pub enum Purchase {
    /// The credits were added, now or by the same purchase before.
    Credited(Credited),
    /// It waits for approval or payment, or waited.
    Asked {
        /// The request.
        request: Box<PurchaseRequest>,
        /// False if the same purchase had been asked for before.
        is_new: bool,
    },
}

/// Buys credits, or asks for approval if the purchases of the month would be above the
/// organisation's limit, or for the payment.
///
/// # Errors
/// See [`TopUpError`].
pub async fn purchase(tx: &mut PgConnection, asked: TopUp<'_>) -> Result<Purchase, TopUpError> {
    debug_assert_eq!(asked.kind, TopUpKind::Purchase, "only purchases have a limit");
    let row = sqlx::query!(
        r#"SELECT r_request AS "request: PurchaseId", r_asked AS "asked!",
                  r_transaction AS "transaction: JobId", r_credited AS "credited",
                  r_available AS "available: Credits", r_resumed AS "resumed"
           FROM purchase($1, $2, $3, $4, $5)"#,
        asked.organisation.0,
        asked.amount.0,
        asked.actor,
        asked.note,
        asked.idempotency_key
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(|error| asked.refusal(error))?;
    if let Some(id) = row.request {
        let request = Box::new(find(tx, id).await?.ok_or(sqlx::Error::RowNotFound)?);
        return Ok(Purchase::Asked { request, is_new: row.asked });
    }
    Ok(Purchase::Credited(Credited {
        transaction: row.transaction.ok_or(sqlx::Error::RowNotFound)?,
        credited: row.credited == Some(true),
        available: row.available.ok_or(sqlx::Error::RowNotFound)?,
        resumed: row.resumed == Some(true),
    }))
}

/// Approves or refuses a request that waits. Returns whether it was decided now, and whether
/// paused queues were resumed. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such request, `PG003` and `PG006` if it cannot be approved any more, or
/// trouble with the database.
pub async fn decide(
    tx: &mut PgConnection,
    request: PurchaseId,
    approve: bool,
    actor: &str,
) -> sqlx::Result<(bool, bool)> {
    let row = sqlx::query!(
        r#"SELECT r_decided AS "decided!", r_resumed AS "resumed!"
           FROM decide_purchase($1, $2, $3)"#,
        request.0,
        approve,
        actor
    )
    .fetch_one(tx)
    .await?;
    Ok((row.decided, row.resumed))
}

/// Finds a request; `None` if there is no such request.
///
/// # Errors
/// When the database has trouble.
pub async fn find(
    db: &mut PgConnection,
    request: PurchaseId,
) -> sqlx::Result<Option<PurchaseRequest>> {
    let found = sqlx::query_as!(
        Row,
        r#"SELECT r.request_id AS "id: _", r.organisation_id AS "organisation: _",
                  o.name AS organisation_name, r.credits AS "credits: _", r.price_per_credit,
                  r.currency, r.actor, r.note, r.asked_at, r.expires_at, r.state AS "state: _",
                  r.approved_at, r.approved_by, r.decided_at, r.decided_by,
                  r.transaction_id AS "transaction: _", p.pay_at AS "pay_at?",
                  amount_due(r.credits, r.price_per_credit, r.currency) AS "smallest_units!",
                  decimals_of(r.currency) AS "decimals!"
           FROM purchase_request r JOIN organisation o USING (organisation_id)
           LEFT JOIN payment_provider p ON r.state = 'unpaid'
           WHERE r.request_id = $1"#,
        request.0
    );
    Ok(found.fetch_optional(db).await?.map(PurchaseRequest::from))
}

/// Which requests to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only those of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only those that wait.
    pub waiting: bool,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those with a lower number: the last one of the page before.
    pub below: Option<i64>,
}

/// Lists requests, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    filter: Filter,
    most: i64,
) -> sqlx::Result<Vec<PurchaseRequest>> {
    let found = sqlx::query_as!(
        Row,
        r#"SELECT r.request_id AS "id: _", r.organisation_id AS "organisation: _",
                  o.name AS organisation_name, r.credits AS "credits: _", r.price_per_credit,
                  r.currency, r.actor, r.note, r.asked_at, r.expires_at, r.state AS "state: _",
                  r.approved_at, r.approved_by, r.decided_at, r.decided_by,
                  r.transaction_id AS "transaction: _", p.pay_at AS "pay_at?",
                  amount_due(r.credits, r.price_per_credit, r.currency) AS "smallest_units!",
                  decimals_of(r.currency) AS "decimals!"
           FROM purchase_request r JOIN organisation o USING (organisation_id)
           LEFT JOIN payment_provider p ON r.state = 'unpaid'
           WHERE ($1::bigint IS NULL OR r.organisation_id = $1)
             AND ($2::purchase_state IS NULL OR r.state = $2)
             AND r.request_id < $3 AND (NOT $5 OR r.state IN ('pending', 'unpaid'))
           ORDER BY r.request_id DESC LIMIT $4"#,
        filter.organisation.map(|organisation| organisation.0),
        filter.state as Option<State>,
        filter.below.unwrap_or(i64::MAX),
        most,
        filter.waiting
    );
    Ok(found.fetch_all(db).await?.into_iter().map(PurchaseRequest::from).collect())
}

/// How many credits the organisation can still buy this month without approval.
///
/// # Errors
/// When the database has trouble.
pub async fn left(db: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<Credits> {
    sqlx::query_scalar!(
        r#"SELECT greatest(0, o.purchase_limit - (
                      SELECT coalesce(sum(t.amount), 0) FROM top_up t
                      WHERE t.organisation_id = $1 AND t.kind = 'purchase'
                        AND t.shown_at >= date_trunc('month', now() AT TIME ZONE o.time_zone)
                                          AT TIME ZONE o.time_zone) - (
                      SELECT coalesce(sum(r.credits), 0) FROM purchase_request r
                      WHERE r.organisation_id = $1 AND r.state = 'unpaid'))::bigint
                  AS "left!: Credits"
           FROM organisation o WHERE o.organisation_id = $1"#,
        organisation.0
    )
    .fetch_one(db)
    .await
}

struct Row {
    id: PurchaseId,
    organisation: OrganisationId,
    organisation_name: String,
    credits: Credits,
    price_per_credit: Decimal,
    currency: String,
    actor: String,
    note: String,
    asked_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    state: State,
    approved_at: Option<DateTime<Utc>>,
    approved_by: Option<String>,
    decided_at: Option<DateTime<Utc>>,
    decided_by: Option<String>,
    transaction: Option<JobId>,
    /// With names of what to put in.
    pay_at: Option<String>,
    smallest_units: Decimal,
    decimals: i32,
}

impl Row {
    /// What it costs.
    fn amount(&self) -> Decimal {
        let decimals = u32::try_from(self.decimals).unwrap_or_default();
        let whole = self.smallest_units.normalize();
        let unit = Decimal::from(10_i64.pow(decimals));
        let mut amount = whole.checked_div(unit).unwrap_or(whole);
        amount.rescale(decimals);
        amount
    }

    /// Where it is paid. What is put in has no characters with a meaning in an address.
    fn pay_at(&self) -> Option<String> {
        let mut address = self.pay_at.clone()?;
        for (name, value) in [
            ("{purchase}", payments::name_of(self.id)),
            ("{amount}", self.amount().to_string()),
            ("{amount_minor}", self.smallest_units.normalize().to_string()),
            ("{credits}", self.credits.0.to_string()),
            ("{currency}", self.currency.clone()),
        ] {
            address = address.replace(name, &value);
        }
        Some(address)
    }
}

impl From<Row> for PurchaseRequest {
    fn from(row: Row) -> Self {
        Self {
            amount: row.amount(),
            pay_at: row.pay_at(),
            waits_for: row.state.waits_for(),
            approved_at: row.approved_at,
            approved_by: row.approved_by,
            id: row.id,
            organisation: row.organisation,
            organisation_name: row.organisation_name,
            credits: row.credits,
            price: Price { per_credit: row.price_per_credit, currency: row.currency },
            actor: row.actor,
            note: row.note,
            asked_at: row.asked_at,
            expires_at: row.expires_at,
            state: row.state,
            decided_at: row.decided_at,
            decided_by: row.decided_by,
            transaction: row.transaction,
        }
    }
}
