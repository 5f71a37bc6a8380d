//! What an organisation has, and where it went.

use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::{Caller, Role},
    ids::{EventId, OrganisationId},
    ledger::{
        credits::{self, Balance},
        days::{self, Day},
        history::{self, Kind, Movement},
        months::{self, Month},
        statement::{self, Statement, StatementError},
    },
    serve::{
        Service,
        input::{Path, Query, limit},
        problem::Problem,
    },
};

/// Who reads the books of an organisation.
const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

async fn exists(db: &mut PgConnection, id: OrganisationId) -> Result<Balance, Problem> {
    let balance = credits::balance(db, id).await?;
    balance.ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// Credits: available, reserved for photos in progress, and spent.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/credits", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Balance)))]
pub(super) async fn balance(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Balance> {
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await.map(axum::Json)
}

/// Which rows of the history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only of this type.
    pub(crate) kind: Option<Kind>,
    /// Only of this event.
    pub(crate) event: Option<EventId>,
    /// From this instant on.
    pub(crate) since: Option<DateTime<Utc>>,
    /// Up to this instant.
    pub(crate) before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    pub(crate) after: Option<String>,
    /// Rows, at most.
    #[param(minimum = 1, maximum = 200)]
    pub(crate) limit: Option<i64>,
}

/// Everything that moved credits, newest first. It adds up to the available balance.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/history", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), Which), responses((status = 200, body = Page<Movement>)))]
pub(super) async fn history(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(which): Query<Which>,
) -> Answer<Page<Movement>> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    movements(&mut db, id, &which).await.map(axum::Json)
}

/// The same for pages.
pub(crate) async fn movements(
    db: &mut PgConnection,
    organisation: OrganisationId,
    which: &Which,
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

/// The months of an organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Months {
    items: Vec<Month>,
}

/// The current month and the three before it, in the organisation's time zone.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/months", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")), responses((status = 200, body = Months)))]
pub(super) async fn months(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Months> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    Ok(axum::Json(Months { items: months::latest(&mut db, id, 3).await? }))
}

/// The days of a month.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Days {
    items: Vec<Day>,
}

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first day.
    first: NaiveDate,
}

/// What was used day by day, for 31 days, in the organisation's time zone.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/days", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), From), responses((status = 200, body = Days)))]
pub(super) async fn days(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(from): Query<From>,
) -> Answer<Days> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let first = a_day(from.first)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    Ok(axum::Json(Days { items: days::days(&mut db, id, first, 31).await? }))
}

/// A day that databases and calendars agree on.
fn a_day(day: NaiveDate) -> Result<NaiveDate, Problem> {
    let years = NaiveDate::from_ymd_opt(2000, 1, 1)..NaiveDate::from_ymd_opt(3000, 1, 1);
    if years.contains(&Some(day)) {
        Ok(day)
    } else {
        Err(Problem::invalid("first", "a day between 2000 and 2999"))
    }
}

/// The statement of a month: opening, every movement, closing. That of a month that is over never changes.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/statements/{month}", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), ("month" = String, Path, description = "As in 2026-11", example = "2026-11")),
    responses((status = 200, body = Statement), (status = 413, body = Problem, description = "The month has more than 100,000 movements: the command line writes them all")))]
pub(super) async fn statement(
    State(service): State<Service>,
    caller: Caller,
    Path((id, month)): Path<(OrganisationId, String)>,
) -> Answer<Statement> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    of_month(&mut db, id, &month).await.map(axum::Json)
}

/// Lines of a statement over HTTP. The command line has no limit.
const LINES_MAX: usize = 100_000;

/// The same for pages.
pub(crate) async fn of_month(
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
