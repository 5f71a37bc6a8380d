//! `photogate work`: runs a worker until SIGTERM.

use std::{path::Path, time::Duration};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::End;
use crate::{
    catalog::photo_store::PhotoStore,
    config::Config,
    database,
    sandbox::THIS_PROGRAM,
    telemetry::metrics,
    worker::{Stop, Worker, forget, looker::Looker, rehearsal::Rehearsal},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url), the store (--store-url) and the models
(--models-dir). Redis (--redis-url) is optional: with it, the worker learns of new photos at once.

SIGTERM or Ctrl-C: claims nothing more, finishes the photos it works on (for at most drain_seconds),
and hands back the rest. A second signal hands everything back at once.")]
pub(super) struct Run {
    /// Number of photos processed at a time [default: number of cores]
    #[arg(long)]
    slots: Option<usize>,
    /// Number of photos claimed in advance, beyond the slots [default: 4 to 16 for each slot]
    #[arg(long)]
    ahead: Option<usize>,
    /// Do no real work: take only photos with keys below rehearsal/, for benchmarks and drills
    #[arg(long, hide = true)]
    rehearse: bool,
}

impl Run {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<End> {
        config.slots = self.slots.unwrap_or(config.slots);
        config.ahead = self.ahead.unwrap_or(config.ahead);
        if let Some(address) = config.metrics_listen {
            metrics::answer_prometheus(address)?;
        }
        // One connection for each of: claims, settles, heartbeats, checks of the books. The fifth
        // is for start lists, and a reserve. Webhooks have three, and e-mail two: each has one to
        // look with, and the others to write with (WRITE_AT_ONCE).
        let pool = database::connect_worker(&config.database_url, 10).await?;
        let stop = Stop::default();
        let signals = tokio::spawn(obey(stop.clone(), Duration::from_secs(config.drain_seconds)));
        if self.rehearse {
            Worker::new(&config, pool, Rehearsal)?.run(stop).await?;
        } else {
            let store = PhotoStore::open(&config.store_url, &config.store_options)?;
            let deleting = forget::delete_files(pool.clone(), store.clone(), stop.drain.clone());
            let looker =
                Looker::open(Path::new(THIS_PROGRAM), &config, store, pool.clone()).await?;
            let deleting = tokio::spawn(deleting);
            Worker::new(&config, pool, looker)?.run(stop).await?;
            deleting.abort();
        }
        signals.abort();
        Ok(End::Ok)
    }
}

/// On the first signal the worker drains. On the second signal, or after `deadline`, it hands
/// everything back. On the third signal the process exits at once.
async fn obey(stop: Stop, deadline: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining: photos being worked on are finished, the rest is handed back");
    stop.drain.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(deadline) => {}
    }
    tracing::info!("handing back all photos at once");
    stop.now.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Other workers adopt the photos that are left when the lease runs out.
    std::process::exit(130)
}
