//! The state of the queues and of the workers, for lists and pages.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{
    cursor::Cursor,
    ids::{EventId, HoldId, Operation, OrganisationId},
};

/// The state of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = QueueState)]
pub enum State {
    /// A person holds the queue.
    Held,
    /// The queue is paused, because its organisation has no available credits.
    NoCredits,
    /// Photos wait and can be claimed.
    Running,
    /// No photos wait in the queue.
    Idle,
}

impl Queue {
    /// True if the queue is paused or held. Then no photo of it is claimed until a top-up or a
    /// refund, or the end of the hold.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::NoCredits | State::Held)
    }
}

impl State {
    /// The stable code of the state, as in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NoCredits => "no_credits",
            Self::Running => "running",
            Self::Idle => "idle",
        }
    }

    /// The rank for sorting: states that need a person come first.
    fn rank(self) -> i32 {
        match self {
            Self::NoCredits => 0,
            Self::Held => 1,
            Self::Running => 2,
            Self::Idle => 3,
        }
    }

    /// The name of the state, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::NoCredits => "Paused: no credits",
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
    /// Waiting photos that the organisation's available credits can pay for, if no other queue is
    /// claimed from.
    pub funded: i64,
    /// Photos that are claimed and not settled yet. Each has a reserved credit.
    pub in_progress: i64,
    /// Photos that were processed. Each cost one credit.
    pub processed: i64,
    /// Photos that failed, were refunded, and were not queued again since then.
    pub failed: i64,
    /// The time when the first waiting photo was queued.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// Speed in photos per second, measured over the latest photos that were settled in the last
    /// five minutes. 0 if there are none.
    pub rate: f64,
    /// Seconds until the funded waiting photos are done at this rate. Null if the rate is 0.
    pub eta_seconds: Option<f64>,
}

/// The order of a list of queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QueueSort)]
pub enum Sort {
    /// By state: paused queues first, then held, running and idle queues.
    #[default]
    State,
    /// By time: queues that have been paused or held longest come first.
    Since,
    /// By number: queues with the most waiting photos come first.
    Waiting,
}

impl Sort {
    /// The stable code of the order, as in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Since => "since",
            Self::Waiting => "waiting",
        }
    }
}

/// Limits and orders the list of queues.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only queues of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only queues of this event.
    pub event: Option<EventId>,
    /// Only queues in this state.
    pub state: Option<State>,
    /// Only queues whose event or organisation has this text in its name.
    pub name: Option<&'a str>,
    /// Leaves out idle queues.
    pub busy: bool,
    /// The order of the list.
    pub sort: Sort,
    /// Only queues after this place: the last place of the page before.
    pub after: Option<Place>,
    /// The largest number of queues to return.
    pub most: i64,
}

/// The place of a queue in a list: the key of the list's order, and the number of the queue.
pub type Place = Cursor<2>;

/// Returns one page of queues with their places. By default, paused queues come first.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<(Place, Queue)>> {
    let [key, queue] = filter.after.map_or([i64::MIN, 0], |place| place.0);
    // This query looks at all queues, so it reads only the columns that filter and sort them. Then
    // `read` gets the whole rows of one page.
    let places = sqlx::query!(
        r#"SELECT key AS "key!", queue_id AS "queue!" FROM (
               SELECT q.queue_id, CASE $4
                          WHEN 'waiting' THEN q.head - q.tail + q.skipped
                          WHEN 'since' THEN coalesce(extract(epoch FROM CASE s.rank
                              WHEN 0 THEN q.paused_since
                              WHEN 1 THEN (SELECT min(since) FROM hold
                                           WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL)
                              END)::bigint, 1::bigint << 40)
                          ELSE s.rank END AS key
               FROM account a JOIN queue q USING (organisation_id)
               CROSS JOIN LATERAL (SELECT CASE WHEN q.held THEN 1 WHEN q.drained THEN 3
                                               WHEN q.paused_since IS NOT NULL OR a.available = 0 THEN 0
                                               ELSE 2 END AS rank) s
               WHERE ($1::bigint IS NULL OR a.organisation_id = $1)
                 AND ($3::int IS NULL OR s.rank = $3)
                 AND ($8::bigint IS NULL OR q.event_id = $8)
                 AND ((q.held OR NOT q.drained) OR NOT $9::boolean)
                 -- Subqueries, not joins: each is read once, and the planner estimates joins badly.
                 AND q.event_id NOT IN (SELECT event_id FROM event WHERE deleted_at IS NOT NULL)
                 AND ($2::text IS NULL OR q.event_id IN (
                     SELECT event_id FROM event JOIN organisation o USING (organisation_id)
                     WHERE event.name ILIKE '%' || $2 || '%' OR o.name ILIKE '%' || $2 || '%'))) q
           WHERE (key, queue_id) > ($5, $6::bigint) ORDER BY key, queue_id LIMIT $7"#,
        filter.organisation.map(|organisation| organisation.0),
        filter.name,
        filter.state.map(State::rank),
        filter.sort.code(),
        key,
        queue,
        filter.most,
        filter.event.map(|event| event.0),
        filter.busy
    )
    .fetch_all(&mut *db)
    .await?;
    let numbers: Vec<_> = places.iter().map(|place| place.queue).collect();
    let queues = read(db, &numbers, None).await?;
    let mut queues: HashMap<_, _> = queues.into_iter().map(|queue| (queue.id, queue)).collect();
    // A queue is missing here if its event was deleted between the two queries.
    let found = places.into_iter().filter_map(|row| {
        let queue = queues.remove(&row.queue)?;
        Some((Cursor([row.key, row.queue]), queue))
    });
    Ok(found.collect())
}

