//! Events: their settings, and the state of their queues.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::{EventId, Operation, OrganisationId, PhotoId};

/// An event.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Its number.
    pub id: EventId,
    /// Whose credits pay for it.
    pub organisation: OrganisationId,
    /// As people call it.
    pub name: String,
    /// Whether bib numbers are read.
    pub bib_search: bool,
    /// Whether faces can be searched for, and so embeddings are computed.
    pub face_search: bool,
}

/// One queue of an event, in numbers of photos.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct QueueState {
    /// What it does.
    pub operation: Operation,
    /// Every photo that was ever queued, retries included.
    pub total: i64,
    /// Not claimed yet.
    pub waiting: i64,
    /// Taken out of the queue by a person; they cost nothing.
    pub skipped: i64,
    /// Paid for and not settled.
    pub in_progress: i64,
    /// Charged.
    pub processed: i64,
    /// Failed for good, and refunded; quarantined ones included.
    pub failed: i64,
    /// Why it does not run, if it does not.
    #[serde(flatten)]
    pub pause: Option<Pause>,
}

/// Why a queue does not run.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "paused")]
pub enum Pause {
    /// The organisation has no credits. A top-up, or a refund, resumes it by itself.
    NoCredits {
        /// Since when; `None` when no worker has noticed yet.
        since: Option<DateTime<Utc>>,
    },
    /// A person holds it, and only lifting the hold resumes it.
    Held {
        /// Who.
        owner: String,
        /// Why.
        note: String,
        /// Since when.
        since: DateTime<Utc>,
        /// When it ends by itself.
        until: Option<DateTime<Utc>>,
    },
}

/// Creates an event with a queue for each operation.
///
/// # Errors
/// `PG002` if there is no such organisation, or trouble with the database.
pub async fn create(
    db: &mut PgConnection,
    organisation: OrganisationId,
    name: &str,
    bib_search: bool,
    face_search: bool,
) -> sqlx::Result<EventId> {
    sqlx::query_scalar!(
        r#"SELECT create_event($1, $2, $3, $4) AS "id!: EventId""#,
        organisation.0,
        name,
        bib_search,
        face_search
    )
    .fetch_one(db)
    .await
}

/// Switches face search on or off. Off, the embeddings of its faces are out of reach at once, and then deleted; returns of
/// how many.
///
/// # Errors
/// `PG002` if there is no such event, `PG006` if its embeddings are still being deleted, or trouble with the database.
pub async fn set_face_search(db: &mut PgConnection, event: EventId, on: bool) -> sqlx::Result<u64> {
    flag_face_search(db, event, on).await?;
    forget(db, event).await
}

/// The first half of [`set_face_search`]: from here on nothing is written or found, if it is off. [`forget`] has to follow.
///
/// # Errors
/// As [`set_face_search`].
pub async fn flag_face_search(db: &mut PgConnection, event: EventId, on: bool) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_face_search($1, $2)", event.0, on).execute(db).await.map(|_| ())
}

/// Renames an event, and says whether bib numbers are read on photos processed from now on; `None` stays as it is.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn change(
    db: &mut PgConnection,
    event: EventId,
    name: Option<&str>,
    bib_search: Option<bool>,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_event($1, $2, $3)", event.0, name, bib_search)
        .execute(db)
        .await
        .map(|_| ())
}

/// Lets nothing more of an event run, and forgets what was seen on its photos. The books and the photos stay.
///
/// # Errors
/// `PG002` if there is no such event (any more), or trouble with the database.
pub async fn delete(db: &mut PgConnection, event: EventId, actor: &str) -> sqlx::Result<()> {
    flag_deleted(db, event, actor).await?;
    forget(db, event).await.map(|_| ())
}

/// The first half of [`delete`]: from here on nobody sees it. [`forget`] has to follow.
///
/// # Errors
/// As [`delete`].
pub async fn flag_deleted(db: &mut PgConnection, event: EventId, actor: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT delete_event($1, $2)", event.0, actor).execute(db).await.map(|_| ())
}

/// Photos forgotten in one transaction: short, for settlements wait for rows of theirs.
const FORGOTTEN_AT_ONCE: i32 = 500;

