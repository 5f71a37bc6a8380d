//! Labels: corrections as a photo set has them, to measure and to train with.

use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{numbers_of, turn_of};
use crate::ids::{EventId, OrganisationId};

/// Selects corrections. A correction must meet all conditions that are set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// Only of photos of this event.
    pub event: Option<EventId>,
    /// Only of photos of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only made at this instant or later.
    pub since: Option<DateTime<Utc>>,
}

/// What a person has said about a photo, and what the models had said. It has the fields of
/// `samples/labels.json` and `samples/races/labels.json`; those that nobody has corrected are
/// missing. It does not say who has corrected it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Label {
    /// The photo's key in the store.
    #[serde(skip)]
    pub key: String,
    /// What is known of the photo.
    #[serde(flatten)]
    pub known: Map<String, Value>,
}

/// Streams the labels, sorted by key. If two events have a photo with the same key, it is the same
/// file: what was said last counts.
pub fn labels(
    db: &mut PgConnection,
    which: Which,
) -> impl Stream<Item = sqlx::Result<Label>> + Send + '_ {
    sqlx::query!(
        r#"WITH o AS NOT MATERIALIZED (
               SELECT p.photo_id, p.key COLLATE "C" AS key FROM photo p JOIN event e USING (event_id)
               WHERE e.deleted_at IS NULL AND ($1::bigint IS NULL OR p.event_id = $1)
                 AND ($2::bigint IS NULL OR e.organisation_id = $2)),
           n AS (
               SELECT DISTINCT ON (o.key) o.key, c.numbers, c.complete, c.found
               FROM number_correction c JOIN o USING (photo_id)
               WHERE $3::timestamptz IS NULL OR c.at >= $3 ORDER BY o.key, c.at DESC),
           t AS (
               SELECT DISTINCT ON (o.key) o.key, c.turn, c.found
               FROM turn_correction c JOIN o USING (photo_id)
               WHERE $3::timestamptz IS NULL OR c.at >= $3 ORDER BY o.key, c.at DESC)
           SELECT key AS "key!", n.numbers AS "numbers?", n.complete AS "complete?",
                  n.found AS "numbers_found?", t.turn AS "turn?", t.found AS "turn_found?"
           FROM n FULL JOIN t USING (key) ORDER BY key"#,
        which.event.map(|event| event.0),
        which.organisation.map(|organisation| organisation.0),
        which.since
    )
    .fetch(db)
    .map_ok(|row| {
        let mut known = Map::new();
        if let Some(numbers) = row.numbers {
            known.insert("bibs".into(), json!(numbers));
            known.insert("complete".into(), json!(row.complete));
            known.insert("partial".into(), json!([]));
            known.insert("found_bibs".into(), json!(row.numbers_found.as_ref().map(numbers_of)));
        }
        if let Some(turn) = row.turn {
            known.insert("turn".into(), json!(turn));
            known.insert("found_turn".into(), json!(row.turn_found.map(turn_of)));
        }
        Label { key: row.key, known }
    })
}
