//! Adds webhooks of an organisation, changes, tries and removes them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{Caller, Role, audit_log},
    changes::{
        Type, address,
        deliveries::{self, Replayed},
        webhooks::{self, Secret, Update, Webhook},
    },
    ids::{OrganisationId, WebhookId},
};

/// Who decides what is sent, and where. What is sent names photos, prices and people.
pub(super) const MAY_CHANGE_WEBHOOKS: &[Role] = &[Role::Organiser, Role::Staff];
/// Who sees webhooks and their deliveries.
pub(super) const MAY_SEE_WEBHOOKS: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];
/// For so many hours after a rotation the secret before it signs, too.
const OVERLAP_HOURS: i32 = 24;

/// A webhook to add.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "url": "https://example.com/photogate",
    "types": ["run.finished", "event.paused"],
}))]
pub struct NewWebhook {
    /// Where changes are sent: `https://…`, on the public internet; required.
    #[serde(default)]
    pub url: String,
    /// The types of changes that are sent; all but `photo.processed` if missing.
    pub types: Option<Vec<Type>>,
}

/// The change of a webhook; what is missing stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "enabled": true }))]
pub struct WebhookChange {
    /// Another address.
    pub url: Option<String>,
    /// Other types.
    pub types: Option<Vec<Type>>,
    /// Whether changes are sent. Enabled again, the webhook is sent all that waits.
    pub enabled: Option<bool>,
}

/// A webhook and its secret, which is shown in this answer only.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SecretWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// The secret that signs its calls. It cannot be read again; a rotation makes another one.
    pub secret: String,
}

