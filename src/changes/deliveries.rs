//! Deliveries: each is one change on its way to one webhook.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{Change, Type};
use crate::{
    ids::{OrganisationId, WebhookId},
    queue::claim::{Incarnation, interval},
};

/// Whether a change has arrived.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    serde::Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    ToSchema,
)]
#[sqlx(type_name = "delivery_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryState)]
pub enum State {
    /// It is not delivered yet.
    Waiting,
    /// The webhook has accepted it.
    Delivered,
}

/// A change that goes to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// The number of the change: its `id`.
    pub change: i64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What it happened to.
    pub subject: String,
    /// Whether it has arrived.
    pub state: State,
    /// Number of calls.
    pub attempts: i32,
    /// When it is sent next. Null if it has arrived, or if an earlier change of the same subject has
    /// to arrive first.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was sent last.
    pub tried_at: Option<DateTime<Utc>>,
    /// The HTTP status of the last answer.
    pub status: Option<i32>,
    /// Why the last call failed.
    pub trouble: Option<String>,
    /// When the webhook accepted it.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// The deliveries of a webhook, newest first.
///
/// # Errors
/// An error of the database.
pub async fn list(
    db: &mut PgConnection,
    webhook: WebhookId,
    state: Option<State>,
    below: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Delivery>> {
    sqlx::query_as!(
        Delivery,
        r#"SELECT position AS change, type AS "kind: Type", subject, state AS "state: State",
                  attempts, due_at, tried_at, status, trouble, delivered_at
           FROM delivery
           WHERE webhook_id = $1 AND ($2::delivery_state IS NULL OR state = $2)
               AND ($3::bigint IS NULL OR position < $3)
           ORDER BY webhook_id DESC, position DESC LIMIT $4"#,
        webhook.0,
        state as Option<State>,
        below,
        limit
    )
    .fetch_all(db)
    .await
}

/// Delivers changes again: from this number on, up to `upto` or (`None`) to the last one.
///
/// # Errors
/// An error of the database.
pub async fn replay(
    db: &mut PgConnection,
    webhook: WebhookId,
    from: i64,
    upto: Option<i64>,
) -> sqlx::Result<Replayed> {
    sqlx::query_as!(
        Replayed,
        r#"SELECT r_changes AS "changes!", r_next AS next FROM replay_deliveries($1, $2, $3)"#,
        webhook.0,
        from,
        upto
    )
    .fetch_one(db)
    .await
}

/// What is delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Replayed {
    /// Number of changes that are delivered again.
    pub changes: i64,
    /// A call delivers at most 10,000 again. Send this as `from` of the next one; null: that is all.
    pub next: Option<i64>,
}

/// A call to make: this worker has it under a lease.
#[derive(Debug)]
pub struct Call {
    /// The webhook.
    pub webhook: WebhookId,
    /// Whose change it is.
    pub organisation: OrganisationId,
    /// The change's number.
    pub position: i64,
    /// Which call of this delivery it is. It is the fence against late workers.
    pub attempt: i32,
    /// Where it goes.
    pub url: String,
    /// The secrets that sign it: one, or two after a rotation.
    pub secrets: Vec<Vec<u8>>,
    /// What is said.
    pub change: Change,
}

/// Takes calls that are due, at most `most`, under a lease: those to addresses that fail, or to the
/// others.
///
/// # Errors
/// An error of the database.
pub async fn take(
    db: &mut PgConnection,
    me: Incarnation,
    failing: bool,
    most: usize,
    lease: Duration,
) -> sqlx::Result<Vec<Call>> {
    let rows = sqlx::query!(
        r#"SELECT r_webhook AS "webhook!: WebhookId", r_attempt AS "attempt!", r_url AS "url!",
                  r_secrets AS "secrets!", r_organisation AS "organisation!: OrganisationId",
                  r_position AS "position!", r_type AS "kind!: Type", r_subject AS "subject!",
                  r_at AS "at!", r_data AS "data!"
           FROM take_deliveries($1, $2, $3, $4)"#,
        me.key(),
        failing,
        i32::try_from(most).unwrap_or(i32::MAX),
        interval(lease)
    )
    .fetch_all(db)
    .await?;
    let calls = rows.into_iter().map(|row| Call {
        webhook: row.webhook,
        organisation: row.organisation,
        position: row.position,
        attempt: row.attempt,
        url: row.url,
        secrets: row.secrets,
        change: Change::new(
            row.organisation,
            row.position,
            row.kind,
            row.subject,
            row.at,
            row.data,
        ),
    });
    Ok(calls.collect())
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Why it failed; `None`: it was accepted.
    pub trouble: Option<String>,
}

/// How long failing webhooks are tried.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The pause after the first failure. It becomes three times as long each time, up to an hour.
    pub pause: Duration,
    /// After this time without success, a webhook is disabled.
    pub give_up_after: Duration,
}

/// Notes what came of a call. True if the webhook is disabled now.
///
/// # Errors
/// An error of the database.
pub async fn end(
    db: &mut PgConnection,
    call: &Call,
    answer: &Answer,
    patience: Patience,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT end_delivery($1, $2, $3, $4, $5, $6, $7, $8) AS "disabled!""#,
        call.webhook.0,
        call.position,
        call.attempt,
        call.url,
        answer.status.map(i32::from),
        answer.trouble.as_deref(),
        interval(patience.pause),
        interval(patience.give_up_after)
    )
    .fetch_one(db)
    .await
}
