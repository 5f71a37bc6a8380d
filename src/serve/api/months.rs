//! The close of a month: what it was for each organisation, and for all together.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Answer;
use crate::{
    access::{Caller, Role},
    ids::OrganisationId,
    ledger::month_close::{self, Closes},
    serve::{
        Service,
        input::{Path, Query},
        problem::Problem,
        reads::{a_month, month_csv},
    },
};

/// Which organisations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only this organisation (its number); if missing, all that the caller may see.
    organisation: Option<OrganisationId>,
}

async fn closes(
    service: &Service,
    caller: &Caller,
    month: &str,
    which: &Which,
) -> Result<Closes, Problem> {
    caller.must_be(&[Role::Finance, Role::Staff])?;
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let month = a_month(month)?;
    let mut db = service.database.acquire().await?;
    Ok(month_close::read(&mut db, month, which.organisation.or(caller.organisation)).await?)
}

/// Shows a month of each organisation: opening, added, used, refunded and closing, what was sold, and
/// whether the month is over and checked.
///
/// A month begins and ends in the time zone of its organisation. Opening + added - used + refunded =
/// closing.
#[utoipa::path(
    get,
    path = "/v1/months/{month}",
    operation_id = "get_month",
    tag = "Books",
    params(
        ("month" = String, Path, description = "The month, as `2026-11`", example = "2026-11"),
        Which,
    ),
    responses((status = 200, body = Closes)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(month): Path<String>,
    Query(which): Query<Which>,
) -> Answer<Closes> {
    closes(&service, &caller, &month, &which).await.map(axum::Json)
}

/// Makes the same as a CSV file, a row for each organisation.
#[utoipa::path(
    get,
    path = "/v1/months/{month}/csv",
    operation_id = "get_month_csv",
    tag = "Books",
    params(
        ("month" = String, Path, description = "The month, as `2026-11`", example = "2026-11"),
        Which,
    ),
    responses((status = 200, body = String, content_type = "text/csv")),
)]
pub(super) async fn as_csv(
    State(service): State<Service>,
    caller: Caller,
    Path(month): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    month_csv(&closes(&service, &caller, &month, &which).await?)
}
