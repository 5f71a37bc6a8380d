//! What changes, as it changes: server-sent events. Redis says when to look; without it, the database is looked at every second.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::sse::{Event as Message, KeepAlive, KeepAliveStream, Sse},
};
use futures::{Stream, stream};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{Service, input::Path, problem::Problem};
use crate::{
    access::Caller,
    catalog::events,
    ids::{EventId, OrganisationId},
    ledger::credits::{self, Balance},
    notify::progress::{Subject, Watch},
    queue::status::{self, Filter, Queue},
};

/// A stream ends after this long, and the browser asks again: with a session that may have ended since.
const STREAM_MAX: Duration = Duration::from_secs(5 * 60);
/// A stream looks no more often, however much happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Streams at once: of everybody, and of one caller.
const AT_ONCE: usize = 500;
const OF_ONE: usize = 20;

/// The streams that are open, by their callers.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<String, usize>>>);

impl Streams {
    /// `None`: there are enough. The stream counts for as long as what is returned lives.
    fn open(&self, caller: &Caller) -> Option<Counted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = open.get(&caller.actor).copied().unwrap_or_default();
        if mine >= OF_ONE || open.values().sum::<usize>() >= AT_ONCE {
            return None;
        }
        open.insert(caller.actor.clone(), mine + 1);
        Some(Counted { streams: self.clone(), actor: caller.actor.clone() })
    }
}

/// A stream that is open.
#[derive(Debug)]
struct Counted {
    streams: Streams,
    actor: String,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = open.get_mut(&self.actor) {
            *mine -= 1;
            if *mine == 0 {
                open.remove(&self.actor);
            }
        }
    }
}

/// How an event, or an organisation, stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    /// What the organisation has.
    pub(crate) credits: Balance,
    /// Its queues: those of the event, or the first 50 that are not idle.
    pub(crate) queues: Vec<Queue>,
}

/// Of what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Event(EventId, OrganisationId),
    Organisation(OrganisationId),
}

/// How it stands now.
pub(crate) async fn standing(db: &mut PgConnection, of: Of) -> Result<Standing, Problem> {
    let (organisation, queues) = match of {
        Of::Event(event, organisation) => (organisation, status::of_event(db, event).await?),
        Of::Organisation(organisation) => {
            let filter = Filter {
                organisation: Some(organisation),
                busy: true,
                most: 50,
                ..Filter::default()
            };
            let found = status::list(db, filter).await?;
            (organisation, found.into_iter().map(|(_, queue)| queue).collect())
        }
    };
    let credits = credits::balance(db, organisation).await?;
    let credits =
        credits.ok_or_else(|| Problem::not_found(format!("organisation {organisation}")))?;
    Ok(Standing { credits, queues })
}

type Messages = std::pin::Pin<Box<dyn Stream<Item = Result<Message, Infallible>> + Send>>;
pub(super) type Live = Sse<KeepAliveStream<Messages>>;

/// An event's queues and its organisation's credits, as they change.
#[utoipa::path(get, path = "/v1/events/{event}/live", tag = "Events", params(("event" = EventId, Path, description = "Of the event")),
    responses((status = 200, body = Standing, content_type = "text/event-stream", description = "Messages `standing`, each with this as data")))]
pub(super) async fn event(
    State(service): State<Service>,
    caller: Caller,
    Path(event): Path<EventId>,
) -> Result<Live, Problem> {
    let organisation = {
        let mut db = service.database.acquire().await?;
        caller.must_see_event(event, events::find(&mut db, event).await?)?.organisation
    };
    stream(service, &caller, Of::Event(event, organisation))
}

/// An organisation's credits and queues, as they change.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/live", tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "Of the organisation")),
    responses((status = 200, body = Standing, content_type = "text/event-stream", description = "Messages `standing`, each with this as data")))]
pub(super) async fn organisation(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<OrganisationId>,
) -> Result<Live, Problem> {
    caller.must_see(id)?;
    {
        let mut db = service.database.acquire().await?;
        standing(&mut db, Of::Organisation(id)).await?;
    }
    stream(service, &caller, Of::Organisation(id))
}

/// Looks when Redis says so, or a second has passed; tells what is not as it was.
pub(super) fn stream(service: Service, caller: &Caller, of: Of) -> Result<Live, Problem> {
    let counted = service.streams.open(caller).ok_or_else(|| {
        Problem::too_many("too many pages are open: this one moves when it is loaded again")
    })?;
    let subject = match of {
        Of::Event(event, _) => Subject::Event(event),
        Of::Organisation(organisation) => Subject::Organisation(organisation),
    };
    let watch = Watch::open(service.redis_url.as_deref(), subject).ok();
    let ends = Instant::now() + STREAM_MAX;
    let begin = (service, watch, String::new(), counted);
    let messages = stream::unfold(begin, move |(service, watch, mut told, counted)| async move {
        loop {
            if service.draining.is_cancelled() || Instant::now() > ends {
                return None;
            }
            let now = async { standing(&mut *service.database.acquire().await?, of).await };
            // Trouble with the database is waited out: the page shows what it knows.
            if let Ok(now) = now.await
                && let Ok(data) = serde_json::to_string(&now)
                && data != told
            {
                told.clone_from(&data);
                let message = Message::default().event("standing").data(data);
                return Some((Ok(message), (service, watch, told, counted)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            tokio::select! {
                () = service.draining.cancelled() => return None,
                () = async { match &watch {
                    Some(watch) => watch.changed().await,
                    None => tokio::time::sleep(Duration::from_secs(1)).await,
                } } => {}
            }
        }
    });
    let messages: Messages = Box::pin(messages);
    Ok(Sse::new(messages).keep_alive(KeepAlive::default()))
}
