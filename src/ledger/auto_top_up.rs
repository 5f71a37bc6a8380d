//! Automatic top-ups: what an organisation has decided, and how it stands. Workers buy.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    credits::Credits,
    purchases::{self, WaitsFor},
};
use crate::{
    catalog::organisations::Price,
    ids::{OrganisationId, PurchaseId},
};

/// How an automatic top-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AutoTopUpState)]
pub enum State {
    /// It buys nothing.
    Off,
    /// It buys as soon as the available credits are fewer.
    On,
    /// It is on, and waits: `reason` says for what.
    Waits,
    /// It has stopped: `reason` says why. It buys nothing until somebody switches it on again.
    Stopped,
}

/// What keeps an automatic top-up from buying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "auto_top_up_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = AutoTopUpReason)]
pub enum Reason {
    /// Stopped: somebody refused or withdrew one of its purchases.
    Refused,
    /// Stopped: nobody decided on one of its purchases, or paid it, in time.
    Expired,
    /// Stopped: the payment of one of its purchases has failed.
    Failed,
    /// Stopped: a credit costs more than when it was switched on, or has another currency.
    PriceChanged,
    /// Its purchase waits until staff approve it.
    Approval,
    /// Its purchase waits until it is paid.
    Payment,
    /// The organisation cannot buy any more: it has no price, or staff have switched that off.
    NoPrice,
    /// The next purchase would be above its own limit of the month.
    MonthUsedUp,
    /// Too many purchases of the organisation wait already.
    TooManyRequests,
    /// The database did not take the purchase; it is tried again every minute.
    Trouble,
}

impl Reason {
    /// What it means for the organisation, and what to do.
    pub fn says(self) -> &'static str {
        match self {
            Self::Refused => {
                "It has stopped: one of its purchases was refused or withdrawn. Switch it on again \
                 to go on."
            }
            Self::Expired => {
                "It has stopped: one of its purchases has expired. Switch it on again to go on."
            }
            Self::Failed => {
                "It has stopped: the payment of one of its purchases has failed. Switch it on again \
                 to go on."
            }
            Self::PriceChanged => {
                "It has stopped: the price of a credit has changed. Look at the new price, and \
                 switch it on again."
            }
            Self::Approval => {
                "Its purchase is above the organisation's limit of the month, and waits until staff \
                 approve it. It buys nothing more until then."
            }
            Self::Payment => {
                "Its purchase waits until it is paid. It buys nothing more until then."
            }
            Self::NoPrice => "It waits: the organisation cannot buy credits now. Contact support.",
            Self::MonthUsedUp => {
                "It waits for the next month: one more purchase would be above its limit of the \
                 month. Raise that limit, or add credits."
            }
            Self::TooManyRequests => {
                "It waits: too many purchases wait already. Withdraw some of them."
            }
            Self::Trouble => {
                "It waits: its purchase could not be made. It tries again every minute; support can \
                 see why."
            }
        }
    }
}

/// The automatic top-up of an organisation: when fewer than `below` credits are available, `credits`
/// are bought, at most `monthly_max` in a month.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AutoTopUp {
    /// The organisation.
    pub organisation: OrganisationId,
    /// How it stands.
    pub state: State,
    /// What keeps it from buying; null if nothing does, or if it is off.
    pub reason: Option<Reason>,
    /// The same in a sentence, and what to do.
    pub says: Option<&'static str>,
    /// It buys when fewer credits than this are available; null if it was never switched on.
    pub below: Option<Credits>,
    /// So many credits are bought at once.
    pub credits: Option<Credits>,
    /// At most so many are bought in a month.
    pub monthly_max: Option<Credits>,
    /// The price of one credit that somebody has agreed to. It buys at this price or a lower one.
    pub price: Option<Price>,
    /// Credits that it has bought this month.
    pub bought_this_month: Credits,
    /// Its purchase that waits.
    pub request: Option<PurchaseId>,
    /// Who switched it on or off, or changed it last.
    pub set_by: Option<String>,
    /// When that was.
    pub set_at: Option<DateTime<Utc>>,
    /// When it stopped.
    pub stopped_at: Option<DateTime<Utc>>,
}

