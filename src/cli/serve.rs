//! `photogate serve`

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{End, say};
use crate::{config::Config, database, sandbox::THIS_PROGRAM, serve, telemetry};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGTERM or Ctrl-C: answers what was asked, and leaves. Without --listen: 127.0.0.1:8080, for a proxy that speaks HTTPS."
)]
pub(super) struct Serve {
    /// Prints the OpenAPI document, and leaves
    #[arg(long)]
    openapi: bool,
}

/// Connections to the database: requests are short, and wait for one.
const CONNECTIONS: u32 = 20;
/// Shorter than anybody waits for an answer: what nobody waits for any more is not worked on.
const STATEMENT_MAX: Duration = Duration::from_secs(25);

impl Serve {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<End> {
        if self.openapi {
            use std::io::Write as _;
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&serve::document())?)?;
            return Ok(End::Ok);
        }
        let pool = database::connect_for(&config.database_url, CONNECTIONS, STATEMENT_MAX).await?;
        let stop = CancellationToken::new();
        if let Some(address) = config.metrics_listen {
            telemetry::answer_prometheus(address)?;
            tokio::spawn(telemetry::count_queues(pool.clone(), stop.clone()));
        }
        let listener = serve::bind(&config).await?;
        say!("photogate answers on http://{}", listener.local_addr()?);
        let mut terminate = signal(SignalKind::terminate())?;
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            stopping.cancel();
        });
        serve::run(THIS_PROGRAM.as_ref(), &config, pool, listener, stop).await?;
        Ok(End::Ok)
    }
}
