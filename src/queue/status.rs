//! All queues, as those who run photogate see them: the paused ones first, and why.

use std::{collections::HashMap, fmt, str::FromStr};

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

impl Queue {
    /// Nothing of it is claimed, until a person or a top-up does something.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::NoCredits | State::Held)
    }
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

    /// What needs a person comes first.
    fn rank(self) -> i32 {
        match self {
            Self::NoCredits => 0,
            Self::Held => 1,
            Self::Running => 2,
            Self::Idle => 3,
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
    /// Its number.
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
    /// Failed, refunded, and not queued again since.
    pub failed: i64,
    /// Since when the first of the waiting has waited.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// Photos a second, over the last photos that were settled within five minutes; 0 if none were.
    pub rate: f64,
    /// Seconds until those of the waiting that are funded are done at this rate; null if nothing moves.
    pub eta_seconds: Option<f64>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QueueSort)]
pub enum Sort {
    /// Paused for want of credits, then held, then running, then idle.
    #[default]
    State,
    /// What has stood longest.
    Since,
    /// Where most photos wait.
    Waiting,
}

impl Sort {
    /// As programs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Since => "since",
            Self::Waiting => "waiting",
        }
    }
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
    /// Only those that are not idle.
    pub busy: bool,
    /// What comes first.
    pub sort: Sort,
    /// Behind this place, from the page before.
    pub after: Option<Place>,
    /// At most so many.
    pub most: i64,
}

/// Where a queue stands in a list; it depends on what the list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    key: i64,
    queue: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.key, self.queue)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, queue) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { key: key.parse()?, queue: queue.parse()? })
    }
}

/// Queues and their places; the paused ones first, if nobody says otherwise.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<(Place, Queue)>> {
    // All queues are looked at, so with nothing but what decides: the page is then read whole, by its numbers.
    let places = sqlx::query_as!(
        Place,
        r#"SELECT key AS "key!", queue_id AS "queue!" FROM (
               SELECT q.queue_id, CASE $4
                          WHEN 'waiting' THEN q.head - q.tail + q.skipped
                          WHEN 'since' THEN coalesce(extract(epoch FROM CASE s.rank
                              WHEN 0 THEN q.no_credit_since
                              WHEN 1 THEN (SELECT min(since) FROM hold WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL) END)::bigint, 1::bigint << 40)
                          ELSE s.rank END AS key
               FROM account a JOIN queue q USING (organisation_id)
               CROSS JOIN LATERAL (SELECT CASE WHEN q.blocked & 4 <> 0 THEN 1 WHEN q.blocked & 1 <> 0 THEN 3 WHEN q.blocked & 2 <> 0 OR a.available = 0 THEN 0 ELSE 2 END AS rank) s
               WHERE ($1::bigint IS NULL OR a.organisation_id = $1) AND ($3::int IS NULL OR s.rank = $3) AND ($8::bigint IS NULL OR q.event_id = $8)
                 AND (q.blocked & 5 <> 1 OR NOT $9::boolean)
                 -- Not joins: they would be guessed at, and these are read once each.
                 AND q.event_id NOT IN (SELECT event_id FROM event WHERE deleted_at IS NOT NULL)
                 AND ($2::text IS NULL OR q.event_id IN (
                     SELECT event_id FROM event JOIN organisation o USING (organisation_id)
                     WHERE event.name ILIKE '%' || $2 || '%' OR o.name ILIKE '%' || $2 || '%'))) q
           WHERE (key, queue_id) > ($5, $6::bigint) ORDER BY key, queue_id LIMIT $7"#,
        filter.organisation.map(|organisation| organisation.0),
        filter.name,
        filter.state.map(State::rank),
        filter.sort.code(),
        filter.after.map_or(i64::MIN, |place| place.key),
        filter.after.map_or(0, |place| place.queue),
        filter.most,
        filter.event.map(|event| event.0),
        filter.busy
    )
    .fetch_all(&mut *db)
    .await?;
    let numbers: Vec<_> = places.iter().map(|place| place.queue).collect();
    let queues = read(db, &numbers, None).await?;
    let mut queues: HashMap<_, _> = queues.into_iter().map(|queue| (queue.id, queue)).collect();
    // One whose event was deleted in between is gone.
    Ok(places.into_iter().filter_map(|place| Some((place, queues.remove(&place.queue)?))).collect())
}