/// Deletes what is to be forgotten of an event, to the end; returns of how many faces something was deleted. Should this
/// not come to its end, a worker goes on with it.
///
/// # Errors
/// When the database has trouble.
pub async fn forget(db: &mut PgConnection, event: EventId) -> sqlx::Result<u64> {
    let mut faces = 0;
    loop {
        let batch = sqlx::query!(
            r#"SELECT r_faces AS "faces!", r_done AS "done!" FROM forget($1, $2)"#,
            event.0,
            FORGOTTEN_AT_ONCE
        )
        .fetch_one(&mut *db)
        .await?;
        faces += u64::try_from(batch.faces).unwrap_or(0);
        if batch.done {
            return Ok(faces);
        }
    }
}

/// Goes on with one batch of what somebody wanted forgotten and did not finish; the event, if there is one.
pub(crate) async fn forget_what_is_left(db: &mut PgConnection) -> sqlx::Result<Option<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT r_event AS "event: EventId" FROM forget(NULL, $1)"#,
        FORGOTTEN_AT_ONCE
    )
    .fetch_one(db)
    .await
}

/// The events of an organisation, or of all, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name, bib_search, face_search
           FROM event WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deleted_at IS NULL ORDER BY event_id DESC"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await
}

/// The events of an organisation, or of all, newest first: a page, below one.
///
/// # Errors
/// When the database has trouble.
pub async fn page(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    name: &str,
    below: Option<EventId>,
    most: i64,
) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name, bib_search, face_search FROM event
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deleted_at IS NULL AND event_id < $2 AND (name ILIKE '%' || $4 || '%' OR event_id::text = $4)
           ORDER BY event_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.map_or(i64::MAX, |below| below.0),
        most,
        name
    )
    .fetch_all(db)
    .await
}

/// One event, `None` if there is no such event.
///
/// # Errors
/// When the database has trouble.
pub async fn find(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name, bib_search, face_search
           FROM event WHERE event_id = $1 AND deleted_at IS NULL"#,
        event.0
    )
    .fetch_optional(db)
    .await
}

/// The photo with this key in an event, `None` if it was never queued.
///
/// # Errors
/// When the database has trouble.
pub async fn photo(
    db: &mut PgConnection,
    event: EventId,
    key: &str,
) -> sqlx::Result<Option<PhotoId>> {
    sqlx::query_scalar!(
        r#"SELECT photo_id AS "id: PhotoId" FROM photo WHERE event_id = $1 AND key = $2"#,
        event.0,
        key
    )
    .fetch_optional(db)
    .await
}

/// The queues of an event, with counts and what keeps them from running.
///
/// # Errors
/// When the database has trouble.
pub async fn queues(db: &mut PgConnection, event: EventId) -> sqlx::Result<Vec<QueueState>> {
    let rows = sqlx::query!(
        r#"SELECT q.operation AS "operation: Operation", q.tail AS total, q.tail - q.head - q.skipped AS "waiting!",
                  (SELECT count(*) FROM skip s JOIN job j USING (queue_id, position) WHERE s.queue_id = q.queue_id
                      AND NOT EXISTS (SELECT FROM job k WHERE k.photo_id = j.photo_id AND k.queue_id = j.queue_id AND k.retry > j.retry)) AS "skipped!",
                  r.claimed - r.committed - r.refunded AS "in_progress!",
                  r.committed AS "processed!", r.refunded AS "failed!",
                  q.blocked, q.no_credit_since, a.available,
                  h.owner AS "owner?", h.note AS "note?", h.since AS "since?", h.until AS "until?"
           FROM queue q JOIN account a USING (organisation_id)
           CROSS JOIN LATERAL (SELECT coalesce(sum(claimed), 0) AS claimed, coalesce(sum(committed), 0) AS committed, coalesce(sum(refunded), 0) AS refunded
                               FROM usage WHERE usage.queue_id = q.queue_id) r
           LEFT JOIN LATERAL (SELECT * FROM hold WHERE hold.queue_id = q.queue_id AND lifted_at IS NULL ORDER BY since LIMIT 1) h ON true
           WHERE q.event_id = $1 ORDER BY q.operation"#,
        event.0
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let held = row
                .owner
                .zip(row.note)
                .zip(row.since)
                .map(|((owner, note), since)| Pause::Held { owner, note, since, until: row.until });
            let out_of_credit = row.waiting > 0 && row.available == 0;
            let no_credits = row.no_credit_since.is_some() || out_of_credit;
            QueueState {
                operation: row.operation,
                total: row.total,
                waiting: row.waiting,
                skipped: row.skipped,
                in_progress: row.in_progress,
                processed: row.processed,
                failed: row.failed,
                pause: held.or_else(|| {
                    no_credits.then_some(Pause::NoCredits { since: row.no_credit_since })
                }),
            }
        })
        .collect())
}
