//! `photogate work`

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::End;
use crate::{
    catalog::photo_store::PhotoStore,
    config::Config,
    database,
    sandbox::THIS_PROGRAM,
    telemetry,
    worker::{
        self, Stop,
        processor::{Looker, Work},
    },
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGTERM or Ctrl-C: claims no more, finishes what runs, hands back the rest. A second one hands everything back at once."
)]
pub(super) struct Run {
    /// Photos looked at at once [default: as many as there are cores]
    #[arg(long)]
    slots: Option<usize>,
    /// Photos claimed ahead of the slots [default: as many as slots]
    #[arg(long)]
    ahead: Option<usize>,
    /// Looks at nothing: takes only photos under rehearsal/, for benchmarks and drills
    #[arg(long, hide = true)]
    rehearse: bool,
}

impl Run {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<End> {
        config.slots = self.slots.unwrap_or(config.slots);
        config.ahead = self.ahead.unwrap_or(config.ahead);
        if let Some(address) = config.metrics_listen {
            telemetry::answer_prometheus(address)?;
        }
        // One for each of: claims, settles, heartbeats, checks of the books; and one for start lists, and in reserve.
        let pool = database::connect_worker(&config.database_url, 5).await?;
        let work = if self.rehearse {
            Work::Rehearsal
        } else {
            let store = PhotoStore::open(&config.store_url, &config.store_options)?;
            let looker = Looker::open(Path::new(THIS_PROGRAM), &config, store, pool.clone());
            Work::Photos(Box::new(looker.await?))
        };
        let stop = Stop::default();
        let signals = tokio::spawn(obey(stop.clone(), Duration::from_secs(config.drain_seconds)));
        worker::run(&config, pool, Arc::new(work), stop).await?;
        signals.abort();
        Ok(End::Ok)
    }
}

/// First signal: drain, within a deadline. Second signal, or the deadline: hand everything back.
async fn obey(stop: Stop, deadline: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining: what runs is finished, the rest is handed back");
    stop.drain.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(deadline) => {}
    }
    tracing::info!("handing everything back at once");
    stop.now.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whatever is left is taken over when the lease runs out.
    std::process::exit(130)
}