/// The queues of an event, one for each operation; none if there is no such event.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<Queue>> {
    read(db, &[], Some(event)).await
}

async fn read(
    db: &mut PgConnection,
    numbers: &[i64],
    event: Option<EventId>,
) -> sqlx::Result<Vec<Queue>> {
    sqlx::query_as!(
        Queue,
        r#"SELECT q.queue_id AS id, q.event_id AS "event: _", e.name AS event_name, q.organisation_id AS "organisation: _",
                  o.name AS organisation_name, q.operation AS "operation: _", c.state AS "state!: _",
                  CASE c.state WHEN 'held' THEN h.since WHEN 'no_credits' THEN q.no_credit_since END AS since,
                  h.hold_id AS "hold?: _", h.owner AS "owner?", h.note AS "note?", h.until AS "until?",
                  q.tail - q.head - q.skipped AS "waiting!", least(q.tail - q.head - q.skipped, a.available) AS "funded!",
                  u.claimed - u.committed - u.refunded AS "in_progress!",
                  u.committed AS "processed!", f.failed AS "failed!", w.since AS "oldest_waiting?",
                  coalesce(s.rate, 0) AS "rate!", CASE WHEN s.rate > 0 THEN least(q.tail - q.head - q.skipped, a.available) / s.rate END AS eta_seconds
           FROM queue q JOIN event e USING (event_id) JOIN organisation o ON o.organisation_id = q.organisation_id
           JOIN account a ON a.organisation_id = q.organisation_id
           CROSS JOIN LATERAL (SELECT CASE WHEN q.blocked & 4 <> 0 THEN 'held' WHEN q.blocked & 1 <> 0 THEN 'idle'
                                           WHEN q.blocked & 2 <> 0 OR a.available = 0 THEN 'no_credits' ELSE 'running' END AS state) c
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed, coalesce(sum(committed), 0) AS committed, coalesce(sum(refunded), 0) AS refunded
                               FROM usage WHERE usage.queue_id = q.queue_id) u
           -- Refunds stay in the books; a photo that was queued again has not failed any more.
           CROSS JOIN LATERAL (SELECT CASE WHEN u.refunded = 0 THEN 0 WHEN NOT EXISTS (SELECT FROM run WHERE run.queue_id = q.queue_id AND run.retry) THEN u.refunded ELSE (
               SELECT count(*) FROM outcome o WHERE o.queue_id = q.queue_id AND o.state <> 'processed'
                 AND o.job_id = (SELECT j.job_id FROM job j WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id ORDER BY j.retry DESC LIMIT 1)) END AS failed) f
           LEFT JOIN LATERAL (SELECT * FROM hold WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL ORDER BY since LIMIT 1) h ON true
           -- What is looked up has a LIMIT: as joins, these would be planned over all jobs, runs and outcomes there are.
           CROSS JOIN LATERAL (SELECT (SELECT r.created_at FROM run r WHERE r.run_id = (
               SELECT j.run_id FROM job j WHERE j.queue_id = q.queue_id AND j.position > q.head ORDER BY j.position LIMIT 1)) AS since) w
           -- The last of those claimed say how fast it goes.
           LEFT JOIN LATERAL (
               SELECT count(*) / greatest(extract(epoch FROM clock_timestamp() - min(x.settled_at)), 1)::float8 AS rate
               FROM job j CROSS JOIN LATERAL (SELECT o.settled_at FROM outcome o WHERE o.job_id = j.job_id LIMIT 1) x
               WHERE j.queue_id = q.queue_id AND j.position <= q.head AND j.position > q.head - 200 AND x.settled_at > clock_timestamp() - interval '5 minutes') s ON true
           WHERE e.deleted_at IS NULL AND (q.queue_id = ANY($1) OR q.event_id = $2) ORDER BY q.queue_id"#,
        numbers,
        event.map(|event| event.0)
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
    /// Of those, how many wait in queues that are held: no top-up lets them go on.
    pub waiting_held: i64,
    /// Of those, how many could be claimed now: paid for, and in no queue that is held.
    pub funded: i64,
    /// Photos that are paid for and not settled.
    pub in_progress: i64,
    /// Photos a second over the last photos that were settled within five minutes, in the queues that are worked on now.
    pub rate: f64,
    /// Since when the first of the funded has waited.
    pub oldest_funded: Option<DateTime<Utc>>,
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
        r#"WITH busy AS MATERIALIZED (
               SELECT q.*, a.available FROM account a JOIN queue q USING (organisation_id)
               WHERE q.blocked & 5 <> 1 AND ($1::bigint IS NULL OR a.organisation_id = $1) AND q.event_id NOT IN (SELECT event_id FROM event WHERE deleted_at IS NOT NULL)),
           recent AS (
               SELECT queue_id, count(*) / greatest(extract(epoch FROM clock_timestamp() - min(o.settled_at)), 1) AS rate
               FROM (SELECT DISTINCT queue_id FROM in_flight WHERE $1::bigint IS NULL OR organisation_id = $1) f JOIN queue q USING (queue_id)
               CROSS JOIN LATERAL (SELECT job_id FROM job j WHERE j.queue_id = q.queue_id AND j.position <= q.head AND j.position > q.head - 500) j
               CROSS JOIN LATERAL (SELECT x.settled_at FROM outcome x WHERE x.job_id = j.job_id LIMIT 1) o
               WHERE o.settled_at > clock_timestamp() - interval '5 minutes' GROUP BY queue_id)
           SELECT count(*) FILTER (WHERE blocked & 4 <> 0) AS "held!", count(*) FILTER (WHERE blocked & 4 = 0 AND (blocked & 2 <> 0 OR available = 0)) AS "no_credits!",
                  count(*) FILTER (WHERE blocked = 0 AND available > 0) AS "running!", coalesce(sum(tail - head - skipped), 0)::bigint AS "waiting!",
                  (SELECT coalesce(sum(least(x.claimable, x.available)), 0)::bigint FROM (
                      SELECT b.available, sum(b.tail - b.head - b.skipped) AS claimable FROM busy b WHERE b.blocked & 4 = 0 GROUP BY b.organisation_id, b.available) x) AS "funded!",
                  (SELECT coalesce(sum(reserved), 0)::bigint FROM account WHERE $1::bigint IS NULL OR organisation_id = $1) AS "in_progress!",
                  coalesce(sum(tail - head - skipped) FILTER (WHERE blocked & 4 <> 0), 0)::bigint AS "waiting_held!",
                  (SELECT coalesce(sum(rate), 0) FROM recent)::float8 AS "rate!",
                  (SELECT min((SELECT r.created_at FROM run r WHERE r.run_id = (
                       SELECT run_id FROM job j WHERE j.queue_id = b.queue_id AND j.position > b.head ORDER BY j.position LIMIT 1)))
                   FROM busy b WHERE b.blocked = 0 AND b.available > 0) AS oldest_funded
           FROM busy"#,
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
    /// Since when it claims nothing more, and finishes what it has; null: it was not told to stop.
    pub draining_since: Option<DateTime<Utc>>,
    /// Photos it looks at at once.
    pub slots: i32,
    /// Photos it has: looked at, or ahead of that.
    pub in_hand: i64,
    /// Photos a second over the last five minutes, in the queues that are worked on now.
    pub rate: f64,
    /// The reason of its last failure within five minutes.
    pub last_reason: Option<String>,
}

