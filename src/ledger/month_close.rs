//! A month of all organisations together, for whoever closes the books: opening, added, used,
//! refunded and closing of each, whether its ledger was checked to the end of the month, and what
//! was sold. They are computed from the month openings, so the cost does not grow with the ledger.

mod file;

use std::fmt;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{ids::OrganisationId, ledger::credits::Credits};

pub use file::write_csv;

/// The month that runs in UTC. An organisation may be in the next one already.
#[must_use]
pub fn this_month() -> NaiveDate {
    let today = Utc::now().date_naive();
    today.with_day(1).unwrap_or(today)
}

/// The last month that is over in UTC.
#[must_use]
pub fn last_month() -> NaiveDate {
    this_month().checked_sub_months(Months::new(1)).unwrap_or_default()
}

/// One organisation in a month, which begins and ends in its own time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MonthOfOrganisation)]
pub struct Close {
    /// The organisation.
    pub organisation: OrganisationId,
    /// Its name.
    pub name: String,
    /// Its time zone, as an IANA name.
    pub time_zone: String,
    /// The time when the month begins there.
    pub begins_at: DateTime<Utc>,
    /// The time when the next month begins there.
    pub ends_at: DateTime<Utc>,
    /// Whether the month is over: nothing can be booked in it any more.
    pub is_closed: bool,
    /// How the credits moved.
    pub sums: Sums,
    /// What purchases cost, one amount for each currency.
    pub sold: Vec<Amount>,
    /// Whether a full check of the books has passed the last entry of the month: entries, sums and
    /// the links that seal them were right.
    pub is_checked: bool,
}

/// How credits moved in a month: `opening + added - used + refunded = closing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = MonthSums)]
pub struct Sums {
    /// Available credits when the month began.
    pub opening: Credits,
    /// Credits from top-ups of every kind.
    pub added: Credits,
    /// Of these, bought.
    pub purchased: Credits,
    /// Of these, granted by staff, or a gift.
    pub granted: Credits,
    /// Of these, corrections by staff. They may be negative.
    pub adjusted: Credits,
    /// Credits that were reserved for photos.
    pub used: Credits,
    /// Credits that came back, because their photos were not processed.
    pub refunded: Credits,
    /// Available credits when the month ended; now, if it is not over.
    pub closing: Credits,
}

/// A month of all organisations.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = MonthClose)]
pub struct Closes {
    /// The first day of the month.
    pub month: NaiveDate,
    /// One for each organisation that was there, by name.
    pub items: Vec<Close>,
    /// All of them together.
    pub total: Sums,
    /// What purchases cost, all of them together, one amount for each currency.
    pub sold: Vec<Amount>,
}

