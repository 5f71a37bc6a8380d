//! What an organisation has, and where it went.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::serve::reads::{HistoryFilter, a_day, movements, statement_of};
use crate::{
    access::{Caller, Role},
    ids::OrganisationId,
    ledger::{
        credits::{self, Balance},
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

/// Everything that moved credits, newest first. It adds up to the available balance.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/history", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"), HistoryFilter), responses((status = 200, body = Page<Movement>)))]
pub(super) async fn history(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Query(which): Query<HistoryFilter>,
) -> Answer<Page<Movement>> {
    caller.must_be(MAY_READ)?;
    caller.must_see(id)?;
    let mut db = service.database.acquire().await?;
    exists(&mut db, id).await?;
    movements(&mut db, id, &which).await.map(axum::Json)
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
    statement_of(&mut db, id, &month).await.map(axum::Json)
}
