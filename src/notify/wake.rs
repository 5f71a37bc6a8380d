//! Wake-ups over Redis: there may be work. They are only a hint. Whoever waits for one also polls, so that an absent,
//! stopped or emptied Redis makes things slower, never wrong.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use redis::{
    AsyncCommands, Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

const CHANNEL: &str = "photogate:wake";
/// A hint that takes longer is not worth it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries to reach Redis.
const PAUSE: Duration = Duration::from_millis(500);

/// Wakes workers. Cheap to clone; never fails.
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
    /// Without Redis: workers poll.
    pub fn silent() -> Self {
        Self { redis: None, waits: false }
    }

    /// Nothing is connected yet: Redis may come, go and come back.
    ///
    /// # Errors
    /// When the address is no Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        Ok(Self { redis: url.map(connection).transpose()?, waits: false })
    }

    /// For programs that end soon: [`send`](Self::send) returns when Redis has the message, or after a second.
    #[must_use]
    pub fn waiting(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Tells every worker that there may be work. Returns at once, unless it is [`waiting`](Self::waiting).
    pub async fn send(&self) {
        let Some(mut redis) = self.redis.clone() else { return };
        let sending = async move {
            if let Err(error) = redis.publish::<_, _, ()>(CHANNEL, "").await {
                tracing::debug!(%error, "nobody was woken: workers find the work by polling");
            }
        };
        if self.waits {
            let _ = tokio::time::timeout(PATIENCE, sending).await;
        } else {
            tokio::spawn(sending);
        }
    }
}

/// A connection that is made when it is first used, and made again when it is lost.
pub(crate) fn connection(url: &str) -> redis::RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Client::open(url)?.get_connection_manager_lazy(config)
}

/// Hears wake-ups, for as long as it is kept.
#[derive(Debug)]
pub struct Listener {
    notified: Arc<Notify>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Listener {
    /// Starts to listen; without an address it hears nothing.
    ///
    /// # Errors
    /// When the address is no Redis address.
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

    /// Wakes who waits here, without Redis.
    pub(crate) fn nudge(&self) {
        self.notified.notify_one();
    }

    /// Waits for a wake-up, for `at_most` this long, or until stopped.
    pub async fn wait(&self, at_most: Duration, stop: &CancellationToken) {
        tokio::select! {
            () = self.notified.notified() => {}
            () = tokio::time::sleep(at_most) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Calls `heard` for every message of a channel, for ever: connects again when the connection is lost.
pub(crate) async fn subscribe(client: Client, channel: String, heard: impl Fn(&[u8])) {
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(&channel).await.is_ok()
        {
            // Something may have been said while nobody listened.
            heard(&[]);
            let mut messages = subscription.on_message();
            while let Some(message) = messages.next().await {
                heard(message.get_payload_bytes());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
