//! All queues, as those who run photogate see them: the paused ones first, and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::ids::{EventId, HoldId, Operation, OrganisationId};

/// How a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = QueueState)]
pub enum State {
    /// A person keeps it.
    Held,
    /// Its organisation has no credits.
    NoCredits,
    /// Photos are waiting, and claimed.
    Running,
    /// Nothing is waiting.
    Idle,
}

impl State {
    /// As programs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NoCredits => "no_credits",
            Self::Running => "running",
            Self::Idle => "idle",
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::NoCredits => "Paused: no credits",
            Self::Running => "Running",
            Self::Idle => "Idle",
        }
    }
}

/// A queue, in numbers of photos.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Queue {
    /// Its number; the next page begins behind it.
    pub id: i64,
    /// Its event.
    pub event: EventId,
    /// As people call it.
    pub event_name: String,
    /// Whose it is.
    pub organisation: OrganisationId,
    /// As people call it.
    pub organisation_name: String,
    /// What it does.
    pub operation: Operation,
    /// Whether it runs, and if not, why.
    pub state: State,
    /// Since when it does not.
    pub since: Option<DateTime<Utc>>,
    /// The hold that stands longest.
    pub hold: Option<HoldId>,
    /// Who holds it.
    pub owner: Option<String>,
    /// Why.
    pub note: Option<String>,
    /// When that ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// Not claimed yet.
    pub waiting: i64,
    /// Of those, how many the organisation's credits pay for, if nothing else is claimed.
    pub funded: i64,
    /// Paid for and not settled.
    pub in_progress: i64,
    /// Charged.
    pub processed: i64,
    /// Failed, and refunded.
    pub failed: i64,
    /// Since when the first of the waiting has waited.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// Photos a second, over the last photos that were settled within five minutes; 0 if none were.
    pub rate: f64,
    /// Seconds until the waiting are done at this rate; null if nothing moves.
    pub eta_seconds: Option<f64>,
}

/// Which queues.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// In this state.
    pub state: Option<State>,
    /// Whose event or organisation is called so, in part.
    pub name: Option<&'a str>,
    /// Behind this one: its rank and number, from the page before.
    pub after: Option<(i32, i64)>,
    /// At most so many.
    pub most: i64,
}

impl Queue {
    /// Where the next page begins.
    pub fn cursor(&self) -> String {
        let rank = match self.state {
            State::NoCredits => 0,
            State::Held => 1,
            State::Running => 2,
            State::Idle => 3,
        };
        format!("{rank}-{}", self.id)
    }
}

/// Queues, the paused ones first.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<Queue>> {
    let (rank, id) = filter.after.unwrap_or((-1, 0));
    sqlx::query_as!(
        Queue,
        r#"WITH ranked AS MATERIALIZED (
               SELECT q.*, a.available, o.name AS organisation_name, e.name AS event_name,
                      CASE WHEN q.blocked & 4 <> 0 THEN 'held' WHEN q.blocked & 1 <> 0 THEN 'idle'
                           WHEN q.blocked & 2 <> 0 OR a.available = 0 THEN 'no_credits' ELSE 'running' END AS state,
                      CASE WHEN q.blocked & 4 <> 0 THEN 1 WHEN q.blocked & 1 <> 0 THEN 3 WHEN q.blocked & 2 <> 0 OR a.available = 0 THEN 0 ELSE 2 END AS rank
               FROM queue q JOIN event e USING (event_id) JOIN organisation o ON o.organisation_id = q.organisation_id
               JOIN account a ON a.organisation_id = q.organisation_id
               WHERE e.deleted_at IS NULL AND ($1::bigint IS NULL OR q.organisation_id = $1) AND ($2::bigint IS NULL OR q.event_id = $2)
                 AND ($3::text IS NULL OR e.name ILIKE '%' || $3 || '%' OR o.name ILIKE '%' || $3 || '%')),
           page AS (
               SELECT * FROM ranked WHERE ($4::text IS NULL OR state = $4) AND (rank, queue_id) > ($5, $6::bigint) ORDER BY rank, queue_id LIMIT $7)
           SELECT p.queue_id AS "id!", p.event_id AS "event!: _", p.event_name AS "event_name!", p.organisation_id AS "organisation!: _",
                  p.organisation_name AS "organisation_name!", p.operation AS "operation!: _", p.state AS "state!: _",
                  CASE p.state WHEN 'held' THEN h.since WHEN 'no_credits' THEN p.no_credit_since END AS since,
                  h.hold_id AS "hold?: _", h.owner AS "owner?", h.note AS "note?", h.until AS "until?",
                  p.tail - p.head - p.skipped AS "waiting!", least(p.tail - p.head - p.skipped, p.available) AS "funded!",
                  u.claimed - u.committed - u.refunded AS "in_progress!",
                  u.committed AS "processed!", u.refunded AS "failed!", w.since AS "oldest_waiting?",
                  coalesce(s.rate, 0) AS "rate!", CASE WHEN s.rate > 0 THEN (p.tail - p.head - p.skipped) / s.rate END AS eta_seconds
           FROM page p
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed, coalesce(sum(committed), 0) AS committed, coalesce(sum(refunded), 0) AS refunded
                               FROM usage WHERE usage.queue_id = p.queue_id) u
           LEFT JOIN LATERAL (SELECT * FROM hold WHERE hold.queue_id = p.queue_id AND lifted_at IS NULL ORDER BY since LIMIT 1) h ON true
           LEFT JOIN LATERAL (SELECT r.created_at AS since FROM job j JOIN run r USING (run_id) WHERE j.queue_id = p.queue_id AND j.position > p.head ORDER BY j.position LIMIT 1) w ON true
           -- The last of those claimed say how fast it goes.
           LEFT JOIN LATERAL (
               SELECT count(*) / greatest(extract(epoch FROM clock_timestamp() - min(x.settled_at)), 1)::float8 AS rate
               FROM (SELECT o.settled_at FROM job j JOIN outcome o USING (job_id)
                     WHERE j.queue_id = p.queue_id AND j.position <= p.head AND j.position > p.head - 200 AND o.settled_at > clock_timestamp() - interval '5 minutes') x) s ON true
           ORDER BY p.rank, p.queue_id"#,
        filter.organisation.map(|organisation| organisation.0),
        filter.event.map(|event| event.0),
        filter.name,
        filter.state.map(State::code),
        rank,
        id,
        filter.most
    )
    .fetch_all(db)
    .await
}

