//! Where a payment provider reports payments: `POST /v1/payments/{provider}`. It has no token or
//! session: what it sends is signed.

mod stripe;

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Service, client_address, input::Path, problem::Problem};
use crate::{
    ids::PaymentId,
    ledger::{
        payments::{Kept, Paid, named},
        purchases::State as Ended,
    },
};

/// The provider that this build knows, as it is written in addresses and in the books.
pub(super) const STRIPE: &str = "stripe";

/// Larger than any report: they have a few thousand characters.
const BODY_MAX: usize = 64 << 10;

pub(super) fn routes() -> Router<Service> {
    let report = post(report).layer(DefaultBodyLimit::max(BODY_MAX));
    Router::new().route("/v1/payments/{provider}", report)
}

/// What a provider reports of a purchase.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// It was paid.
    Paid(Paid),
    /// It will not be paid. The name of the purchase, and what becomes of it.
    Ended(String, Ended),
    /// It is not about a payment.
    Other,
}

/// The answer to a report. Whatever it says, the provider need not send the report again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeardReport)]
pub(super) struct Heard {
    /// What became of it: `credited`, `kept` (for finance), `known` (nothing changed), `ended` (the
    /// purchase) or `ignored`.
    outcome: &'static str,
    /// The payment, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<PaymentId>,
    /// Why it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Kept>,
}

impl Heard {
    fn only(outcome: &'static str) -> axum::Json<Self> {
        axum::Json(Self { outcome, payment: None, reason: None })
    }
}

/// Hears from a payment provider that a purchase was paid, or will not be.
///
/// For Stripe: make this address an endpoint for the events `checkout.session.*`. It needs no token,
/// because what the provider sends is signed.
#[utoipa::path(
    post,
    path = "/v1/payments/{provider}",
    operation_id = "report_payment",
    tag = "Credits",
    security(()),
    params(
        ("provider" = String, Path, description = "`stripe`"),
        ("Stripe-Signature" = String, Header, description = "As Stripe signs the body, byte for byte"),
    ),
    request_body(
        content = Object,
        content_type = "application/json",
        description = "An event of Stripe, at most 64 KiB",
    ),
    responses(
        (status = 200, body = Heard),
        (status = 400, body = Problem, description = "The signature is not right (`bad_signature`)"),
    ),
)]
pub(super) async fn report(
    State(service): State<Service>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Heard>, Problem> {
    service.shares.may_come(client_address::address(&service, &headers, ConnectInfo(peer)))?;
    let secrets = &service.config.stripe_secrets;
    if provider != STRIPE || secrets.is_empty() {
        return Err(Problem::not_found(format!("payment provider {provider}")));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large("this is no report".into()),
        _ => Problem::malformed(rejection.body_text()),
    })?;
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    stripe::verify(signature.unwrap_or_default(), &body, secrets, Utc::now().timestamp())
        .map_err(Problem::bad_signature)?;
    let report = stripe::read(&body).map_err(|error| {
        tracing::error!(%error, "a report of the payment provider cannot be read");
        Problem::malformed(format!("this is no report that photogate can read: {error}"))
    })?;
    match report {
        Report::Paid(paid) => {
            let received = service.commands.receive_payment(STRIPE, &paid).await?;
            let outcome = match received.kept {
                _ if !received.is_new => "known",
                None => "credited",
                Some(why) => {
                    tracing::error!(
                        payment = %received.payment, reference = ?paid.reference, reason = why.says(),
                        "a payment was not credited: it is kept for finance"
                    );
                    "kept"
                }
            };
            let payment = Some(received.payment);
            Ok(axum::Json(Heard { outcome, payment, reason: received.kept }))
        }
        Report::Ended(name, state) => {
            let Some(purchase) = named(&name) else { return Ok(Heard::only("ignored")) };
            let ended = service.commands.end_unpaid_purchase(STRIPE, purchase, state).await?;
            Ok(Heard::only(if ended { "ended" } else { "known" }))
        }
        Report::Other => Ok(Heard::only("ignored")),
    }
}