/// Reads an organisation's automatic top-up; `None` if there is no such organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn read(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<Option<AutoTopUp>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT o.organisation_id AS "organisation: _", u.switched_on AS "switched_on?",
                  u.below AS "below?: _", u.credits AS "credits?: _",
                  u.monthly_max AS "monthly_max?: _", u.price_per_credit AS "price_per_credit?",
                  u.currency AS "currency?", u.set_by AS "set_by?", u.set_at AS "set_at?",
                  u.stopped AS "stopped?: _", u.stopped_at AS "stopped_at?",
                  u.waits_for AS "waits_for?: _", r.request_id AS "request?: _",
                  r.state AS "request_state?: _",
                  (SELECT coalesce(sum(t.amount), 0) FROM top_up t
                   WHERE t.organisation_id = o.organisation_id AND t.kind = 'purchase'
                     AND t.actor = 'auto top-up'
                     AND t.shown_at >= day_begins(month_of(clock(), o.time_zone), o.time_zone)
                  )::bigint AS "bought!: Credits"
           FROM organisation o
           LEFT JOIN auto_top_up u USING (organisation_id)
           LEFT JOIN purchase_request r ON r.organisation_id = o.organisation_id
               AND r.actor = 'auto top-up' AND r.state IN ('pending', 'unpaid')
           WHERE o.organisation_id = $1"#,
        organisation.0
    );
    Ok(row.fetch_optional(db).await?.map(AutoTopUp::from))
}

/// Switches it on, at the organisation's present price. Returns false if that changes nothing. `tx`
/// must be a transaction.
///
/// # Errors
/// `PG002` if there is no such organisation, `PG007` if it has no price, or trouble with the
/// database.
pub async fn switch_on(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    below: Credits,
    credits: Credits,
    monthly_max: Credits,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT set_auto_top_up($1, $2, $3, $4, $5) AS "changed!""#,
        organisation.0,
        below.0,
        credits.0,
        monthly_max.0,
        actor
    )
    .fetch_one(tx)
    .await
}

/// Switches it off. Returns false if it was off.
///
/// # Errors
/// When the database has trouble.
pub async fn switch_off(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT switch_auto_top_up_off($1, $2) AS "changed!""#,
        organisation.0,
        actor
    )
    .fetch_one(tx)
    .await
}

/// The first organisation after this one that is to buy now.
///
/// # Errors
/// When the database has trouble.
pub async fn next_due(
    db: &mut PgConnection,
    after: OrganisationId,
) -> sqlx::Result<Option<OrganisationId>> {
    sqlx::query_scalar!(r#"SELECT next_auto_top_up($1) AS "next: OrganisationId""#, after.0)
        .fetch_one(db)
        .await
}

/// What a look at an organisation brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bought {
    /// Credits were added, or asked for.
    pub bought: bool,
    /// Paused queues go on; then the caller should send a wake-up to the workers.
    pub resumed: bool,
}

/// Buys for an organisation, once, if it is to buy now. It is a transaction of its own.
///
/// # Errors
/// When the database has trouble, or refuses it: nothing is bought then.
pub async fn buy(db: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<Bought> {
    sqlx::query_as!(
        Bought,
        r#"SELECT r_bought AS "bought!", r_resumed AS "resumed!" FROM top_up_automatically($1)"#,
        organisation.0
    )
    .fetch_one(db)
    .await
}

/// Notes that the database has refused a purchase. It is tried again after a minute.
///
/// # Errors
/// When the database has trouble.
pub async fn put_off(db: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<()> {
    sqlx::query!("SELECT put_off_auto_top_up($1)", organisation.0).execute(db).await.map(|_| ())
}

struct Row {
    organisation: OrganisationId,
    switched_on: Option<bool>,
    below: Option<Credits>,
    credits: Option<Credits>,
    monthly_max: Option<Credits>,
    price_per_credit: Option<Decimal>,
    currency: Option<String>,
    set_by: Option<String>,
    set_at: Option<DateTime<Utc>>,
    stopped: Option<Reason>,
    stopped_at: Option<DateTime<Utc>>,
    waits_for: Option<Reason>,
    request: Option<PurchaseId>,
    request_state: Option<purchases::State>,
    bought: Credits,
}

impl From<Row> for AutoTopUp {
    fn from(row: Row) -> Self {
        let asked = row.request_state.map(|state| match state.waits_for() {
            Some(WaitsFor::Payment) => Reason::Payment,
            Some(WaitsFor::Approval) | None => Reason::Approval,
        });
        let (state, reason) = match (row.switched_on, row.stopped, asked.or(row.waits_for)) {
            (None | Some(false), ..) => (State::Off, None),
            (Some(true), Some(why), _) => (State::Stopped, Some(why)),
            (Some(true), None, Some(what)) => (State::Waits, Some(what)),
            (Some(true), None, None) => (State::On, None),
        };
        let price = row.price_per_credit.zip(row.currency);
        Self {
            organisation: row.organisation,
            state,
            reason,
            says: reason.map(Reason::says),
            below: row.below,
            credits: row.credits,
            monthly_max: row.monthly_max,
            price: price.map(|(per_credit, currency)| Price { per_credit, currency }),
            bought_this_month: row.bought,
            request: row.request,
            set_by: row.set_by,
            set_at: row.set_at,
            stopped_at: row.stopped_at,
        }
    }
}
