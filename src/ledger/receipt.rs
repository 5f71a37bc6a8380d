//! The receipt of a photo: everything that happened to the credit it cost, from who queued it to the links of the chain
//! that seal it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::{
    ids::{EventId, JobId, Operation, OrganisationId, PhotoId, RunId},
    ledger::credits::Credits,
};

/// What happened to a photo.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The photo.
    pub photo: PhotoId,
    /// Where it is in the store.
    pub key: String,
    /// Whose photo.
    pub event: EventId,
    /// Its name.
    pub event_name: String,
    /// Who pays.
    pub organisation: OrganisationId,
    /// Each time it was queued, oldest first.
    pub jobs: Vec<Job>,
}

/// One time it was queued.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// Also its transaction in the ledger.
    pub job: JobId,
    /// What was to be done.
    pub operation: Operation,
    /// `waiting`, `skipped`, `in_progress`, `processed`, `failed` or `quarantined`.
    pub state: String,
    /// The call that queued it.
    pub run: RunId,
    /// By whom.
    pub queued_by: String,
    /// When.
    pub queued_at: DateTime<Utc>,
    /// A person asked for it again.
    pub retry: bool,
    /// Who took it out of the queue, and when.
    pub skipped: Option<Skipped>,
    /// The credit leaves the balance.
    pub reserved: Option<Booking>,
    /// Who worked on it, oldest first.
    pub attempts: Vec<Attempt>,
    /// The credit is earned, or comes back.
    pub closed: Option<Booking>,
    /// Why it came back: a stable code.
    pub reason: Option<String>,
    /// For a person.
    pub detail: Option<String>,
}

/// A photo was taken out of its queue.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = TakenOut)]
pub struct Skipped {
    /// Who did it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A row of the ledger.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Booking {
    /// `reserve`, `commit` or `refund`.
    pub movement: String,
    /// Its number in the organisation's ledger.
    pub entry: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The worker that booked it.
    pub worker: Option<String>,
    /// Available before it.
    pub balance_before: Credits,
    /// Available after it.
    pub balance_after: Credits,
    /// The hash of the link that seals it.
    pub link: String,
}

/// A worker had it in hand.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Attempt {
    /// 1 is the first.
    pub number: i32,
    /// Who.
    pub worker: String,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Until when; `None`: still.
    pub ended_at: Option<DateTime<Utc>>,
    /// `settled`, `handed_back`, `retry`, `crash`, `worker_gone`; `None`: still in hand.
    pub ended: Option<String>,
    /// A stable code.
    pub reason: Option<String>,
}

/// The receipt of a photo, for one operation or for both; `None` if there is no such photo.
///
/// # Errors
/// When the database has trouble.
pub async fn receipt(
    db: &mut PgConnection,
    photo: PhotoId,
    operation: Option<Operation>,
) -> sqlx::Result<Option<Receipt>> {
    // One snapshot, or a photo could be in flight here and settled there.
    let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let Some(found) = sqlx::query!(
        r#"SELECT p.key, p.event_id AS "event: EventId", e.name, e.organisation_id AS "organisation: OrganisationId"
           FROM photo p JOIN event e USING (event_id) WHERE p.photo_id = $1"#,
        photo.0
    )
    .fetch_optional(&mut *tx)
    .await?
    else {
        return Ok(None);
    };
    let jobs = sqlx::query!(
        r#"SELECT j.job_id AS "job: JobId", q.operation AS "operation: Operation", j.run_id AS "run: RunId", r.actor, r.created_at, j.retry,
                  CASE WHEN o.state IS NOT NULL THEN o.state::text WHEN s.position IS NOT NULL THEN 'skipped'
                       WHEN j.position > q.head THEN 'waiting' ELSE 'in_progress' END AS "state!",
                  s.actor AS "skipped_by?", s.at AS "skipped_at?", o.reason AS "reason?", o.detail AS "detail?"
           FROM job j JOIN queue q USING (queue_id) JOIN run r USING (run_id)
           LEFT JOIN outcome o USING (job_id)
           LEFT JOIN skip s ON s.queue_id = j.queue_id AND s.position = j.position
           WHERE j.photo_id = $1 AND ($2::operation IS NULL OR q.operation = $2) ORDER BY q.operation, j.retry"#,
        photo.0,
        operation as Option<Operation>
    )
    .fetch_all(&mut *tx)
    .await?;
    let ids: Vec<i64> = jobs.iter().map(|job| job.job.0).collect();
    let mut bookings = bookings(&mut tx, &ids).await?;
    let mut attempts = attempts(&mut tx, &ids).await?;
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

/// The leg of a transaction that reserves the credit, and the one that commits or refunds it.
const OPENS: i16 = 0;
const CLOSES: i16 = 1;

/// What the ledger says of each job, by leg. The balance at an entry is that of its link, less what came after it in
/// the same link: no more is read than the link has entries.
async fn bookings(
    db: &mut PgConnection,
    jobs: &[i64],
) -> sqlx::Result<BTreeMap<(i64, i16), Booking>> {
    let rows = sqlx::query!(
        r#"SELECT l.transaction_id, l.leg, l.movement::text AS "movement!", l.entry, l.at, w.name AS "worker?", k.available - later.gained AS "after!",
                  k.available - later.gained - CASE l.movement WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END AS "before!", encode(k.hash, 'hex') AS "link!"
           FROM ledger l
           CROSS JOIN LATERAL (SELECT * FROM link k WHERE k.organisation_id = l.organisation_id AND k.last_entry >= l.entry ORDER BY k.last_entry LIMIT 1) k
           CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE x.movement WHEN 'top_up' THEN x.amount WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END), 0)::bigint AS gained
               FROM ledger x WHERE x.organisation_id = l.organisation_id AND x.entry > l.entry AND x.entry <= k.last_entry) later
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

/// Attempts that ended without an outcome, the one that ended with it, and the one that is under way.
async fn attempts(
    db: &mut PgConnection,
    jobs: &[i64],
) -> sqlx::Result<BTreeMap<i64, Vec<Attempt>>> {
    let rows = sqlx::query!(
        r#"SELECT a.job_id AS "job!", a.number AS "number!", coalesce(w.name, '—') AS "worker!", a.started_at AS "started_at!", a.ended_at, a.ended, a.reason
           FROM (
               SELECT job_id, number, worker_id, started_at, ended_at, ended, reason FROM attempt WHERE job_id = ANY ($1)
               UNION ALL
               -- Whoever quarantines a photo has not worked on it.
               SELECT job_id, attempt, worker_id, started_at, settled_at, 'settled', reason FROM outcome WHERE job_id = ANY ($1) AND state <> 'quarantined'
               UNION ALL
               SELECT job_id, attempt, worker_id, since, NULL, NULL, NULL FROM in_flight WHERE job_id = ANY ($1) AND worker_id <> 0
           ) a LEFT JOIN worker w USING (worker_id)
           ORDER BY a.job_id, a.number"#,
        jobs
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