/// Returns the queues of an event, one for each operation. Empty if there is no such event.
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
        r#"SELECT q.queue_id AS id, q.event_id AS "event: _", e.name AS event_name,
                  q.organisation_id AS "organisation: _",
                  o.name AS organisation_name, q.operation AS "operation: _",
                  c.state AS "state!: _",
                  CASE c.state WHEN 'held' THEN h.since
                               WHEN 'no_credits' THEN q.paused_since END AS since,
                  h.hold_id AS "hold?: _", h.owner AS "owner?", h.note AS "note?",
                  h.until AS "until?",
                  q.tail - q.head - q.skipped AS "waiting!",
                  least(q.tail - q.head - q.skipped, a.available) AS "funded!",
                  u.claimed - u.committed - u.refunded AS "in_progress!",
                  u.committed AS "processed!", f.failed AS "failed!", w.since AS "oldest_waiting?",
                  coalesce(s.rate, 0) AS "rate!",
                  CASE WHEN s.rate > 0
                       THEN least(q.tail - q.head - q.skipped, a.available) / s.rate END AS eta_seconds
           FROM queue q JOIN event e USING (event_id)
           JOIN organisation o ON o.organisation_id = q.organisation_id
           JOIN account a ON a.organisation_id = q.organisation_id
           CROSS JOIN LATERAL (SELECT CASE WHEN q.held THEN 'held' WHEN q.drained THEN 'idle'
                                           WHEN q.paused_since IS NOT NULL OR a.available = 0
                                           THEN 'no_credits' ELSE 'running' END AS state) c
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed,
                                      coalesce(sum(committed), 0) AS committed,
                                      coalesce(sum(refunded), 0) AS refunded
                               FROM usage WHERE usage.queue_id = q.queue_id) u
           -- Refunds stay in the ledger, but a photo that was queued again does not count as failed.
           CROSS JOIN LATERAL (SELECT CASE
               WHEN u.refunded = 0 THEN 0
               WHEN NOT EXISTS (SELECT FROM run WHERE run.queue_id = q.queue_id AND run.retry)
               THEN u.refunded
               ELSE (
               SELECT count(*) FROM outcome o
               WHERE o.queue_id = q.queue_id AND o.state <> 'processed'
                 AND o.job_id = (SELECT l.job_id FROM latest_job(o.photo_id, o.queue_id) l))
               END AS failed) f
           LEFT JOIN LATERAL (SELECT * FROM hold
                              WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL
                              ORDER BY since LIMIT 1) h ON true
           -- These lookups have a LIMIT. As joins, they would be planned over all jobs, runs and outcomes.
           CROSS JOIN LATERAL (SELECT (SELECT r.created_at FROM run r WHERE r.run_id = (
               SELECT j.run_id FROM job j WHERE j.queue_id = q.queue_id AND j.position > q.head
               ORDER BY j.position LIMIT 1)) AS since) w
           -- The rate comes from the last 200 claimed photos.
           LEFT JOIN LATERAL (
               SELECT count(*)
                      / greatest(extract(epoch FROM clock_timestamp() - min(x.settled_at)), 1)::float8 AS rate
               FROM job j
               CROSS JOIN LATERAL (SELECT o.settled_at FROM outcome o
                                   WHERE o.job_id = j.job_id LIMIT 1) x
               WHERE j.queue_id = q.queue_id
                 AND j.position <= q.head AND j.position > q.head - 200
                 AND x.settled_at > clock_timestamp() - interval '5 minutes') s ON true
           WHERE e.deleted_at IS NULL AND (q.queue_id = ANY($1) OR q.event_id = $2)
           ORDER BY q.queue_id"#,
        numbers,
        event.map(|event| event.0)
    )
    .fetch_all(db)
    .await
}
