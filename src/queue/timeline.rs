//! The timeline of an event: what happened to its queues, and by whose doing.

mod columns;
mod decided;
mod lanes;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use utoipa::ToSchema;

use crate::{
    ids::{EventId, HoldId, JobId, Operation, RunId},
    ledger::credits::Credits,
};

pub use columns::COLUMNS;
pub use decided::Decided;
pub use lanes::{Band, Lane, Stop, lanes};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "timeline_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = TimelineKind)]
pub enum Kind {
    /// Photos were queued: a run.
    Queued,
    /// The first photos of a run were claimed.
    Started,
    /// All photos of a run are settled, but those that a person took out.
    Finished,
    /// No photo of the queue waits any more.
    Drained,
    /// The queue has nothing to spend.
    Paused,
    /// The queue goes on: a pause ended, or the last hold.
    Resumed,
    /// A person placed a hold.
    Held,
    /// A hold was lifted, or ended by itself.
    Lifted,
    /// The event was deleted.
    Deleted,
    /// The budget of the event was set, or taken away.
    Budget,
    /// Somebody said how urgent the event is.
    Class,
    /// The pace of the event was set, or that of all events of the organisation.
    Pace,
    /// The order was set in which the organisation's events get its credits.
    Order,
    /// The organisation's share was set, beside other organisations.
    Weight,
    /// The photos of a run that waited were taken back.
    Cancelled,
    /// The photos of a run that waited go before all others.
    First,
    /// What was done to a run was taken back: that it was queued, cancelled, or moved to the front.
    Undone,
}

impl Kind {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Drained => "drained",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Held => "held",
            Self::Lifted => "lifted",
            Self::Deleted => "deleted",
            Self::Budget => "budget",
            Self::Class => "class",
            Self::Pace => "pace",
            Self::Order => "order",
            Self::Weight => "weight",
            Self::Cancelled => "cancelled",
            Self::First => "first",
            Self::Undone => "undone",
        }
    }
}

/// What caused a pause, or let a queue go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "timeline_cause", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = TimelineCause)]
pub enum Cause {
    /// The last credit was reserved for a photo.
    Spent,
    /// Staff took credits away.
    Adjustment,
    /// Credits were added.
    TopUp,
    /// Credits came back.
    Refund,
    /// A person lifted the last hold.
    Lift,
    /// The last hold ended by itself.
    Expiry,
    /// A budget of the organisation was changed.
    Budget,
}

impl Cause {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Spent => "spent",
            Self::Adjustment => "adjustment",
            Self::TopUp => "top_up",
            Self::Refund => "refund",
            Self::Lift => "lift",
            Self::Expiry => "expiry",
            Self::Budget => "budget",
        }
    }
}

/// One row of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TimelineEntry)]
pub struct Entry {
    /// The entry's number. Numbers grow; to get the next page, pass the last one.
    pub id: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// True: it concerns all events of the organisation, and stands in the timeline of each.
    pub of_all_events: bool,
    /// The operation whose queue it concerns; null: both.
    pub operation: Option<Operation>,
    /// What happened.
    pub kind: Kind,
    /// Who did it; null: nobody, it came about by itself.
    pub actor: Option<String>,
    /// What caused a pause, or let the queue go on; null for everything else.
    pub cause: Option<Cause>,
    /// The run that was queued, started, finished, cancelled, moved to the front or taken back.
    pub run: Option<RunId>,
    /// The hold that was placed, lifted, or had kept the queue.
    pub hold: Option<HoldId>,
    /// The transaction of the ledger that was the cause: of a top-up, or of the photo whose credit
    /// was reserved or refunded.
    #[schema(value_type = Option<i64>)]
    pub transaction: Option<JobId>,
    /// Number of photos that were queued, are finished, were taken back, or go first.
    pub photos: Option<i32>,
    /// The change of a budget: this one, or the one that was the cause.
    pub budget_change: Option<i64>,
    /// Of a budget: the most credits that the event may use from then on; null: no limit.
    pub cap: Option<i64>,
    /// Of a budget: the credits that are kept for the event from then on.
    pub floor: Option<i64>,
    /// Of a class, a pace, an order and a weight: what counts from then on.
    #[schema(value_type = Option<Decided>)]
    pub decided: Option<Json<Decided>>,
}

