//! Photos that could not be processed, and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::{EventId, Operation, OrganisationId, PhotoId};

/// A photo whose latest job failed. It was refunded.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Failure {
    /// The photo.
    pub photo: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// What was to be done.
    pub operation: Operation,
    /// A stable code.
    pub reason: String,
    /// For a person.
    pub detail: Option<String>,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// What a reason means, and what can be done; empty for one that nobody here knows.
pub fn meaning(reason: &str) -> &'static str {
    match reason {
        "empty" => "The file is empty: upload it again, then retry.",
        "file_too_large" => "The file is larger than 100 MiB: a retry fails again.",
        "too_many_pixels" => "It has more than 120 megapixels: a retry fails again.",
        "too_many_scans" => "The file is made to keep programs busy: a retry fails again.",
        "too_much_memory" => {
            "Looking at it takes more memory than a photo should: a retry fails again."
        }
        "unsupported_format" => "It is no JPEG, PNG, WebP, GIF or TIFF: a retry fails again.",
        "truncated" => "The file ends too early: upload it again, then retry.",
        "corrupt" => "The file is broken: upload it again, then retry.",
        "bad_key" => "Its key is no place in the store: queue it with the right one.",
        "vision_failed" => "The models gave up on it: retry it once.",
        "photo_missing" => "It is not in the store: upload it, then retry.",
        "store_unavailable" => "The store did not answer for long: retry it now.",
        "crashed" => {
            "It broke the process that looked at it, three times: retry it after an upgrade."
        }
        "verdict_refused" => "What was found could not be kept: retry it after an upgrade.",
        _ => "",
    }
}

/// Narrows failures down; what is `None` is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Of one operation.
    pub operation: Option<Operation>,
    /// With one reason.
    pub reason: Option<&'a str>,
}

/// The failures of an event, newest first. Photos that were queued again since are not among them.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
    most: i64,
) -> sqlx::Result<Vec<Failure>> {
    sqlx::query_as!(
        Failure,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", o.reason AS "reason!", o.detail, o.settled_at AS at
           FROM outcome o JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           WHERE q.event_id = $1 AND o.state <> 'processed'
             AND ($2::operation IS NULL OR q.operation = $2) AND ($3::text IS NULL OR o.reason = $3)
             AND o.job_id = (SELECT j.job_id FROM job j WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id ORDER BY j.retry DESC LIMIT 1)
           ORDER BY o.settled_at DESC, o.job_id DESC LIMIT $4"#,
        event.0,
        filter.operation as Option<Operation>,
        filter.reason,
        most
    )
    .fetch_all(db)
    .await
}

/// Photos that failed in one event, for one operation and one reason, and were not retried since.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Group {
    /// The event.
    pub event: EventId,
    /// As people call it.
    pub event_name: String,
    /// What was done.
    pub operation: Operation,
    /// A stable code.
    pub reason: String,
    /// How many.
    pub photos: i64,
    /// When the last of them failed.
    pub last_at: DateTime<Utc>,
    /// Which that is.
    pub example: PhotoId,
}

/// What comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// What failed most.
    #[default]
    Photos,
    /// What failed last.
    Last,
}

impl Sort {
    /// As programs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Photos => "photos",
            Self::Last => "last",
        }
    }
}

/// Which failures are counted; what is `None` is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// Of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// That failed since: without an event, it bounds what is read.
    pub since: Option<DateTime<Utc>>,
    /// What comes first.
    pub sort: Sort,
}

/// Failures, counted by event, operation and reason; at most 500.
///
/// # Errors
/// When the database has trouble.
pub async fn groups(db: &mut PgConnection, which: Which) -> sqlx::Result<Vec<Group>> {
    sqlx::query_as!(
        Group,
        r#"SELECT q.event_id AS "event: _", e.name AS event_name, q.operation AS "operation: _", o.reason AS "reason!", count(*) AS "photos!",
                  max(o.settled_at) AS "last_at!", (array_agg(o.photo_id ORDER BY o.settled_at DESC))[1] AS "example!: _"
           FROM outcome o JOIN queue q USING (queue_id) JOIN event e USING (event_id)
           WHERE o.state <> 'processed' AND e.deleted_at IS NULL AND ($1::bigint IS NULL OR q.organisation_id = $1) AND ($2::bigint IS NULL OR q.event_id = $2)
             AND o.settled_at >= coalesce($3, '-infinity'::timestamptz)
             AND o.job_id = (SELECT j.job_id FROM job j WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id ORDER BY j.retry DESC LIMIT 1)
           GROUP BY q.event_id, e.name, q.operation, o.reason
           ORDER BY CASE $4 WHEN 'last' THEN max(o.settled_at) END DESC NULLS LAST, count(*) DESC, q.event_id LIMIT 500"#,
        which.organisation.map(|organisation| organisation.0),
        which.event.map(|event| event.0),
        which.since,
        which.sort.code()
    )
    .fetch_all(db)
    .await
}
