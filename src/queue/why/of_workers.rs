//! Whether workers claim photos, and if not, why.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::answer::Cause;

/// The workers that live, all of them together.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    living: i64,
    /// Why no worker claims anything: the reason of the one that stopped last, if all have.
    stopped_by: Option<String>,
    stopped_since: Option<DateTime<Utc>>,
}

pub(super) async fn workers(db: &mut PgConnection) -> sqlx::Result<Workers> {
    sqlx::query_as!(
        Workers,
        r#"SELECT count(*) AS "living!",
                  CASE WHEN every(stopped_by IS NOT NULL)
                       THEN (array_agg(stopped_by ORDER BY stopped_since DESC))[1] END AS stopped_by,
                  max(stopped_since) AS stopped_since
           FROM worker
           WHERE gone_at IS NULL AND worker_id <> 0 AND lease_until > clock_timestamp()"#
    )
    .fetch_one(db)
    .await
}

impl Workers {
    /// Why no worker claims photos, and what to do. `None`: at least one claims.
    pub(super) fn trouble(&self) -> Option<(Cause, &'static str)> {
        if self.living == 0 {
            let cause = Cause::new("no_worker", None, "no worker is running".into());
            return Some((cause, "start a worker: `photogate work`"));
        }
        let reason = self.stopped_by.as_deref()?;
        let (what, action) = match reason {
            "store_unavailable" => (
                "the photo store does not work".to_owned(),
                "look after the photo store: the workers go on by themselves when it works",
            ),
            "sandbox_unavailable" => (
                "no process can be started to look at photos".to_owned(),
                "look at the workers' log: they go on by themselves when it works",
            ),
            other => (other.replace('_', " "), "look at the workers' log"),
        };
        let says = format!("no worker claims photos: {what}");
        Some((Cause::new("workers_stopped", self.stopped_since, says), action))
    }
}