impl Worker {
    /// In a word.
    pub fn state(&self) -> &'static str {
        if self.lease_seconds < 0.0 {
            "late"
        } else if self.draining_since.is_some() {
            "draining"
        } else {
            "in time"
        }
    }
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
               CROSS JOIN LATERAL (SELECT x.worker_id, x.settled_at, x.reason FROM outcome x WHERE x.job_id = j.job_id LIMIT 1) o
               WHERE o.settled_at > clock_timestamp() - interval '5 minutes')
           SELECT w.name, w.started_at AS since, extract(epoch FROM w.lease_until - clock_timestamp())::float8 AS "lease_seconds!", w.draining_since, w.slots,
                  (SELECT count(*) FROM in_flight f WHERE f.worker_id = w.worker_id) AS "in_hand!",
                  coalesce((SELECT count(*) / greatest(extract(epoch FROM clock_timestamp() - min(r.settled_at)), 1) FROM recent r WHERE r.worker_id = w.worker_id), 0)::float8 AS "rate!",
                  (SELECT r.reason FROM recent r WHERE r.worker_id = w.worker_id AND r.reason IS NOT NULL ORDER BY r.settled_at DESC LIMIT 1) AS last_reason
           FROM worker w WHERE w.gone_at IS NULL AND w.worker_id <> 0 ORDER BY w.worker_id LIMIT 1000"#
    )
    .fetch_all(db)
    .await
}
