//! The section `webhooks` of the OpenAPI document: what photogate sends, for each type of change.

use serde_json::{Value, json};

use crate::changes::Type;

/// The calls that webhooks get: one for each type of change.
pub(super) fn all() -> Value {
    let header = |name: &str, says: &str| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "header", "required": true, "description": says, "schema": schema })
    };
    let call = |kind: Type| {
        let example = json!({
            "specversion": "1.0", "id": "57", "source": "/v1/organisations/7", "type": kind,
            "subject": subject(kind), "time": "2026-11-02T09:14:11.104Z",
            "datacontenttype": "application/json", "data": data(kind),
        });
        let body = json!({
            "schema": { "$ref": "#/components/schemas/Change" }, "example": example,
        });
        json!({ "post": {
            "tags": ["Webhook calls"],
            "operationId": format!("hear_{}", kind.code().replace('.', "_")),
            "summary": kind.says(),
            "security": [],
            "parameters": [
                header("webhook-id", "The same if the change arrives again"),
                header("webhook-timestamp", "Seconds since 1970 at which it was sent"),
                header("webhook-signature", "As Standard Webhooks describes it"),
            ],
            "requestBody": {
                "required": true, "content": { "application/cloudevents+json": body },
            },
            "responses": {
                "2XX": { "description": "It is accepted" },
                "410": { "description": "Nobody hears here any more: the webhook is disabled" },
                "default": { "description": "It is sent again later" },
            },
        } })
    };
    let all = Type::ALL.into_iter().chain([Type::WebhookPing]);
    all.map(|kind| (kind.code().to_owned(), call(kind))).collect::<serde_json::Map<_, _>>().into()
}

fn subject(kind: Type) -> &'static str {
    match kind {
        Type::RunQueued
        | Type::RunStarted
        | Type::RunFinished
        | Type::RunCancelled
        | Type::RunUndone
        | Type::PhotoProcessed => "runs/12",
        Type::EventPaused
        | Type::EventResumed
        | Type::EventFinished
        | Type::EventHeld
        | Type::EventLifted
        | Type::EventDeleted => "events/4300",
        Type::CreditsAdded | Type::AutoTopUpStopped => "organisations/7",
        Type::PurchaseAsked | Type::PurchaseDecided => "purchases/9",
        Type::AlertRaised | Type::AlertCleared => "alerts/4",
        Type::PaymentKept => "payments/5",
        Type::WebhookDisabled | Type::WebhookPing => "webhooks/3",
    }
}

/// All that `data` of such a change can have. A test compares it with what is said.
fn data(kind: Type) -> Value {
    let (event, operation, actor) = (4300, "photo_processing", "anna@club.example");
    match kind {
        Type::RunQueued | Type::RunCancelled => json!({
            "event": event, "operation": operation, "run": 12, "photos": 200, "actor": actor,
        }),
        Type::RunStarted => json!({ "event": event, "operation": operation, "run": 12 }),
        Type::RunFinished => {
            json!({ "event": event, "operation": operation, "run": 12, "photos": 200 })
        }
        Type::RunUndone => {
            json!({ "event": event, "operation": operation, "run": 12, "actor": actor })
        }
        Type::PhotoProcessed => json!({
            "event": event, "operation": operation, "run": 12, "photos": [{
                "photo": "01931f6e-7f0a-7cc0-8f9e-3b1d5a7c9e21", "key": "2026/IMG_0001.jpg",
                "state": "failed", "reason": "corrupt",
            }],
        }),
        Type::EventPaused => json!({
            "event": event, "operation": operation, "cause": "spent", "transaction": 981,
        }),
        Type::EventResumed => json!({
            "event": event, "operation": operation, "cause": "top_up", "transaction": 1200, "hold": 5,
        }),
        Type::EventFinished => {
            json!({ "event": event, "operation": operation, "photos": 1200 })
        }
        Type::EventHeld => {
            json!({ "event": event, "operation": operation, "actor": actor, "hold": 5 })
        }
        Type::EventLifted => json!({
            "event": event, "operation": operation, "actor": actor, "cause": "expiry", "hold": 5,
        }),
        Type::EventDeleted => json!({ "event": event, "actor": actor }),
        Type::CreditsAdded => {
            json!({ "transaction": 1200, "kind": "purchase", "credits": 500, "actor": actor })
        }
        Type::PurchaseAsked | Type::PurchaseDecided => json!({
            "organisation": 7, "request": 9, "state": "approved", "credits": 20000, "actor": actor,
            "decided_by": "staff@photogate.example", "transaction": 1200,
        }),
        Type::AlertRaised | Type::AlertCleared => json!({
            "alert": 4, "kind": "low_balance", "threshold": 500, "measured": 498,
            "credits_missing": 120,
        }),
        Type::PaymentKept => json!({
            "payment": 5, "organisation": 7, "request": 9, "reason": "wrong_amount", "amount": 4900,
            "currency": "EUR",
        }),
        Type::AutoTopUpStopped => json!({ "organisation": 7, "reason": "refused" }),
        Type::WebhookDisabled => json!({ "webhook": 3, "reason": "no_answer" }),
        Type::WebhookPing => json!({ "webhook": 3, "actor": actor }),
    }
}
