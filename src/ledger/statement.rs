//! The statement of a month: the opening balance, every row of the history, and the closing
//! balance. The closing balance of a month is the opening balance of the next. A month that is over
//! never changes.

mod file;

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

pub use file::write_csv;

/// Number of rows of the history that are read at once. Each page reads the rest of a day.
const PAGE: i64 = 10_000;

/// The statement of one organisation for one month.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Statement {
    /// The number of the organisation.
    pub organisation: OrganisationId,
    /// The name of the organisation.
    pub name: String,
    /// The organisation's time zone, in which its months begin and end.
    pub time_zone: String,
    /// The first day of the month.
    pub month: NaiveDate,
    /// The time when the month begins.
    pub begins_at: DateTime<Utc>,
    /// The time when the next month begins.
    pub ends_at: DateTime<Utc>,
    /// True if the month is over, so that this statement never changes.
    pub closed: bool,
    /// Available credits when the month began.
    pub opening: Credits,
    /// The rows of the history, oldest first.
    pub lines: Vec<Line>,
    /// Available credits when the month ended; now, if it is not over.
    pub closing: Credits,
    /// The hash of the link that seals the closing balance, in hexadecimal.
    pub sealed_by: Option<String>,
}

/// A row of the history.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = StatementLine)]
pub struct Line {
    /// The time of the movement; for a run, of its last photo on this day.
    pub at: DateTime<Utc>,
    /// Why the balance changed.
    pub kind: Kind,
    /// The change of the balance in credits; negative for usage.
    pub credits: Credits,
    /// The available credits at this time, as the ledger has them. Runs overlap in time, so within
    /// a day this is not always the balance of the line before, plus `credits`. After the last line
    /// of a day it is.
    pub balance: Credits,
    /// True while the day is not over, so that this line may grow.
    pub growing: bool,
    /// The event's number, for usage and refunds of photos.
    pub event: Option<EventId>,
    /// The name of the event.
    pub event_name: Option<String>,
    /// The operation, for usage and refunds of photos.
    pub operation: Option<Operation>,
    /// The run, for usage and refunds of photos.
    pub run: Option<RunId>,
    /// The transaction in the ledger, for top-ups.
    pub transaction: Option<JobId>,
    /// Who did it: an e-mail address, a token's name, `cli`, or `System`.
    pub actor: String,
    /// A note for people, for top-ups.
    pub note: Option<String>,
    /// The price per credit, for purchases.
    pub price_per_credit: Option<Decimal>,
    /// The currency of the price, as an ISO 4217 code.
    pub currency: Option<String>,
}

impl Statement {
    /// What the lines of some kinds add up to.
    fn sum(&self, of: impl Fn(Kind) -> bool) -> Credits {
        Credits(self.lines.iter().filter(|line| of(line.kind)).map(|line| line.credits.0).sum())
    }

    /// Credits that left the balance for photos.
    pub fn charged(&self) -> Credits {
        Credits(-self.sum(|kind| kind == Kind::Usage).0)
    }

    /// Credits that came back for photos.
    pub fn refunded(&self) -> Credits {
        self.sum(|kind| kind == Kind::Refund)
    }

    /// Credits from top-ups of every kind. Adjustments may make it negative.
    pub fn added(&self) -> Credits {
        self.sum(|kind| !matches!(kind, Kind::Usage | Kind::Refund))
    }

    /// What was charged and not refunded: the usage of the month's card.
    pub fn used(&self) -> Credits {
        Credits(self.charged().0 - self.refunded().0)
    }
}

/// Why a statement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// There is no such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// The month has not begun.
    #[error(
        "{month} has not begun: the current month is {current}",
        month = .month.format("%Y-%m"),
        current = .current.format("%Y-%m")
    )]
    NotBegun {
        /// The month that was asked for, as its first day.
        month: NaiveDate,
        /// The current month, as its first day.
        current: NaiveDate,
    },
    /// The statement would have more lines than the caller allows.
    #[error("this month has more than {0} rows: use `photogate statement`")]
    TooLong(usize),
    /// The lines do not add up to the closing balance: the books are broken.
    #[error(
        "the lines add up to {sum}, but the closing balance is {closing}: run `photogate reconcile`"
    )]
    DoesNotAddUp {
        /// The opening balance plus all lines.
        sum: Credits,
        /// The closing balance of the account.
        closing: Credits,
    },
    /// The database has trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes the statement of an organisation's month. It is an error if there are more than `most`
/// lines. The rows are read as that organisation, so row security hides the rows of others.
///
/// # Errors
/// See [`StatementError`].
pub async fn statement(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: NaiveDate,
    most: usize,
) -> Result<Statement, StatementError> {
    // After this, no transaction can book into a month that is over, not even one that runs now.
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
        r#"SELECT o.name, o.time_zone, day_begins($2, o.time_zone) AS "begins_at!",
                  day_begins(($2 + interval '1 month')::date, o.time_zone) AS "ends_at!",
                  b.available AS "opening!: Credits", e.available AS "closing!: Credits",
                  (SELECT encode(hash, 'hex') FROM link l
                   WHERE l.organisation_id = o.organisation_id AND l.last_entry <= e.entries
                   ORDER BY last_entry DESC LIMIT 1) AS sealed_by
           FROM organisation o, opening_of($1, $2) b,
                opening_of($1, ($2 + interval '1 month')::date) e
           WHERE o.organisation_id = $1"#,
        organisation.0,
        month
    )
    .fetch_one(&mut *tx)
    .await?;
    let movements = movements(&mut tx, organisation, head.begins_at..head.ends_at, most).await?;
    tx.rollback().await?;
    let sum = Credits(head.opening.0 + movements.iter().map(|row| row.credits.0).sum::<i64>());
    if sum != head.closing {
        return Err(StatementError::DoesNotAddUp { sum, closing: head.closing });
    }
    let lines = movements.into_iter().rev().map(line).collect();
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

/// Reads the rows of the history within a time range, newest first.
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

fn line(row: Movement) -> Line {
    Line {
        at: row.at,
        kind: row.kind,
        credits: row.credits,
        balance: row.balance,
        growing: row.growing,
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
