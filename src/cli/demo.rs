//! `photogate demo`: shows the whole service at work on sample photos, with its own servers.

mod books;
mod busy;
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
use sqlx::PgPool;
use tokio::task::JoinHandle;

use self::{
    label::Label,
    show::Show,
    site::{Site, new_password},
    tell::tell,
};
use super::End;
use crate::{
    catalog::photo_store::PhotoStore,
    config::Config,
    database,
    rig::services::Services,
    sandbox::THIS_PROGRAM,
    worker::{Stop, Worker, WorkerTrouble, looker::Looker},
};

/// What the demo shows.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Scene {
    /// A story that is told on the terminal: credits run out, queues pause, a purchase resumes them
    Story,
    /// Three organisations with 40 events, 20,000 photos and half a year of history
    Busy,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL and Redis installed, the models, and the sample photos.
It starts servers of its own and uses no other database.

All its data is below --place and is replaced each time. The busy scene writes its address, its logins
and the numbers of some events to scene.json there, for programs.
The exit code is 0 only if every check passed.

Examples:
  photogate demo                  the story, told on the terminal
  photogate demo --scene busy     pages full of data, to show and to try")]
pub(super) struct Demo {
    /// What is shown
    #[arg(long, value_enum, default_value_t = Scene::Story)]
    scene: Scene,
    /// Exit when all is done and checked, instead of staying up until Ctrl-C
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
    pub(super) async fn run(self, config: Config) -> anyhow::Result<End> {
        let held = match self.scene {
            Scene::Story => self.story(config).await?,
            Scene::Busy => self.busy(config).await?,
        };
        Ok(if held { End::Ok } else { End::Failed })
    }

    /// Starts the servers, and prepares their database.
    async fn start_servers(
        &self,
        config: &mut Config,
        bar: &ProgressBar,
    ) -> anyhow::Result<Services> {
        tell!(bar, "Starting PostgreSQL and Redis below {} …", self.place.display());
        let services = Services::start(&self.place.join("services")).await?;
        create_database(&services.postgres.url("postgres")).await?;
        config.database_url = services.postgres.url("photogate");
        config.redis_url = Some(services.redis.url());
        database::migrate(&config.database_url).await?;
        Ok(services)
    }

    /// Shows the story. True if it held what it promises.
    async fn story(self, mut config: Config) -> anyhow::Result<bool> {
        let labels = fs::read(self.samples.join("labels.json")).with_context(|| {
            format!(
                "reading {}/labels.json: run this in the directory of photogate's sources, or \
                 say with --samples where the sample photos are",
                self.samples.display()
            )
        })?;
        let labels: BTreeMap<String, Label> = serde_json::from_slice(&labels)?;
        let bar = ProgressBar::hidden();

        let services = self.start_servers(&mut config, &bar).await?;
        config.store_url = copy_samples(&self.samples, &self.place.join("photos"), labels.keys())?;
        let pool = database::connect(&config.database_url, 8).await?;

        let (stop, working) = start_worker(&config, &pool, &bar).await?;
        let site = Site::open(&mut config, pool.clone(), new_password()).await?;
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
        Ok(held)
    }
}

/// Starts a worker that looks at photos.
async fn start_worker(
    config: &Config,
    pool: &PgPool,
    bar: &ProgressBar,
) -> anyhow::Result<(Stop, JoinHandle<Result<(), WorkerTrouble>>)> {
    tell!(bar, "Loading the models …");
    let store = PhotoStore::open(&config.store_url, &config.store_options)?;
    let work = Looker::open(Path::new(THIS_PROGRAM), config, store, pool.clone()).await?;
    let stop = Stop::default();
    let worker = Worker::new(config, pool.clone(), work)?;
    let working = tokio::spawn(worker.run(stop.clone()));
    Ok((stop, working))
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
    store_url(photos)
}

/// The address of a store that is a directory.
fn store_url(photos: &Path) -> anyhow::Result<String> {
    let photos = photos.canonicalize()?;
    Ok(url::Url::from_directory_path(&photos)
        .map_err(|()| anyhow::anyhow!("{} cannot be used as a photo store", photos.display()))?
        .into())
}
