//! The busy scene: organisations with people, events in every state, and half a year of history, to
//! show and to try the pages with.
//!
//! Nothing of it is written past the gate. The history is made by the same calls as always, in a
//! database that believes it is half a year ago ([`past`]); then a real worker and the service go
//! on in the present. It is the same each time, apart from the day on which it ends.

mod crew;
mod finale;
mod history;
mod lens;
mod past;
mod plot;

use std::{fs, path::Path};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Demo,
    site::{Site, new_password},
    start_worker, store_url,
    tell::tell,
};
use crate::{config::Config, database};
use finale::Finale;
use history::History;
use lens::Lens;

impl Demo {
    /// Makes the busy scene, and checks its books. True if they balance.
    pub(super) async fn busy(self, mut config: Config) -> anyhow::Result<bool> {
        let mut bar = ProgressBar::hidden();
        let services = self.start_servers(&mut config, &bar).await?;
        let (photos, originals) = (self.place.join("photos"), self.place.join("originals"));
        for old in [&photos, &originals] {
            empty(old)?;
        }
        config.store_url = store_url(&photos)?;
        // What is told of the organisations' webhooks is told on this machine.
        config.webhooks_to_private_addresses = true;

        tell!(bar, "Looking at the sample photos …");
        let lens = Lens::open(&config, &self.samples, &originals, &photos).await?;
        tell!(bar, "Making half a year of history …");
        bar = ProgressBar::new(plot::RACES.len() as u64)
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} events, {msg}")?);
        let password = new_password();
        let made = tokio::select! {
            made = History::make(&config, &lens, &password, &bar) => made?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; the demo was stopped"),
        };
        bar.finish_and_clear();

        let pool = database::connect(&config.database_url, 8).await?;
        let (stop, working) = start_worker(&config, &pool, &bar).await?;
        let site = Site::open(&mut config, pool.clone(), password).await?;
        tell!(bar, "The worker looks at the photos of today …");
        let mut finale = Finale { config: &config, site: &site, pool: &pool, made: &made };
        let held = tokio::select! {
            held = finale.play(&lens, &self.samples, &self.place) => held?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; the demo was stopped"),
        };
        if !self.exit {
            finale.stay_up().await?;
        }
        site.close().await?;
        stop.drain.cancel();
        working.await.context("the worker failed")??;
        drop(services);
        Ok(held)
    }
}

/// Makes a directory empty.
fn empty(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("emptying {}", directory.display()))?;
    }
    fs::create_dir_all(directory)?;
    Ok(())
}
