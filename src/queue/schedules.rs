//! Schedules: photos that are queued at a later time.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::enqueue::{self, EnqueueError, NewJob, Priority};
use crate::ids::{EventId, Operation, Operations, OrganisationId, PhotoId, ScheduleId};

/// How a schedule ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "schedule_end", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = ScheduleEnd)]
pub enum End {
    /// All its photos were queued.
    Done,
    /// A person or a program cancelled it.
    Cancelled,
    /// It could not be queued, and never will be.
    Refused,
}

/// Photos that are queued at a later time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Schedule {
    /// The schedule's number.
    pub id: ScheduleId,
    /// The organisation that pays for the photos.
    pub organisation: OrganisationId,
    /// The event that the photos belong to.
    pub event: EventId,
    /// The operation that they are queued for. `both`: AI Rotation first, and then Photo Processing,
    /// photo by photo.
    pub operation: Operations,
    /// When they are queued. Later if no worker runs then.
    pub not_before: DateTime<Utc>,
    /// `urgent`: they are claimed before the others of the event.
    pub priority: Priority,
    /// True: all photos that the event has then (Go Live). False: the photos that were named.
    pub all: bool,
    /// Number of photos that were named.
    pub photos: i32,
    /// Number of photos that were queued so far. For both operations, a photo counts twice.
    pub queued: i32,
    /// Who scheduled them, or changed the time last.
    pub actor: String,
    /// When they were scheduled.
    pub created_at: DateTime<Utc>,
    /// Why the next photos could not be queued; it is tried again every minute. Null: no trouble.
    pub trouble: Option<String>,
    /// When the schedule ended; null while it waits.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub ended: Option<End>,
    /// Who cancelled it, or the code of the refusal: `actor_gone` (a person who was disabled, or a
    /// token or pipeline that was revoked) or `outside_photos_under`.
    pub ended_by: Option<String>,
}

/// Schedules photos. With `jobs` as `None`: all photos that the event has when they are due. Returns
/// the schedule, and false if it was there already: the same photos, time and actor. `tx` must be a
/// transaction.
///
/// # Errors
/// See [`EnqueueError`].
pub async fn schedule(
    tx: &mut PgConnection,
    event: EventId,
    operation: Operations,
    not_before: DateTime<Utc>,
    jobs: Option<&[NewJob]>,
    actor: &str,
    priority: Priority,
) -> Result<(ScheduleId, bool), EnqueueError> {
    let row = sqlx::query!(
        r#"SELECT r_schedule AS "schedule!: ScheduleId", r_is_new AS "is_new!"
           FROM schedule_photos($1, $2, $3, $4, $5, $6, NULL, $7)"#,
        event.0,
        operation as Operations,
        not_before,
        jobs.map(enqueue::keys) as Option<Vec<String>>,
        jobs.and_then(enqueue::payloads) as Option<Vec<Option<Value>>>,
        actor,
        priority.is_urgent()
    )
    .fetch_one(tx)
    .await
    .map_err(|error| enqueue::refused(error, event, jobs.unwrap_or_default()))?;
    Ok((row.schedule, row.is_new))
}

/// Checks that photos can be scheduled for this time.
///
/// # Errors
/// `PG006` if the time is not a later one, or trouble with the database.
pub async fn check_time(db: &mut PgConnection, not_before: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("SELECT check_due_at($1)", not_before).execute(db).await.map(|_| ())
}

/// Changes when a schedule is due. Returns false if it has ended.
///
/// # Errors
/// `PG006` if the time is not a later one, or trouble with the database.
pub async fn change(
    db: &mut PgConnection,
    schedule: ScheduleId,
    not_before: DateTime<Utc>,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT move_schedule($1, $2, $3) AS "moved!""#,
        schedule.0,
        not_before,
        actor
    )
    .fetch_one(db)
    .await
}

/// Cancels a schedule. What of it was queued already stays queued. Returns false if it has ended.
///
/// # Errors
/// When the database has trouble.
pub async fn cancel(
    db: &mut PgConnection,
    schedule: ScheduleId,
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT cancel_schedule($1, $2) AS "cancelled!""#, schedule.0, actor)
        .fetch_one(db)
        .await
}

/// Which schedules to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// Only those of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only those of this event.
    pub event: Option<EventId>,
    /// Only this one.
    pub id: Option<ScheduleId>,
    /// Only those that wait.
    pub waiting: bool,
    /// Only those with numbers below this one.
    pub below: Option<i64>,
}

