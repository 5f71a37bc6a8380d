//! The present of the busy scene: a real worker looks at the photos of today, webhooks are called,
//! the books are checked, and it is told how to log in.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use axum::{Router, http::StatusCode};
use serde_json::json;
use sqlx::PgPool;
use tokio::{net::TcpListener, time::Instant};

use super::{
    super::{
        site::Site,
        tell::{mark, tell},
    },
    history::Made,
    lens::Lens,
    plot::{CLUBS, FINANCE, OPERATOR, PEOPLE, STAFF, Way},
};
use crate::{
    access::Caller,
    catalog::{finders::FinderAccess, findings},
    commands::{
        Commands, CorrectNumbers, Enqueue, FinderChange, NewWebhook, OnInsufficient, Payloads,
        Which,
    },
    config::Config,
    ids::{EventId, Operation, Operations},
    ledger::{
        hash_chain,
        reconcile::{self, Scope},
    },
    notify::wake::Wake,
    queue::{
        enqueue::Priority,
        status::{self, Queue},
    },
};

/// The scene fails if the worker needs longer for the photos of today.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Finale<'a> {
    pub(super) config: &'a Config,
    pub(super) site: &'a Site,
    pub(super) pool: &'a PgPool,
    pub(super) made: &'a Made,
}

impl Finale<'_> {
    /// Plays it to the point at which people can look. True if the books balance.
    pub(super) async fn play(
        &mut self,
        lens: &Lens,
        samples: &Path,
        place: &Path,
    ) -> anyhow::Result<bool> {
        let wake = Wake::open(self.config.redis_url.as_deref())?;
        let commands = Commands::new(self.pool.clone(), wake).with(self.config.into());
        let organiser = Caller::trusted(CLUBS[0].organiser);
        let webhook = self.add_webhooks(&commands, &organiser).await?;

        let event = self.made.events[&Way::Fresh];
        let keys = self.put_samples(lens, samples)?;
        let asked = Enqueue {
            operation: Operations::Both,
            photos: Which::Keys(&keys),
            payloads: Payloads::new(),
            dry_run: false,
            on_insufficient: OnInsufficient::Wait,
            priority: Priority::Normal,
        };
        commands.enqueue(&organiser, event, &asked).await?;
        self.until_done(event).await?;

        let found = findings::of_event(&mut *self.pool.acquire().await?, event).await?;
        let is_good = |one: &&findings::Found| {
            one.operation == Operation::PhotoProcessing && one.bibs.len() > 1
        };
        let photo = found.iter().find(is_good).context("no photo has two numbers")?;
        let corrected = found.iter().rfind(is_good).context("no photo has two numbers")?;
        let numbers = corrected.bibs.iter().map(|bib| format!("{bib}1")).take(1).collect();
        let new = CorrectNumbers { numbers };
        commands.correct_numbers(&organiser, corrected.photo, &new).await?;

        let change = FinderChange { access: FinderAccess::Public, replace_link: false };
        let finder = commands.set_finder(&organiser, event, change).await?;

        let queues = status::of_event(&mut *self.pool.acquire().await?, event).await?;
        let places = json!({
            "address": self.site.address,
            "password": self.site.password,
            "database": self.config.database_url,
            "people": {
                "organiser": CLUBS[0].organiser, "operator": OPERATOR,
                "finance": FINANCE, "staff": STAFF,
            },
            "organisation": self.made.clubs[0],
            "poor_organisation": self.made.clubs[1],
            "event": event,
            "running_event": self.made.events[&Way::Running],
            "paused_event": self.made.events[&Way::Paused],
            "held_event": self.made.events[&Way::Held],
            "troubled_event": self.made.events[&Way::Troubled],
            "scheduled_event": self.made.events[&Way::Scheduled],
            "photo": photo.photo,
            "queue": queues.first().map(|queue| queue.id),
            "webhook": webhook,
            "invitation": self.made.invitation,
            "find": finder.link,
            "bib": photo.bibs.first(),
        });
        let balanced = self.check_books().await?;
        fs::write(place.join("scene.json"), serde_json::to_string_pretty(&places)?)?;
        Ok(balanced)
    }

    /// A webhook that answers, and one that does not. Returns the number of the first.
    async fn add_webhooks(
        &self,
        commands: &Commands,
        organiser: &Caller,
    ) -> anyhow::Result<crate::ids::WebhookId> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/photogate", listener.local_addr()?);
        let receiver = Router::new().fallback(|| std::future::ready(StatusCode::NO_CONTENT));
        tokio::spawn(async move { axum::serve(listener, receiver).await });
        let mut made = Vec::new();
        for url in [address, "https://hooks.laufwerk.example/photogate".into()] {
            let new = NewWebhook { url, types: None };
            let added = commands.add_webhook(organiser, self.made.clubs[0], &new).await?;
            commands.ping_webhook(organiser, added.webhook.id).await?;
            made.push(added.webhook.id);
        }
        Ok(made[0])
    }

    /// Puts the sample photos into the store as they are. Returns their keys.
    fn put_samples(&self, lens: &Lens, samples: &Path) -> anyhow::Result<Vec<String>> {
        let folder = format!("{}{}/potsdam-palace", CLUBS[0].under, self.made.present.format("%Y"));
        let mut keys = Vec::new();
        for part in ["marathon", "gala", "races"] {
            for entry in fs::read_dir(samples.join(part))? {
                let file = entry?.path();
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if file.extension().is_none_or(|extension| extension == "json") {
                    continue;
                }
                let key = format!("{folder}/{name}");
                lens.copy(&file, &key)?;
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Waits until the worker has looked at all photos of an event.
    async fn until_done(&self, event: EventId) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let queues = status::of_event(&mut *self.pool.acquire().await?, event).await?;
            let left = |queue: &Queue| queue.waiting + queue.in_progress + queue.following;
            if queues.iter().all(|queue| left(queue) == 0) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("timed out after {} s, waiting for the worker", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Checks all invariants, and the hash chain of each ledger.
    async fn check_books(&self) -> anyhow::Result<bool> {
        let mut db = self.pool.acquire().await?;
        let mut broken = 0;
        for check in reconcile::reconcile(&mut db, Scope::Full).await? {
            if check.violations != 0 {
                broken += 1;
                tell!(indicatif::ProgressBar::hidden(), "{} {}", mark(false), check.meaning);
            }
        }
        let chains = hash_chain::verify(&mut db, None, |_| {}).await?;
        let entries: i64 = chains.iter().map(|chain| chain.head.entries).sum();
        let sealed = chains.iter().all(|chain| chain.broken.is_none());
        tell!(
            indicatif::ProgressBar::hidden(),
            "{} The books balance: {entries} entries of {} ledgers.\n{} Their hash chains are whole.",
            mark(broken == 0),
            chains.len(),
            mark(sealed)
        );
        Ok(broken == 0 && sealed)
    }

    /// Says how to log in, and waits until Ctrl-C.
    pub(super) async fn stay_up(&self) -> anyhow::Result<()> {
        let bar = indicatif::ProgressBar::hidden();
        let Site { address, password, .. } = self.site;
        tell!(bar, "\nThe pages are on {address}. The password is {password}:");
        tell!(
            bar,
            "(No second factor is needed here. Elsewhere, the last three people need one.)\n"
        );
        for (email, role, _, sees) in PEOPLE {
            tell!(bar, "  {email:<26} {role:<10} {sees}");
        }
        tell!(bar, "\nEverything keeps running until Ctrl-C. In another terminal:\n");
        tell!(bar, "  export DATABASE_URL='{}'", self.config.database_url);
        let photogate = std::env::current_exe()?;
        for command in ["organisations list", "reconcile", "ledger verify"] {
            tell!(bar, "  {} {command}", photogate.display());
        }
        tokio::signal::ctrl_c().await?;
        Ok(())
    }
}
