//! An organisation's credits: its account, history, months, days and statements.

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::serve::reads::{
    HistoryFilter, a_day, balance_of, movements, statement_csv, statement_of, statement_pdf,
};
use crate::{
    access::{Caller, Role},
    ids::OrganisationId,
    ledger::{
        credits::Balance,
        days::{self, Day},
        history::Movement,
        months::{self, Month},
        statement::Statement,
    },
    serve::{
        Service,
        input::{Path, Query},
        problem::Problem,
    },
};

/// The roles that may read the history of an organisation.
const MAY_READ: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];

/// Shows an organisation's account: credits available, reserved for photos in progress, and spent.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/credits",
    operation_id = "get_balance",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Balance)),
)]
pub(super) async fn balance(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Balance> {
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    balance_of(&mut db, id).await.map(axum::Json)
}

/// Lists everything that changed the available credits, newest first.
///
/// The rows add up to the available balance. There is one row for each top-up, and for each run one
/// row of usage a day (and one of refunds). Rows of today grow, and may move to an earlier page; days that
/// are over stay as they are.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/history",
    operation_id = "list_history",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        HistoryFilter,
    ),
    responses((status = 200, body = Page<Movement>)),
)]
pub(super) async fn history(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(which): Query<HistoryFilter>,
) -> Answer<Page<Movement>> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    balance_of(&mut db, id).await?;
    movements(&mut db, id, &which).await.map(axum::Json)
}

/// A list of months.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Months {
    items: Vec<Month>,
}

/// Summarises the current month and the three before it, in the organisation's time zone.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/months",
    operation_id = "list_months",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = Months)),
)]
pub(super) async fn months(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<Months> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    balance_of(&mut db, id).await?;
    Ok(axum::Json(Months { items: months::latest(&mut db, id, 3).await? }))
}

/// A list of 31 days.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Days {
    items: Vec<Day>,
}

/// Which days to show.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first of the 31 days, as `2026-11-01`.
    first: NaiveDate,
}

/// Lists the credits used on each of 31 days, in the organisation's time zone.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/days",
    operation_id = "list_days",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        From,
    ),
    responses((status = 200, body = Days)),
)]
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
    balance_of(&mut db, id).await?;
    Ok(axum::Json(Days { items: days::days(&mut db, id, first, 31).await? }))
}

/// Shows the statement of a month: opening balance, every row of the history, closing balance.
///
/// The statement of a month that is over never changes.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/statements/{month}",
    operation_id = "get_statement",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        ("month" = String, Path, description = "The month, as `2026-11`", example = "2026-11"),
    ),
    responses(
        (status = 200, body = Statement),
        (
            status = 413,
            body = Problem,
            description = "The month has more than 100,000 rows: use `photogate statement`",
        ),
    ),
)]
pub(super) async fn statement(
    State(service): State<Service>,
    caller: Caller,
    Path((id, month)): Path<(OrganisationId, String)>,
) -> Answer<Statement> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    statement_of(&mut db, id, &month).await.map(axum::Json)
}

/// Makes the statement of a month as a CSV file, for spreadsheets.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/statements/{month}/csv",
    operation_id = "get_statement_csv",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        ("month" = String, Path, description = "The month, as `2026-11`", example = "2026-11"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/csv"),
        (
            status = 413,
            body = Problem,
            description = "The month has more than 100,000 rows: use `photogate statement`",
        ),
    ),
)]
pub(super) async fn statement_as_csv(
    State(service): State<Service>,
    caller: Caller,
    Path((id, month)): Path<(OrganisationId, String)>,
) -> Result<Response, Problem> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    statement_csv(&mut db, id, &month).await
}

/// Makes the statement of a month as a PDF file, for people.
///
/// It shows each row of the history; a month with more than 5,000 rows is shown day by day.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/statements/{month}/pdf",
    operation_id = "get_statement_pdf",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        ("month" = String, Path, description = "The month, as `2026-11`", example = "2026-11"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/pdf"),
        (
            status = 413,
            body = Problem,
            description = "The month has more than 1,000,000 rows: use `photogate statement`",
        ),
    ),
)]
pub(super) async fn statement_as_pdf(
    State(service): State<Service>,
    caller: Caller,
    Path((id, month)): Path<(OrganisationId, String)>,
) -> Result<Response, Problem> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    statement_pdf(&mut db, id, &month).await
}
