//! Events with their progress, for a list of them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::status::State;
use crate::ids::{EventId, OrganisationId};

/// An event, and how it stands. Counts of both operations are added, but for the photos.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The event's number.
    pub id: EventId,
    /// The event's name.
    pub name: String,
    /// The organisation that pays for it.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub organisation_name: String,
    /// Whether bib numbers are read.
    pub bib_search: bool,
    /// Whether people can search for a face.
    pub face_search: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When a photo of it was claimed last.
    pub worked_at: Option<DateTime<Utc>>,
    /// The state of the queue that needs a person most.
    pub state: State,
    /// Photos that were queued, of the operation that has more.
    pub photos: i64,
    /// Photos that have ended, however they did.
    pub done: i64,
    /// Photos that wait, follow their AI Rotation, or are in progress.
    pub left: i64,
    /// Photos that failed, and were not queued again since.
    pub failed: i64,
    /// Credits that its photos have spent or reserved.
    pub used: i64,
}

/// Which events are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which<'a> {
    /// Only those of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only those with this in their name, or with this number.
    pub name: &'a str,
    /// Only those that are older than this one.
    pub below: Option<EventId>,
    /// At most so many.
    pub most: i64,
}

/// Lists events, the newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, which: Which<'_>) -> sqlx::Result<Vec<Overview>> {
    // First the page of events; then their two queues each, by the keys.
    sqlx::query_as!(
        Overview,
        r#"SELECT e.event_id AS "id: _", e.name, e.organisation_id AS "organisation: _",
                  (SELECT o.name FROM organisation o WHERE o.organisation_id = e.organisation_id)
                      AS "organisation_name!",
                  e.bib_search, e.face_search, e.created_at,
                  p.worked_at, p.state AS "state!: _", p.photos AS "photos!", p.done AS "done!",
                  p.to_do AS "left!", p.failed AS "failed!", p.used AS "used!"
           FROM (SELECT * FROM event
                 WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deleted_at IS NULL AND event_id < $2
                   AND ($4 = '' OR name ILIKE '%' || $4 || '%' OR event_id::text = $4)
                 ORDER BY event_id DESC LIMIT $3) e
           CROSS JOIN LATERAL (
               SELECT max(h.claimed_at) AS worked_at,
                      -- In the order of State::rank.
                      ('{no_credits,budget,held,running,idle}'::text[])[1 + min(c.rank)] AS state,
                      max(n.done + n.to_do) AS photos, sum(n.done)::bigint AS done,
                      sum(n.to_do)::bigint AS to_do, sum(f.r_failed)::bigint AS failed,
                      sum(h.claimed - u.refunded)::bigint AS used
               FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
               JOIN queue_settled u USING (queue_id)
               JOIN account a ON a.organisation_id = q.organisation_id
               LEFT JOIN LATERAL event_spendable(q.organisation_id, q.event_id) b ON a.steered
               CROSS JOIN LATERAL (
                   SELECT CASE WHEN q.held THEN 2 WHEN t.tail = h.head + h.not_waiting THEN 4
                               WHEN q.paused_since IS NULL
                                    AND coalesce(b.r_spendable, a.available) > 0 THEN 3
                               WHEN b.r_cap_left <= 0 THEN 1 ELSE 0 END AS rank) c
               CROSS JOIN LATERAL standing_refunds(q.queue_id, u.refunded, u.undecided, u.duplicates) f
               CROSS JOIN LATERAL (
                   SELECT u.committed + f.r_undecided + f.r_duplicates + f.r_failed AS done,
                          h.claimed - u.committed - u.refunded + t.tail - h.head - h.not_waiting
                          + (SELECT count(*) FROM follow_up y WHERE y.queue_id = q.queue_id) AS to_do) n
               WHERE q.event_id = e.event_id) p
           ORDER BY e.event_id DESC"#,
        which.organisation.map(|organisation| organisation.0),
        which.below.map_or(i64::MAX, |below| below.0),
        which.most,
        which.name
    )
    .fetch_all(db)
    .await
}