/// Reads a month, given as its first day, of one organisation or of all. Months that are over are
/// closed first: then nothing can be booked in them, not even by a transaction that is under way.
///
/// # Errors
/// When the database has trouble.
pub async fn read(
    db: &mut PgConnection,
    month: NaiveDate,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Closes> {
    close(db, organisation).await?;
    let rows = sqlx::query!(
        r#"WITH here AS (
               SELECT o.*, day_begins($1, o.time_zone) AS begins_at,
                      day_begins(($1 + interval '1 month')::date, o.time_zone) AS ends_at
               FROM organisation o WHERE $2::bigint IS NULL OR o.organisation_id = $2)
           SELECT o.organisation_id AS "organisation: OrganisationId", o.name, o.time_zone,
                  o.begins_at AS "begins_at!", o.ends_at AS "ends_at!",
                  a.day >= ($1 + interval '1 month')::date AS "is_closed!",
                  b.available AS "opening!", e.available AS "closing!",
                  e.funded - b.funded AS "added!",
                  (e.funded - e.available) - (b.funded - b.available) + u.refunded AS "used!",
                  u.refunded AS "refunded!", t.purchased AS "purchased!", t.granted AS "granted!",
                  t.adjusted AS "adjusted!", s.currencies AS "currencies!: Vec<String>",
                  s.amounts AS "amounts!: Vec<Decimal>",
                  coalesce(c.entries, 0) >= e.entries AS "is_checked!"
           FROM here o
           JOIN account a USING (organisation_id)
           LEFT JOIN ledger_checked c USING (organisation_id)
           CROSS JOIN LATERAL opening_of(o.organisation_id, $1) b
           CROSS JOIN LATERAL opening_of(o.organisation_id, ($1 + interval '1 month')::date) e
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(refunded), 0)::bigint AS refunded FROM usage
               WHERE organisation_id = o.organisation_id AND first_refunded_at IS NOT NULL
                 AND day >= $1 AND day < ($1 + interval '1 month')::date) u
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(amount) FILTER (WHERE kind = 'purchase'), 0)::bigint AS purchased,
                      coalesce(sum(amount) FILTER (WHERE kind IN ('admin_grant', 'free_credits')), 0)::bigint
                      AS granted,
                      coalesce(sum(amount) FILTER (WHERE kind = 'adjustment'), 0)::bigint AS adjusted
               FROM top_up WHERE organisation_id = o.organisation_id
                 AND shown_at >= o.begins_at AND shown_at < o.ends_at) t
           CROSS JOIN LATERAL (
               SELECT coalesce(array_agg(currency ORDER BY currency), '{}') AS currencies,
                      coalesce(array_agg(amount ORDER BY currency), '{}') AS amounts
               FROM (SELECT currency, sum(amount * price_per_credit) AS amount
                     FROM top_up WHERE organisation_id = o.organisation_id
                       AND shown_at >= o.begins_at AND shown_at < o.ends_at AND currency IS NOT NULL
                     GROUP BY currency) p) s
           WHERE o.begins_at <= greatest(clock(), a.moved_at) AND EXISTS (
               SELECT FROM month m WHERE m.organisation_id = o.organisation_id AND m.month <= $1)
           ORDER BY lower(o.name), o.organisation_id"#,
        month,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await?;
    let (total, items, sold) = (Sums::default(), Vec::new(), Vec::new());
    let mut closes = Closes { month, items, total, sold };
    for row in rows {
        let sums = Sums {
            opening: Credits(row.opening),
            added: Credits(row.added),
            purchased: Credits(row.purchased),
            granted: Credits(row.granted),
            adjusted: Credits(row.adjusted),
            used: Credits(row.used),
            refunded: Credits(row.refunded),
            closing: Credits(row.closing),
        };
        let amounts = row.currencies.into_iter().zip(row.amounts);
        let sold: Vec<Amount> =
            amounts.map(|(currency, amount)| Amount { amount, currency }).collect();
        closes.total.add(sums);
        for amount in &sold {
            amount.add_to(&mut closes.sold);
        }
        closes.items.push(Close {
            organisation: row.organisation,
            name: row.name,
            time_zone: row.time_zone,
            begins_at: row.begins_at,
            ends_at: row.ends_at,
            is_closed: row.is_closed,
            sums,
            sold,
            is_checked: row.is_checked,
        });
    }
    Ok(closes)
}

/// Closes the months that are over, each organisation's in a transaction of its own: nobody waits for
/// all of them. A month is closed once; whoever books first in the next month has mostly done it.
async fn close(db: &mut PgConnection, organisation: Option<OrganisationId>) -> sqlx::Result<()> {
    let over = sqlx::query_scalar!(
        "SELECT a.organisation_id FROM account a JOIN organisation o USING (organisation_id)
         WHERE a.day_ends_at <= clock() AND date_trunc('month', a.day) < month_of(clock(), o.time_zone)
           AND ($1::bigint IS NULL OR a.organisation_id = $1)
         ORDER BY a.organisation_id",
        organisation.map(|organisation| organisation.0)
    );
    for organisation in over.fetch_all(&mut *db).await? {
        sqlx::query_scalar!("SELECT close_months($1)", organisation).fetch_one(&mut *db).await?;
    }
    Ok(())
}

impl Sums {
    fn add(&mut self, other: Self) {
        for (sum, one) in [
            (&mut self.opening, other.opening),
            (&mut self.added, other.added),
            (&mut self.purchased, other.purchased),
            (&mut self.granted, other.granted),
            (&mut self.adjusted, other.adjusted),
            (&mut self.used, other.used),
            (&mut self.refunded, other.refunded),
            (&mut self.closing, other.closing),
        ] {
            sum.0 += one.0;
        }
    }
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AmountOfMoney)]
pub struct Amount {
    /// The amount, in the currency below.
    pub amount: Decimal,
    /// Code of the currency as in ISO 4217.
    pub currency: String,
}

impl Amount {
    fn add_to(&self, all: &mut Vec<Self>) {
        match all.iter_mut().find(|one| one.currency == self.currency) {
            Some(known) => known.amount += self.amount,
            None => all.push(self.clone()),
        }
    }
}

impl fmt::Display for Amount {
    /// Writes the amount with at least two decimals: `50.00 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut amount = self.amount.normalize();
        if amount.scale() < 2 {
            amount.rescale(2);
        }
        write!(f, "{amount} {}", self.currency)
    }
}
