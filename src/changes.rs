//! Room: what photogate says to the outside. Changes stand in the order of their organisation; a
//! client reads them ([`feed`]), they are delivered to webhooks, or mails say them to people.

pub mod address;
pub mod alerts;
#[cfg(feature = "serve")]
pub mod courier;
pub mod deliveries;
pub mod feed;
#[cfg(feature = "serve")]
pub mod letters;
pub mod mailboxes;
pub mod outcome;
#[cfg(feature = "serve")]
pub mod post;
#[cfg(feature = "serve")]
pub mod sentences;
pub mod webhooks;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::OrganisationId;

/// What happened.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    ToSchema,
)]
#[sqlx(type_name = "change_type")]
#[schema(as = ChangeType)]
pub enum Type {
    /// Photos were queued.
    #[sqlx(rename = "run.queued")]
    #[serde(rename = "run.queued")]
    #[value(name = "run.queued")]
    RunQueued,
    /// The first photo of a run was claimed.
    #[sqlx(rename = "run.started")]
    #[serde(rename = "run.started")]
    #[value(name = "run.started")]
    RunStarted,
    /// All photos of a run are settled, or were taken out.
    #[sqlx(rename = "run.finished")]
    #[serde(rename = "run.finished")]
    #[value(name = "run.finished")]
    RunFinished,
    /// A person took back what waited of a run.
    #[sqlx(rename = "run.cancelled")]
    #[serde(rename = "run.cancelled")]
    #[value(name = "run.cancelled")]
    RunCancelled,
    /// A person took an act on a run back: its queueing, its cancelling, or that it went first.
    #[sqlx(rename = "run.undone")]
    #[serde(rename = "run.undone")]
    #[value(name = "run.undone")]
    RunUndone,
    /// Photos of a run were settled: processed, or refunded.
    #[sqlx(rename = "photo.processed")]
    #[serde(rename = "photo.processed")]
    #[value(name = "photo.processed")]
    PhotoProcessed,
    /// A queue of an event was paused: nothing can be spent.
    #[sqlx(rename = "event.paused")]
    #[serde(rename = "event.paused")]
    #[value(name = "event.paused")]
    EventPaused,
    /// A pause, or a hold that kept the queue, has ended.
    #[sqlx(rename = "event.resumed")]
    #[serde(rename = "event.resumed")]
    #[value(name = "event.resumed")]
    EventResumed,
    /// Nothing of a queue of an event waits, and nothing is in progress. `photos`: so many were
    /// settled so far, in all.
    #[sqlx(rename = "event.finished")]
    #[serde(rename = "event.finished")]
    #[value(name = "event.finished")]
    EventFinished,
    /// A person placed a hold on a queue.
    #[sqlx(rename = "event.held")]
    #[serde(rename = "event.held")]
    #[value(name = "event.held")]
    EventHeld,
    /// A hold was lifted, or has ended.
    #[sqlx(rename = "event.lifted")]
    #[serde(rename = "event.lifted")]
    #[value(name = "event.lifted")]
    EventLifted,
    /// An event was deleted.
    #[sqlx(rename = "event.deleted")]
    #[serde(rename = "event.deleted")]
    #[value(name = "event.deleted")]
    EventDeleted,
    /// Credits came in; or staff took some out (`credits` is negative).
    #[sqlx(rename = "credits.added")]
    #[serde(rename = "credits.added")]
    #[value(name = "credits.added")]
    CreditsAdded,
    /// A purchase waits for approval, or for its payment (`state` is `unpaid`).
    #[sqlx(rename = "purchase.asked")]
    #[serde(rename = "purchase.asked")]
    #[value(name = "purchase.asked")]
    PurchaseAsked,
    /// A purchase that waited was approved, paid or refused, has expired, or its payment has failed.
    #[sqlx(rename = "purchase.decided")]
    #[serde(rename = "purchase.decided")]
    #[value(name = "purchase.decided")]
    PurchaseDecided,
    /// A payment came that cannot become credits: `reason` says why. Only the staff hear it.
    #[sqlx(rename = "payment.kept")]
    #[serde(rename = "payment.kept")]
    #[value(name = "payment.kept")]
    PaymentKept,
    /// An automatic top-up has stopped, until a person switches it on again: its purchase was refused,
    /// has expired, its payment has failed, or the price has changed.
    #[sqlx(rename = "auto_top_up.stopped")]
    #[serde(rename = "auto_top_up.stopped")]
    #[value(name = "auto_top_up.stopped")]
    AutoTopUpStopped,
    /// A webhook did not answer for three days, or said that it is gone. Nothing is sent to it any
    /// more.
    #[sqlx(rename = "webhook.disabled")]
    #[serde(rename = "webhook.disabled")]
    #[value(name = "webhook.disabled")]
    WebhookDisabled,
    /// What an alert measures has crossed its threshold.
    #[sqlx(rename = "alert.raised")]
    #[serde(rename = "alert.raised")]
    #[value(name = "alert.raised")]
    AlertRaised,
    /// What an alert measures is well over its threshold again.
    #[sqlx(rename = "alert.cleared")]
    #[serde(rename = "alert.cleared")]
    #[value(name = "alert.cleared")]
    AlertCleared,
    /// Somebody tries a webhook. Only this webhook hears it.
    #[sqlx(rename = "webhook.ping")]
    #[serde(rename = "webhook.ping")]
    #[value(name = "webhook.ping")]
    WebhookPing,
}

