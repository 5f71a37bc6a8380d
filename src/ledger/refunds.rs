//! Lists and counts refunds, and their reasons.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::away,
    ids::{EventId, JobId, Operation, OrganisationId, PhotoId, RunId},
    ledger::{credits::Credits, history},
};

/// How refunds are grouped when they are counted.
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
#[schema(as = RefundsBy)]
pub enum By {
    /// By the reason of the refund.
    Reason,
    /// By the event of the photo.
    Event,
    /// By the organisation that had paid for the photo.
    Organisation,
}

/// Selects the refunds to count or list.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// Only refunds at this time or later.
    pub since: DateTime<Utc>,
    /// Only refunds before this time; `None`: no end.
    pub until: Option<DateTime<Utc>>,
    /// Only refunds of this organisation; `None`: of all organisations.
    pub organisation: Option<OrganisationId>,
}

/// A group of refunds, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Refunds {
    /// The reason's code, or the number of the event or organisation.
    pub of: String,
    /// The name to show: the reason's code, or the name of the event or organisation.
    pub name: String,
    /// Number of photos that were refunded.
    pub photos: i64,
    /// Number of credits that were refunded: one for each photo.
    pub credits: Credits,
    /// The time of the first refund.
    pub first_at: DateTime<Utc>,
    /// The time of the last refund.
    pub last_at: DateTime<Utc>,
}

/// Counts the refunds of photos by group. The largest group comes first.
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
        r#"SELECT s.of AS "of!", s.name AS "name!", count(*) AS "photos!",
                  count(*) AS "credits!: _", min(s.at) AS "first_at!", max(s.at) AS "last_at!"
           FROM (
               SELECT CASE $4 WHEN 'reason' THEN o.reason WHEN 'event' THEN q.event_id::text
                              ELSE q.organisation_id::text END AS of,
                      CASE $4 WHEN 'reason' THEN o.reason WHEN 'event' THEN e.name
                              ELSE g.name END AS name,
                      l.at
               FROM outcome o
               JOIN ledger l
                 ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
               JOIN queue q USING (queue_id) JOIN event e USING (event_id)
               JOIN organisation g ON g.organisation_id = q.organisation_id
               WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1
                 AND ($2::timestamptz IS NULL OR l.at < $2)
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

/// One refund of a photo.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Refund {
    /// The photo's ID. Its receipt shows everything that happened to the credit.
    pub photo: PhotoId,
    /// The photo's key: its path in the store.
    pub key: String,
    /// The operation that the photo was queued for.
    pub operation: Operation,
    /// The event that the photo belongs to.
    pub event: EventId,
    /// The name of the event.
    pub event_name: String,
    /// The organisation that had paid for the photo.
    pub organisation: OrganisationId,
    /// The name of the organisation.
    pub organisation_name: String,
    /// The job. It is also the transaction in the ledger.
    pub job: JobId,
    /// The number of the refund's entry in the organisation's ledger.
    pub entry: i64,
    /// Why the credit was refunded, as a stable code.
    pub reason: String,
    /// Why the credit was refunded, in words for a person.
    pub detail: Option<String>,
    /// The time of the refund.
    pub at: DateTime<Utc>,
}

/// Lists refunds, oldest first, at most `most`. `after` is the last row of the previous page.
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
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _",
                  q.event_id AS "event: _", e.name AS event_name,
                  q.organisation_id AS "organisation: _", g.name AS organisation_name,
                  o.job_id AS "job: _", l.entry, o.reason AS "reason!", o.detail, l.at
           FROM outcome o
           JOIN ledger l ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
           JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           JOIN event e ON e.event_id = q.event_id
           JOIN organisation g ON g.organisation_id = q.organisation_id
           WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1
             AND ($2::timestamptz IS NULL OR l.at < $2)
             AND ($3::bigint IS NULL OR q.organisation_id = $3)
             AND (l.at, o.job_id) > ($4, $5)
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

/// Selects among the refunds of a filter. `None` selects all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Only<'a> {
    /// Only those with this reason.
    pub reason: Option<&'a str>,
    /// Only those of this run.
    pub run: Option<RunId>,
    /// Only those of this event.
    pub event: Option<EventId>,
}

/// Lists refunds, newest first, at most `most`.
///
/// # Errors
/// `PG011` if the event is archived, or trouble with the database.
pub async fn newest(
    db: &mut PgConnection,
    filter: Filter,
    only: Only<'_>,
    most: i64,
) -> sqlx::Result<Vec<Refund>> {
    must_be_here(db, filter, only).await?;
    let found = sqlx::query_as!(
        Refund,
        r#"SELECT o.photo_id AS "photo: _", p.key, q.operation AS "operation: _",
                  q.event_id AS "event: _", e.name AS event_name,
                  q.organisation_id AS "organisation: _", g.name AS organisation_name,
                  o.job_id AS "job: _", l.entry, o.reason AS "reason!", o.detail, l.at
           FROM outcome o
           JOIN ledger l ON l.transaction_id = o.job_id AND l.leg = 1 AND l.movement = 'refund'
           JOIN queue q USING (queue_id) JOIN photo p USING (photo_id)
           JOIN event e ON e.event_id = q.event_id
           JOIN organisation g ON g.organisation_id = q.organisation_id
           WHERE o.state <> 'processed' AND o.settled_at >= $1 AND l.at >= $1
             AND ($2::timestamptz IS NULL OR l.at < $2)
             AND ($3::bigint IS NULL OR q.organisation_id = $3)
             AND ($4::text IS NULL OR o.reason = $4)
             AND ($6::bigint IS NULL OR o.run_id = $6)
             AND ($7::bigint IS NULL OR q.event_id = $7)
           ORDER BY l.at DESC, o.job_id DESC LIMIT $5"#,
        filter.since,
        filter.until,
        filter.organisation.map(|organisation| organisation.0),
        only.reason,
        most,
        only.run.map(|run| run.0),
        only.event.map(|event| event.0)
    )
    .fetch_all(&mut *db)
    .await?;
    must_be_here(db, filter, only).await?;
    Ok(found)
}

/// Refuses to list the refunds of one event or run that is archived.
async fn must_be_here(db: &mut PgConnection, filter: Filter, only: Only<'_>) -> sqlx::Result<()> {
    if let Some(event) = only.event {
        away::must_be_here_of(db, filter.organisation, event).await?;
    }
    if let Some(run) = only.run {
        history::must_be_here(db, filter.organisation, run).await?;
    }
    Ok(())
}
