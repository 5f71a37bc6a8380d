//! Explains why a photo, an event or an organisation does not go on: a chain of causes, in the
//! order in which they must be removed, and the one action that helps.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{
    ids::{EventId, OrganisationId, PhotoId},
    ledger::credits,
    queue::status::{self, Filter, Queue, State},
};

/// Why photos do not run, and what to do about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Why {
    /// The subject of the question, for example `event 4711`.
    pub subject: String,
    /// A short answer, as text for people.
    pub answer: String,
    /// The causes, in the order in which they must be removed. Empty if nothing blocks the subject.
    pub chain: Vec<Cause>,
    /// The one action that helps. Null if there is nothing to do.
    pub action: Option<String>,
}

/// One cause that blocks the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cause {
    /// A stable code, for programs.
    pub code: &'static str,
    /// A sentence, for people.
    pub says: String,
    /// The time since when the cause exists, if it is known.
    pub since: Option<DateTime<Utc>>,
}

impl Cause {
    fn new(code: &'static str, since: Option<DateTime<Utc>>, says: String) -> Self {
        Self { code, says, since }
    }
}

/// Explains why an event's photos do not run. `None` if there is no such event.
///
/// # Errors
/// When the database has trouble.
pub async fn event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<Why>> {
    let queues = status::of_event(db, event).await?;
    if queues.is_empty() {
        return Ok(None);
    }
    let workers = workers(db).await?;
    Ok(Some(of(format!("event {event}"), &queues, workers)))
}

/// Largest number of queues that are read for one organisation. It is more than any organisation
/// has at once that are not drained.
const QUEUES_MAX: i64 = 10_000;

/// Explains why an organisation's photos do not run. `None` if there is no such organisation.
///
/// # Errors
/// When the database has trouble.
pub async fn organisation(
    db: &mut PgConnection,
    organisation: OrganisationId,
) -> sqlx::Result<Option<Why>> {
    if credits::balance(db, organisation).await?.is_none() {
        return Ok(None);
    }
    let filter = Filter {
        organisation: Some(organisation),
        busy: true,
        most: QUEUES_MAX,
        ..Filter::default()
    };
    let queues: Vec<_> =
        status::list(db, filter).await?.into_iter().map(|(_, queue)| queue).collect();
    let workers = workers(db).await?;
    Ok(Some(of(format!("organisation {organisation}"), &queues, workers)))
}

/// Explains why a photo does not run. `None` if there is no such photo, or its event was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn photo(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Option<Why>> {
    let Some(event) = crate::catalog::photos::event_of(db, photo).await? else { return Ok(None) };
    let jobs = sqlx::query!(
        r#"SELECT DISTINCT ON (j.queue_id) j.queue_id, q.operation::text AS "operation!",
                  o.state::text AS outcome, o.reason AS "reason?", o.settled_at AS "settled_at?",
                  k.actor AS "skipped_by?", k.at AS "skipped_at?",
                  greatest(j.position - q.head - 1, 0) AS "ahead!",
                  j.position <= q.head AS "claimed!",
                  f.since AS "since?", f.due_at AS "due_at?", f.retries AS "retries?",
                  w.name AS "worker?",
                  (SELECT t.reason FROM attempt t WHERE t.job_id = j.job_id
                   ORDER BY t.number DESC LIMIT 1) AS last_reason
           FROM job j JOIN queue q USING (queue_id) LEFT JOIN outcome o USING (job_id)
           LEFT JOIN skip k ON k.queue_id = j.queue_id AND k.position = j.position
           LEFT JOIN in_flight f ON f.job_id = j.job_id
           LEFT JOIN worker w ON w.worker_id = f.worker_id AND f.worker_id <> 0
           WHERE j.photo_id = $1 ORDER BY j.queue_id, j.retry DESC"#,
        photo.0
    )
    .fetch_all(&mut *db)
    .await?;
    let queues = status::of_event(db, event).await?;
    let workers = workers(db).await?;
    let (mut said, mut chain, mut action) = (Vec::new(), Vec::new(), None);
    for job in jobs {
        let operation = job.operation.replace('_', " ");
        if let Some(outcome) = job.outcome {
            if outcome == "processed" {
                said.push(format!("{operation} is done"));
                continue;
            }
            let reason = job.reason.unwrap_or_default();
            said.push(format!("{operation} failed"));
            chain.push(Cause::new(
                "failed",
                job.settled_at,
                format!("{operation} failed ({reason}), and its credit was refunded"),
            ));
            action.get_or_insert_with(|| {
                "fix the cause, then retry it; a retry costs one credit again".to_owned()
            });
        } else if let Some(by) = job.skipped_by {
            said.push(format!("{operation} was skipped"));
            chain.push(Cause::new(
                "skipped",
                job.skipped_at,
                format!("{by} took it out of the {operation} queue"),
            ));
            action.get_or_insert_with(|| "restore it".to_owned());
        } else if job.claimed {
            match (job.worker, job.due_at) {
                (Some(worker), _) => said.push(format!("{operation} is in progress on {worker}")),
                (None, due) => {
                    let reason = job
                        .last_reason
                        .map_or_else(String::new, |reason| format!(" (last reason: {reason})"));
                    said.push(format!("{operation} will be tried again"));
                    chain.push(Cause::new(
                        "waits_for_retry",
                        job.since,
                        format!(
                            "{operation} will be tried again{reason}{}",
                            due.map_or_else(String::new, |due| format!(
                                " at {}",
                                due.format("%H:%M:%S UTC")
                            ))
                        ),
                    ));
                    if workers == 0 {
                        chain.push(no_worker());
                        action.get_or_insert_with(|| START_A_WORKER.to_owned());
                    }
                }
            }
        } else {
            said.push(format!("{operation} waits"));
            let own: Vec<Queue> =
                queues.iter().filter(|queue| queue.id == job.queue_id).cloned().collect();
            let why = of(String::new(), &own, workers);
            chain.extend(why.chain);
            if job.ahead > 0 {
                chain.push(Cause::new(
                    "in_line",
                    None,
                    format!("{} photos are ahead of it in the {operation} queue", job.ahead),
                ));
            }
            action = action.or(why.action);
        }
    }
    let answer =
        if said.is_empty() { "no operation was requested".to_owned() } else { said.join("; ") };
    Ok(Some(Why { subject: format!("photo {photo}"), answer, chain, action }))
}