/// Lists schedules, newest first, at most `most`. Those of deleted events are left out.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, which: Which, most: i64) -> sqlx::Result<Vec<Schedule>> {
    sqlx::query_as!(
        Schedule,
        r#"SELECT s.schedule_id AS "id: _", s.organisation_id AS "organisation: _",
                  s.event_id AS "event: _", s.operation AS "operation: _",
                  CASE WHEN s.urgent THEN 'urgent' ELSE 'normal' END AS "priority!: Priority",
                  s.due_at AS not_before, s.asked IS NULL AS "all!", s.photos, s.queued, s.actor,
                  s.created_at, s.trouble, s.ended_at, s.ended AS "ended: _", s.ended_by
           FROM schedule s JOIN event e USING (event_id)
           WHERE ($1::bigint IS NULL OR s.organisation_id = $1)
             AND ($2::bigint IS NULL OR s.event_id = $2)
             AND ($3::bigint IS NULL OR s.schedule_id = $3)
             AND (NOT $4 OR s.ended_at IS NULL)
             AND s.schedule_id < $5 AND e.deleted_at IS NULL
           ORDER BY s.schedule_id DESC LIMIT $6"#,
        which.organisation.map(|id| id.0),
        which.event.map(|id| id.0),
        which.id.map(|id| id.0),
        which.waiting,
        which.below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}

/// Returns the schedules that wait and will queue this photo, with the operation and the time: those
/// that name it, and those of all photos of its event, unless it is queued already.
///
/// # Errors
/// When the database has trouble.
pub async fn of_photo(
    db: &mut PgConnection,
    photo: PhotoId,
) -> sqlx::Result<Vec<(Operation, DateTime<Utc>)>> {
    let rows = sqlx::query!(
        r#"SELECT q.operation AS "operation: Operation", s.due_at
           FROM photo p JOIN schedule s USING (event_id)
           JOIN queue q ON q.event_id = s.event_id AND s.operation IN ('both', q.operation::text::operations)
           WHERE p.photo_id = $1 AND s.ended_at IS NULL
             AND (s.asked IS NULL OR EXISTS (
                 SELECT FROM schedule_part t
                 WHERE t.schedule_id = s.schedule_id AND p.key = ANY (t.keys)))
             AND NOT EXISTS (SELECT FROM latest_job(p.photo_id, q.queue_id))
           ORDER BY s.due_at, q.operation DESC"#,
        photo.0
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.operation, row.due_at)).collect())
}

/// The next schedule that is due, of the first organisation after this one.
///
/// # Errors
/// When the database has trouble.
pub async fn next_due(
    db: &mut PgConnection,
    after: OrganisationId,
) -> sqlx::Result<Option<(OrganisationId, ScheduleId)>> {
    let row = sqlx::query!(
        r#"SELECT r_organisation AS "organisation: OrganisationId",
                  r_schedule AS "schedule: ScheduleId"
           FROM next_due_schedule($1)"#,
        after.0
    )
    .fetch_one(db)
    .await?;
    Ok(row.organisation.zip(row.schedule))
}

/// Queues the next part of a schedule that is due, in a transaction of its own. Returns the number
/// of photos that were queued; `None` if somebody else has it, or it has ended.
///
/// # Errors
/// When the database has trouble, or refuses it: nothing is queued then.
pub async fn enqueue_next(
    db: &mut PgConnection,
    schedule: ScheduleId,
    unpaid_photos_max: i64,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        r#"SELECT r_queued AS "queued: i32" FROM enqueue_scheduled($1, $2)"#,
        schedule.0,
        unpaid_photos_max
    )
    .fetch_one(db)
    .await
}

/// How long the schedule that is due for the longest time is due, in seconds; 0 if none is.
///
/// # Errors
/// When the database has trouble.
pub async fn seconds_late(db: &mut PgConnection) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        r#"SELECT greatest(0, extract(epoch FROM clock() - min(due_at)))::float8 AS "late!"
           FROM schedule WHERE ended_at IS NULL"#
    )
    .fetch_one(db)
    .await
}

/// Notes why a part could not be queued. It is tried again after a minute.
///
/// # Errors
/// When the database has trouble.
pub async fn put_off(
    db: &mut PgConnection,
    schedule: ScheduleId,
    trouble: &str,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT put_off_schedule($1, $2)", schedule.0, trouble)
        .execute(db)
        .await
        .map(|_| ())
}
