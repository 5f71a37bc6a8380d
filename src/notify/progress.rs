//! Live progress of an event, or of all events of an organisation, over Redis.
//!
//! A message is only a hint, as in [`wake`](super::wake). The watcher reads the database when a
//! message arrives, and once a second in any case.

use std::{collections::BTreeSet, time::Duration};

use redis::{AsyncCommands, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::channel::{self, Subscription};
use crate::ids::{EventId, JobId, Operation, OrganisationId, PhotoId};

/// Largest number of steps that wait for Redis. Further steps are dropped.
const BACKLOG_MAX: usize = 1024;

/// A change of one photo's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The number of the job.
    pub job: JobId,
    /// The photo's ID.
    pub photo: PhotoId,
    /// The operation of the job.
    pub operation: Operation,
    /// The new state: `processed`, `undecided`, `failed`, or `waiting` (for the next attempt).
    pub state: String,
}

/// Publishes progress. Cheap to clone. It never waits and never fails.
#[derive(Debug, Clone)]
pub struct Progress {
    steps: Option<mpsc::Sender<(OrganisationId, EventId, Step)>>,
}

impl Progress {
    /// Opens a publisher. It connects when it is first used, and again after a lost connection.
    /// Without a `url` it publishes nothing, and watchers read the database once a second.
    ///
    /// # Errors
    /// When `url` is not a valid Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        let Some(url) = url else { return Ok(Self { steps: None }) };
        let redis = channel::connection(url)?;
        let (steps, told) = mpsc::channel(BACKLOG_MAX);
        tokio::spawn(publish(redis, told));
        Ok(Self { steps: Some(steps) })
    }

    /// Publishes a step of an event. The step is dropped if Redis is too slow.
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
        // A message for an organisation is empty: it only says that something has changed.
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

/// The subject of a [`Watch`].
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// One event, by its number.
    Event(EventId),
    /// All events of one organisation.
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

/// Watches an event or an organisation until it is dropped.
#[derive(Debug)]
pub struct Watch(Subscription);

impl Watch {
    /// Starts to watch. Without a `url`, [`changed`](Self::changed) is only a timer.
    ///
    /// # Errors
    /// When `url` is not a valid Redis address.
    pub fn open(url: Option<&str>, subject: Subject) -> redis::RedisResult<Self> {
        Subscription::open(url, subject.channel()).map(Self)
    }

    /// Returns when a message has arrived. There is no time limit; without Redis it never returns.
    pub async fn heard(&self) {
        self.0.heard().await;
    }

    /// Returns when the subject may have changed: at the next message, or after one second.
    pub async fn changed(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.heard()).await;
    }
}
