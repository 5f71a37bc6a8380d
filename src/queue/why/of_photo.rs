//! Why a photo does not go on.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    answer::{Cause, Why},
    of_queues::of,
    of_workers::workers,
};
use crate::{
    catalog::{away, photos},
    ids::{EventId, Operation, PhotoId, RunId},
    queue::{
        schedules,
        status::{self, Queue},
    },
};

/// Explains why a photo does not run. `None` if there is no such photo, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn photo(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<Why>> {
    let Some(event) = photos::event_of(db, photo).await? else { return Ok(None) };
    if let Some(since) = away::since(db, event).await? {
        let mut story = Story::default();
        story.archived(event, since);
        return Ok(Some(story.answer(photo)));
    }
    let jobs = sqlx::query!(
        r#"SELECT DISTINCT ON (j.queue_id) j.queue_id, q.operation::text AS "operation!",
                  o.state::text AS outcome, o.reason AS "reason?", o.settled_at AS "settled_at?",
                  CASE WHEN k.kind = 'skipped' THEN k.actor END AS skipped_by,
                  CASE WHEN k.kind = 'skipped' THEN k.at END AS skipped_at,
                  CASE WHEN k.kind = 'skipped' THEN k.run_id END AS "cancelled: RunId",
                  photos_ahead(j.queue_id, j.position) AS "ahead!",
                  job_state(o.state, k.kind, j.position, h.head) <> 'waiting' AS "claimed!",
                  f.since AS "since?", f.due_at AS "due_at?", f.retries AS "retries?",
                  w.name AS "worker?",
                  (SELECT t.reason FROM attempt t WHERE t.job_id = j.job_id
                   ORDER BY t.number DESC LIMIT 1) AS last_reason
           FROM job j JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id)
           LEFT JOIN outcome o USING (job_id)
           LEFT JOIN LATERAL stretch_at(j.queue_id, j.position) k ON true
           LEFT JOIN in_flight f ON f.job_id = j.job_id
           LEFT JOIN worker w ON w.worker_id = f.worker_id AND f.worker_id <> 0
           WHERE j.photo_id = $1 ORDER BY j.queue_id, j.retry DESC"#,
        photo.0
    )
    .fetch_all(&mut *db)
    .await?;
    let queues = status::of_event(db, event).await?;
    let workers = workers(db).await?;
    let mut story = Story::default();
    for job in jobs {
        let operation = job.operation.replace('_', " ");
        if let Some(outcome) = job.outcome {
            story.ended(&operation, &outcome, job.reason, job.settled_at);
        } else if let Some(by) = job.skipped_by {
            story.skipped(&operation, &by, job.skipped_at, job.cancelled);
        } else if let (true, Some(worker)) = (job.claimed, &job.worker) {
            story.said.push(format!("{operation} is in progress on {worker}"));
        } else if job.claimed {
            story.put_off(&operation, job.last_reason, job.since, job.due_at);
            if let Some((cause, action)) = workers.trouble() {
                story.chain.push(cause);
                story.advise(action);
            }
        } else {
            let own: Vec<Queue> =
                queues.iter().filter(|queue| queue.id == job.queue_id).cloned().collect();
            story.waits(&operation, of(String::new(), &own, &workers), job.ahead);
        }
    }
    let follows = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM queue q JOIN follow_up f USING (queue_id)
                          WHERE q.event_id = $1 AND f.photo_id = $2) AS "follows!""#,
        event.0,
        photo.0
    )
    .fetch_one(&mut *db)
    .await?;
    if follows {
        story.follows();
    }
    for (operation, at) in schedules::of_photo(db, photo).await? {
        story.scheduled(operation, at);
    }
    Ok(Some(story.answer(photo)))
}

/// What is known of a photo, one operation after the other.
#[derive(Default)]
struct Story {
    said: Vec<String>,
    chain: Vec<Cause>,
    action: Option<String>,
}

impl Story {
    /// Keeps the first action that helps.
    fn advise(&mut self, action: &str) {
        self.action.get_or_insert_with(|| action.to_owned());
    }

