//! Live updates over server-sent events. Redis says when something changed; without Redis, the
//! stream queries the database every second.

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

use super::{Service, authentication::Authenticated, input::Path, problem::Problem};
use crate::{
    access::Caller,
    catalog::events,
    ids::{EventId, OrganisationId},
    ledger::credits::{self, Balance},
    notify::progress::{Subject, Watch},
    queue::status::{self, Filter, Queue},
};

/// A stream ends after this time. The browser opens it again.
const STREAM_MAX: Duration = Duration::from_secs(5 * 60);
/// The shortest time between two queries of one stream, however much happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest time between two checks of the token or session.
const VALID_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of open streams of this process.
const AT_ONCE: usize = 500;
/// Maximum number of open streams of one caller.
const OF_ONE: usize = 20;
/// Maximum number of open streams of all callers of one organisation.
const OF_ORGANISATION: usize = 50;

/// The open streams: whose they are, and how many.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Whose, usize>>>);

type Whose = (Option<OrganisationId>, String);

impl Streams {
    /// Counts one more stream, until the returned value is dropped.
    ///
    /// # Errors
    /// A [`Problem`] if too many are open.
    pub(super) fn open(&self, caller: &Caller) -> Result<Counted, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (caller.organisation, caller.actor.clone());
        let mine = open.get(&whose).copied().unwrap_or_default();
        let of_organisation = open.iter().filter(|((organisation, _), _)| {
            organisation.is_some() && *organisation == caller.organisation
        });
        if mine >= OF_ONE
            || of_organisation.map(|(_, streams)| streams).sum::<usize>() >= OF_ORGANISATION
            || open.values().sum::<usize>() >= AT_ONCE
        {
            let detail = "too many live streams are open: close one, or come again later";
            return Err(Problem::too_many(detail, Duration::from_secs(60)));
        }
        open.insert(whose.clone(), mine + 1);
        Ok(Counted { streams: self.clone(), whose })
    }
}

/// An open stream; dropping it takes it out of the count.
#[derive(Debug)]
pub(super) struct Counted {
    streams: Streams,
    whose: Whose,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = open.get_mut(&self.whose) {
            *mine -= 1;
            if *mine == 0 {
                open.remove(&self.whose);
            }
        }
    }
}

/// The present state of an event or an organisation: its credits and queues.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    /// The organisation's account, in credits.
    pub(crate) credits: Balance,
    /// The queues of the event; of an organisation, the first 50 queues that are not idle.
    pub(crate) queues: Vec<Queue>,
}

/// The subject of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Event(EventId, OrganisationId),
    Organisation(OrganisationId),
}

/// Reads the present state of an event or an organisation.
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

/// Streams an event's queues and its organisation's credits, whenever they change.
#[utoipa::path(
    get,
    path = "/v1/events/{event}/live",
    operation_id = "follow_event",
    tag = "Events",
    params(("event" = EventId, Path, description = "The event's number")),
    responses(
        (
            status = 200,
            body = String,
            content_type = "text/event-stream",
            description = "Server-sent events named `standing`, each with a `Standing` as JSON",
        ),
    ),
)]
pub(super) async fn event(
    State(service): State<Service>,
    asking: Authenticated,
    Path(event): Path<EventId>,
) -> Result<Live, Problem> {
    let organisation = {
        let mut db = service.database.acquire().await?;
        asking.caller.must_see_event(event, events::find(&mut db, event).await?)?.organisation
    };
    stream(service, asking, Of::Event(event, organisation))
}

/// Streams an organisation's credits and queues, whenever they change.
#[utoipa::path(
    get,
    path = "/v1/organisations/{organisation}/live",
    operation_id = "follow_organisation",
    tag = "Credits",
    params(("organisation" = OrganisationId, Path, description = "The organisation's number")),
    responses(
        (
            status = 200,
            body = String,
            content_type = "text/event-stream",
            description = "Server-sent events named `standing`, each with a `Standing` as JSON",
        ),
    ),
)]
pub(super) async fn organisation(
    State(service): State<Service>,
    asking: Authenticated,
    Path(id): Path<OrganisationId>,
) -> Result<Live, Problem> {
    asking.caller.must_see(id)?;
    {
        let mut db = service.database.acquire().await?;
        standing(&mut db, Of::Organisation(id)).await?;
    }
    stream(service, asking, Of::Organisation(id))
}

/// Queries the state when Redis announces a change (without Redis, every second), and sends it if
/// it differs from the last one sent.
pub(super) fn stream(service: Service, asking: Authenticated, of: Of) -> Result<Live, Problem> {
    let counted = service.streams.open(&asking.caller)?;
    let subject = match of {
        Of::Event(event, _) => Subject::Event(event),
        Of::Organisation(organisation) => Subject::Organisation(organisation),
    };
    let watch = Watch::open(service.redis_url.as_deref(), subject).ok();
    let ends = Instant::now() + STREAM_MAX;
    let begin = (service, watch, String::new(), asking, counted);
    let messages =
        stream::unfold(begin, move |(service, watch, mut told, asking, counted)| async move {
            loop {
                if service.draining.is_cancelled() || Instant::now() > ends {
                    return None;
                }
                // Whoever has lost the right to see it hears nothing more.
                if let Ok(false) = asking.is_valid(&service).await {
                    return None;
                }
                let now = async { standing(&mut *service.database.acquire().await?, of).await };
                // On a database error the stream waits and tries again; the page keeps its last state.
                if let Ok(now) = now.await
                    && let Ok(data) = serde_json::to_string(&now)
                    && data != told
                {
                    told.clone_from(&data);
                    let message = Message::default().event("standing").data(data);
                    return Some((Ok(message), (service, watch, told, asking, counted)));
                }
                tokio::time::sleep(LOOK_EVERY).await;
                tokio::select! {
                    () = service.draining.cancelled() => return None,
                    () = async { match &watch {
                        Some(watch) => watch.changed().await,
                        None => tokio::time::sleep(Duration::from_secs(1)).await,
                    } } => {}
                    () = tokio::time::sleep(VALID_EVERY) => {}
                }
            }
        });
    let messages: Messages = Box::pin(messages);
    Ok(Sse::new(messages).keep_alive(KeepAlive::default()))
}
