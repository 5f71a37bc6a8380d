//! `photogate demo`: shows the whole service at work on sample photos, with its own servers.

mod site;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sqlx::PgPool;

use super::{End, credits, events as cli_events};
use crate::{
    catalog::{
        events,
        findings::{self, Found},
        organisations,
        photo_store::PhotoStore,
    },
    config::Config,
    database,
    ids::{EventId, Operation, OrganisationId, PhotoId},
    ledger::{
        credits::{Balance, Credits},
        history,
        reconcile::{self, Check, Scope},
        top_up::{self, TopUp, TopUpKind},
    },
    notify::{
        progress::{Subject, Watch},
        wake::Wake,
    },
    queue::{
        enqueue,
        status::{self, Queue, State},
    },
    rig::services::Services,
    sandbox::THIS_PROGRAM,
    worker::{Stop, Worker, processor::Looker},
};
use site::Site;

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

/// Credits at the start. Fewer than the photos need, because the demo shows how queues pause.
const CREDITS: Credits = Credits(9);
/// The demo fails if a step takes longer than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is on a sample photo; see samples/make.py.
#[derive(Debug, Deserialize)]
struct Label {
    error: Option<String>,
    bibs: Option<Vec<String>>,
    faces: Option<i64>,
    turn: Option<i16>,
}