const START_A_WORKER: &str = "start a worker: `photogate work`";

fn no_worker() -> Cause {
    Cause::new("no_worker", None, "no worker is running".into())
}

async fn workers(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM worker
           WHERE gone_at IS NULL AND worker_id <> 0 AND lease_until > clock_timestamp()"#
    )
    .fetch_one(db)
    .await
}

/// Builds the explanation for some queues. Holds come first, because a person must lift them. Then
/// come missing credits, and then missing workers.
fn of(subject: String, queues: &[Queue], workers: i64) -> Why {
    let waiting: i64 = queues.iter().map(|queue| queue.waiting).sum();
    let in_progress: i64 = queues.iter().map(|queue| queue.in_progress).sum();
    let (mut chain, mut actions) = (Vec::new(), Vec::new());
    for queue in queues.iter().filter(|queue| queue.state == State::Held) {
        let owner = queue.owner.as_deref().unwrap_or("somebody");
        let note = queue.note.as_deref().filter(|note| !note.is_empty());
        let note = note.map_or_else(String::new, |note| format!(" (\u{201c}{note}\u{201d})"));
        let until = queue.until.map_or_else(String::new, |until| {
            format!(" until {}", until.format("%Y-%m-%d %H:%M UTC"))
        });
        chain.push(Cause::new(
            "held",
            queue.since,
            format!("{}, {}: held by {owner}{note}{until}", queue.event_name, queue.operation),
        ));
        if queue.waiting > 0 {
            actions.push(format!(
                "ask {owner} to lift the hold on {}, {}",
                queue.event_name, queue.operation
            ));
        }
    }
    let unpaid: Vec<&Queue> =
        queues.iter().filter(|queue| queue.state == State::NoCredits).collect();
    if let Some(first) = unpaid.first() {
        let needed: i64 = unpaid.iter().map(|queue| queue.waiting).sum();
        let since = unpaid.iter().filter_map(|queue| queue.since).min();
        chain.push(Cause::new(
            "no_credits",
            since,
            format!(
                "organisation {} has no credits; {needed} photos wait for credits",
                first.organisation_name
            ),
        ));
        actions.push(format!("top up {needed} credits"));
    }
    if workers == 0 && waiting + in_progress > 0 {
        chain.push(no_worker());
        actions.push(START_A_WORKER.to_owned());
    }
    let answer = match (waiting, in_progress, chain.is_empty()) {
        (0, 0, _) => "nothing is waiting".to_owned(),
        (waiting, running, true) => {
            format!("nothing blocks it: {running} in progress, {waiting} waiting")
        }
        (waiting, running, false) => format!("{waiting} waiting, {running} in progress"),
    };
    Why { subject, answer, chain, action: actions.into_iter().next() }
}
