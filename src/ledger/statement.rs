//! The statement of a month: opening balance, every movement, closing balance. The closing of one month is the opening of
//! the next, and a month that is over never changes.

use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::history::{self, Kind, Movement, Page};
use crate::{
    database,
    ids::{EventId, JobId, Operation, OrganisationId, RunId},
    ledger::credits::Credits,
};

/// Rows of the history read at once.
const PAGE: i64 = 1000;

/// A month of an organisation, to be kept.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Statement {
    /// Whose.
    pub organisation: OrganisationId,
    /// As it calls itself.
    pub name: String,
    /// Where its months begin and end.
    pub time_zone: String,
    /// The first day of the month.
    pub month: NaiveDate,
    /// Its first instant.
    pub begins_at: DateTime<Utc>,
    /// The first instant of the next.
    pub ends_at: DateTime<Utc>,
    /// The month is over: this statement will never change.
    pub closed: bool,
    /// Available when it began.
    pub opening: Credits,
    /// Every movement, oldest first.
    pub lines: Vec<Line>,
    /// Available when it ended, or now.
    pub closing: Credits,
    /// The link of the ledger's chain that seals the closing balance.
    pub sealed_by: Option<String>,
}

/// A movement, and the balance with it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Line {
    /// When; of a run's photos, the first.
    pub at: DateTime<Utc>,
    /// Why.
    pub kind: Kind,
    /// Signed.
    pub credits: Credits,
    /// The sum down to this line. Runs overlap in time: between opening and closing it is a sum, not what was available
    /// at that instant.
    pub balance: Credits,
    /// For usage and refunds of photos.
    pub event: Option<EventId>,
    /// Its name.
    pub event_name: Option<String>,
    /// For usage and refunds of photos.
    pub operation: Option<Operation>,
    /// For usage and refunds of photos.
    pub run: Option<RunId>,
    /// For top-ups.
    pub transaction: Option<JobId>,
    /// Who.
    pub actor: String,
    /// For people.
    pub note: Option<String>,
    /// For purchases.
    pub price_per_credit: Option<Decimal>,
    /// Of the price.
    pub currency: Option<String>,
}

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// There is no such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// It has not begun.
    #[error("{month} has not begun: the current month is {current}", month = .month.format("%Y-%m"), current = .current.format("%Y-%m"))]
    NotBegun {
        /// As asked for.
        month: NaiveDate,
        /// The one that is open.
        current: NaiveDate,
    },
    /// More lines than whoever asks can take.
    #[error(
        "this month has more than {0} movements: `photogate credits statement` writes them all"
    )]
    TooLong(usize),
    /// The rows do not add up to the balances: the books are broken.
    #[error(
        "the month's movements add up to {sum}, and its balance to {closing}: run `photogate reconcile`"
    )]
    DoesNotAddUp {
        /// Opening and movements.
        sum: Credits,
        /// As the account says.
        closing: Credits,
    },
    /// The database has trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The statement of an organisation's month, of at most so many lines. It is read as that organisation: rows of others do not exist for it.
///
/// # Errors
/// See [`StatementError`].
pub async fn statement(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: NaiveDate,
    most: usize,
) -> Result<Statement, StatementError> {
    // From here on nothing is booked in a month that is over, not even by who is about to.
    let current = sqlx::query_scalar!("SELECT close_months($1) AS \"month!\"", organisation.0)
        .fetch_one(&mut *db)
        .await
        .map_err(|error| {
            if database::is_code(&error, database::NOT_FOUND) {
                StatementError::NoOrganisation(organisation)
            } else {
                error.into()
            }
        })?;
    if month > current {
        return Err(StatementError::NotBegun { month, current });
    }
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    database::become_organisation(&mut tx, organisation).await?;
    let head = sqlx::query!(
        r#"SELECT o.name, o.time_zone, month_begins($2, o.time_zone) AS "begins_at!", month_begins(($2 + interval '1 month')::date, o.time_zone) AS "ends_at!",
                  b.available AS "opening!: Credits", e.available AS "closing!: Credits",
                  (SELECT encode(hash, 'hex') FROM link l WHERE l.organisation_id = o.organisation_id AND l.last_entry <= e.entries ORDER BY last_entry DESC LIMIT 1) AS sealed_by
           FROM organisation o, opening_of($1, $2) b, opening_of($1, ($2 + interval '1 month')::date) e
           WHERE o.organisation_id = $1"#,
        organisation.0,
        month
    )
    .fetch_one(&mut *tx)
    .await?;
    let movements = movements(&mut tx, organisation, head.begins_at..head.ends_at, most).await?;
    tx.rollback().await?;
    let mut balance = head.opening;
    let lines = movements
        .into_iter()
        .rev()
        .map(|row| {
            balance.0 += row.credits.0;
            line(row, balance)
        })
        .collect();
    if balance != head.closing {
        return Err(StatementError::DoesNotAddUp { sum: balance, closing: head.closing });
    }
    Ok(Statement {
        organisation,
        name: head.name,
        time_zone: head.time_zone,
        month,
        begins_at: head.begins_at,
        ends_at: head.ends_at,
        closed: month < current,
        opening: head.opening,
        lines,
        closing: head.closing,
        sealed_by: head.sealed_by,
    })
}

/// Newest first.
async fn movements(
    db: &mut PgConnection,
    organisation: OrganisationId,
    time: Range<DateTime<Utc>>,
    most: usize,
) -> Result<Vec<Movement>, StatementError> {
    let mut all: Vec<Movement> = Vec::new();
    loop {
        let after = all.last().map(|row| row.cursor);
        let page = Page {
            since: Some(time.start),
            before: Some(time.end),
            after,
            most: PAGE,
            ..Page::default()
        };
        let rows = history::history(db, organisation, page).await?;
        if rows.is_empty() {
            return Ok(all);
        }
        all.extend(rows);
        if all.len() > most {
            return Err(StatementError::TooLong(most));
        }
    }
}

fn line(row: Movement, balance: Credits) -> Line {
    Line {
        at: row.at,
        kind: row.kind,
        credits: row.credits,
        balance,
        event: row.event,
        event_name: row.event_name,
        operation: row.operation,
        run: row.run,
        transaction: row.transaction,
        actor: row.actor,
        note: row.note,
        price_per_credit: row.price_per_credit,
        currency: row.currency,
    }
}
