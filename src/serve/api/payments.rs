//! Payments that a provider has reported, for finance. The provider reports them elsewhere
//! (`serve/payments.rs`).

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, Page};
use crate::{
    access::Caller,
    commands::MAY_SEE_PURCHASES,
    ids::OrganisationId,
    ledger::payments::{self, Filter, Payment},
    serve::{
        Service,
        input::{Query, limit},
    },
};

/// Which payments, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only payments of this organisation (its number).
    organisation: Option<OrganisationId>,
    /// True: only payments that were kept for finance, because they did not become credits.
    #[serde(default)]
    kept: bool,
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
        kept: which.kept,
        below: which.after,
    };
    let found = payments::list(&mut *service.database.acquire().await?, filter, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |payment| payment.id.to_string())))
}
