//! The show of the demo, act by act: credits run out, queues pause, a purchase resumes them. It
//! checks each promise.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgPool;

use super::{
    label::Label,
    site::Site,
    tell::{mark, sentence, tell},
};
use crate::{
    catalog::{events, findings, organisations},
    cli::{events as events_table, output},
    config::Config,
    ids::{EventId, Operation, OrganisationId, PhotoId},
    ledger::{
        credits::{Balance, Credits},
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
};

/// Credits at the start. Fewer than the photos need, because the demo shows how queues pause.
const CREDITS: Credits = Credits(9);

/// The demo fails if a step takes longer than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// The demo while it runs: its servers, its events, and what was promised so far.
pub(super) struct Show {
    pub(super) site: Site,
    pub(super) pool: PgPool,
    pub(super) bar: ProgressBar,
    pub(super) config: Config,
    pub(super) labels: BTreeMap<String, Label>,
    pub(super) events: Vec<(EventId, Watch)>,
    pub(super) told: HashSet<(PhotoId, Operation)>,
    pub(super) promises: Vec<(bool, String)>,
}

impl Show {
    /// Plays the whole story: credits run out, queues pause, a purchase resumes them.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        let wake = Wake::open(self.config.redis_url.as_deref())?;
        let organisation = self.open_account().await?;
        let photos = self.queue_photos(organisation).await?;
        wake.send().await;
        self.bar = ProgressBar::new(u64::from(photos))
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} photos, {msg}")?);
        tell!(self.bar);

        self.run_dry(organisation).await?;
        self.buy_the_rest(organisation, &wake).await?;
        self.bar.finish_and_clear();
        self.check_books(organisation).await
    }

    /// Creates the organisation with its first credits, and lets its people in.
    async fn open_account(&mut self) -> anyhow::Result<OrganisationId> {
        let mut db = self.pool.acquire().await?;
        let organisation =
            organisations::create(&mut db, "Demo Athletics Club", "Europe/Berlin").await?;
        organisations::set_price(&mut db, organisation, Some(&"0.05 EUR".parse()?)).await?;
        top_up::top_up(&mut db, purchase(organisation, CREDITS, "demo-1")).await?;
        tell!(self.bar, "\nThe Demo Athletics Club bought {CREDITS} credits and has two events.\n");
        for line in self.site.admit(&mut db, organisation).await? {
            tell!(self.bar, "{line}");
        }
        tell!(self.bar);
        Ok(organisation)
    }

    /// Creates two events and queues their photos, twice. Returns the number of photos that were
    /// queued.
    async fn queue_photos(&mut self, organisation: OrganisationId) -> anyhow::Result<u32> {
        let mut db = self.pool.acquire().await?;
        let mut photos = 0;
        for (name, folder) in [("City Marathon", "marathon/"), ("Gala Night", "gala/")] {
            let event = events::create(&mut db, organisation, name, true, true, "demo").await?;
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
        Ok(photos)
    }

    /// Waits until the credits are spent: then every queue must be paused.
    async fn run_dry(&mut self, organisation: OrganisationId) -> anyhow::Result<()> {
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
        Ok(())
    }

    /// Buys the missing credits, with one request that is sent twice, and waits until all photos
    /// are done.
    async fn buy_the_rest(
        &mut self,
        organisation: OrganisationId,
        wake: &Wake,
    ) -> anyhow::Result<()> {
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
        .await
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
        let rows: Vec<_> = self.queues().await?.iter().map(events_table::queue_row).collect();
        tell!(self.bar, "{}", output::table(events_table::QUEUES, &rows).trim_end());
        Ok(())
    }

    /// Notes whether a promise was held.
    pub(super) fn promise(&mut self, held: bool, what: String) {
        self.promises.push((held, what));
    }

    /// Prints how many promises were held. True if all were.
    pub(super) fn conclude(&self) -> bool {
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

    /// Says what to try, and waits until Ctrl-C.
    pub(super) async fn stay_up(&self) -> anyhow::Result<()> {
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
