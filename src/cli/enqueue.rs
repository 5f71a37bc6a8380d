//! `photogate enqueue`: adds photos to the queue of an event.

use std::io::{self, BufRead};

use anyhow::Context;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{key::Key, photo_store::PhotoStore},
    commands::{self, FundingPlan, OnInsufficient, Payloads, Which},
    config::Config,
    ids::{EventId, Operations, RunId},
    ledger::credits::Credits,
    queue::enqueue::Priority,
};

/// More photos than this are not looked for in the store.
const LOOKED_FOR: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), workers are told at once; without it, within a second.

Examples:
  photogate enqueue 1 2026/IMG_0001.jpg 2026/IMG_0002.jpg
  ls photos | photogate enqueue 1 --operation ai_rotation -
  photogate enqueue 1 --operation both --prefix 2026/marathon/ --dry-run

A photo that was queued before is not queued again and costs nothing, so a repeated call is safe.
Photos that failed before need `photogate jobs retry`.")]
pub(super) struct Enqueue {
    /// The event's number
    event: EventId,
    /// The photos' keys in the store; `-` reads keys from stdin, one a line
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix")]
    photos: Vec<String>,
    /// All photos of the store whose keys begin with this (a sync): new ones, and those whose file has
    /// changed since they were processed
    #[arg(long)]
    prefix: Option<String>,
    /// The operation to do on each photo; both: AI Rotation first
    #[arg(long, value_enum, default_value = "photo_processing")]
    operation: Operations,
    /// Claim these photos before the others of the event
    #[arg(long)]
    urgent: bool,
    /// Only show what would be queued and how many credits are missing; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Your e-mail address or name, for the receipts and the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

impl Enqueue {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let photos = if self.photos == ["-"] {
            io::stdin()
                .lock()
                .lines()
                .collect::<Result<_, _>>()
                .context("reading keys from stdin")?
        } else {
            self.photos
        };
        let store = match &self.prefix {
            Some(_) => Some(PhotoStore::open(&config.store_url, &config.store_options)?),
            None => None,
        };
        let enqueue = commands::Enqueue {
            operation: self.operation,
            photos: match (&self.prefix, &store) {
                (Some(prefix), Some(store)) => Which::Below(prefix, store),
                _ => Which::Keys(&photos),
            },
            payloads: Payloads::default(),
            // No photos are no run.
            dry_run: self.dry_run || (photos.is_empty() && store.is_none()),
            on_insufficient: OnInsufficient::Wait,
            priority: if self.urgent { Priority::Urgent } else { Priority::Normal },
        };
        let caller = Caller::trusted(&self.actor);
        let plan = super::commands(config).await?.enqueue(&caller, self.event, &enqueue).await;
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return super::refused(error),
        };
        show(&plan, output)?;
        if self.prefix.is_none() {
            tell_missing(&photos, config).await;
        }
        super::undo::tell(config, &plan.undo);
        Ok(End::Ok)
    }
}

/// Says which photos are not in the store. They can be queued before they are copied there; most often
/// it is a mistake. If the store cannot be read from here, or there are too many, nothing is said.
async fn tell_missing(photos: &[String], config: &Config) {
    let keys: Vec<Key> = photos.iter().filter_map(|key| Key::parse(key).ok()).collect();
    if keys.len() > LOOKED_FOR {
        return;
    }
    let Ok(store) = PhotoStore::open(&config.store_url, &config.store_options) else { return };
    let Ok(missing) = store.missing(&keys).await else { return };
    if let Some(first) = missing.first() {
        say!(
            "warning: {} of {} photos are not in the store {} yet (the first one: {first}). If they are not \
             there when their turn comes, they fail as photo_missing and are refunded.",
            missing.len(),
            photos.len(),
            config.store_url
        );
    }
}

/// Prints what was queued, or would be, and what it needs.
pub(super) fn show(plan: &FundingPlan, output: Output) -> anyhow::Result<()> {
    output.one(plan, |out| {
        let list =
            |runs: &[RunId]| runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let before: Vec<_> =
            plan.runs.iter().copied().filter(|run| !plan.new_runs.contains(run)).collect();
        let more = if plan.more_runs { " and more" } else { "" };
        let skipped = plan.skipped;
        for (name, value) in [
            ("Photos", plan.photos.to_string()),
            ("Queued", plan.queued.to_string()),
            ("After rotation", plan.following.to_string()),
            ("Changed", plan.changed.to_string()),
            ("Already queued", skipped.already_queued.to_string()),
            ("Already processed", skipped.already_processed.to_string()),
            ("Undecided before", skipped.undecided_before.to_string()),
            ("Failed before", skipped.failed_before.to_string()),
            ("Already skipped", skipped.skipped_before.to_string()),
            ("Repeated keys", skipped.repeated.to_string()),
            ("Credits available", plan.available.to_string()),
            ("Credits missing", plan.shortfall.to_string()),
            ("New runs", list(&plan.new_runs)),
            ("Queued before in", format!("{}{more}", list(&before))),
        ] {
            writeln!(out, "{name:18} {value}")?;
        }
        Ok(())
    })?;
    if plan.over_cap > 0 && plan.will_finish < plan.queued {
        say!(
            "The budget of this event has no credits for {} of its waiting photos: raise it first, with \
                 photogate spending budget. A top-up alone does not help these.",
            plan.over_cap
        );
    } else if plan.shortfall > Credits(0) {
        say!(
            "{} credits are missing to finish: top up, and the queue resumes by itself.",
            plan.shortfall
        );
    } else if plan.will_finish < plan.funded {
        say!(
            "The event is held: {} of these photos wait until the hold ends.",
            plan.queued - plan.will_finish
        );
    } else if plan.will_finish < plan.queued {
        say!(
            "Budgets leave credits for {} of these photos; the others wait. See: photogate \
                 spending show",
            plan.will_finish
        );
    }
    Ok(())
}
