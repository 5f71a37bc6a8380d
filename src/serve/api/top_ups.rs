//! Top-ups: purchases, grants and adjustments. Each has an idempotency key, and is booked only
//! once, however often it is sent.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    access::Caller,
    commands::{Addition, Twin},
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        purchases::{Purchase, PurchaseRequest},
        top_up::{Credited, TopUpKind},
    },
    serve::{
        Service,
        input::{Json, Path, created},
        problem::Problem,
    },
};

/// A correction of an organisation's credits.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 1000, "note": "invoice 2026-118"}))]
pub(super) struct Amount {
    /// Number of credits to add; negative: to take back.
    credits: Credits,
    /// A note for the history, up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
}

/// A purchase of credits.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 1000, "price": "0.05 EUR", "note": "invoice 2026-118"}))]
#[schema(as = Purchase)]
pub(super) struct NewPurchase {
    /// Number of credits to buy.
    credits: Credits,
    /// The price of one credit that the buyer expects, as `0.05 EUR`. If the present price differs,
    /// nothing is bought.
    price: Option<String>,
    /// A note for the history, up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
}

/// Buys credits at the organisation's price.
///
/// Queues that were paused for want of credits resume automatically. A purchase that would bring
/// the purchases of the month above the organisation's limit waits until staff approve it. Where
/// there is a payment provider, it waits until it was paid (at `pay_at`). The answer is 202 then, and
/// no credits are added until then.
#[utoipa::path(
    post,
    path = "/v1/organisations/{organisation}/purchases",
    operation_id = "buy_credits",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        (
            "Idempotency-Key" = String,
            Header,
            description = "1 to 200 characters, new for each purchase; a repeated key changes \
                           nothing",
        ),
    ),
    responses(
        (status = 201, body = Credited),
        (status = 200, body = Credited, description = "It was credited before; nothing changed"),
        (
            status = 202,
            body = PurchaseRequest,
            description = "It waits for approval or payment, or waited: `state` says what became \
                           of it",
            example = json!({
                "actor": "anna@club.example",
                "amount": "2500.00",
                "approved_at": "2026-11-23T10:02:51.100417Z",
                "approved_by": "staff@photogate.example",
                "asked_at": "2026-11-23T09:12:04.426212Z",
                "credits": 50000,
                "decided_at": null,
                "decided_by": null,
                "expires_at": "2026-12-07T09:12:04.426212Z",
                "id": 12,
                "note": "for the marathon",
                "organisation": 1,
                "organisation_name": "Athletics Club",
                "pay_at": "https://pay.example.org/?ref=photogate-12&cents=250000",
                "price": {
                    "currency": "EUR",
                    "per_credit": "0.05"
                },
                "state": "unpaid",
                "transaction": null,
                "waits_for": "payment"
            }),
        ),
    ),
)]
pub(super) async fn purchase(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(purchase): Json<NewPurchase>,
) -> Result<Response, Problem> {
    let price = purchase.price.as_deref().map(str::parse).transpose();
    let price = price.map_err(|error| Problem::invalid("/price", error))?;
    let addition = Addition {
        organisation: id,
        kind: TopUpKind::Purchase,
        credits: purchase.credits,
        note: &purchase.note,
        idempotency_key: key(&headers),
        price: price.as_ref(),
        twin: Twin::Refused,
    };
    Ok(match service.commands.buy(&caller, &addition).await? {
        Purchase::Credited(credited) => {
            (created(credited.credited), axum::Json(credited)).into_response()
        }
        Purchase::Asked { request, .. } => {
            (StatusCode::ACCEPTED, axum::Json(request)).into_response()
        }
    })
}

/// Credits that staff gives without payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"credits": 100, "note": "for the trial", "free": true}))]
pub(super) struct Grant {
    /// Number of credits to grant.
    credits: Credits,
    /// A note for the history, up to 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: String,
    /// If true, the history shows Free Credits instead of Admin Grant.
    #[serde(default)]
    free: bool,
}

/// Grants credits to an organisation, without payment.
#[utoipa::path(
    post,
    path = "/v1/organisations/{organisation}/grants",
    operation_id = "grant_credits",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        (
            "Idempotency-Key" = String,
            Header,
            description = "1 to 200 characters, new for each grant; a repeated key changes nothing",
        ),
    ),
    responses(
        (status = 201, body = Credited),
        (status = 200, body = Credited, description = "It was credited before; nothing changed"),
    ),
)]
pub(super) async fn grant(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(grant): Json<Grant>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let kind = if grant.free { TopUpKind::FreeCredits } else { TopUpKind::AdminGrant };
    let amount = Amount { credits: grant.credits, note: grant.note };
    credit(&service, &caller, id, &headers, kind, &amount).await
}

/// Corrects an organisation's credits, up or down.
///
/// A negative number takes credits back, but never more than are available.
#[utoipa::path(
    post,
    path = "/v1/organisations/{organisation}/adjustments",
    operation_id = "adjust_credits",
    tag = "Credits",
    params(
        ("organisation" = OrganisationId, Path, description = "The organisation's number"),
        (
            "Idempotency-Key" = String,
            Header,
            description = "1 to 200 characters, new for each adjustment; a repeated key changes \
                           nothing",
        ),
    ),
    responses(
        (status = 201, body = Credited),
        (status = 200, body = Credited, description = "It was booked before; nothing changed"),
    ),
)]
pub(super) async fn adjust(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
    headers: HeaderMap,
    Json(amount): Json<Amount>,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    credit(&service, &caller, id, &headers, TopUpKind::Adjustment, &amount).await
}

async fn credit(
    service: &Service,
    caller: &Caller,
    organisation: OrganisationId,
    headers: &HeaderMap,
    kind: TopUpKind,
    amount: &Amount,
) -> Result<(StatusCode, axum::Json<Credited>), Problem> {
    let addition = Addition {
        organisation,
        kind,
        credits: amount.credits,
        note: &amount.note,
        idempotency_key: key(headers),
        price: None,
        twin: Twin::Refused,
    };
    let credited = service.commands.add_credits(caller, &addition).await?;
    Ok((created(credited.credited), axum::Json(credited)))
}

/// The idempotency key. The command refuses an empty one.
fn key(headers: &HeaderMap) -> &str {
    headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default()
}
