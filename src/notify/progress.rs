//! Live progress of an event, and of an organisation's, through Redis. Only a hint, as [`wake`] is: whoever watches asks the
//! database when something is heard, and once a second anyway.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use redis::{AsyncCommands, Client, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ids::{EventId, JobId, Operation, OrganisationId, PhotoId},
    notify::wake,
};

/// Steps that wait for Redis, at most; more are dropped.
const BACKLOG_MAX: usize = 1024;

/// A photo went on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The job.
    pub job: JobId,
    /// The photo.
    pub photo: PhotoId,
    /// What was done.
    pub operation: Operation,
    /// `processed`, `failed`, or `waiting` to be tried again.
    pub state: String,
}

/// Tells what goes on. Cheap to clone; never waits, never fails.
#[derive(Debug, Clone)]
pub struct Progress {
    steps: Option<mpsc::Sender<(OrganisationId, EventId, Step)>>,
}

impl Progress {
    /// Without Redis: nobody is told, everybody asks.
    pub fn silent() -> Self {
        Self { steps: None }
    }

    /// Nothing is connected yet: Redis may come, go and come back.
    ///
    /// # Errors
    /// When the address is no Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        let Some(url) = url else { return Ok(Self::silent()) };
        let redis = wake::connection(url)?;
        let (steps, told) = mpsc::channel(BACKLOG_MAX);
        tokio::spawn(publish(redis, told));
        Ok(Self { steps: Some(steps) })
    }

    /// Tells a step of an event; forgets it when Redis is too slow.
    pub fn tell(&self, organisation: OrganisationId, event: EventId, step: Step) {
        if let Some(steps) = &self.steps {
            let _ = steps.try_send((organisation, event, step));
        }
    }
}

async fn publish(
    mut redis: ConnectionManager,
    mut told: mpsc::Receiver<(OrganisationId, EventId, Step)>,
) {
    let mut batch = Vec::new();
    while told.recv_many(&mut batch, BACKLOG_MAX).await > 0 {
        let organisations: BTreeSet<_> =
            batch.iter().map(|(organisation, ..)| *organisation).collect();
        let steps = by_event(batch.drain(..).map(|(_, event, step)| (event, step)));
        let events = steps.into_iter().filter_map(|(event, steps)| {
            Some((Subject::Event(event), serde_json::to_string(&steps).ok()?))
        });
        // Whoever watches an organisation is told that something went on, not what.
        let all = organisations.into_iter().map(|one| (Subject::Organisation(one), String::new()));
        for (subject, message) in events.chain(all) {
            if let Err(error) = redis.publish::<_, _, ()>(subject.channel(), message).await {
                tracing::debug!(%error, "progress was not published");
                break;
            }
        }
    }
}

fn by_event(steps: impl Iterator<Item = (EventId, Step)>) -> Vec<(EventId, Vec<Step>)> {
    let mut events: Vec<(EventId, Vec<Step>)> = Vec::new();
    for (event, step) in steps {
        match events.iter_mut().find(|(known, _)| *known == event) {
            Some((_, steps)) => steps.push(step),
            None => events.push((event, vec![step])),
        }
    }
    events
}

/// What goes on.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// An event.
    Event(EventId),
    /// Any event of an organisation.
    Organisation(OrganisationId),
}

impl Subject {
    fn channel(self) -> String {
        match self {
            Self::Event(event) => format!("photogate:progress:{event}"),
            Self::Organisation(organisation) => {
                format!("photogate:progress:organisation:{organisation}")
            }
        }
    }
}

/// Watches an event or an organisation, for as long as it is kept.
#[derive(Debug)]
pub struct Watch {
    bell: Arc<Notify>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Watch {
    /// Starts to watch; without an address, [`changed`](Self::changed) is a timer.
    ///
    /// # Errors
    /// When the address is no Redis address.
    pub fn open(url: Option<&str>, subject: Subject) -> redis::RedisResult<Self> {
        let bell = Arc::new(Notify::new());
        let listen = |client: Client| {
            let bell = bell.clone();
            AbortOnDropHandle::new(tokio::spawn(wake::subscribe(
                client,
                subject.channel(),
                move |_| bell.notify_one(),
            )))
        };
        let task = url.map(Client::open).transpose()?.map(listen);
        Ok(Self { bell, _task: task })
    }

    /// Returns when something was heard: for as long as it takes, and without Redis never.
    pub async fn heard(&self) {
        self.bell.notified().await;
    }

    /// Returns when the event may have gone on: at the next step, or after a second.
    pub async fn changed(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.bell.notified()).await;
    }
}
