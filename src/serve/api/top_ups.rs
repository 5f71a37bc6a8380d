//! Credits come in: bought, granted, adjusted. Each has a key, and comes in once, however often it is sent.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    catalog::organisations::Price,
    commands::{Addition, Twin},
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        top_up::{Credited, TopUpKind},
    },
    serve::{
        Service,
        input::{Json, Path},
        problem::Problem,
    },
};

/// Credits to bring in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 1000, "note": "invoice 2026-118"}))]
pub(super) struct Amount {
    /// How many.
    credits: Credits,
    /// For the history: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
}

/// Credits to buy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 1000, "price": "0.05 EUR", "note": "invoice 2026-118"}))]
pub(super) struct Purchase {
    /// How many.
    credits: Credits,
    /// What a credit is thought to cost, as in `0.05 EUR`: if it costs something else, nothing is bought.
    price: Option<String>,
    /// For the history: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
}

/// Buys credits, at the organisation's price. Queues that were paused for want of credits go on by themselves.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/purchases", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this purchase: sent again, it is credited once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was credited before")))]
pub(super) async fn purchase(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(purchase): Json<Purchase>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let amount = Amount { credits: purchase.credits, note: purchase.note };
    let price = purchase.price.as_deref().map(str::parse).transpose();
    let price = price.map_err(|error| Problem::invalid("/price", error))?;
    credit(&service, &caller, id, &headers, TopUpKind::Purchase, &amount, price).await
}

/// A grant: given by staff.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 100, "note": "for the trial", "free": true}))]
pub(super) struct Grant {
    /// How many.
    credits: Credits,
    /// For the history: up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
    /// Shown as Free Credits instead of Admin Grant.
    #[serde(default)]
    free: bool,
}

/// Grants credits.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/grants", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this grant: sent again, it is credited once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was credited before")))]
pub(super) async fn grant(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(grant): Json<Grant>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let kind = if grant.free { TopUpKind::FreeCredits } else { TopUpKind::AdminGrant };
    let amount = Amount { credits: grant.credits, note: grant.note };
    credit(&service, &caller, id, &headers, kind, &amount, None).await
}

/// Adjusts credits: a refund by support; negative, it takes some back, as many as are available.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/adjustments", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation"),
           ("Idempotency-Key" = String, Header, description = "Of this adjustment: sent again, it is booked once")),
    responses((status = 201, body = Credited), (status = 200, body = Credited, description = "It was booked before")))]
pub(super) async fn adjust(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(amount): Json<Amount>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    credit(&service, &caller, id, &headers, TopUpKind::Refund, &amount, None).await
}

async fn credit(
    service: &Service,
    caller: &Caller,
    organisation: OrganisationId,
    headers: &HeaderMap,
    kind: TopUpKind,
    amount: &Amount,
    price: Option<Price>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let addition = Addition {
        organisation,
        kind,
        credits: amount.credits,
        note: &amount.note,
        idempotency_key: key.unwrap_or_default(),
        price: price.as_ref(),
        twin: Twin::Refused,
    };
    let credited = service.commands.add_credits(caller, &addition).await?;
    let status = if credited.credited { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(credited)))
}
