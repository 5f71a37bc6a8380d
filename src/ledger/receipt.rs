//! The receipt of a photo: everything that happened to its credit, from the run that queued it to
//! the links of the hash chain that seal the entries.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::{
    ids::{EventId, JobId, Operation, OrganisationId, PhotoId, RunId},
    ledger::credits::Credits,
};

/// The receipt of a photo.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The photo's ID, a UUID.
    pub photo: PhotoId,
    /// The photo's key: its path in the store.
    pub key: String,
    /// The event that the photo belongs to.
    pub event: EventId,
    /// The name of the event.
    pub event_name: String,
    /// The organisation that pays for the photo.
    pub organisation: OrganisationId,
    /// One job for each time that the photo was queued, ordered by operation, oldest first.
    pub jobs: Vec<Job>,
}

/// A job: one time that the photo was queued.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = ReceiptJob)]
pub struct Job {
    /// The job's number. It is also the transaction in the ledger.
    pub job: JobId,
    /// The operation that the photo was queued for.
    pub operation: Operation,
    /// `waiting`, `skipped`, `in_progress`, `processed`, `undecided`, `duplicate`, `failed` or
    /// `quarantined`.
    pub state: String,
    /// The run that queued the photo.
    pub run: RunId,
    /// Who queued it: an e-mail address, a token's name, `cli`, or `System`.
    pub queued_by: String,
    /// The time when the photo was queued.
    pub queued_at: DateTime<Utc>,
    /// True if the photo was queued again: by a person, or because its file had changed.
    pub retry: bool,
    /// Who skipped the photo, and when; `None` if it was not skipped.
    pub skipped: Option<Skipped>,
    /// The entry that reserved the credit.
    pub reserved: Option<Booking>,
    /// The attempts to process the photo, oldest first.
    pub attempts: Vec<Attempt>,
    /// The entry that committed or refunded the credit.
    pub closed: Option<Booking>,
    /// Why the credit was refunded, as a stable code.
    pub reason: Option<String>,
    /// Why the credit was refunded, in words for a person.
    pub detail: Option<String>,
    /// Of a duplicate: the photo that was paid for, with the same content.
    pub duplicate_of: Option<Original>,
}

/// The photo that was paid for, where another one has the same content.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Original {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key: its path in the store.
    pub key: String,
    /// The job that was charged.
    pub job: JobId,
}

/// Who skipped a photo, and when.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = TakenOut)]
pub struct Skipped {
    /// Who skipped the photo: an e-mail address, a token's name, `cli`, or `System`.
    pub by: String,
    /// The time when the photo was skipped.
    pub at: DateTime<Utc>,
}

/// An entry of the ledger.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Booking {
    /// `reserve`, `commit` or `refund`.
    pub movement: String,
    /// The entry's number in the organisation's ledger.
    pub entry: i64,
    /// The time of the entry.
    pub at: DateTime<Utc>,
    /// The name of the worker that booked the entry.
    pub worker: Option<String>,
    /// Available credits before the entry.
    pub balance_before: Credits,
    /// Available credits after the entry.
    pub balance_after: Credits,
    /// The hash of the link that seals the entry, in hexadecimal.
    pub link: String,
}

/// An attempt: one time that a worker had the photo in hand.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Attempt {
    /// The number of the attempt; the first is 1.
    pub number: i32,
    /// The name of the worker.
    pub worker: String,
    /// The time when the attempt began.
    pub started_at: DateTime<Utc>,
    /// The time when the attempt ended; `None` if it has not ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How the attempt ended: `settled`, `handed_back`, `retry`, `crash` or `worker_gone`; `None`
    /// if it has not ended.
    pub ended: Option<String>,
    /// Why the attempt ended, as a stable code.
    pub reason: Option<String>,
}

/// Makes the receipt of a photo, for one operation or for both. Returns `None` if there is no such
/// photo. If its event is archived, it has no jobs here.
///
/// # Errors
/// When the database has trouble.
pub async fn receipt(
    db: &mut PgConnection,
    photo: PhotoId,
    operation: Option<Operation>,
) -> sqlx::Result<Option<Receipt>> {
    receipt_of(db, photo, operation, None).await
}

