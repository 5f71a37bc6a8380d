//! Credits that came back, and why: what finance asks first.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    ids::{EventId, JobId, Operation, OrganisationId, PhotoId, RunId},
    ledger::credits::Credits,
};

/// What refunds are counted by.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    serde::Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Why the photo failed.
    Reason,
    /// Whose photo.
    Event,
    /// Who had paid.
    Organisation,
}

/// Which refunds.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// From this instant on.
    pub since: DateTime<Utc>,
    /// Before this instant.
    pub until: Option<DateTime<Utc>>,
    /// Of one organisation.
    pub organisation: Option<OrganisationId>,
}

/// Refunds of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Refunds {
    /// The reason's code, or the number of the event or organisation.
    pub of: String,
    /// What people call it.
    pub name: String,
    /// Photos.
    pub photos: i64,
    /// Credits that came back: one a photo.
    pub credits: Credits,
    /// The first.
    pub first_at: DateTime<Utc>,
    /// The last.
    pub last_at: DateTime<Utc>,
}

/// Counts the refunds of photos, most first.
///
/// # Errors
/// When the database has trouble.
pub async fn count(db: &mut PgConnection, filter: Filter, by: By) -> sqlx::Result<Vec<Refunds>> {
    let by = match by {
        By::Reason => "reason",
        By::Event => "event",
        By::Organisation => "organisation",
    };
    sqlx::query_as!(
        Refunds,
        r#"SELECT s.of AS "of!", s.name AS "name!", count(*) AS "photos!", count(*) AS "credits!: _", min(s.at) AS "first_at!", max(s.at) AS "last_at!"
           FROM (
               SELECT CASE $4 WHEN 'reason' THEN o.reason WHEN 'event' THEN q.event_id::text ELSE q.organisation_id::text END AS of,
                      CASE $4 WHEN 'reason' THEN o.reason WHEN 'event' THEN e.name ELSE g.name END AS name, l.at
               FROM outcome o JOIN ledger l ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
               JOIN queue q USING (queue_id) JOIN event e USING (event_id) JOIN organisation g ON g.organisation_id = q.organisation_id
               WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1 AND ($2::timestamptz IS NULL OR l.at < $2)
                 AND ($3::bigint IS NULL OR q.organisation_id = $3)) s
           GROUP BY s.of, s.name ORDER BY count(*) DESC, s.of"#,
        filter.since,
        filter.until,
        filter.organisation.map(|organisation| organisation.0),
        by
    )
    .fetch_all(db)
    .await
}

/// One credit that came back.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Refund {
    /// The photo; ask for its receipt.
    pub photo: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// What was to be done.
    pub operation: Operation,
    /// Whose photo.
    pub event: EventId,
    /// Who had paid.
    pub organisation: OrganisationId,
    /// The transaction in the ledger.
    pub job: JobId,
    /// The number of the refund in the organisation's ledger.
    pub entry: i64,
    /// A stable code.
    pub reason: String,
    /// For a person.
    pub detail: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The refunds themselves, oldest first, after a job of the page before.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    filter: Filter,
    after: Option<(DateTime<Utc>, JobId)>,
    most: i64,
) -> sqlx::Result<Vec<Refund>> {
    let (at, job) = after.unwrap_or((DateTime::UNIX_EPOCH, JobId(0)));
    sqlx::query_as!(
        Refund,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", q.event_id AS "event: _", q.organisation_id AS "organisation: _",
                  o.job_id AS "job: _", l.entry, o.reason AS "reason!", o.detail, l.at
           FROM outcome o JOIN ledger l ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
           JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1 AND ($2::timestamptz IS NULL OR l.at < $2)
             AND ($3::bigint IS NULL OR q.organisation_id = $3) AND (l.at, o.job_id) > ($4, $5)
           ORDER BY l.at, o.job_id LIMIT $6"#,
        filter.since,
        filter.until,
        filter.organisation.map(|organisation| organisation.0),
        at,
        job.0,
        most
    )
    .fetch_all(db)
    .await
}

/// The newest credits that came back, one a photo, at most so many; for one reason, or of one run, or any.
///
/// # Errors
/// When the database has trouble.
pub async fn newest(
    db: &mut PgConnection,
    filter: Filter,
    reason: Option<&str>,
    run: Option<RunId>,
    most: i64,
) -> sqlx::Result<Vec<Refund>> {
    sqlx::query_as!(
        Refund,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _", q.event_id AS "event: _", q.organisation_id AS "organisation: _",
                  o.job_id AS "job: _", l.entry, o.reason AS "reason!", o.detail, l.at
           FROM outcome o JOIN ledger l ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
           JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1 AND ($2::timestamptz IS NULL OR l.at < $2)
             AND ($3::bigint IS NULL OR q.organisation_id = $3) AND ($4::text IS NULL OR o.reason = $4)
             AND ($6::bigint IS NULL OR o.run_id = $6)
           ORDER BY l.at DESC, o.job_id DESC LIMIT $5"#,
        filter.since,
        filter.until,
        filter.organisation.map(|organisation| organisation.0),
        reason,
        most,
        run.map(|run| run.0)
    )
    .fetch_all(db)
    .await
}