impl fmt::Display for Entry {
    /// What happened and why, as a sentence without its subject.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |id: Option<String>| id.unwrap_or_else(|| "—".into());
        let run = number(self.run.map(|id| id.to_string()));
        let hold = number(self.hold.map(|id| id.to_string()));
        let transaction = number(self.transaction.map(|id| id.to_string()));
        let photos = Credits(self.photos.unwrap_or(0).into());
        let cause = self.cause;
        let decided = self.decided.as_ref().map(|decided| decided.to_string()).unwrap_or_default();
        match self.kind {
            Kind::Queued => write!(f, "{photos} photos were queued (run {run})"),
            Kind::Started => write!(f, "run {run} started"),
            Kind::Finished => write!(f, "run {run} finished, with {photos} photos"),
            Kind::Drained => write!(f, "no photo waits any more"),
            Kind::Cancelled => {
                write!(f, "run {run} was cancelled: {photos} photos were taken back")
            }
            Kind::First => write!(f, "run {run} goes first, with {photos} photos"),
            Kind::Undone => write!(f, "what was done last to run {run} was taken back"),
            Kind::Held => write!(f, "held (hold {hold})"),
            Kind::Deleted => write!(f, "the event was deleted"),
            Kind::Budget => {
                let floor = Credits(self.floor.unwrap_or(0));
                match self.cap {
                    Some(cap) => {
                        write!(f, "budget: at most {} credits, {floor} are kept", Credits(cap))
                    }
                    None if floor.0 > 0 => write!(f, "budget: {floor} credits are kept"),
                    None => write!(f, "the budget was taken away"),
                }
            }
            Kind::Class => write!(f, "class: {decided}"),
            Kind::Pace if self.of_all_events => write!(f, "pace of all events together: {decided}"),
            Kind::Pace => write!(f, "pace: {decided}"),
            Kind::Order => write!(f, "order of all events: {decided}"),
            Kind::Weight => write!(f, "weight of the organisation: {decided}"),
            Kind::Lifted if cause == Some(Cause::Expiry) => write!(f, "hold {hold} ended"),
            Kind::Lifted => write!(f, "hold {hold} was lifted"),
            Kind::Paused | Kind::Resumed => {
                f.write_str(if self.kind == Kind::Paused { "paused" } else { "goes on" })?;
                match cause {
                    None => Ok(()),
                    Some(Cause::Spent) => {
                        write!(f, ": the last credit was reserved (transaction {transaction})")
                    }
                    Some(Cause::Adjustment) => {
                        write!(f, ": credits were taken away (transaction {transaction})")
                    }
                    Some(Cause::TopUp) => write!(f, ": top-up (transaction {transaction})"),
                    Some(Cause::Refund) => {
                        write!(f, ": a credit came back (transaction {transaction})")
                    }
                    Some(Cause::Lift) => write!(f, ": hold {hold} was lifted"),
                    Some(Cause::Expiry) => write!(f, ": hold {hold} ended"),
                    Some(Cause::Budget) => write!(f, ": a budget was changed"),
                }
            }
        }
    }
}

/// Lists the timeline of an event, newest first: its own entries, and those of all events of its
/// organisation since it was created. Only entries with numbers below `below` are listed, at most
/// `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"SELECT t.entry_id AS "id!", t.at AS "at!", t.event_id IS NULL AS "of_all_events!",
                  t.operation AS "operation: _", t.kind AS "kind!: _",
                  t.actor, t.cause AS "cause: _",
                  CASE WHEN t.kind IN ('queued', 'started', 'finished', 'cancelled', 'first', 'undone')
                       THEN t.reference END
                      AS "run: _",
                  CASE WHEN t.kind IN ('held', 'lifted', 'deleted')
                            OR t.cause IN ('lift', 'expiry')
                       THEN t.reference END AS "hold: _",
                  CASE WHEN t.cause IN ('spent', 'adjustment', 'top_up', 'refund')
                       THEN t.reference END AS "transaction: _",
                  t.photos,
                  CASE WHEN t.kind = 'budget' OR t.cause = 'budget' THEN t.reference END
                      AS budget_change,
                  b.cap AS "cap?", b.floor AS "floor?", t.decided AS "decided: Json<Decided>"
           FROM event e
           -- Each of the two is the end of a range of an index.
           CROSS JOIN LATERAL (
               (SELECT * FROM timeline x WHERE x.event_id = e.event_id AND x.entry_id < $2
                ORDER BY x.entry_id DESC LIMIT $3)
               UNION ALL
               (SELECT * FROM timeline x
                WHERE x.event_id IS NULL AND x.organisation_id = e.organisation_id
                  AND x.entry_id < $2 AND x.at >= e.created_at
                ORDER BY x.entry_id DESC LIMIT $3)) t
           LEFT JOIN budget_change b ON t.kind = 'budget' AND b.change_id = t.reference
           WHERE e.event_id = $1
           ORDER BY t.entry_id DESC LIMIT $3"#,
        event.0,
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}
