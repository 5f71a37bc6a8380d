//! A list of queues, page by page: filters it, orders it, and finds the numbers of its queues.
//! `read` then reads these queues.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    queue::{Queue, State},
    read::read,
};
use crate::{
    cursor::Cursor,
    ids::{EventId, OrganisationId},
};

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
    /// Leaves out idle queues, but not those with photos in progress.
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
    // This query looks at all queues, so it reads only the columns that filter and sort them. Then
    // `read` gets the whole rows of one page.
    let [key, queue] = filter.after.map_or([i64::MIN, 0], |place| place.0);
    let places = sqlx::query!(
        r#"WITH budgets AS MATERIALIZED (
               SELECT * FROM spendable(ARRAY(
                   SELECT organisation_id FROM account
                   WHERE steered AND ($1::bigint IS NULL OR organisation_id = $1))))
           SELECT key AS "key!", queue_id AS "queue!" FROM (
               SELECT q.queue_id, CASE $4
                          WHEN 'waiting' THEN -s.waiting
                          WHEN 'since' THEN coalesce(extract(epoch FROM CASE s.rank
                              WHEN 0 THEN q.paused_since
                              WHEN 1 THEN q.paused_since
                              WHEN 2 THEN (SELECT min(since) FROM hold
                                           WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL)
                              END)::bigint, 1::bigint << 40)
                          ELSE s.rank END AS key
               FROM account a JOIN queue q USING (organisation_id)
               -- Only for the few queues that are not drained.
               CROSS JOIN LATERAL (SELECT CASE WHEN q.drained THEN 0 ELSE (
                   SELECT t.tail - h.head - h.not_waiting FROM queue_head h JOIN queue_tail t USING (queue_id)
                   WHERE h.queue_id = q.queue_id) END AS waiting) n
               LEFT JOIN budgets others
                   ON others.r_organisation = a.organisation_id AND others.r_event IS NULL
               LEFT JOIN budgets own ON own.r_event = q.event_id
               CROSS JOIN LATERAL (SELECT n.waiting, CASE
                   WHEN q.held THEN 2 WHEN n.waiting = 0 THEN 4
                   WHEN q.paused_since IS NULL
                        AND coalesce(own.r_spendable, others.r_spendable, a.available) > 0 THEN 3
                   WHEN own.r_cap_left <= 0 THEN 1 ELSE 0 END AS rank) s
               WHERE ($1::bigint IS NULL OR a.organisation_id = $1)
                 AND ($3::int IS NULL OR s.rank = $3)
                 AND ($8::bigint IS NULL OR q.event_id = $8)
                 AND (NOT $9::boolean OR q.held OR n.waiting > 0
                      OR q.queue_id IN (SELECT queue_id FROM in_flight))
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
