//! The picture of a timeline: for each operation, when its queue was stopped, and what happened.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Cause, Entry, Kind};
use crate::ids::{EventId, Operation};

/// Why a queue was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It had nothing to spend.
    Paused,
    /// A person's hold stood.
    Held,
}

/// A time in which a queue was stopped. It ends with the picture at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// Why.
    pub stop: Stop,
    /// Since when.
    pub from: DateTime<Utc>,
    /// Until when.
    pub to: DateTime<Utc>,
}

/// What happened to the queue of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The operation.
    pub operation: Operation,
    /// The times in which the queue was stopped.
    pub bands: Vec<Band>,
    /// The instants at which anything else happened, or a top-up let the queue go on.
    pub marks: Vec<(DateTime<Utc>, Kind)>,
}

/// Returns the lanes of the time from the oldest of these entries to `until`. `entries` is a page of
/// the timeline, newest first; what was before is read, so that a queue is shown as stopped that
/// was stopped then.
///
/// # Errors
/// When the database has trouble.
pub async fn lanes(
    db: &mut PgConnection,
    event: EventId,
    entries: &[Entry],
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Lane>> {
    let Some(oldest) = entries.last() else { return Ok(Vec::new()) };
    // The clock may have been put back: the picture covers all of them.
    let from = entries.iter().map(|entry| entry.at).min().unwrap_or(oldest.at);
    let until = entries.iter().map(|entry| entry.at).max().map_or(until, |last| last.max(until));
    let mut lanes = Vec::new();
    for operation in Operation::ALL {
        let own: Vec<_> = entries
            .iter()
            .rev()
            .filter(|entry| entry.operation.is_none_or(|of| of == operation))
            .collect();
        let mut bands = holds(db, event, operation, from, until).await?;
        let was_paused = was_paused(db, event, operation, oldest.id).await?;
        let mut since = was_paused.then_some(from);
        let mut marks = Vec::new();
        for entry in &own {
            match entry.kind {
                Kind::Paused => since = Some(entry.at),
                Kind::Resumed if entry.hold.is_none() => {
                    if let Some(from) = since.take() {
                        bands.push(Band { stop: Stop::Paused, from, to: entry.at.max(from) });
                    }
                    if entry.cause == Some(Cause::TopUp) {
                        marks.push((entry.at, entry.kind));
                    }
                }
                // The bands say the same.
                Kind::Resumed | Kind::Held | Kind::Lifted => {}
                Kind::Queued
                | Kind::Started
                | Kind::Finished
                | Kind::Drained
                | Kind::Deleted
                | Kind::Budget
                | Kind::Class
                | Kind::Pace
                | Kind::Order
                | Kind::Weight
                | Kind::Cancelled
                | Kind::First
                | Kind::Undone => {
                    marks.push((entry.at, entry.kind));
                }
            }
        }
        if let Some(from) = since {
            bands.push(Band { stop: Stop::Paused, from, to: until });
        }
        if own.iter().any(|entry| entry.operation.is_some()) || !bands.is_empty() {
            lanes.push(Lane { operation, bands, marks });
        }
    }
    Ok(lanes)
}

/// The holds on a queue that stood between these instants.
async fn holds(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<Vec<Band>> {
    let rows = sqlx::query!(
        "SELECT h.since, h.lifted_at FROM hold h JOIN queue q USING (queue_id)
         WHERE q.event_id = $1 AND q.operation = $2 AND h.since < $4
           AND (h.lifted_at IS NULL OR h.lifted_at > $3)
         ORDER BY h.since DESC LIMIT 200",
        event.0,
        operation as Operation,
        from,
        until
    )
    .fetch_all(db)
    .await?;
    let band = |since: DateTime<Utc>, lifted: Option<DateTime<Utc>>| Band {
        stop: Stop::Held,
        from: since.max(from),
        to: lifted.map_or(until, |lifted| lifted.min(until)),
    };
    Ok(rows.into_iter().map(|row| band(row.since, row.lifted_at)).collect())
}

/// Whether a queue was paused before this entry.
async fn was_paused(
    db: &mut PgConnection,
    event: EventId,
    operation: Operation,
    before: i64,
) -> sqlx::Result<bool> {
    let last = sqlx::query_scalar!(
        r#"SELECT kind AS "kind: Kind" FROM timeline
           WHERE event_id = $1 AND operation = $2 AND entry_id < $3
             AND kind IN ('paused', 'resumed')
             AND (cause IS NULL OR cause NOT IN ('lift', 'expiry'))
           ORDER BY entry_id DESC LIMIT 1"#,
        event.0,
        operation as Operation,
        before
    )
    .fetch_optional(db)
    .await?;
    Ok(last == Some(Kind::Paused))
}
