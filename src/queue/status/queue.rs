//! A queue as people see it: its state and its progress.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{EventId, HoldId, Operation, OrganisationId};

/// The state of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = QueueState)]
pub enum State {
    /// A person holds the queue.
    Held,
    /// The queue is paused, because its organisation has no available credits, or keeps them for
    /// other events.
    NoCredits,
    /// The queue is paused, because its event has used all the credits that its budget allows.
    Budget,
    /// Photos wait and can be claimed.
    Running,
    /// No photos wait in the queue.
    Idle,
}

impl State {
    /// The stable code of the state, as in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NoCredits => "no_credits",
            Self::Budget => "budget",
            Self::Running => "running",
            Self::Idle => "idle",
        }
    }

    /// The rank for sorting: states that need a person come first.
    pub(super) fn rank(self) -> i32 {
        match self {
            Self::NoCredits => 0,
            Self::Budget => 1,
            Self::Held => 2,
            Self::Running => 3,
            Self::Idle => 4,
        }
    }

    /// The state of an event with these queues: that of the one which needs a person most.
    pub fn of_all(queues: &[Queue]) -> Self {
        let states = queues.iter().map(|queue| queue.state);
        states.min_by_key(|state| state.rank()).unwrap_or(Self::Idle)
    }

    /// The name of the state, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::NoCredits => "Paused: no credits",
            Self::Budget => "Paused: budget used up",
            Self::Running => "Running",
            Self::Idle => "Idle",
        }
    }
}

/// A queue and its progress. The counts are photos.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Queue {
    /// The queue's number.
    pub id: i64,
    /// The event that the queue belongs to.
    pub event: EventId,
    /// The event's name.
    pub event_name: String,
    /// The organisation that pays for the photos.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub organisation_name: String,
    /// The operation that the photos wait for.
    pub operation: Operation,
    /// Whether the queue runs, and if not, why.
    pub state: State,
    /// The time since when the queue is paused or held. Null if it is neither.
    pub since: Option<DateTime<Utc>>,
    /// The oldest hold on the queue that is not lifted.
    pub hold: Option<HoldId>,
    /// The person who placed this hold.
    pub owner: Option<String>,
    /// The note of this hold: why the person placed it.
    pub note: Option<String>,
    /// The time when this hold ends by itself. Null if only a person ends it.
    pub until: Option<DateTime<Utc>>,
    /// Photos that are not claimed yet.
    pub waiting: i64,
    /// Waiting photos that the organisation's available credits can pay for, as far as budgets allow,
    /// if no other queue is claimed from.
    pub funded: i64,
    /// Available credits of the organisation. Some of them may be kept for other events.
    pub available: i64,
    /// Photos that are queued here when their AI Rotation has ended.
    pub following: i64,
    /// Photos that are claimed and not settled yet. Each has a reserved credit.
    pub in_progress: i64,
    /// What keeps back the waiting photos of a queue that runs: `rate`, `in_flight` or `quiet_hours`,
    /// as its event's pace or its organisation's says. Null: nothing does.
    pub kept_back_by: Option<String>,
    /// Photos that were processed. Each cost one credit.
    pub processed: i64,
    /// Photos of which AI Rotation could not decide which way is up. They were refunded.
    pub undecided: i64,
    /// Photos with the content of one that was paid for before. They were refunded.
    pub duplicates: i64,
    /// Photos that failed, were refunded, and were not queued again since then.
    pub failed: i64,
    /// The time when the first waiting photo was queued.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// Speed in photos per second, measured over the latest photos that were settled in the last
    /// five minutes. 0 if there are none.
    pub rate: f64,
    /// Seconds until the funded waiting photos are done at this rate. Null if the rate is 0, and in
    /// quiet hours.
    pub eta_seconds: Option<f64>,
}

impl Queue {
    /// What keeps back the waiting photos of a queue that runs, in words.
    pub fn kept_back(&self) -> Option<&'static str> {
        Some(match self.kept_back_by.as_deref()? {
            "quiet_hours" => "these are quiet hours",
            "in_flight" => "as many photos are in progress as it may have",
            _ => "it has had its photos of this minute",
        })
    }

    /// True if the queue is paused or held. Then no photo of it is claimed until a top-up, a refund
    /// or another budget, or the end of the hold.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::NoCredits | State::Budget | State::Held)
    }
}