/// Prints a line to stdout, above the progress bar if there is one.
macro_rules! tell {
    ($bar:expr) => { tell!($bar, "") };
    ($bar:expr, $($arg:tt)*) => {{
        let line = format!($($arg)*);
        $bar.suspend(|| { use std::io::Write as _; let _ = writeln!(std::io::stdout(), "{line}"); });
    }};
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

struct Show {
    site: Site,
    pool: PgPool,
    bar: ProgressBar,
    config: Config,
    labels: BTreeMap<String, Label>,
    events: Vec<(EventId, Watch)>,
    told: HashSet<(PhotoId, Operation)>,
    promises: Vec<(bool, String)>,
}

impl Show {
    async fn play(&mut self) -> anyhow::Result<()> {
        let mut db = self.pool.acquire().await?;
        let wake = Wake::open(self.config.redis_url.as_deref())?;
        let organisation =
            organisations::create(&mut db, "Demo Athletics Club", "Europe/Berlin").await?;
        organisations::set_price(&mut db, organisation, Some(&"0.05 EUR".parse()?)).await?;
        top_up::top_up(&mut db, purchase(organisation, CREDITS, "demo-1")).await?;
        tell!(self.bar, "\nThe Demo Athletics Club bought {CREDITS} credits and has two events.\n");
        for line in self.site.admit(&mut db, organisation).await? {
            tell!(self.bar, "{line}");
        }
        tell!(self.bar);
        let mut photos = 0;
        for (name, folder) in [("City Marathon", "marathon/"), ("Gala Night", "gala/")] {
            let event = events::create(&mut db, organisation, name, true, true).await?;
            self.events.push((
                event,
                Watch::open(self.config.redis_url.as_deref(), Subject::Event(event))?,
            ));
            let keys: Vec<String> =
                self.labels.keys().filter(|key| key.starts_with(folder)).cloned().collect();
            let jobs = enqueue::jobs(&keys)?;
            for operation in Operation::ALL {
                let run =
                    enqueue::enqueue(&mut db, event, operation, &jobs, "upload@demo-club.example")
                        .await?;
                let again =
                    enqueue::enqueue(&mut db, event, operation, &jobs, "upload@demo-club.example")
                        .await?;
                tell!(
                    self.bar,
                    "{name}, {operation}: {} photos queued; the repeated call queued {}. Credits \
                     missing to finish: {}.",
                    run.queued,
                    again.queued,
                    run.shortfall
                );
                self.promise(
                    again.queued == 0,
                    format!("{name}, {operation}: a photo that is sent twice is queued once"),
                );
                photos += run.queued;
            }
        }
        wake.send().await;
        drop(db);
        self.bar = ProgressBar::new(u64::from(photos))
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} photos, {msg}")?);
        tell!(self.bar);

        self.watch_until(organisation, "the balance reaches zero", |balance, waiting| {
            balance.available == Credits(0) && balance.reserved == Credits(0) && waiting > 0
        })
        .await?;
        tell!(
            self.bar,
            "\nThe balance is 0: all queues of the organisation are paused. No photo is lost.\n"
        );
        self.show_queues().await?;
        let paused = self.queues().await?;
        let paused = paused
            .iter()
            .filter(|queue| queue.waiting > 0)
            .all(|queue| queue.state == State::NoCredits && queue.since.is_some());
        self.promise(
            paused,
            "at balance 0 every queue with photos left is paused for want of credit".into(),
        );

        let missing = self.waiting().await?;
        tell!(self.bar, "\nBuying {missing} credits. The queues resume by themselves.\n");
        let credited = top_up::top_up(
            &mut *self.pool.acquire().await?,
            purchase(organisation, Credits(missing), "demo-2"),
        )
        .await?;
        let again = top_up::top_up(
            &mut *self.pool.acquire().await?,
            purchase(organisation, Credits(missing), "demo-2"),
        )
        .await?;
        wake.send().await;
        self.promise(
            credited.credited && !again.credited,
            "a top-up that arrives twice is credited once".into(),
        );
        self.watch_until(organisation, "all photos are done", |balance, waiting| {
            balance.reserved == Credits(0) && waiting == 0
        })
        .await?;
        self.bar.finish_and_clear();
        self.check_books(organisation).await
    }

    /// Prints new findings as they come, until `there` is true. Fails after [`PATIENCE`].
    async fn watch_until(
        &mut self,
        organisation: OrganisationId,
        what: &str,
        there: impl Fn(&Balance, i64) -> bool,
    ) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let mut db = self.pool.acquire().await?;
            let balance = crate::ledger::credits::balance(&mut db, organisation)
                .await?
                .context("the organisation does not exist any more")?;
            let waiting = self.waiting().await?;
            for (event, _) in &self.events {
                for found in findings::of_event(&mut db, *event).await? {
                    if self.told.insert((found.photo, found.operation)) {
                        tell!(self.bar, "  {}", sentence(&found));
                        self.bar.inc(1);
                    }
                }
            }
            self.bar.set_message(format!("{} credits left", balance.available));
            if there(&balance, waiting) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("timed out after {} s, waiting until {what}", PATIENCE.as_secs());
            }
            drop(db);
            futures::future::select_all(
                self.events.iter().map(|(_, watch)| Box::pin(watch.changed())),
            )
            .await;
        }
    }

    async fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        let mut db = self.pool.acquire().await?;
        let mut queues = Vec::new();
        for (event, _) in &self.events {
            queues.extend(status::of_event(&mut db, *event).await?);
        }
        Ok(queues)
    }

    async fn waiting(&self) -> anyhow::Result<i64> {
        Ok(self.queues().await?.iter().map(|queue| queue.waiting).sum())
    }

    async fn show_queues(&self) -> anyhow::Result<()> {
        let rows: Vec<_> = self.queues().await?.iter().map(cli_events::queue_row).collect();
        tell!(self.bar, "{}", super::output::table(cli_events::QUEUES, &rows).trim_end());
        Ok(())
    }

    async fn check_books(&mut self, organisation: OrganisationId) -> anyhow::Result<()> {
        let mut db = self.pool.acquire().await?;
        tell!(self.bar, "\nTransaction history\n");
        let history = history::history(&mut db, organisation, history::Page::default()).await?;
        tell!(
            self.bar,
            "{}",
            super::output::table(
                credits::HISTORY,
                &history.iter().map(credits::history_row).collect::<Vec<_>>()
            )
            .trim_end()
        );
        let balance = crate::ledger::credits::balance(&mut db, organisation)
            .await?
            .context("the organisation does not exist any more")?;
        let sum: i64 = history.iter().map(|row| row.credits.0).sum();
        self.promise(
            sum == balance.available.0,
            format!("the history adds up to the balance: {} credits", balance.available),
        );

        tell!(self.bar, "\nReconciliation\n");
        for Check { invariant, meaning, violations, .. } in
            reconcile::reconcile(&mut db, Scope::Full).await?
        {
            tell!(self.bar, "  {} {meaning}", mark(violations == 0));
            self.promise(violations == 0, format!("the books: {invariant}"));
        }

        let mut spent = 0;
        tell!(self.bar, "\nFindings\n");
        for (event, _) in &self.events {
            let found = findings::of_event(&mut db, *event).await?;
            for one in &found {
                let as_labelled = self.labels.get(&one.key).is_some_and(|label| label.agrees(one));
                tell!(self.bar, "  {} {}", mark(as_labelled), sentence(one));
                self.promises.push((
                    as_labelled,
                    format!("{}, {}: the findings match the label", one.key, one.operation),
                ));
                spent += i64::from(one.reason.is_none());
            }
        }
        self.promise(
            balance.spent == Credits(spent),
            format!(
                "{spent} photos were processed and cost exactly {} credits; failed photos cost \
                 nothing",
                balance.spent
            ),
        );
        let seen = self.told.len();
        self.promise(seen == self.labels.len() * 2, format!("all {seen} photos have an outcome"));
        Ok(())
    }

    fn promise(&mut self, held: bool, what: String) {
        self.promises.push((held, what));
    }

    fn conclude(&self) -> bool {
        let broken: Vec<_> = self.promises.iter().filter(|(held, _)| !held).collect();
        tell!(self.bar);
        for (_, what) in &broken {
            tell!(self.bar, "{} failed: {what}", mark(false));
        }
        let all = self.promises.len();
        tell!(
            self.bar,
            "{} {} of {all} checks passed.",
            mark(broken.is_empty()),
            all - broken.len()
        );
        broken.is_empty()
    }

    async fn stay_up(&self) -> anyhow::Result<()> {
        tell!(self.bar, "\nEverything keeps running until Ctrl-C.\n");
        for line in self.site.walk() {
            tell!(self.bar, "{line}");
        }
        tell!(self.bar, "\nIn another terminal:\n");
        tell!(self.bar, "  export DATABASE_URL='{}'", self.config.database_url);
        tell!(
            self.bar,
            "  export REDIS_URL='{}'",
            self.config.redis_url.as_deref().unwrap_or_default()
        );
        let photogate = std::env::current_exe()?;
        for command in ["events show 1", "credits history 1", "jobs failures 1", "why event 1"] {
            tell!(self.bar, "  {} {command}", photogate.display());
        }
        tell!(self.bar, "\nThe upright copies are in {}.", self.config.store_url);
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}