/// All queues together.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Totals {
    /// Held, with photos waiting or without.
    pub held: i64,
    /// Paused for want of credits.
    pub no_credits: i64,
    /// With photos waiting, and claimed.
    pub running: i64,
    /// Photos that wait in any of them.
    pub waiting: i64,
    /// Of those, how many could be claimed now: paid for, and in no queue that is held.
    pub funded: i64,
    /// Photos that are paid for and not settled.
    pub in_progress: i64,
}

/// Counts all queues, or those of an organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn totals(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Totals> {
    sqlx::query_as!(
        Totals,
        r#"SELECT coalesce(sum(held), 0)::bigint AS "held!", coalesce(sum(no_credits), 0)::bigint AS "no_credits!", coalesce(sum(running), 0)::bigint AS "running!",
                  coalesce(sum(waiting), 0)::bigint AS "waiting!", coalesce(sum(least(claimable, available)), 0)::bigint AS "funded!", coalesce(sum(reserved), 0)::bigint AS "in_progress!"
           FROM (
               SELECT a.available, a.reserved, count(*) FILTER (WHERE q.blocked & 4 <> 0) AS held,
                      count(*) FILTER (WHERE q.blocked & 5 = 0 AND (q.blocked & 2 <> 0 OR a.available = 0)) AS no_credits,
                      count(*) FILTER (WHERE q.blocked = 0 AND a.available > 0) AS running,
                      sum(q.tail - q.head - q.skipped) AS waiting, sum(q.tail - q.head - q.skipped) FILTER (WHERE q.blocked & 4 = 0) AS claimable
               FROM account a JOIN queue q USING (organisation_id) JOIN event e USING (event_id)
               WHERE e.deleted_at IS NULL AND ($1::bigint IS NULL OR a.organisation_id = $1) GROUP BY a.organisation_id) x"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}

/// A worker process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Worker {
    /// Host, process and a word of its own.
    pub name: String,
    /// Since when it works.
    pub since: DateTime<Utc>,
    /// Seconds until it is declared dead, if nothing is heard of it; negative: it is late.
    pub lease_seconds: f64,
    /// Photos it looks at at once.
    pub slots: i32,
    /// Photos it has: looked at, or ahead of that.
    pub in_hand: i64,
    /// Photos a second over the last five minutes, in the queues that are worked on now.
    pub rate: f64,
    /// The reason of its last failure within five minutes.
    pub last_reason: Option<String>,
}

/// The workers that are there.
///
/// # Errors
/// When the database has trouble.
pub async fn workers(db: &mut PgConnection) -> sqlx::Result<Vec<Worker>> {
    sqlx::query_as!(
        Worker,
        r#"WITH recent AS (
               SELECT o.worker_id, o.settled_at, o.reason
               FROM (SELECT DISTINCT queue_id FROM in_flight) f JOIN queue q USING (queue_id)
               CROSS JOIN LATERAL (SELECT job_id FROM job j WHERE j.queue_id = q.queue_id AND j.position <= q.head AND j.position > q.head - 500) j
               JOIN outcome o USING (job_id) WHERE o.settled_at > clock_timestamp() - interval '5 minutes')
           SELECT w.name, w.started_at AS since, extract(epoch FROM w.lease_until - clock_timestamp())::float8 AS "lease_seconds!", w.slots,
                  (SELECT count(*) FROM in_flight f WHERE f.worker_id = w.worker_id) AS "in_hand!",
                  coalesce((SELECT count(*) / greatest(extract(epoch FROM clock_timestamp() - min(r.settled_at)), 1) FROM recent r WHERE r.worker_id = w.worker_id), 0)::float8 AS "rate!",
                  (SELECT r.reason FROM recent r WHERE r.worker_id = w.worker_id AND r.reason IS NOT NULL ORDER BY r.settled_at DESC LIMIT 1) AS last_reason
           FROM worker w WHERE w.gone_at IS NULL AND w.worker_id <> 0 ORDER BY w.worker_id LIMIT 1000"#
    )
    .fetch_all(db)
    .await
}
