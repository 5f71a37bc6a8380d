//! `photogate demo`: the whole service at work, on sample photos, with services of its own.

mod site;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sqlx::PgPool;

use super::{End, credits, events as cli_events};
use crate::{
    catalog::{
        events::{self, Pause},
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
    queue::enqueue,
    rig::services::Services,
    sandbox::THIS_PROGRAM,
    worker::{
        self, Stop,
        processor::{Looker, Work},
    },
};
use site::Site;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything it keeps is below --place, and is made anew each time. It ends with 0 only if every promise held."
)]
pub(super) struct Demo {
    /// Leaves when all is done, instead of staying up for a look
    #[arg(long)]
    exit: bool,
    /// Where the sample photos are
    #[arg(long, value_name = "DIRECTORY", default_value = "samples")]
    samples: PathBuf,
    /// Where the demo keeps its databases and photos
    #[arg(long, value_name = "DIRECTORY", default_value = ".photogate/demo")]
    place: PathBuf,
}

/// Fewer than there is work: the demo is about what happens then.
const CREDITS: Credits = Credits(9);
/// The demo gives up waiting after this long: something is wrong then.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be seen on a sample; see samples/make.py.
#[derive(Debug, Deserialize)]
struct Label {
    error: Option<String>,
    bibs: Option<Vec<String>>,
    faces: Option<i64>,
    turn: Option<i16>,
}

/// Prints for a person; the progress bar, if there is one, stays below.
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
                "reading {}/labels.json: run this where the sample photos are",
                self.samples.display()
            )
        })?;
        let labels: BTreeMap<String, Label> = serde_json::from_slice(&labels)?;
        let bar = ProgressBar::hidden();

        tell!(
            bar,
            "Starting a PostgreSQL and a Redis of its own, below {} …",
            self.place.display()
        );
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
        let work = Work::Photos(Box::new(
            Looker::open(Path::new(THIS_PROGRAM), &config, store, pool.clone()).await?,
        ));
        let stop = Stop::default();
        let working = {
            let (config, pool, stop) = (config.clone(), pool.clone(), stop.clone());
            tokio::spawn(async move { worker::run(&config, pool, Arc::new(work), stop).await })
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
            _ = tokio::signal::ctrl_c() => bail!("interrupted; nothing of it remains running"),
        };
        if !self.exit {
            show.stay_up().await?;
        }
        show.site.close().await?;
        stop.drain.cancel();
        working.await.context("the worker broke")??;
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
        tell!(
            self.bar,
            "\nThe Demo Athletics Club has bought {CREDITS} credits, and has two events.\n"
        );
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
            for operation in Operation::ALL {
                let run =
                    enqueue::enqueue(&mut db, event, operation, &keys, "upload@demo-club.example")
                        .await?;
                let again =
                    enqueue::enqueue(&mut db, event, operation, &keys, "upload@demo-club.example")
                        .await?;
                tell!(
                    self.bar,
                    "{name}, {operation}: {} photos queued; sent again, {} are. Missing to finish: {} credits.",
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
            "\nThe balance is 0: every queue of the organisation is paused, and nothing is lost.\n"
        );
        self.show_queues().await?;
        let paused = self.queues().await?;
        let paused = paused
            .iter()
            .filter(|queue| queue.waiting > 0)
            .all(|queue| matches!(queue.pause, Some(Pause::NoCredits { since: Some(_) })));
        self.promise(
            paused,
            "at zero every queue with photos left is paused for want of credit".into(),
        );

        let missing = self.waiting().await?;
        tell!(
            self.bar,
            "\nBuying {missing} credits. Nobody touches the queues: they go on by themselves.\n"
        );
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

    /// Prints what is found as it comes, until the organisation is where it should get.
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
                .context("the organisation is gone")?;
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
                bail!("this takes too long: {what} did not happen within {} s", PATIENCE.as_secs());
            }
            drop(db);
            futures::future::select_all(
                self.events.iter().map(|(_, watch)| Box::pin(watch.changed())),
            )
            .await;
        }
    }

    async fn queues(&self) -> anyhow::Result<Vec<events::QueueState>> {
        let mut db = self.pool.acquire().await?;
        let mut queues = Vec::new();
        for (event, _) in &self.events {
            queues.extend(events::queues(&mut db, *event).await?);
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
            .context("the organisation is gone")?;
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
        tell!(self.bar, "\nWhat was found\n");
        for (event, _) in &self.events {
            let found = findings::of_event(&mut db, *event).await?;
            for one in &found {
                let as_labelled = self.labels.get(&one.key).is_some_and(|label| label.agrees(one));
                tell!(self.bar, "  {} {}", mark(as_labelled), sentence(one));
                self.promises.push((
                    as_labelled,
                    format!("{}, {}: what is labelled was found", one.key, one.operation),
                ));
                spent += i64::from(one.reason.is_none());
            }
        }
        self.promise(balance.spent == Credits(spent), format!("{spent} photos were processed, and cost exactly {} credits; failed ones cost nothing", balance.spent));
        let seen = self.told.len();
        self.promise(seen == self.labels.len() * 2, format!("all {seen} photos came to an end"));
        Ok(())
    }

    fn promise(&mut self, held: bool, what: String) {
        self.promises.push((held, what));
    }

    fn conclude(&self) -> bool {
        let broken: Vec<_> = self.promises.iter().filter(|(held, _)| !held).collect();
        tell!(self.bar);
        for (_, what) in &broken {
            tell!(self.bar, "{} broken: {what}", mark(false));
        }
        let all = self.promises.len();
        tell!(
            self.bar,
            "{} {} of {all} promises held.",
            mark(broken.is_empty()),
            all - broken.len()
        );
        broken.is_empty()
    }

    async fn stay_up(&self) -> anyhow::Result<()> {
        tell!(self.bar, "\nEverything stays up for a look, until Ctrl-C.\n");
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
        tell!(self.bar, "\nThe upright photos are in {}.", self.config.store_url);
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
            // Only what had to be turned has an upright copy, and a photo that says nothing is left alone.
            Operation::AiRotation => self.turn == found.turn,
        }
    }
}

fn sentence(found: &Found) -> String {
    let Found { key, operation, reason, faces, bibs, turn, upright_key, .. } = found;
    if let Some(reason) = reason {
        return format!("{key}, {operation}: failed ({reason}), and refunded");
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
            (None, _) => format!("{key}: which way is up is not clear; left as it is"),
            (Some(0), None) => format!("{key}: upright"),
            (Some(0), Some(_)) => format!("{key}: upright by its tag; upright copy written"),
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

/// The worker writes beside the photos: it gets copies.
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
        .map_err(|()| anyhow::anyhow!("{} is no place for photos", photos.display()))?
        .into())
}
