//! Starts and stops a private Redis server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use redis::Client;
use tokio::time::Instant;

use super::{
    ServicesError,
    supervised::{START_MAX, Supervised, last_words, on_path},
};

/// A private Redis, without persistence.
#[derive(Debug)]
pub struct Redis {
    socket: PathBuf,
    server: Option<Supervised>,
}

impl Redis {
    pub(super) async fn start(sockets: &Path) -> Result<Self, ServicesError> {
        let mut redis = Self { socket: sockets.join("redis.sock"), server: None };
        redis.resume().await?;
        Ok(redis)
    }

    /// Starts the server again after [`stop`](Self::stop). It is empty then.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn resume(&mut self) -> Result<(), ServicesError> {
        let program = on_path("redis-server").ok_or(ServicesError::NotInstalled("redis-server"))?;
        let mut server = Command::new("sh");
        Supervised::prepare(&mut server, "TERM", &program);
        server
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocketperm",
                "700",
                "--unixsocket",
            ])
            .arg(&self.socket);
        let log = self.socket.with_extension("log");
        let mut server = Supervised::start(server, &log)?;
        let client = Client::open(self.url()).map_err(|error| ServicesError::Failed {
            program: "Redis",
            reason: error.to_string(),
        })?;
        let deadline = Instant::now() + START_MAX;
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(_) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(_) if server.is_running() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    return Err(ServicesError::Failed {
                        program: "Redis",
                        reason: last_words(&log, &error),
                    });
                }
            }
        }
    }

    /// Stops the server. All its data is lost.
    pub fn stop(&mut self) {
        self.server = None;
        let _ = fs::remove_file(&self.socket);
    }

    /// Deletes everything in it.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn empty(&self) -> redis::RedisResult<()> {
        let mut db = Client::open(self.url())?.get_multiplexed_async_connection().await?;
        redis::cmd("FLUSHALL").query_async(&mut db).await
    }

    /// Returns the address of the server.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}
