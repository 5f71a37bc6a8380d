//! `photogate serve`: runs the API and the pages over HTTP.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{End, say};
use crate::{
    catalog::{archive, reconsider},
    config::Config,
    database,
    sandbox::THIS_PROGRAM,
    serve,
    telemetry::metrics,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url), migrated by `photogate migrate`.
The store (--store-url) and the models (--models-dir) are needed to list photos and search by face.
Redis (--redis-url) is optional: with it, workers are told at once and pages update at once.

The default address is 127.0.0.1:8080, for a proxy in front that speaks HTTPS.
SIGTERM or Ctrl-C: takes no new requests, answers the open ones, and exits.")]
pub(super) struct Serve {
    /// Print the OpenAPI document and exit; needs no database
    #[arg(long)]
    openapi: bool,
}

/// Number of connections to the database. Requests are short, and wait until one is free.
const CONNECTIONS: u32 = 20;
/// Maximum time of an SQL statement. It is shorter than clients wait, so that no statement runs for
/// a client that has gone.
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
            metrics::answer_prometheus(address)?;
            tokio::spawn(metrics::count_queues(pool.clone(), stop.clone()));
        }
        let listener = serve::bind(&config).await?;
        let reconsidering = reconsider::when_due(pool.clone(), stop.clone());
        let reconsidering = tokio::spawn(reconsidering);
        let archiving = archive::when_due(config.clone(), pool.clone(), stop.clone());
        let archiving = tokio::spawn(archiving);
        say!("photogate is listening on http://{}", listener.local_addr()?);
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
        reconsidering.await?;
        archiving.await?;
        Ok(End::Ok)
    }
}
