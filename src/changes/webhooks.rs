//! Webhooks: addresses of an organisation that hear changes.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use rand::TryRngCore;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::Type;
use crate::ids::{OrganisationId, WebhookId};

/// An address that hears changes. Its secret is not here: it is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Webhook {
    /// The webhook's number.
    pub id: WebhookId,
    /// The organisation whose changes it hears.
    pub organisation: OrganisationId,
    /// Where changes are sent.
    pub url: String,
    /// The types of changes that it hears.
    pub types: Vec<Type>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when the secret before the last rotation signs, too.
    pub old_secret_until: Option<DateTime<Utc>>,
    /// Since when nothing is sent to it; null: changes are sent.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Who disabled it: a person, or `System` after three days without an answer.
    pub disabled_by: Option<String>,
    /// Since when calls fail; null: the last one succeeded.
    pub failing_since: Option<DateTime<Utc>>,
    /// Number of calls that failed since then.
    pub failures: i32,
    /// After a failure, nothing is sent until then.
    pub rests_until: Option<DateTime<Utc>>,
}

/// A secret that signs what is sent to one webhook.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new one: 256 random bits.
    ///
    /// # Panics
    /// If the operating system has no random bits.
    pub fn random() -> Self {
        let mut bytes = vec![0; 32];
        #[expect(
            clippy::unwrap_used,
            reason = "without random bits of the operating system nothing can work"
        )]
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap();
        Self(bytes)
    }

    /// As libraries for Standard Webhooks take it.
    pub fn shown(&self) -> String {
        format!("whsec_{}", BASE64.encode(&self.0))
    }
}

/// The webhooks of an organisation (`None`: of all), or the one with this number. Oldest first.
///
/// # Errors
/// An error of the database.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    id: Option<WebhookId>,
) -> sqlx::Result<Vec<Webhook>> {
    sqlx::query_as!(
        Webhook,
        r#"SELECT webhook_id AS "id: WebhookId", organisation_id AS "organisation: OrganisationId",
                  url, types AS "types: Vec<Type>", created_by, created_at, old_secret_until,
                  disabled_at, disabled_by, failing_since, failures, rests_until
           FROM webhook
           WHERE ($1::bigint IS NULL OR organisation_id = $1)
               AND ($2::bigint IS NULL OR webhook_id = $2)
           ORDER BY webhook_id LIMIT 1000"#,
        organisation.map(|organisation| organisation.0),
        id.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}

/// Finds a webhook.
///
/// # Errors
/// An error of the database.
pub async fn find(db: &mut PgConnection, id: WebhookId) -> sqlx::Result<Option<Webhook>> {
    Ok(list(db, None, Some(id)).await?.pop())
}

/// Adds an address. Changes from now on are sent to it.
///
/// # Errors
/// An error of the database; with the code `database::TOO_MANY` if the organisation has ten.
pub async fn add(
    db: &mut PgConnection,
    organisation: OrganisationId,
    url: &str,
    types: &[Type],
    secret: &Secret,
    actor: &str,
) -> sqlx::Result<WebhookId> {
    sqlx::query_scalar!(
        r#"SELECT add_webhook($1, $2, $3, $4, $5) AS "id!: WebhookId""#,
        organisation.0,
        url,
        types as &[Type],
        secret.0,
        actor
    )
    .fetch_one(db)
    .await
}

/// What changes of a webhook; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Another address.
    pub url: Option<String>,
    /// Other types.
    pub types: Option<Vec<Type>>,
    /// Whether changes are sent to it. Enabled again, it is sent all that waits.
    pub enabled: Option<bool>,
}

/// Changes a webhook.
///
/// # Errors
/// An error of the database.
pub async fn change(
    db: &mut PgConnection,
    id: WebhookId,
    update: &Update,
    actor: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT change_webhook($1, $2, $3, $4, $5)",
        id.0,
        update.url.as_deref(),
        update.types.as_deref() as Option<&[Type]>,
        update.enabled,
        actor
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Signs with another secret from now on, and with the one before, too, for so many hours.
///
/// # Errors
/// An error of the database.
pub async fn rotate(
    db: &mut PgConnection,
    id: WebhookId,
    secret: &Secret,
    overlap_hours: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT rotate_webhook_secret($1, $2, make_interval(hours => $3))",
        id.0,
        secret.0,
        overlap_hours
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a webhook, and what waits for it. False if it is gone already.
///
/// # Errors
/// An error of the database.
pub async fn remove(db: &mut PgConnection, id: WebhookId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT remove_webhook($1) AS "removed!""#, id.0).fetch_one(db).await
}

/// Sends a change to this address alone, to try it.
///
/// # Errors
/// An error of the database.
pub async fn ping(db: &mut PgConnection, id: WebhookId, actor: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT ping_webhook($1, $2)", id.0, actor).execute(db).await?;
    Ok(())
}

/// Whether the feed says which photos are settled, beside what webhooks want to hear.
///
/// # Errors
/// An error of the database.
pub async fn feed_photos(
    db: &mut PgConnection,
    organisation: OrganisationId,
    on: bool,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT feed_photos($1, $2) AS "changed!""#, organisation.0, on)
        .fetch_one(db)
        .await
}
