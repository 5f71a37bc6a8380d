//! Helpers for handlers that read, shared by the API and the pages: a page of a list, checks of
//! parameters, and reads of the library whose errors are turned into problems. There is no SQL
//! here.

use axum::{body::Bytes, response::Response};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{
    Service, files,
    input::{after, limit},
    problem::Problem,
};
use crate::{
    access::Caller,
    catalog::{
        events, photos,
        search::{self, ByFace},
        start_list,
    },
    ids::{EventId, OrganisationId, PhotoId},
    ledger::{
        credits::{self, Balance},
        history::{self, Kind, Movement},
        month_close,
        statement::{self, Pdf, Reading, Statement, StatementError},
    },
};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The rows of this page.
    pub(super) items: Vec<T>,
    /// Send it as `after` to get the next page. Null on the last page.
    pub(super) next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of `limit` rows. The caller reads `limit + 1` rows: the extra row only shows
    /// that there is another page.
    pub(super) fn of(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// Reads the account of an organisation. It is "not found" if there is no such organisation.
pub(super) async fn balance_of(
    db: &mut PgConnection,
    id: OrganisationId,
) -> Result<Balance, Problem> {
    let balance = credits::balance(db, id).await?;
    balance.ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// Filters for the history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryFilter {
    /// Only rows of this kind.
    pub(super) kind: Option<Kind>,
    /// Only rows of this event (its number).
    pub(super) event: Option<EventId>,
    /// Only rows at or after this instant.
    pub(super) since: Option<DateTime<Utc>>,
    /// Only rows before this instant.
    pub(super) before: Option<DateTime<Utc>>,
    /// `next` of the previous page; without it, the first page.
    pub(super) after: Option<String>,
    /// Maximum number of rows; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<i64>,
}

/// Reads one page of an organisation's history.
pub(super) async fn movements(
    db: &mut PgConnection,
    organisation: OrganisationId,
    which: &HistoryFilter,
) -> Result<Page<Movement>, Problem> {
    let limit = limit(which.limit)?;
    let kinds: Vec<Kind> = which.kind.into_iter().collect();
    let page = history::Page {
        kinds: &kinds,
        event: which.event,
        since: which.since,
        before: which.before,
        day: None,
        after: after(which.after.as_deref())?,
        most: limit + 1,
    };
    let found = history::history(db, organisation, page).await?;
    Ok(Page::of(found, limit, |row| row.cursor.to_string()))
}

/// Maximum number of lines of a statement over HTTP. The command line has no limit.
const LINES_MAX: usize = 100_000;
/// And of a PDF file, which keeps few of them: above 5,000 lines it shows days.
const PDF_LINES_MAX: usize = 1_000_000;

/// Reads the statement of a month, which is written as `2026-11`.
pub(super) async fn statement_of(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: &str,
) -> Result<Statement, Problem> {
    let first = a_month(month)?;
    statement::statement(db, organisation, first, LINES_MAX).await.map_err(no_statement)
}

/// The same, as a CSV file.
pub(super) async fn statement_csv(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: &str,
) -> Result<Response, Problem> {
    let statement = statement_of(db, organisation, month).await?;
    let mut file = Vec::new();
    statement::write_csv(&statement, &mut file)
        .map_err(|error| Problem::unavailable("csv", error.to_string()))?;
    let month = statement.month.format("%Y-%m");
    files::download(&format!("statement-{organisation}-{month}.csv"), files::CSV, file)
}

/// The same, as a PDF file. It is read day by day.
pub(super) async fn statement_pdf(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: &str,
) -> Result<Response, Problem> {
    let first = a_month(month)?;
    let mut reading = Reading::begin(db, organisation, first).await.map_err(no_statement)?;
    let mut file = Pdf::begin(reading.head());
    let mut lines = 0;
    while let Some(day) = reading.next_day().await.map_err(no_statement)? {
        lines += day.len();
        if lines > PDF_LINES_MAX {
            return Err(no_statement(StatementError::TooLong(PDF_LINES_MAX)));
        }
        file.write(&day);
    }
    let head = reading.into_head();
    // 5,000 lines keep a thread busy for a while: other requests go on.
    let made = tokio::task::spawn_blocking(move || file.end(&head)).await;
    let made = made.map_err(|error| Problem::unavailable("file", error.to_string()))?;
    let made = made.map_err(|error| Problem::unavailable("file", error.to_string()))?;
    let month = first.format("%Y-%m");
    files::download(&format!("statement-{organisation}-{month}.pdf"), files::PDF, made)
}

/// A month of all organisations as a CSV file.
pub(super) fn month_csv(closes: &month_close::Closes) -> Result<Response, Problem> {
    let mut file = Vec::new();
    month_close::write_csv(closes, &mut file)
        .map_err(|error| Problem::unavailable("csv", error.to_string()))?;
    files::download(&format!("month-{}.csv", closes.month.format("%Y-%m")), files::CSV, file)
}

/// The first day of a month, which is written as `2026-11`.
pub(super) fn a_month(month: &str) -> Result<NaiveDate, Problem> {
    let parsed = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d");
    let first =
        parsed.map_err(|_| Problem::invalid("month", "the month must look like 2026-11"))?;
    a_day(first)
}

fn no_statement(error: StatementError) -> Problem {
    match error {
        StatementError::NoOrganisation(id) => Problem::not_found(format!("organisation {id}")),
        StatementError::NotBegun { .. } => Problem::invalid("month", error),
        StatementError::DoesNotAddUp { .. } => {
            tracing::error!(%error, "a statement does not add up");
            Problem::unavailable("books_do_not_balance", error.to_string())
        }
        StatementError::TooLong(_) => Problem::too_large(error.to_string()),
        StatementError::Database(error) => error.into(),
    }
}

/// Checks that a day is between the years 2000 and 2999, so that dates cannot overflow.
pub(super) fn a_day(day: NaiveDate) -> Result<NaiveDate, Problem> {
    let years = NaiveDate::from_ymd_opt(2000, 1, 1)..NaiveDate::from_ymd_opt(3000, 1, 1);
    if years.contains(&Some(day)) {
        Ok(day)
    } else {
        Err(Problem::invalid("first", "the day must be in a year from 2000 to 2999"))
    }
}

/// Brings a bib number into the form in which it is stored.
///
/// # Errors
/// A [`Problem`] if the text is not a bib number.
pub(super) fn bib_number(text: &str) -> Result<String, Problem> {
    start_list::number(text)
        .ok_or_else(|| Problem::invalid("bib", "a bib number is at most ten letters and digits"))
}

/// Finds the event of a photo. It is "not found" if the caller may not see the event.
pub(super) async fn event_of_photo(
    db: &mut PgConnection,
    caller: &Caller,
    photo: PhotoId,
) -> Result<EventId, Problem> {
    let missing = || Problem::not_found(format!("photo {photo}"));
    let event = photos::event_of(&mut *db, photo).await?.ok_or_else(missing)?;
    caller.must_see_event(event, events::find(db, event).await?).map_err(|_| missing())?;
    Ok(event)
}

/// Finds the photos of an event that show the largest face of a selfie.
pub(super) async fn by_selfie(
    service: &Service,
    caller: &Caller,
    event: EventId,
    photo: Bytes,
    score_min: f32,
) -> Result<Vec<ByFace>, Problem> {
    let of = service.commands.may_search_faces(caller, event).await?.organisation;
    let eyes = service.eyes().await.map_err(search::SelfieError::from)?;
    let face = search::selfie(eyes, of, photo.to_vec()).await?;
    Ok(service.commands.search_face(caller, event, &face, score_min).await?)
}
