//! Wake-ups over Redis: messages that there may be work.
//!
//! A wake-up is only a hint, because workers also poll. So if Redis is absent, stopped or emptied,
//! the service is slower but still correct.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use redis::{
    AsyncCommands, Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

const CHANNEL: &str = "photogate:wake";
/// The time limit for a connection and for an answer of Redis. A later hint is not worth the wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two tries to connect to Redis.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends wake-ups to workers. Cheap to clone. It never fails.
#[derive(Clone)]
pub struct Wake {
    redis: Option<ConnectionManager>,
    waits: bool,
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wake").field("redis", &self.redis.is_some()).finish_non_exhaustive()
    }
}

impl Wake {
    /// Without Redis: sends nothing. Workers poll.
    pub fn silent() -> Self {
        Self { redis: None, waits: false }
    }

    /// Opens a sender. It connects when it is first used, and again after a lost connection.
    ///
    /// # Errors
    /// When `url` is not a valid Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        Ok(Self { redis: url.map(connection).transpose()?, waits: false })
    }

    /// Makes [`send`](Self::send) wait until Redis has the message, for one second at most. For
    /// programs that end soon after it.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Tells every worker that there may be work. It returns at once, unless
    /// [`waiting`](Self::waiting) was called.
    pub async fn send(&self) {
        let Some(mut redis) = self.redis.clone() else { return };
        let sending = async move {
            if let Err(error) = redis.publish::<_, _, ()>(CHANNEL, "").await {
                tracing::debug!(%error, "no wake-up was sent: workers find the work by polling");
            }
        };
        if self.waits {
            let _ = tokio::time::timeout(PATIENCE, sending).await;
        } else {
            tokio::spawn(sending);
        }
    }
}

/// Returns a connection that connects when it is first used, and again after it is lost.
pub(crate) fn connection(url: &str) -> redis::RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Client::open(url)?.get_connection_manager_lazy(config)
}

/// Receives wake-ups until it is dropped.
#[derive(Debug)]
pub struct Listener {
    notified: Arc<Notify>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Listener {
    /// Starts to listen. Without a `url` it receives nothing.
    ///
    /// # Errors
    /// When `url` is not a valid Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        let notified = Arc::new(Notify::new());
        let listen = |client: Client| {
            let notified = notified.clone();
            AbortOnDropHandle::new(tokio::spawn(subscribe(client, CHANNEL.to_owned(), move |_| {
                notified.notify_one();
            })))
        };
        let task = url.map(Client::open).transpose()?.map(listen);
        Ok(Self { notified, _task: task })
    }

    /// Ends a [`wait`](Self::wait) in this process, without Redis.
    pub(crate) fn nudge(&self) {
        self.notified.notify_one();
    }

    /// Waits for a wake-up, until `at_most` has passed, or until stopped.
    pub async fn wait(&self, at_most: Duration, stop: &CancellationToken) {
        tokio::select! {
            () = self.notified.notified() => {}
            () = tokio::time::sleep(at_most) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Calls `heard` for every message of a channel. Never returns: it connects again when the
/// connection is lost.
pub(crate) async fn subscribe(client: Client, channel: String, heard: impl Fn(&[u8])) {
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(&channel).await.is_ok()
        {
            // A message may have been lost while there was no connection.
            heard(&[]);
            let mut messages = subscription.on_message();
            while let Some(message) = messages.next().await {
                heard(message.get_payload_bytes());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
