//! The statements of a settlement: each is one call of the gate for a batch.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::{Landed, Settlement};
use crate::{
    catalog::findings,
    queue::claim::{GateError, Incarnation, interval},
    worker::verdict::Verdict,
};

/// Commits and refunds photos, and writes their findings, in one transaction.
pub(super) async fn close(
    pool: &PgPool,
    me: Incarnation,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let found: Vec<_> = batch
        .iter()
        .filter_map(|one| {
            let findings = one.verdict.findings().filter(|findings| !findings.is_nothing())?;
            Some((one.reservation.job, findings))
        })
        .collect();
    if found.is_empty() {
        return settle(&mut *pool.acquire().await?, me, batch).await;
    }
    let mut tx = pool.begin().await?;
    let landed = settle(&mut tx, me, batch).await?;
    let ours: Vec<_> = found
        .iter()
        .filter(|(job, _)| landed.jobs.binary_search(&job.0).is_ok())
        .copied()
        .collect();
    findings::write(&mut tx, me, &ours).await?;
    tx.commit().await?;
    Ok(landed)
}

async fn settle(
    db: &mut PgConnection,
    me: Incarnation,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let (jobs, attempts) = fences(batch);
    let states: Vec<_> = batch
        .iter()
        .map(|one| match one.verdict {
            Verdict::Processed(_) => "processed",
            Verdict::Undecided { .. } => "undecided",
            Verdict::Failed { .. }
            | Verdict::Retry { .. }
            | Verdict::Crashed { .. }
            | Verdict::HandedBack => "failed",
        })
        .map(str::to_owned)
        .collect();
    let reasons: Vec<_> = batch.iter().map(|one| one.verdict.reason().map(str::to_owned)).collect();
    let details: Vec<_> = batch.iter().map(|one| one.verdict.detail().map(printable)).collect();
    let contents: Vec<_> =
        batch.iter().map(|one| one.verdict.findings()?.content().map(<[u8]>::to_vec)).collect();
    let contents = contents.iter().any(Option::is_some).then_some(contents);
    let row = sqlx::query!(
        r#"SELECT r_settled AS "settled!", r_resumed AS "resumed!", r_duplicates AS "duplicates!"
           FROM settle($1, $2, $3, $4::text[]::outcome_state[], $5, $6, $7)"#,
        me.key(),
        &jobs,
        &attempts,
        &states,
        &reasons as &[Option<String>],
        &details as &[Option<String>],
        contents as Option<Vec<Option<Vec<u8>>>>
    )
    .fetch_one(db)
    .await?;
    // The SQL function returns the jobs sorted by number.
    Ok(Landed { jobs: row.settled, resumed: row.resumed, duplicates: row.duplicates })
}

/// Gives photos back, and keeps their reservations open.
pub(super) async fn release(
    pool: &PgPool,
    me: Incarnation,
    batch: &[&Settlement],
) -> Result<Landed, GateError> {
    let (jobs, attempts) = fences(batch);
    let ends: Vec<_> = batch
        .iter()
        .map(|one| match one.verdict {
            Verdict::Retry { .. } => "retry",
            Verdict::Crashed { .. } => "crash",
            Verdict::HandedBack
            | Verdict::Processed(_)
            | Verdict::Undecided { .. }
            | Verdict::Failed { .. } => "handed_back",
        })
        .map(str::to_owned)
        .collect();
    let reasons: Vec<_> = batch.iter().map(|one| one.verdict.reason().map(str::to_owned)).collect();
    let delays: Vec<_> = batch
        .iter()
        .map(|one| match one.verdict {
            Verdict::Retry { after, .. } => interval(after),
            Verdict::Crashed { .. }
            | Verdict::HandedBack
            | Verdict::Processed(_)
            | Verdict::Undecided { .. }
            | Verdict::Failed { .. } => interval(Duration::ZERO),
        })
        .collect();
    let released = sqlx::query_scalar!(
        r#"SELECT job AS "job!" FROM release($1, $2, $3, $4, $5, $6) AS job"#,
        me.key(),
        &jobs,
        &attempts,
        &ends,
        &reasons as &[Option<String>],
        &delays
    )
    .fetch_all(pool)
    .await?;
    Ok(Landed { jobs: released, ..Landed::default() })
}

pub(super) async fn settled_before(
    pool: &PgPool,
    me: Incarnation,
    batch: &[Settlement],
) -> sqlx::Result<Vec<i64>> {
    let jobs: Vec<_> = batch.iter().map(|one| one.reservation.job.0).collect();
    sqlx::query_scalar!(
        "SELECT job_id FROM outcome WHERE job_id = ANY($1) AND worker_id = $2 ORDER BY job_id",
        &jobs,
        me.worker.0
    )
    .fetch_all(pool)
    .await
}

fn fences(batch: &[&Settlement]) -> (Vec<i64>, Vec<i32>) {
    batch.iter().map(|one| (one.reservation.job.0, one.reservation.attempt.0)).unzip()
}

/// Makes a detail safe to store and to show: no control characters, at most 500 characters.
///
/// A decoder's message may quote the file. PostgreSQL accepts no NUL character, and one text that
/// it refuses would block the settling of a whole batch.
fn printable(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