impl Commands {
    /// Adds a webhook. Changes from now on are sent to it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn add_webhook(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        new: &NewWebhook,
    ) -> Result<SecretWebhook, CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        caller.must_see(organisation)?;
        self.check_address(&new.url)?;
        let all_but_photos = || Type::ALL.into_iter().filter(|kind| *kind != Type::PhotoProcessed);
        let types = new.types.clone().unwrap_or_else(|| all_but_photos().collect());
        let types = checked(types)?;
        let secret = Secret::random();
        let mut tx = self.database.begin().await?;
        let id =
            webhooks::add(&mut tx, organisation, &new.url, &types, &secret, &caller.actor).await?;
        let detail = json!({ "url": new.url, "types": types });
        self.record(&mut tx, caller, organisation, "webhook.add", id, detail).await?;
        let webhook = found(&mut tx, caller, id).await?;
        tx.commit().await?;
        Ok(SecretWebhook { webhook, secret: secret.shown() })
    }

    /// Changes a webhook, or enables it again.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn change_webhook(
        &self,
        caller: &Caller,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Webhook, CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        if let Some(url) = &change.url {
            self.check_address(url)?;
        }
        let types = change.types.clone().map(checked).transpose()?;
        let mut tx = self.database.begin().await?;
        let organisation = found(&mut tx, caller, id).await?.organisation;
        let detail = json!({ "url": change.url, "types": types, "enabled": change.enabled });
        let update = Update { url: change.url.clone(), types, enabled: change.enabled };
        webhooks::change(&mut tx, id, &update, &caller.actor).await?;
        self.record(&mut tx, caller, organisation, "webhook.change", id, detail).await?;
        let webhook = found(&mut tx, caller, id).await?;
        tx.commit().await?;
        Ok(webhook)
    }

    /// Makes a new secret. For a day, calls are signed with the one before, too.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn rotate_webhook_secret(
        &self,
        caller: &Caller,
        id: WebhookId,
    ) -> Result<SecretWebhook, CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        let secret = Secret::random();
        let mut tx = self.database.begin().await?;
        let organisation = found(&mut tx, caller, id).await?.organisation;
        webhooks::rotate(&mut tx, id, &secret, OVERLAP_HOURS).await?;
        self.record(&mut tx, caller, organisation, "webhook.rotate", id, json!({})).await?;
        let webhook = found(&mut tx, caller, id).await?;
        tx.commit().await?;
        Ok(SecretWebhook { webhook, secret: secret.shown() })
    }

    /// Removes a webhook, and what waits for it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn remove_webhook(&self, caller: &Caller, id: WebhookId) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        let mut tx = self.database.begin().await?;
        let webhook = found(&mut tx, caller, id).await?;
        if webhooks::remove(&mut tx, id).await? {
            let detail = json!({ "url": webhook.url });
            self.record(&mut tx, caller, webhook.organisation, "webhook.remove", id, detail)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Sends a `webhook.ping` to this webhook alone. It stands among its deliveries.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn ping_webhook(&self, caller: &Caller, id: WebhookId) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        let mut tx = self.database.begin().await?;
        let webhook = found(&mut tx, caller, id).await?;
        webhooks::ping(&mut tx, id, &caller.actor).await?;
        self.record(&mut tx, caller, webhook.organisation, "webhook.ping", id, json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Delivers changes again: from this one on, up to `upto` or (`None`) the last one.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn replay_deliveries(
        &self,
        caller: &Caller,
        id: WebhookId,
        from: i64,
        upto: Option<i64>,
    ) -> Result<Replayed, CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        let mut tx = self.database.begin().await?;
        let webhook = found(&mut tx, caller, id).await?;
        let replayed = deliveries::replay(&mut tx, id, from, upto).await?;
        let detail = json!({ "from": from, "upto": upto, "changes": replayed.changes });
        self.record(&mut tx, caller, webhook.organisation, "webhook.replay", id, detail).await?;
        tx.commit().await?;
        Ok(replayed)
    }

    /// Lets the feed say which photos are settled, or not.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn feed_photos(
        &self,
        caller: &Caller,
        organisation: OrganisationId,
        on: bool,
    ) -> Result<(), CommandError> {
        caller.must_be(MAY_CHANGE_WEBHOOKS)?;
        caller.must_see(organisation)?;
        let mut tx = self.database.begin().await?;
        if webhooks::feed_photos(&mut tx, organisation, on).await? {
            let subject = format!("organisation {organisation}");
            let (whose, detail) = (Some(organisation), json!({ "photos": on }));
            audit_log::record(&mut tx, caller, whose, "feed.change", &subject, detail).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A webhook that the caller may see.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn webhook(&self, caller: &Caller, id: WebhookId) -> Result<Webhook, CommandError> {
        caller.must_be(MAY_SEE_WEBHOOKS)?;
        found(&mut *self.database.acquire().await?, caller, id).await
    }

    fn check_address(&self, url: &str) -> Result<(), CommandError> {
        address::check(url, self.quotas.webhooks_to_private_addresses())
            .map_err(|error| CommandError::invalid("/url", error.to_string()))?;
        Ok(())
    }

    async fn record(
        &self,
        tx: &mut PgConnection,
        caller: &Caller,
        organisation: OrganisationId,
        action: &str,
        id: WebhookId,
        detail: serde_json::Value,
    ) -> Result<(), CommandError> {
        let subject = format!("webhook {id}");
        audit_log::record(tx, caller, Some(organisation), action, &subject, detail).await?;
        Ok(())
    }
}

async fn found(
    db: &mut PgConnection,
    caller: &Caller,
    id: WebhookId,
) -> Result<Webhook, CommandError> {
    let missing = || CommandError::NotFound(format!("webhook {id}"));
    let webhook = webhooks::find(db, id).await?.ok_or_else(missing)?;
    caller.must_see(webhook.organisation).map_err(|_| missing())?;
    Ok(webhook)
}

fn checked(mut types: Vec<Type>) -> Result<Vec<Type>, CommandError> {
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return Err(CommandError::invalid("/types", "choose at least one type"));
    }
    if types.contains(&Type::WebhookPing) {
        let detail = "a ping goes to the webhook that is tried: do not choose it";
        return Err(CommandError::invalid("/types", detail));
    }
    Ok(types)
}
