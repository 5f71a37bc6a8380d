//! Channels of Redis: a connection that publishes, and a subscription that hears.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// The time limit for a connection and for an answer of Redis. A later hint is not worth the wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two tries to connect to Redis.
const PAUSE: Duration = Duration::from_millis(500);

/// Returns a connection that connects when it is first used, and again after it is lost.
pub(super) fn connection(url: &str) -> redis::RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Client::open(url)?.get_connection_manager_lazy(config)
}

/// Hears the messages of a channel until it is dropped. What a message says does not matter: it is
/// only a hint.
#[derive(Debug)]
pub(super) struct Subscription {
    bell: Arc<Notify>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Subscription {
    /// Starts to listen. Without a `url` it hears nothing.
    pub(super) fn open(url: Option<&str>, channel: String) -> redis::RedisResult<Self> {
        let bell = Arc::new(Notify::new());
        let task = url.map(Client::open).transpose()?.map(|client| {
            AbortOnDropHandle::new(tokio::spawn(listen(client, channel, bell.clone())))
        });
        Ok(Self { bell, _task: task })
    }

    /// Returns when a message has arrived. There is no time limit.
    pub(super) async fn heard(&self) {
        self.bell.notified().await;
    }

    /// Makes this process hear a message, without Redis.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }
}

/// Rings the bell for every message of a channel. It never returns: it connects again when the
/// connection is lost.
async fn listen(client: Client, channel: String, bell: Arc<Notify>) {
    let mut is_told = false;
    loop {
        let subscribed = async {
            let mut subscription = client.get_async_pubsub().await?;
            subscription.subscribe(&channel).await?;
            Ok::<_, redis::RedisError>(subscription)
        };
        match subscribed.await {
            Err(error) if !is_told => {
                // Once: it is asked again and again.
                tracing::warn!(%error, "Redis cannot be heard, and nobody is woken by it");
                is_told = true;
            }
            Err(_) => {}
            Ok(mut subscription) => {
                is_told = false;
                // A message may have been lost while there was no connection.
                bell.notify_one();
                let mut messages = subscription.on_message();
                while messages.next().await.is_some() {
                    bell.notify_one();
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
