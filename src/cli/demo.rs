//! `photogate demo`: shows the whole service at work on sample photos, with its own servers.

mod books;
mod label;
mod show;
mod site;
mod tell;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use indicatif::ProgressBar;

use self::{label::Label, show::Show, site::Site, tell::tell};
use super::End;
use crate::{
    catalog::photo_store::PhotoStore,
    config::Config,
    database,
    rig::services::Services,
    sandbox::THIS_PROGRAM,
    worker::{Stop, Worker, looker::Looker},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL and Redis installed, the models, and the sample photos.
It starts servers of its own and uses no other database.

All its data is below --place and is replaced each time.
The exit code is 0 only if every check passed.")]
pub(super) struct Demo {
    /// Exit when all photos are done, instead of staying up until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// The directory of the sample photos and their labels.json
    #[arg(long, value_name = "DIRECTORY", default_value = "samples")]
    samples: PathBuf,
    /// The directory for the data of the demo; it is replaced each time
    #[arg(long, value_name = "DIRECTORY", default_value = ".photogate/demo")]
    place: PathBuf,
}

impl Demo {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<End> {
        let labels = fs::read(self.samples.join("labels.json")).with_context(|| {
            format!(
                "reading {}/labels.json: run this in the directory of photogate's sources, or \
                 say with --samples where the sample photos are",
                self.samples.display()
            )
        })?;
        let labels: BTreeMap<String, Label> = serde_json::from_slice(&labels)?;
        let bar = ProgressBar::hidden();

        tell!(bar, "Starting PostgreSQL and Redis below {} …", self.place.display());
        let services = Services::start(&self.place.join("services")).await?;
        let maintenance = services.postgres.url("postgres");
        create_database(&maintenance).await?;
        config.database_url = services.postgres.url("photogate");
        config.redis_url = Some(services.redis.url());
        config.store_url = copy_samples(&self.samples, &self.place.join("photos"), labels.keys())?;
        database::migrate(&config.database_url).await?;
        let pool = database::connect(&config.database_url, 8).await?;

        tell!(bar, "Loading the models …");
        let store = PhotoStore::open(&config.store_url, &config.store_options)?;
        let work = Looker::open(Path::new(THIS_PROGRAM), &config, store, pool.clone()).await?;
        let stop = Stop::default();
        let working = {
            let worker = Worker::new(&config, pool.clone(), work)?;
            tokio::spawn(worker.run(stop.clone()))
        };

        let site = Site::open(&mut config, pool.clone()).await?;
        let mut show = Show {
            site,
            pool,
            bar,
            config,
            labels,
            events: Vec::new(),
            told: HashSet::new(),
            promises: Vec::new(),
        };
        let held = tokio::select! {
            played = show.play() => { played?; show.conclude() }
            _ = tokio::signal::ctrl_c() => bail!("interrupted; the demo was stopped"),
        };
        if !self.exit {
            show.stay_up().await?;
        }
        show.site.close().await?;
        stop.drain.cancel();
        working.await.context("the worker failed")??;
        drop(services);
        Ok(if held { End::Ok } else { End::Failed })
    }
}

async fn create_database(maintenance: &str) -> anyhow::Result<()> {
    use sqlx::Connection;
    let mut db = sqlx::PgConnection::connect(maintenance).await?;
    sqlx::query("CREATE DATABASE photogate").execute(&mut db).await?;
    db.close().await?;
    Ok(())
}

/// Copies the samples, because the worker writes upright copies beside the photos.
fn copy_samples<'a>(
    samples: &Path,
    photos: &Path,
    keys: impl Iterator<Item = &'a String>,
) -> anyhow::Result<String> {
    if photos.exists() {
        fs::remove_dir_all(photos)?;
    }
    for key in keys {
        let copy = photos.join(key);
        fs::create_dir_all(copy.parent().unwrap_or(photos))?;
        fs::copy(samples.join(key), &copy).with_context(|| format!("copying the sample {key}"))?;
    }
    let photos = photos.canonicalize()?;
    Ok(url::Url::from_directory_path(&photos)
        .map_err(|()| anyhow::anyhow!("{} cannot be used as a photo store", photos.display()))?
        .into())
}
