//! The statement of a month: the opening balance, every row of the history, and the closing
//! balance. The closing balance of a month is the opening balance of the next. A month that is over
//! never changes.

mod file;
#[cfg(feature = "serve")]
mod pdf;

use chrono::{DateTime, Months, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::history::{self, Kind, Movement, Page};
use crate::{
    database,
    ids::{EventId, JobId, Operation, OrganisationId, RunId},
    ledger::credits::Credits,
};

pub use file::{Csv, write_csv};
#[cfg(feature = "serve")]
pub use pdf::{Pdf, PdfError};

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
    /// The time when this statement was made. It is not written to files that are compared.
    #[serde(skip)]
    pub made_at: DateTime<Utc>,
    /// True if the month is over, so that this statement never changes.
    pub closed: bool,
    /// Available credits when the month began.
    pub opening: Credits,
    /// The rows of the history, oldest first.
    pub lines: Vec<Line>,
    /// Available credits when the month ended; now, if it is not over.
    pub closing: Credits,
    /// Credits that are reserved for photos in progress, of the usage of the running month: they may
    /// come back. Null if the month is over.
    pub reserved: Option<Credits>,
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

/// What the lines of a statement add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Credits from top-ups of every kind. Adjustments may make it negative.
    pub added: Credits,
    /// Credits that left the balance for photos.
    pub charged: Credits,
    /// Credits that came back for photos.
    pub refunded: Credits,
}

impl Sums {
    /// Adds a line.
    pub fn add(&mut self, line: &Line) {
        match line.kind {
            Kind::Usage => self.charged.0 -= line.credits.0,
            Kind::Refund => self.refunded.0 += line.credits.0,
            Kind::Purchase | Kind::AdminGrant | Kind::FreeCredits | Kind::Adjustment => {
                self.added.0 += line.credits.0;
            }
        }
    }

    /// What was charged and not refunded: the usage of the month's card.
    pub fn used(&self) -> Credits {
        Credits(self.charged.0 - self.refunded.0)
    }

    /// How much the balance has changed.
    pub fn net(&self) -> Credits {
        Credits(self.added.0 - self.used().0)
    }
}

impl Statement {
    /// What the lines add up to.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for line in &self.lines {
            sums.add(line);
        }
        sums
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
/// lines.
///
/// # Errors
/// See [`StatementError`].
pub async fn statement(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: NaiveDate,
    most: usize,
) -> Result<Statement, StatementError> {
    let mut reading = Reading::begin(db, organisation, month).await?;
    let mut lines = Vec::new();
    while let Some(day) = reading.next_day().await? {
        lines.extend(day);
        if lines.len() > most {
            return Err(StatementError::TooLong(most));
        }
    }
    Ok(Statement { lines, ..reading.head })
}

/// Most runs of a month that is read at once.
const FEW: i64 = 10_000;

/// A statement that is read day by day, so that a month of any length needs the memory of a day; a
/// month with few runs is read at once. It sees one state of the database.
#[derive(Debug)]
pub struct Reading<'a> {
    tx: Transaction<'a, Postgres>,
    head: Statement,
    /// The day that is read next.
    next: NaiveDate,
    is_short: bool,
    sums: Sums,
}

impl<'a> Reading<'a> {
    /// Begins to read the statement of an organisation's month. The rows are read as that
    /// organisation, so row security hides the rows of others.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn begin(
        db: &'a mut PgConnection,
        organisation: OrganisationId,
        month: NaiveDate,
    ) -> Result<Self, StatementError> {
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
        let head = head(&mut tx, organisation, month, current).await?;
        let is_short = is_short(&mut tx, organisation, month).await?;
        Ok(Self { tx, head, next: month, is_short, sums: Sums::default() })
    }

    /// The statement, without its lines.
    pub fn head(&self) -> &Statement {
        &self.head
    }

    /// The statement, without its lines; nothing more is read.
    pub fn into_head(self) -> Statement {
        self.head
    }

    /// Reads the lines of the next day, or of a month with few runs, oldest first. `None` after the
    /// last day, if all lines add up to the closing balance.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn next_day(&mut self) -> Result<Option<Vec<Line>>, StatementError> {
        let day = self.next;
        if day >= self.head.month + Months::new(1) {
            let sum = Credits(self.head.opening.0 + self.sums.net().0);
            if sum != self.head.closing {
                return Err(StatementError::DoesNotAddUp { sum, closing: self.head.closing });
            }
            return Ok(None);
        }
        let page = Page {
            since: Some(self.head.begins_at),
            before: Some(self.head.ends_at),
            day: (!self.is_short).then_some(day),
            most: i64::MAX,
            ..Page::default()
        };
        let rows = history::history(&mut self.tx, self.head.organisation, page).await?;
        let lines: Vec<Line> = rows.into_iter().rev().map(line).collect();
        for line in &lines {
            self.sums.add(line);
        }
        self.next = if self.is_short {
            self.head.month + Months::new(1)
        } else {
            day.succ_opt().unwrap_or(NaiveDate::MAX)
        };
        Ok(Some(lines))
    }
}

/// Whether a month has few runs: then a query for each day would take longer.
async fn is_short(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    month: NaiveDate,
) -> sqlx::Result<bool> {
    let runs = sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM (
                       SELECT FROM usage WHERE organisation_id = $1 AND first_claimed_at IS NOT NULL
                         AND day >= $2 AND day < ($2 + interval '1 month')::date LIMIT $3) u)
                + (SELECT count(*) FROM (
                       SELECT FROM usage WHERE organisation_id = $1 AND first_refunded_at IS NOT NULL
                         AND day >= $2 AND day < ($2 + interval '1 month')::date LIMIT $3) r)
           AS "runs!""#,
        organisation.0,
        month,
        FEW + 1
    )
    .fetch_one(tx)
    .await?;
    Ok(runs <= FEW)
}

/// Reads what a statement says above and below its lines.
async fn head(
    tx: &mut PgConnection,
    organisation: OrganisationId,
    month: NaiveDate,
    current: NaiveDate,
) -> Result<Statement, StatementError> {
    let head = sqlx::query!(
        r#"SELECT o.name, o.time_zone, day_begins($2, o.time_zone) AS "begins_at!",
                  day_begins(($2 + interval '1 month')::date, o.time_zone) AS "ends_at!",
                  b.available AS "opening!: Credits", e.available AS "closing!: Credits",
                  (SELECT encode(hash, 'hex') FROM link l
                   WHERE l.organisation_id = o.organisation_id AND l.last_entry <= e.entries
                   ORDER BY last_entry DESC LIMIT 1) AS sealed_by,
                  greatest(clock(), a.moved_at) AS "made_at!", a.reserved AS "reserved: Credits"
           FROM organisation o JOIN account a USING (organisation_id), opening_of($1, $2) b,
                opening_of($1, ($2 + interval '1 month')::date) e
           WHERE o.organisation_id = $1"#,
        organisation.0,
        month
    )
    .fetch_one(tx)
    .await?;
    let closed = month < current;
    Ok(Statement {
        organisation,
        name: head.name,
        time_zone: head.time_zone,
        month,
        begins_at: head.begins_at,
        ends_at: head.ends_at,
        made_at: head.made_at,
        closed,
        opening: head.opening,
        lines: Vec::new(),
        closing: head.closing,
        reserved: (!closed).then_some(head.reserved),
        sealed_by: head.sealed_by,
    })
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