/// As [`receipt`]. `archived` is the photo's line of the archive that its event is in: then its
/// jobs, and what became of them, are those of the line.
///
/// # Errors
/// When the database has trouble.
pub async fn receipt_of(
    db: &mut PgConnection,
    photo: PhotoId,
    operation: Option<Operation>,
    archived: Option<&str>,
) -> sqlx::Result<Option<Receipt>> {
    // One snapshot. Otherwise a photo could be in flight in one query and settled in the next.
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let Some(found) = sqlx::query!(
        r#"SELECT p.key, p.event_id AS "event: EventId", e.name,
                  e.organisation_id AS "organisation: OrganisationId"
           FROM photo p JOIN event e USING (event_id) WHERE p.photo_id = $1"#,
        photo.0
    )
    .fetch_optional(&mut *tx)
    .await?
    else {
        return Ok(None);
    };
    let jobs = sqlx::query!(
        r#"SELECT j.job_id AS "job!: JobId", q.operation AS "operation: Operation",
                  j.run_id AS "run!: RunId", r.actor, r.created_at, j.retry AS "retry!",
                  job_state(o.state, s.kind, j.position, h.head) AS "state!",
                  CASE WHEN s.kind = 'skipped' THEN s.actor END AS skipped_by,
                  CASE WHEN s.kind = 'skipped' THEN s.at END AS skipped_at, o.reason AS "reason?",
                  o.detail AS "detail?", o.same_as AS "same_as?: JobId",
                  p.photo_id AS "original?: PhotoId", p.key AS "original_key?"
           FROM (SELECT j.queue_id, j.position, j.job_id, j.run_id, j.retry, NULL::jsonb AS line
                 FROM job j WHERE j.photo_id = $1 AND $3::text IS NULL
                 UNION ALL
                 SELECT a.queue_id, a.position, a.job_id, a.run_id, a.retry, l.line
                 FROM jsonb_array_elements($3::text::jsonb->'jobs') l (line)
                 CROSS JOIN LATERAL jsonb_populate_record(NULL::job, l.line - 'payload') a) j
           JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id)
           JOIN run r USING (run_id)
           LEFT JOIN LATERAL (
               SELECT x.state, x.reason, x.detail, x.same_as, c.photo_id AS original
               FROM outcome x LEFT JOIN outcome c ON c.job_id = x.same_as
               WHERE x.job_id = j.job_id AND j.line IS NULL
               UNION ALL
               SELECT x.state, x.reason, x.detail, x.same_as, (j.line->>'original')::uuid
               FROM jsonb_populate_record(NULL::outcome, nullif(j.line->'outcome', 'null')) x
               WHERE x.job_id IS NOT NULL) o ON true
           LEFT JOIN photo p ON p.photo_id = o.original
           LEFT JOIN LATERAL stretch_at(j.queue_id, j.position) s ON true
           WHERE $2::operation IS NULL OR q.operation = $2
           ORDER BY q.operation, j.retry"#,
        photo.0,
        operation as Option<Operation>,
        archived
    )
    .fetch_all(&mut *tx)
    .await?;
    let ids: Vec<i64> = jobs.iter().map(|job| job.job.0).collect();
    let mut bookings = bookings(&mut tx, &ids).await?;
    let mut attempts = attempts(&mut tx, &ids, archived).await?;
    tx.rollback().await?;
    let jobs = jobs
        .into_iter()
        .map(|job| Job {
            job: job.job,
            operation: job.operation,
            state: job.state,
            run: job.run,
            queued_by: job.actor,
            queued_at: job.created_at,
            retry: job.retry > 0,
            skipped: job.skipped_by.zip(job.skipped_at).map(|(by, at)| Skipped { by, at }),
            reserved: bookings.remove(&(job.job.0, OPENS)),
            attempts: attempts.remove(&job.job.0).unwrap_or_default(),
            closed: bookings.remove(&(job.job.0, CLOSES)),
            reason: job.reason,
            detail: job.detail,
            duplicate_of: job
                .original
                .zip(job.original_key)
                .zip(job.same_as)
                .map(|((photo, key), job)| Original { photo, key, job }),
        })
        .collect();
    Ok(Some(Receipt {
        photo,
        key: found.key,
        event: found.event,
        event_name: found.name,
        organisation: found.organisation,
        jobs,
    }))
}

/// The leg of a transaction that reserves the credit.
const OPENS: i16 = 0;
/// The leg of a transaction that commits or refunds the credit.
const CLOSES: i16 = 1;

