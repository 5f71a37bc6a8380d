//! Payments that a provider has reported, for finance. The provider reports them elsewhere
//! (`serve/payments.rs`).

use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::Caller,
    commands::MAY_SEE_PURCHASES,
    ids::{OrganisationId, PaymentId},
    ledger::payments::{self, Filter, Payment},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
    },
};

/// Which payments, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only payments of this organisation (its number).
    organisation: Option<OrganisationId>,
    /// True: only payments that did not become credits, and that nobody has dealt with.
    #[serde(default)]
    open: bool,
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of payments; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists payments that a payment provider has reported, newest first.
#[utoipa::path(
    get,
    path = "/v1/payments",
    operation_id = "list_payments",
    tag = "Credits",
    params(Which),
    responses((status = 200, body = Page<Payment>)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Page<Payment>> {
    caller.must_be(MAY_SEE_PURCHASES)?;
    if let Some(organisation) = which.organisation {
        caller.must_see(organisation)?;
    }
    let limit = limit(which.limit)?;
    let filter = Filter {
        organisation: which.organisation.or(caller.organisation),
        open: which.open,
        below: which.after,
        id: None,
    };
    let found = payments::list(&mut *service.database.acquire().await?, filter, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |payment| payment.id.to_string())))
}

/// What was done with a payment that was kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"note": "paid back on 24 November"}))]
pub(super) struct Settled {
    /// What was done: 1 to 1,000 characters.
    #[schema(max_length = 1000)]
    note: String,
}

/// Notes that somebody has dealt with a payment that was kept: paid it back at the provider, or
/// added the credits.
#[utoipa::path(
    post,
    path = "/v1/payments/{payment}/settle",
    operation_id = "settle_payment",
    tag = "Credits",
    params(("payment" = PaymentId, Path, description = "The payment's number")),
    responses((status = 200, body = Payment, description = "It is noted, now or before")),
)]
pub(super) async fn settle(
    State(service): State<Service>,
    caller: Caller,
    Path(payment): Path<PaymentId>,
    Json(settled): Json<Settled>,
) -> Answer<Payment> {
    Ok(axum::Json(service.commands.settle_payment(&caller, payment, &settled.note).await?))
}
