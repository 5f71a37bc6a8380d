//! Lists and counts the photos that could not be processed, with the reason.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::away,
    ids::{EventId, Operation, OrganisationId, PhotoId},
};

/// A photo whose latest job failed. Its credit was refunded.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Failure {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key: its path in the store.
    pub key: String,
    /// The operation that failed.
    pub operation: Operation,
    /// The reason, as a stable code for programs.
    pub reason: String,
    /// More about the reason, as text for people.
    pub detail: Option<String>,
    /// The time of the failure.
    pub at: DateTime<Utc>,
}

/// The reason of a refund that is no failure: AI Rotation looked at the photo, and could not decide
/// which way is up. Such a photo is listed and retried only by this reason, because the same network
/// gives the same answer.
pub const UNDECIDED: &str = "undecided";

/// Explains a reason and what to do about it, as text for people. Empty for an unknown reason.
pub fn meaning(reason: &str) -> &'static str {
    match reason {
        "empty" => "The file is empty: upload it again, then retry.",
        "file_too_large" => "The file is larger than 100 MiB: a retry fails again.",
        "too_many_pixels" => "The photo has more than 120 megapixels: a retry fails again.",
        "too_many_scans" => "Only a hostile JPEG has so many scans: a retry fails again.",
        "too_much_memory" => "Decoding it takes too much memory: a retry fails again.",
        "unsupported_format" => "It is not a JPEG, PNG, WebP, GIF or TIFF: a retry fails again.",
        "truncated" => "The file ends too early: upload it again, then retry.",
        "corrupt" => "The file is corrupt: upload it again, then retry.",
        "bad_key" => "The key is not valid: queue the photo with a correct key.",
        "vision_failed" => "The models failed on this photo: retry it once.",
        "photo_missing" => "The photo is not in the store: upload it, then retry.",
        "store_unavailable" => "The store did not answer for a long time: retry when it works.",
        "store_refused" => {
            "The store works, but not for this photo's file: see the detail, mend it, then retry."
        }
        "sandbox_unavailable" => {
            "No process could be started to look at photos: retry when workers are well."
        }
        "crashed" => "Its attempts crashed three times: retry it after an upgrade of photogate.",
        "verdict_refused" => {
            "The findings could not be saved: retry it after an upgrade of photogate."
        }
        "handed_back" => "Its work gave it back again and again: ask who wrote the worker.",
        "undecided" => {
            "AI Rotation could not decide which way is up: correct the turn yourself, or retry it \
             after an upgrade of photogate. The same version answers the same."
        }
        "duplicate" => {
            "The same file was processed before under another key of the event: its findings are \
             shown here, too, and nothing is to be paid."
        }
        "not_a_rehearsal" => {
            "A worker that only rehearses had it: stop that worker, then retry the photo."
        }
        _ => "",
    }
}

/// Limits the list of failures. `None` does not limit it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only failures of this operation.
    pub operation: Option<Operation>,
    /// Only failures with this reason.
    pub reason: Option<&'a str>,
}

/// Returns up to `most` failures of an event, newest first. Photos that were queued again since
/// then are not included, and undecided ones only if their reason is asked for.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn list(
    db: &mut PgConnection,
    event: EventId,
    filter: Filter<'_>,
    most: i64,
) -> sqlx::Result<Vec<Failure>> {
    away::must_be_here(db, event).await?;
    let found = sqlx::query_as!(
        Failure,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _",
                  o.reason AS "reason!", o.detail, o.settled_at AS at
           FROM outcome o JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           WHERE q.event_id = $1 AND o.state <> 'processed'
             AND (o.state IN ('failed', 'quarantined') OR o.state = 'undecided' AND $3 = 'undecided')
             AND ($2::operation IS NULL OR q.operation = $2) AND ($3::text IS NULL OR o.reason = $3)
             AND o.job_id = (SELECT l.job_id FROM latest_job(o.photo_id, o.queue_id) l)
           ORDER BY o.settled_at DESC, o.job_id DESC LIMIT $4"#,
        event.0,
        filter.operation as Option<Operation>,
        filter.reason,
        most
    )
    .fetch_all(&mut *db)
    .await?;
    away::must_be_here(db, event).await?;
    Ok(found)
}

/// The photos that failed in one event, for one operation and for one reason. Photos that were
/// retried since then are not included.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = FailureGroup)]
pub struct Group {
    /// The event's number.
    pub event: EventId,
    /// The event's name.
    pub event_name: String,
    /// The operation that failed.
    pub operation: Operation,
    /// The reason, as a stable code for programs.
    pub reason: String,
    /// Number of photos in the group.
    pub photos: i64,
    /// The time of the latest failure in the group.
    pub last_at: DateTime<Utc>,
    /// The photo that failed last, as an example.
    pub example: PhotoId,
}

/// The order of the groups of failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The group with the most photos comes first.
    #[default]
    Photos,
    /// The group with the latest failure comes first.
    Last,
}

impl Sort {
    /// The stable code of the order, as in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Photos => "photos",
            Self::Last => "last",
        }
    }
}

/// Limits the failures that are counted. `None` does not limit them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// Only failures of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only failures of this event.
    pub event: Option<EventId>,
    /// Only failures since this time. Without `event`, this also limits how much the query reads.
    pub since: Option<DateTime<Utc>>,
    /// The order of the groups.
    pub sort: Sort,
}

impl Which {
    /// Refuses to count what failed in one event that is archived.
    async fn must_be_here(&self, db: &mut PgConnection) -> sqlx::Result<()> {
        match self.event {
            Some(event) => away::must_be_here_of(db, self.organisation, event).await,
            None => Ok(()),
        }
    }
}

/// Counts failures by event, operation and reason. Returns at most 500 groups. Of several events, it
/// counts those that are not archived.
///
/// # Errors
/// `PG011` if `event` is archived, or trouble with the database.
pub async fn groups(db: &mut PgConnection, which: Which) -> sqlx::Result<Vec<Group>> {
    which.must_be_here(db).await?;
    let found = sqlx::query_as!(
        Group,
        r#"SELECT q.event_id AS "event: _", e.name AS event_name, q.operation AS "operation: _",
                  o.reason AS "reason!", count(*) AS "photos!",
                  max(o.settled_at) AS "last_at!",
                  (array_agg(o.photo_id ORDER BY o.settled_at DESC))[1] AS "example!: _"
           FROM outcome o JOIN queue q USING (queue_id) JOIN event e USING (event_id)
           WHERE o.state <> 'processed' AND o.state IN ('failed', 'quarantined')
             AND e.deleted_at IS NULL
             AND ($1::bigint IS NULL OR q.organisation_id = $1)
             AND ($2::bigint IS NULL OR q.event_id = $2)
             AND o.settled_at >= coalesce($3, '-infinity'::timestamptz)
             AND o.job_id = (SELECT l.job_id FROM latest_job(o.photo_id, o.queue_id) l)
           GROUP BY q.event_id, e.name, q.operation, o.reason
           ORDER BY CASE $4 WHEN 'last' THEN max(o.settled_at) END DESC NULLS LAST,
                    count(*) DESC, q.event_id
           LIMIT 500"#,
        which.organisation.map(|organisation| organisation.0),
        which.event.map(|event| event.0),
        which.since,
        which.sort.code()
    )
    .fetch_all(&mut *db)
    .await?;
    which.must_be_here(db).await?;
    Ok(found)
}
