//! Webhooks: addresses that are sent an organisation's changes.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, Page};
use crate::{
    access::Caller,
    changes::{
        deliveries::{self, Delivery, Replayed},
        webhooks::{self, Webhook},
    },
    commands::{MAY_SEE_WEBHOOKS, NewWebhook, SecretWebhook, WebhookChange},
    ids::{OrganisationId, WebhookId},
    serve::{
        Service,
        input::{Json, Path, Query, limit},
        problem::Problem,
    },
};

/// Which webhooks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Only those of this organisation (its number).
    organisation: Option<OrganisationId>,
}

/// All webhooks that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhooks {
    /// The webhooks, oldest first; an organisation has at most ten.
    items: Vec<Webhook>,
}

/// Lists webhooks, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "list_webhooks",
    tag = "Changes",
    params(Listed),
    responses((status = 200, body = Webhooks)),
)]
pub(super) async fn list(
    State(service): State<Service>,
    caller: Caller,
    Query(asked): Query<Listed>,
) -> Answer<Webhooks> {
    caller.must_be(MAY_SEE_WEBHOOKS)?;
    if let Some(organisation) = asked.organisation {
        caller.must_see(organisation)?;
    }
    let organisation = asked.organisation.or(caller.organisation);
    let mut db = service.database.acquire().await?;
    Ok(axum::Json(Webhooks { items: webhooks::list(&mut db, organisation, None).await? }))
}

/// Adds a webhook. Changes from now on are sent to it. Its secret is in this answer only.
///
/// A call is a `POST` of a `CloudEvent` (the schema `Change`), signed as Standard Webhooks describes:
/// `webhook-id`, `webhook-timestamp`, `webhook-signature`. Any answer from 200 to 299 within 5 seconds
/// accepts it; what else comes is tried again, at first after 5 seconds and then less and less often.
/// A change can arrive twice: `webhook-id` is the same. Changes of one subject arrive in their order.
/// After three days without success, or an answer 410, nothing more is sent (`webhook.disabled`).
#[utoipa::path(
    post,
    path = "/v1/organisations/{organisation}/webhooks",
    operation_id = "add_webhook",
    tag = "Changes",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses(
        (status = 201, body = SecretWebhook),
        (status = 409, body = Problem, description = "The organisation has ten webhooks"),
    ),
)]
pub(super) async fn add(
    State(service): State<Service>,
    caller: Caller,
    Path(organisation): Path<OrganisationId>,
    Json(new): Json<NewWebhook>,
) -> Result<(StatusCode, axum::Json<SecretWebhook>), Problem> {
    let made = service.commands.add_webhook(&caller, organisation, &new).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Changes a webhook, or enables it again: then it is sent all that waits.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{webhook}",
    operation_id = "change_webhook",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number")),
    responses((status = 200, body = Webhook)),
)]
pub(super) async fn change(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
    Json(change): Json<WebhookChange>,
) -> Answer<Webhook> {
    Ok(axum::Json(service.commands.change_webhook(&caller, webhook, &change).await?))
}

/// Removes a webhook, and what waits for it.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{webhook}",
    operation_id = "remove_webhook",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number")),
    responses((status = 204, description = "The webhook is removed")),
)]
pub(super) async fn remove(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
) -> Result<StatusCode, Problem> {
    service.commands.remove_webhook(&caller, webhook).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new secret. For a day, calls are signed with the one before, too.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/rotate",
    operation_id = "rotate_webhook_secret",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number")),
    responses((status = 200, body = SecretWebhook)),
)]
pub(super) async fn rotate(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
) -> Answer<SecretWebhook> {
    Ok(axum::Json(service.commands.rotate_webhook_secret(&caller, webhook).await?))
}

/// Sends a `webhook.ping` to this webhook alone. What came of it stands among its deliveries.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/ping",
    operation_id = "ping_webhook",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number")),
    responses((status = 202, description = "It is sent within a moment, if a worker runs")),
)]
pub(super) async fn ping(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
) -> Result<StatusCode, Problem> {
    service.commands.ping_webhook(&caller, webhook).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Which deliveries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those in this state.
    state: Option<deliveries::State>,
    /// `next` of the previous page; without it, the first page.
    after: Option<i64>,
    /// Maximum number of rows; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

/// Lists what was sent to a webhook, and what waits for it, newest first.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{webhook}/deliveries",
    operation_id = "list_deliveries",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number"), Which),
    responses((status = 200, body = Page<Delivery>)),
)]
pub(super) async fn deliveries(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
    Query(which): Query<Which>,
) -> Answer<Page<Delivery>> {
    service.commands.webhook(&caller, webhook).await?;
    let limit = limit(which.limit)?;
    let mut db = service.database.acquire().await?;
    let found = deliveries::list(&mut db, webhook, which.state, which.after, limit + 1).await?;
    Ok(axum::Json(Page::of(found, limit, |delivery| delivery.change.to_string())))
}

/// Which changes to deliver again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Replay, example = json!({ "from": 120, "upto": 140 }))]
pub(super) struct Replay {
    /// The number of the first change.
    from: i64,
    /// The number of the last one; all that there are if missing.
    upto: Option<i64>,
}

/// Delivers changes again, also those from before the webhook was added, as long as they are kept.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/replay",
    operation_id = "replay_changes",
    tag = "Changes",
    params(("webhook" = WebhookId, Path, description = "The webhook's number")),
    responses((status = 200, body = Replayed)),
)]
pub(super) async fn replay(
    State(service): State<Service>,
    caller: Caller,
    Path(webhook): Path<WebhookId>,
    Json(asked): Json<Replay>,
) -> Answer<Replayed> {
    let commands = &service.commands;
    Ok(axum::Json(commands.replay_deliveries(&caller, webhook, asked.from, asked.upto).await?))
}