impl Type {
    /// All types that somebody can choose to hear. A ping goes to the webhook that is tried.
    pub const ALL: [Self; 20] = [
        Self::RunQueued,
        Self::RunStarted,
        Self::RunFinished,
        Self::RunCancelled,
        Self::RunUndone,
        Self::PhotoProcessed,
        Self::EventPaused,
        Self::EventResumed,
        Self::EventFinished,
        Self::EventHeld,
        Self::EventLifted,
        Self::EventDeleted,
        Self::CreditsAdded,
        Self::PurchaseAsked,
        Self::PurchaseDecided,
        Self::PaymentKept,
        Self::AutoTopUpStopped,
        Self::WebhookDisabled,
        Self::AlertRaised,
        Self::AlertCleared,
    ];

    /// The stable name, as programs and SQL use it.
    pub fn code(self) -> &'static str {
        match self {
            Self::RunQueued => "run.queued",
            Self::RunStarted => "run.started",
            Self::RunFinished => "run.finished",
            Self::RunCancelled => "run.cancelled",
            Self::RunUndone => "run.undone",
            Self::PhotoProcessed => "photo.processed",
            Self::EventPaused => "event.paused",
            Self::EventResumed => "event.resumed",
            Self::EventFinished => "event.finished",
            Self::EventHeld => "event.held",
            Self::EventLifted => "event.lifted",
            Self::EventDeleted => "event.deleted",
            Self::CreditsAdded => "credits.added",
            Self::PurchaseAsked => "purchase.asked",
            Self::PurchaseDecided => "purchase.decided",
            Self::PaymentKept => "payment.kept",
            Self::AutoTopUpStopped => "auto_top_up.stopped",
            Self::WebhookDisabled => "webhook.disabled",
            Self::AlertRaised => "alert.raised",
            Self::AlertCleared => "alert.cleared",
            Self::WebhookPing => "webhook.ping",
        }
    }

    /// What it means, for people.
    pub fn says(self) -> &'static str {
        match self {
            Self::RunQueued => "photos were queued",
            Self::RunStarted => "the first photo of a run is in progress",
            Self::RunFinished => "all photos of a run are done",
            Self::RunCancelled => "somebody cancelled a run",
            Self::RunUndone => "somebody took an act on a run back",
            Self::PhotoProcessed => "photos are done: which ones, and how they ended (many calls)",
            Self::EventPaused => "an event is paused for want of credits",
            Self::EventResumed => "an event goes on",
            Self::EventFinished => "nothing of an event waits or is in progress",
            Self::EventHeld => "somebody holds an event",
            Self::EventLifted => "a hold has ended",
            Self::EventDeleted => "an event was deleted",
            Self::CreditsAdded => "credits came in, or staff took some out",
            Self::PurchaseAsked => "a purchase waits for approval",
            Self::PurchaseDecided => "a purchase was approved or refused, or has expired",
            Self::PaymentKept => "a payment came that cannot become credits (for the staff)",
            Self::AutoTopUpStopped => "an automatic top-up has stopped",
            Self::WebhookDisabled => "an address did not answer for three days, and is disabled",
            Self::AlertRaised => "an alert is raised",
            Self::AlertCleared => "an alert is over",
            Self::WebhookPing => "somebody tries this address",
        }
    }
}

/// A change, as a `CloudEvent` 1.0. The feed and webhooks say the same of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// The change's number in its organisation. Numbers have no gaps. With `source`, it identifies
    /// the change: a change that is delivered again has the same.
    pub id: String,
    /// The organisation: `/v1/organisations/7`. `/v1/organisations/0`: those who run photogate.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What it happened to, as `runs/12` or `events/3`. Changes of one subject are delivered in
    /// their order.
    pub subject: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// The details; which ones depends on the type. Fields may be added.
    pub data: Value,
}

impl Change {
    /// The change at this position of an organisation.
    pub fn new(
        organisation: OrganisationId,
        position: i64,
        kind: Type,
        subject: String,
        time: DateTime<Utc>,
        data: Value,
    ) -> Self {
        Self {
            specversion: "1.0",
            id: position.to_string(),
            source: format!("/v1/organisations/{organisation}"),
            kind,
            subject,
            time,
            datacontenttype: "application/json",
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_name_everywhere() {
        for kind in Type::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.code());
            let value = clap::ValueEnum::to_possible_value(&kind).unwrap();
            assert_eq!(value.get_name(), kind.code());
        }
    }
}
