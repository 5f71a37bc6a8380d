//! The history that an organisation sees. Its rows add up to the balance at any time. So credits
//! count as used when they leave the balance, which is when they are reserved. A commit does not
//! change the balance and is not shown.

mod photos;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    cursor,
    ids::{EventId, JobId, Operation, OrganisationId, RunId},
    ledger::credits::Credits,
};

pub(in crate::ledger) use photos::must_be_here;
pub use photos::{PhotoOfRun, photos_of_run};

/// Why the balance changed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    serde::Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[schema(as = MovementKind)]
pub enum Kind {
    /// Credits were reserved because photos were claimed.
    Usage,
    /// Credits were bought by the organisation.
    Purchase,
    /// Staff granted credits to the organisation.
    AdminGrant,
    /// The organisation got credits as a gift.
    FreeCredits,
    /// Photos could not be processed, so their credits were refunded.
    Refund,
    /// Staff corrected the account, up or down.
    Adjustment,
}

impl Kind {
    /// The name to show to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "Usage",
            Self::Purchase => "Purchase",
            Self::AdminGrant => "Admin Grant",
            Self::FreeCredits => "Free Credits",
            Self::Refund => "Refund",
            Self::Adjustment => "Adjustment",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Purchase => "purchase",
            Self::AdminGrant => "admin_grant",
            Self::FreeCredits => "free_credits",
            Self::Refund => "refund",
            Self::Adjustment => "adjustment",
        }
    }
}

/// A row of the history: a top-up, or the usage of a run on one day, or its refunds on one day. Days
/// are those of the organisation's time zone.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Movement {
    /// Why the balance changed.
    pub kind: Kind,
    /// The change of the balance in credits; negative for usage.
    pub credits: Credits,
    /// The available credits after the last movement in this row, as the ledger has them. Runs
    /// overlap in time, so within a day this is not always the balance of the row before, plus
    /// `credits`.
    pub balance: Credits,
    /// True while the row's day is not over, so that its usage or refunds may grow, and the row may
    /// move to an earlier page. Only days that are over stay as they are between two pages.
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
    /// The price per credit at the time of the purchase, for purchases.
    pub price_per_credit: Option<Decimal>,
    /// The currency of the price, as an ISO 4217 code.
    pub currency: Option<String>,
    /// The time of the last movement in this row. The history is ordered by it.
    pub at: DateTime<Utc>,
    /// The time of the first movement in this row, for usage and refunds of photos.
    pub from: Option<DateTime<Utc>>,
    /// The position of this row. To get the next page, pass it as [`Page::after`].
    #[schema(value_type = String)]
    pub cursor: Cursor,
}

/// A position in the history: the day as a number of days since the year 1, the account's last
/// entry after the row, and the run, which tells rows of one claim apart.
pub type Cursor = cursor::Cursor<3>;

/// Selects a part of a history.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Only rows of these kinds; empty: all kinds.
    pub kinds: &'a [Kind],
    /// Only rows of this event.
    pub event: Option<EventId>,
    /// Only rows at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only rows before this time.
    pub before: Option<DateTime<Utc>>,
    /// Only rows of this day of the organisation.
    pub day: Option<NaiveDate>,
    /// Only rows after this one in the list: the older ones.
    pub after: Option<Cursor>,
    /// Maximum number of rows.
    pub most: i64,
}

impl Default for Page<'_> {
    fn default() -> Self {
        let (since, before, day, after) = (None, None, None, None);
        Self { kinds: &[], event: None, since, before, day, after, most: 50 }
    }
}

impl Page<'_> {
    /// The position after which the page begins. The first page begins at the end of its day; of no
    /// day in particular, on the day after `before`, in whatever time zone, or in the far future.
    fn begins_after(&self) -> (NaiveDate, i64, i64) {
        let newest = self.before.unwrap_or(DateTime::<Utc>::MAX_UTC).min(far_future());
        let future = (newest + TimeDelta::days(1)).date_naive();
        let first = (self.day.map_or(future, |day| day.min(future)), i64::MAX, i64::MAX);
        self.after.map_or(first, |cursor::Cursor([day, entry, run])| {
            let day = i32::try_from(day).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
            first.min((day.unwrap_or(future), entry, run))
        })
    }

    /// The first day that may have rows: the day before `since`, in whatever time zone.
    fn first_day(&self) -> NaiveDate {
        let oldest = self.since.unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH);
        let first = (oldest - TimeDelta::days(1)).date_naive();
        self.day.map_or(first, |day| day.max(first))
    }
}

/// Returns a page of the history of an organisation, newest first. A run has one row of usage a day,
/// and one row of refunds if there were any. The cost grows with the number of runs of a day, not
/// with the ledger: the indexes have the day of a row, because what moves with each claim is in none.
/// So a page sorts the rows of a day. To read all rows of many days, ask for one [`Page::day`] after
/// the other: each row is read once. The rows of an event are found by its queues, however many rows
/// the organisation has.
///
/// # Errors
/// When the database has trouble.
pub async fn history(
    db: &mut PgConnection,
    organisation: OrganisationId,
    page: Page<'_>,
) -> sqlx::Result<Vec<Movement>> {
    let kinds: Vec<_> = page.kinds.iter().map(|kind| kind.code().to_owned()).collect();
    let (day, entry, id) = page.begins_after();
    sqlx::query_file_as!(
        Movement,
        "src/ledger/history.sql",
        organisation.0,
        &kinds,
        page.event.map(|event| event.0),
        page.most,
        page.since.unwrap_or(DateTime::UNIX_EPOCH),
        page.before.unwrap_or(DateTime::<Utc>::MAX_UTC).min(far_future()),
        day,
        entry,
        id,
        page.first_day()
    )
    .fetch_all(db)
    .await
}

/// Returns the last second of the year 9998. PostgreSQL cannot store chrono's `MAX_UTC`, and the days
/// after it must exist, too.
fn far_future() -> DateTime<Utc> {
    DateTime::from_timestamp(253_370_764_799, 0).unwrap_or_default()
}
