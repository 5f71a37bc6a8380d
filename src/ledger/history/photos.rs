//! The photos behind the rows of a run.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    catalog::away,
    ids::{EventId, OrganisationId, PhotoId, RunId},
};

/// A photo of a run, and when its credit moved.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PhotoOfRun {
    /// The photo's ID, a UUID.
    pub photo: PhotoId,
    /// The photo's key: its path in the store.
    pub key: String,
    /// The position in the queue. To get the next page, pass the last one as `after`.
    pub position: i64,
    /// `waiting`, `skipped`, `in_progress`, `processed`, `undecided`, `duplicate`, `failed` or
    /// `quarantined`.
    pub state: String,
    /// Why its credit was refunded, as a stable code.
    pub reason: Option<String>,
    /// The time when its credit was reserved and left the balance.
    pub charged_at: Option<DateTime<Utc>>,
    /// The time when its credit was refunded.
    pub refunded_at: Option<DateTime<Utc>>,
}

/// Returns the photos of a run after a position, in the order in which they were queued. They
/// explain the run's rows in the history.
///
/// # Errors
/// `PG011` if the run's event is archived, or trouble with the database.
pub async fn photos_of_run(
    db: &mut PgConnection,
    run: RunId,
    after: i64,
    most: i64,
) -> sqlx::Result<Vec<PhotoOfRun>> {
    must_be_here(db, None, run).await?;
    let found = sqlx::query_as!(
        PhotoOfRun,
        r#"SELECT j.photo_id AS "photo: _", p.key, j.position,
                  job_state(o.state, stretch_kind_at(j.queue_id, j.position), j.position, h.head) AS "state!",
                  o.reason, taken.at AS "charged_at?", back.at AS "refunded_at?"
           FROM run r JOIN queue_head h USING (queue_id)
           JOIN job j ON j.queue_id = r.queue_id AND j.position >= r.first_position
                     AND j.position < r.first_position + r.queued AND j.position > $2
           JOIN photo p USING (photo_id)
           LEFT JOIN outcome o USING (job_id)
           LEFT JOIN ledger taken ON taken.transaction_id = j.job_id AND taken.leg = 0
           LEFT JOIN ledger back ON back.transaction_id = j.job_id AND back.leg = 1
                                AND back.movement = 'refund'
           WHERE r.run_id = $1 ORDER BY j.position LIMIT $3"#,
        run.0,
        after,
        most
    )
    .fetch_all(&mut *db)
    .await?;
    must_be_here(db, None, run).await?;
    Ok(found)
}

/// Refuses to read the photos of a run whose event is archived, and of this organisation.
pub(in crate::ledger) async fn must_be_here(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    run: RunId,
) -> sqlx::Result<()> {
    let event = sqlx::query_scalar!(
        r#"SELECT event_id AS "event: EventId" FROM run WHERE run_id = $1"#,
        run.0
    );
    match event.fetch_optional(&mut *db).await? {
        Some(event) => away::must_be_here_of(db, organisation, event).await,
        None => Ok(()),
    }
}