    /// What became of the photo is in an archive, and nothing of its event runs.
    fn archived(&mut self, event: EventId, since: DateTime<Utc>) {
        self.said.push("its event is archived".into());
        let says = "what became of it is in the archive, and its receipt tells it";
        self.chain.push(Cause::new("archived", Some(since), says.into()));
        self.advise(&format!("restore the event (photogate archive restore {event})"));
    }

    fn ended(
        &mut self,
        operation: &str,
        outcome: &str,
        reason: Option<String>,
        settled_at: Option<DateTime<Utc>>,
    ) {
        if outcome == "processed" {
            self.said.push(format!("{operation} is done"));
            return;
        }
        if outcome == "undecided" {
            // Nothing is to be done: so this is no cause.
            self.said.push(format!(
                "{operation} could not decide, and its credit was refunded; a person can say the turn"
            ));
            return;
        }
        if outcome == "duplicate" {
            self.said.push(format!(
                "{operation} is done, and cost nothing: the same content was paid for before"
            ));
            return;
        }
        let reason = reason.unwrap_or_default();
        self.said.push(format!("{operation} failed"));
        self.chain.push(Cause::new(
            "failed",
            settled_at,
            format!("{operation} failed ({reason}), and its credit was refunded"),
        ));
        self.advise("fix the cause, then retry it; a retry costs one credit again");
    }

    /// What keeps the photo's AI Rotation stands in the chain already.
    fn follows(&mut self) {
        self.said.push("Photo Processing waits for it".into());
        self.chain.push(Cause::new(
            "after_rotation",
            None,
            "Photo Processing begins when AI Rotation has ended, however it ends".into(),
        ));
    }

    fn scheduled(&mut self, operation: Operation, at: DateTime<Utc>) {
        let at = at.format("%Y-%m-%d %H:%M UTC");
        self.said.push(format!("{operation} is scheduled"));
        let says = format!("it is scheduled for {operation} at {at}, and is queued then");
        self.chain.push(Cause::new("scheduled", None, says));
        self.advise("wait, or queue it now");
    }

    fn skipped(
        &mut self,
        operation: &str,
        by: &str,
        at: Option<DateTime<Utc>>,
        cancelled: Option<RunId>,
    ) {
        self.said.push(format!("{operation} was skipped"));
        let says = match cancelled {
            Some(run) => format!("{by} cancelled run {run}, which it was queued with"),
            None => format!("{by} took it out of the {operation} queue"),
        };
        self.chain.push(Cause::new("skipped", at, says));
        self.advise("restore it");
    }

    fn put_off(
        &mut self,
        operation: &str,
        reason: Option<String>,
        since: Option<DateTime<Utc>>,
        due: Option<DateTime<Utc>>,
    ) {
        let reason = reason.map_or_else(String::new, |reason| format!(" (last reason: {reason})"));
        let due = due.map_or_else(String::new, |due| format!(" at {}", due.format("%H:%M:%S UTC")));
        self.said.push(format!("{operation} will be tried again"));
        self.chain.push(Cause::new(
            "waits_for_retry",
            since,
            format!("{operation} will be tried again{reason}{due}"),
        ));
    }

    /// The photo waits in its queue, which may be blocked; `ahead` photos come before it.
    fn waits(&mut self, operation: &str, queue: Why, ahead: i64) {
        self.said.push(format!("{operation} waits"));
        self.chain.extend(queue.chain);
        if ahead > 0 {
            self.chain.push(Cause::new(
                "in_line",
                None,
                format!("{ahead} photos are ahead of it in the {operation} queue"),
            ));
        }
        self.action = self.action.take().or(queue.action);
    }

    fn answer(self, photo: PhotoId) -> Why {
        let Self { said, chain, action } = self;
        let answer =
            if said.is_empty() { "no operation was requested".to_owned() } else { said.join("; ") };
        Why { subject: format!("photo {photo}"), answer, chain, action, remedies: Vec::new() }
    }
}
