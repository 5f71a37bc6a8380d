//! Questions that the API and the pages both ask.

use axum::body::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{Service, input::limit, problem::Problem};
use crate::{
    access::Caller,
    catalog::{
        events, photos,
        search::{self, ByFace},
        start_list,
    },
    ids::{EventId, OrganisationId, PhotoId},
    ledger::{
        history::{self, Kind, Movement},
        statement::{self, Statement, StatementError},
    },
};

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The rows.
    pub(super) items: Vec<T>,
    /// Send it as `after` for the next page; null: this is the last one.
    pub(super) next: Option<String>,
}

impl<T> Page<T> {
    /// `items` are one more than were asked for, if there are.
    pub(super) fn of(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// Which rows of the history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryFilter {
    /// Only of this type.
    pub(super) kind: Option<Kind>,
    /// Only of this event.
    pub(super) event: Option<EventId>,
    /// From this instant on.
    pub(super) since: Option<DateTime<Utc>>,
    /// Up to this instant.
    pub(super) before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    pub(super) after: Option<String>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    pub(super) limit: Option<i64>,
}

/// A page of an organisation's history.
pub(super) async fn movements(
    db: &mut PgConnection,
    organisation: OrganisationId,
    which: &HistoryFilter,
) -> Result<Page<Movement>, Problem> {
    let limit = limit(which.limit)?;
    let after = which.after.as_deref().filter(|after| !after.is_empty());
    let after =
        after.map(str::parse).transpose().map_err(|error| Problem::invalid("after", error))?;
    let kinds: Vec<Kind> = which.kind.into_iter().collect();
    let page = history::Page {
        kinds: &kinds,
        event: which.event,
        since: which.since,
        before: which.before,
        after,
        most: limit + 1,
    };
    let found = history::history(db, organisation, page).await?;
    Ok(Page::of(found, limit, |row| row.cursor.to_string()))
}

/// Lines of a statement over HTTP. The command line has no limit.
const LINES_MAX: usize = 100_000;

/// The statement of a month, as `2026-11`.
pub(super) async fn statement_of(
    db: &mut PgConnection,
    organisation: OrganisationId,
    month: &str,
) -> Result<Statement, Problem> {
    let parsed = NaiveDate::parse_from_str(&format!("{month}-01"), "%Y-%m-%d");
    let first = parsed.map_err(|_| Problem::invalid("month", "write a month as 2026-11"))?;
    let first = a_day(first)?;
    statement::statement(db, organisation, first, LINES_MAX).await.map_err(|error| match error {
        StatementError::NoOrganisation(id) => Problem::not_found(format!("organisation {id}")),
        StatementError::NotBegun { .. } => Problem::invalid("month", error),
        StatementError::DoesNotAddUp { .. } => {
            tracing::error!(%error, "a statement does not add up");
            Problem::unavailable("books_do_not_balance", error.to_string())
        }
        StatementError::TooLong(_) => Problem::too_large(error.to_string()),
        StatementError::Database(error) => error.into(),
    })
}

/// A day that databases and calendars agree on.
pub(super) fn a_day(day: NaiveDate) -> Result<NaiveDate, Problem> {
    let years = NaiveDate::from_ymd_opt(2000, 1, 1)..NaiveDate::from_ymd_opt(3000, 1, 1);
    if years.contains(&Some(day)) {
        Ok(day)
    } else {
        Err(Problem::invalid("first", "a day between 2000 and 2999"))
    }
}

/// A number as it is read on photos; whatever is none finds nothing.
pub(super) fn bib_number(text: &str) -> Result<String, Problem> {
    start_list::number(text)
        .ok_or_else(|| Problem::invalid("bib", "a bib number is at most ten letters and digits"))
}

/// The event of a photo that the caller may see.
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

/// The photos of an event with the face that is nearest on a selfie.
pub(super) async fn by_selfie(
    service: &Service,
    caller: &Caller,
    event: EventId,
    photo: Bytes,
    score_min: f32,
) -> Result<Vec<ByFace>, Problem> {
    {
        let mut db = service.database.acquire().await?;
        let found = caller.must_see_event(event, events::find(&mut db, event).await?)?;
        if !found.face_search {
            return Err(Problem::conflict(
                "face_search_off",
                "face search is off for this event: switch it on, and process its photos",
            ));
        }
    }
    let eyes = service.eyes().await.map_err(search::SelfieError::from)?;
    let face = search::selfie(eyes, photo.to_vec()).await?;
    let mut db = service.database.acquire().await?;
    Ok(search::by_face(&mut db, event, &face, score_min).await?)
}
