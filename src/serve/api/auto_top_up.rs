//! The automatic top-up of an organisation.

use axum::extract::State;

use super::Answer;
use crate::{
    access::Caller,
    commands::{MAY_SEE_AUTO_TOP_UP, NewAutoTopUp},
    ids::OrganisationId,
    ledger::auto_top_up::{self, AutoTopUp},
    serve::{
        Service,
        input::{Json, Path},
        problem::Problem,
    },
};

/// Shows when an organisation buys credits by itself, and how that stands.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/auto-top-up",
    operation_id = "get_auto_top_up",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = AutoTopUp)),
)]
pub(super) async fn show(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<AutoTopUp> {
    caller.must_be(MAY_SEE_AUTO_TOP_UP)?;
    caller.must_see(id)?;
    let found = auto_top_up::read(&mut *service.database.acquire().await?, id).await?;
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("organisation {id}")))
}

/// Switches the automatic top-up on, or changes it, at the present price.
///
/// A worker then buys within a few seconds after fewer credits are available. What is above the
/// organisation's limit of the month waits for approval, as any purchase. It stops if a purchase of
/// it is refused or expires, or if the price rises; the same call switches it on again.
#[utoipa::path(
    put,
    path = "/v1/organisations/{organisation}/auto-top-up",
    operation_id = "set_auto_top_up",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = AutoTopUp)),
)]
pub(super) async fn set(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    Json(new): Json<NewAutoTopUp>,
) -> Answer<AutoTopUp> {
    Ok(axum::Json(service.commands.set_auto_top_up(&caller, id, &new).await?))
}

/// Switches the automatic top-up off. A purchase that waits for approval goes on waiting.
#[utoipa::path(
    delete,
    path = "/v1/organisations/{organisation}/auto-top-up",
    operation_id = "stop_auto_top_up",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses((status = 200, body = AutoTopUp)),
)]
pub(super) async fn switch_off(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Answer<AutoTopUp> {
    Ok(axum::Json(service.commands.switch_auto_top_up_off(&caller, id).await?))
}