/// Reads the ledger entries of jobs, by job and leg. The balance at an entry is the balance of its
/// link, minus the later entries of the same link. So only the entries of that link are read.
async fn bookings(
    db: &mut PgConnection,
    jobs: &[i64],
) -> sqlx::Result<BTreeMap<(i64, i16), Booking>> {
    let rows = sqlx::query!(
        r#"SELECT l.transaction_id, l.leg, l.movement::text AS "movement!", l.entry, l.at,
                  w.name AS "worker?", k.available - later.gained AS "after!",
                  k.available - later.gained
                  - CASE l.movement WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END
                  AS "before!",
                  encode(k.hash, 'hex') AS "link!"
           FROM ledger l
           CROSS JOIN LATERAL (
               SELECT * FROM link k
               WHERE k.organisation_id = l.organisation_id AND k.last_entry >= l.entry
               ORDER BY k.last_entry LIMIT 1) k
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE x.movement WHEN 'top_up' THEN x.amount
                                               WHEN 'reserve' THEN -1
                                               WHEN 'refund' THEN 1 ELSE 0 END), 0)::bigint
                      AS gained
               FROM ledger x
               WHERE x.organisation_id = l.organisation_id AND x.entry > l.entry
                 AND x.entry <= k.last_entry) later
           LEFT JOIN worker w ON w.worker_id = l.worker_id
           WHERE l.transaction_id = ANY ($1)"#,
        jobs
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let booking = Booking {
                movement: row.movement,
                entry: row.entry,
                at: row.at,
                worker: row.worker,
                balance_before: Credits(row.before),
                balance_after: Credits(row.after),
                link: row.link,
            };
            ((row.transaction_id, row.leg), booking)
        })
        .collect())
}

/// Reads the attempts of jobs: those that ended without an outcome, the one that ended with the
/// outcome, and the one that has not ended.
async fn attempts(
    db: &mut PgConnection,
    jobs: &[i64],
    archived: Option<&str>,
) -> sqlx::Result<BTreeMap<i64, Vec<Attempt>>> {
    let rows = sqlx::query!(
        r#"SELECT a.job_id AS "job!", a.number AS "number!", coalesce(w.name, '—') AS "worker!",
                  a.started_at AS "started_at!", a.ended_at, a.ended, a.reason
           FROM (
               SELECT job_id, number, worker_id, started_at, ended_at, ended, reason
               FROM attempt WHERE job_id = ANY ($1) AND $2::text IS NULL
               UNION ALL
               SELECT x.job_id, x.number, x.worker_id, x.started_at, x.ended_at, x.ended, x.reason
               FROM jsonb_array_elements($2::text::jsonb->'jobs') l (line)
               CROSS JOIN LATERAL jsonb_populate_recordset(NULL::attempt, l.line->'attempts') x
               UNION ALL
               -- The worker that quarantines a photo has not worked on it.
               SELECT job_id, attempt, worker_id, started_at, settled_at, 'settled', reason
               FROM (SELECT * FROM outcome WHERE job_id = ANY ($1) AND $2::text IS NULL
                     UNION ALL
                     SELECT x.* FROM jsonb_array_elements($2::text::jsonb->'jobs') l (line)
                     CROSS JOIN LATERAL jsonb_populate_record(NULL::outcome, nullif(l.line->'outcome', 'null')) x
                     WHERE x.job_id = ANY ($1)) o
               WHERE state <> 'quarantined'
               UNION ALL
               SELECT job_id, attempt, worker_id, since, NULL, NULL, NULL
               FROM in_flight WHERE job_id = ANY ($1) AND worker_id <> 0
           ) a LEFT JOIN worker w USING (worker_id)
           WHERE a.job_id = ANY ($1)
           ORDER BY a.job_id, a.number"#,
        jobs,
        archived
    )
    .fetch_all(db)
    .await?;
    let mut found: BTreeMap<i64, Vec<Attempt>> = BTreeMap::new();
    for row in rows {
        found.entry(row.job).or_default().push(Attempt {
            number: row.number,
            worker: row.worker,
            started_at: row.started_at,
            ended_at: row.ended_at,
            ended: row.ended,
            reason: row.reason,
        });
    }
    Ok(found)
}
