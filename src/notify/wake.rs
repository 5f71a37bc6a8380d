//! Wake-ups over Redis: messages that there may be work.
//!
//! A wake-up is only a hint, because workers also poll. So if Redis is absent, stopped or emptied,
//! the service is slower but still correct.

use std::time::Duration;

use futures::StreamExt;
use redis::{AsyncCommands, aio::ConnectionManager};
use tokio_util::sync::CancellationToken;

use super::channel::{self, Subscription};

const CHANNEL: &str = "photogate:wake";

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
        Ok(Self { redis: url.map(channel::connection).transpose()?, waits: false })
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
            let _ = tokio::time::timeout(channel::PATIENCE, sending).await;
        } else {
            tokio::spawn(sending);
        }
    }
}

/// Sends a wake-up, and waits until it is heard. Workers that hear it look for work, and find none.
///
/// # Errors
/// When Redis cannot be reached, refuses one of the two, or loses the message.
pub(crate) async fn try_out(url: &str) -> redis::RedisResult<()> {
    let mut hearing = redis::Client::open(url)?.get_async_pubsub().await?;
    hearing.subscribe(CHANNEL).await?;
    channel::connection(url)?.publish::<_, _, ()>(CHANNEL, "").await?;
    match hearing.on_message().next().await {
        Some(_) => Ok(()),
        None => Err((redis::ErrorKind::Io, "the connection ended before the message came").into()),
    }
}

/// Receives wake-ups until it is dropped.
#[derive(Debug)]
pub struct Listener(Subscription);

impl Listener {
    /// Starts to listen. Without a `url` it receives nothing.
    ///
    /// # Errors
    /// When `url` is not a valid Redis address.
    pub fn open(url: Option<&str>) -> redis::RedisResult<Self> {
        Subscription::open(url, CHANNEL.to_owned()).map(Self)
    }

    /// Ends a [`wait`](Self::wait) in this process, without Redis.
    pub(crate) fn nudge(&self) {
        self.0.ring();
    }

    /// Waits for a wake-up, until `at_most` has passed, or until stopped. Returns true if there was
    /// a wake-up.
    pub async fn wait(&self, at_most: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = self.0.heard() => true,
            () = tokio::time::sleep(at_most) => false,
            () = stop.cancelled() => false,
        }
    }
}
