//! Purchases that wait: for approval above the limit of the month, or for their payment.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::{
    access::Caller,
    commands::MAY_SEE_PURCHASES,
    ids::{OrganisationId, PurchaseId},
    ledger::purchases::{self, Filter, PurchaseRequest},
    serve::{
        Service,
        input::{Path, Query, limit},
    },
};

/// Which requests, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only requests of this organisation (its number).
    organisation: Option<OrganisationId>,
    /// Only requests in this state.
    state: Option<purchases::State>,
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of requests; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists purchases that wait, or waited, for approval or payment, newest first.
#[utoipa::path(
    get,
    path = "/v1/purchase-requests",
    operation_id = "list_purchase_requests",
    tag = "Credits",
    params(Which),
    responses((status = 200, body = Page<PurchaseRequest>)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<PurchaseRequest>> {
    caller.must_be(MAY_SEE_PURCHASES)?;
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let limit = limit(which.limit)?;
    let filter = Filter {
        organisation: which.organisation.or(caller.organisation),
        waiting: false,
        state: which.state,
        below: which.after,
    };
    let mut db = service.database.acquire().await?;
    let found = purchases::list(&mut db, filter, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |request| request.id.to_string())))
}

/// Approves a purchase: its credits are added, at the price that the buyer saw. Where there is a
/// payment provider, they are added when it was paid: it is `unpaid` until then.
#[utoipa::path(
    post,
    path = "/v1/purchase-requests/{request}/approve",
    operation_id = "approve_purchase",
    tag = "Credits",
    params(("request" = PurchaseId, Path, description = "The request's number")),
    responses((status = 200, body = PurchaseRequest, description = "It is approved, now or before")),
)]
pub(super) async fn approve(
    State(service): State<Service>,
    caller: Caller,
    Path(request): Path<PurchaseId>,
) -> Answer<PurchaseRequest> {
    Ok(axum::Json(service.commands.approve_purchase(&caller, request).await?))
}

/// Refuses a purchase, or withdraws one of the caller's own organisation.
#[utoipa::path(
    post,
    path = "/v1/purchase-requests/{request}/refuse",
    operation_id = "refuse_purchase",
    tag = "Credits",
    params(("request" = PurchaseId, Path, description = "The request's number")),
    responses((status = 200, body = PurchaseRequest, description = "It is refused, now or before")),
)]
pub(super) async fn refuse(
    State(service): State<Service>,
    caller: Caller,
    Path(request): Path<PurchaseId>,
) -> Answer<PurchaseRequest> {
    Ok(axum::Json(service.commands.refuse_purchase(&caller, request).await?))
}
