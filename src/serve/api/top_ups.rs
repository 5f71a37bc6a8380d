//! Credits come in: bought, granted, adjusted. Each has a key, and comes in once, however often it is sent.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use sqlx::Connection;
use utoipa::ToSchema;

use crate::{
    access::{Caller, Role, audit_log},
    catalog::organisations::Price,
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        top_up::{self, Credited, TopUp, TopUpKind},
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
    caller.must_be(&[Role::Organiser, Role::Staff])?;
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
    caller.must_be(&[Role::Staff])?;
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
    caller.must_be(&[Role::Staff])?;
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
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    if !(1..=200).contains(&key.len()) {
        return Err(Problem::invalid(
            "Idempotency-Key",
            "send a header Idempotency-Key of 1 to 200 characters, new for each top-up",
        ));
    }
    let asked = TopUp {
        organisation,
        kind,
        amount: amount.credits,
        actor: &caller.actor,
        note: &amount.note,
        idempotency_key: key,
    };
    let credited = top_up(service, caller, asked, price.as_ref(), Twin::Refused).await?;
    let status = if credited.credited { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(credited)))
}

/// What becomes of a top-up whose twin, with the same key, is being brought in at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twin {
    /// Programs are told, and come back.
    Refused,
    /// People who clicked twice wait for how the first ended.
    Waits,
}

/// Brings credits in, with the deed, in one transaction; and rings. `price`: what whoever buys was told.
pub(crate) async fn top_up(
    service: &Service,
    caller: &Caller,
    asked: TopUp<'_>,
    price: Option<&Price>,
    twin: Twin,
) -> Result<Credited, Problem> {
    let organisation = asked.organisation;
    caller.must_see(organisation)?;
    let mut db = service.database.acquire().await?;
    let mut tx = db.begin().await?;
    if twin == Twin::Refused
        && !top_up::is_alone(&mut tx, organisation, asked.idempotency_key).await?
    {
        return Err(Problem::in_progress());
    }
    let credited = top_up::top_up(&mut tx, asked).await?;
    if credited.credited {
        // The price it was booked at, not one that was read before: nobody pays what they were not told.
        if price.is_some() && top_up::price(&mut tx, credited.transaction).await?.as_ref() != price
        {
            return Err(Problem::conflict(
                "price_changed",
                "the price has changed since you were asked, and nothing was bought: look at it and begin anew",
            ));
        }
        let detail = serde_json::json!({ "kind": asked.kind, "credits": asked.amount, "transaction": credited.transaction, "note": asked.note });
        let subject = format!("organisation {organisation}");
        audit_log::record(&mut tx, caller, Some(organisation), "credits.top_up", &subject, detail)
            .await?;
    }
    tx.commit().await?;
    if credited.resumed {
        service.wake.ring();
    }
    Ok(credited)
}
