//! Why an event or an organisation does not go on.

use sqlx::PgConnection;

use super::{
    answer::{Cause, Remedy, Why},
    of_workers::{Workers, workers},
};
use crate::{
    ids::{EventId, OrganisationId},
    ledger::credits::{self, Credits},
    queue::status::{self, Filter, Queue, State},
};

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
    Ok(Some(of(format!("event {event}"), &queues, &workers)))
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
    Ok(Some(of(format!("organisation {organisation}"), &queues, &workers)))
}

/// Builds the explanation for some queues. Holds come first, because a person must lift them. Then
/// come missing credits, and then missing workers.
pub(super) fn of(subject: String, queues: &[Queue], workers: &Workers) -> Why {
    let waiting: i64 = queues.iter().map(|queue| queue.waiting).sum();
    let in_progress: i64 = queues.iter().map(|queue| queue.in_progress).sum();
    let (mut chain, mut actions, mut remedies) = (Vec::new(), Vec::new(), Vec::new());
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
            actions.push(format!("ask {owner} to lift the hold on {}", name(queue)));
        }
        remedies.push(Remedy::Lift { queue: queue.id, of: name(queue) });
    }
    for (cause, action, remedy) in
        [unpaid(queues), capped(queues), slow(queues)].into_iter().flatten()
    {
        chain.push(cause);
        actions.push(action);
        remedies.push(remedy);
    }
    if waiting + in_progress > 0
        && let Some((cause, action)) = workers.trouble()
    {
        chain.push(cause);
        actions.push(action.to_owned());
        remedies.push(Remedy::Workers);
    }
    remedies.extend(queues.iter().filter(|queue| queue.failed > 0).map(|queue| Remedy::Retry {
        queue: queue.id,
        of: name(queue),
        photos: queue.failed,
    }));
    let answer = match (waiting, in_progress, chain.is_empty()) {
        (0, 0, _) => "Nothing is waiting.".to_owned(),
        (waiting, running, true) => {
            format!("Nothing blocks it: {running} in progress, {waiting} waiting")
        }
        (waiting, running, false) => format!("{waiting} waiting, {running} in progress"),
    };
    Why { subject, answer, chain, action: actions.into_iter().next(), remedies }
}

/// The event and the operation of a queue.
fn name(queue: &Queue) -> String {
    format!("{}, {}", queue.event_name, queue.operation)
}

/// What waits for credits.
fn unpaid(queues: &[Queue]) -> Option<(Cause, String, Remedy)> {
    let unpaid: Vec<_> = queues.iter().filter(|queue| queue.state == State::NoCredits).collect();
    let first = unpaid.first()?;
    let needed: i64 = unpaid.iter().map(|queue| queue.waiting).sum();
    let since = unpaid.iter().filter_map(|queue| queue.since).min();
    let (name, kept) = (&first.organisation_name, first.available);
    let says = if kept > 0 {
        format!(
            "organisation {name} keeps its {kept} credits for other events; {needed} photos wait \
             for credits"
        )
    } else {
        format!("organisation {name} has no credits; {needed} photos wait for credits")
    };
    let action = if kept > 0 {
        format!("top up {needed} credits, or keep fewer for other events")
    } else {
        format!("top up {needed} credits")
    };
    let remedy = Remedy::TopUp { organisation: first.organisation, credits: Credits(needed) };
    Some((Cause::new("no_credits", since, says), action, remedy))
}

/// What waits because its event has used up its budget.
fn capped(queues: &[Queue]) -> Option<(Cause, String, Remedy)> {
    let capped: Vec<_> = queues.iter().filter(|queue| queue.state == State::Budget).collect();
    let first = capped.first()?;
    let waiting: i64 = capped.iter().map(|queue| queue.waiting).sum();
    let since = capped.iter().filter_map(|queue| queue.since).min();
    let mut events: Vec<_> = capped.iter().map(|queue| queue.event_name.as_str()).collect();
    events.dedup();
    let says = format!("the budget is used up of {}; {waiting} photos wait", events.join(", "));
    let action = format!("raise the budget of {} (event {})", first.event_name, first.event);
    Some((Cause::new("budget", since, says), action, Remedy::Budget(first.organisation)))
}

/// What runs, and is kept back for now because its event or its organisation has a pace.
fn slow(queues: &[Queue]) -> Option<(Cause, String, Remedy)> {
    let (queue, what) = queues.iter().find_map(|queue| Some((queue, queue.kept_back()?)))?;
    let says = format!("{}, {}: {what}", queue.event_name, queue.operation);
    let action =
        format!("wait, or change the pace: see photogate spending show {}", queue.organisation);
    Some((Cause::new("pace", None, says), action, Remedy::Pace(queue.organisation)))
}