impl Label {
    fn agrees(&self, found: &Found) -> bool {
        if self.error.is_some() || found.reason.is_some() {
            return self.error == found.reason;
        }
        match found.operation {
            Operation::PhotoProcessing => {
                self.bibs.as_ref().is_none_or(|bibs| *bibs == found.bibs)
                    && self.faces.is_none_or(|faces| faces == found.faces)
            }
            // A photo without a clear turn has no turn and no upright copy.
            Operation::AiRotation => self.turn == found.turn,
        }
    }
}

fn sentence(found: &Found) -> String {
    let Found { key, operation, reason, faces, bibs, turn, upright_key, .. } = found;
    if let Some(reason) = reason {
        return format!("{key}, {operation}: failed ({reason}); refunded");
    }
    match operation {
        Operation::PhotoProcessing => {
            let bibs = if bibs.is_empty() {
                "no bib number".into()
            } else {
                format!("bib {}", bibs.join(" and "))
            };
            format!(
                "{key}: {}, {bibs}",
                if *faces == 1 { "1 face".into() } else { format!("{faces} faces") }
            )
        }
        Operation::AiRotation => match (turn, upright_key) {
            (None, _) => format!("{key}: turn unclear; no copy written"),
            (Some(0), None) => format!("{key}: upright"),
            (Some(0), Some(_)) => format!("{key}: upright by its EXIF tag; upright copy written"),
            (Some(turn), _) => format!("{key}: turned by {turn} degrees; upright copy written"),
        },
    }
}

fn mark(good: bool) -> console::StyledObject<&'static str> {
    if good { console::style("✓").green() } else { console::style("✗").red() }
}

fn purchase(organisation: OrganisationId, amount: Credits, key: &str) -> TopUp<'_> {
    TopUp {
        organisation,
        kind: TopUpKind::Purchase,
        amount,
        actor: "anna@demo-club.example",
        note: "",
        idempotency_key: key,
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
