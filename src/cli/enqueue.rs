//! `photogate enqueue`: adds photos to the queue of an event.

use std::io::{self, BufRead};

use anyhow::Context;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::photo_store::PhotoStore,
    commands::{self, OnInsufficient, Payloads, Which},
    config::Config,
    ids::{EventId, Operations},
    ledger::credits::Credits,
    queue::enqueue::Priority,
};

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
    /// The operation to do on each photo; both: AI rotation first
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
        output.one(&plan, |out| {
            let runs: Vec<_> = plan.runs.iter().map(ToString::to_string).collect();
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
                ("Runs", runs.join(" ")),
            ] {
                writeln!(out, "{name:18} {value}")?;
            }
            Ok(())
        })?;
        if plan.shortfall > Credits(0) {
            say!(
                "{} credits are missing to finish: top up, and the queue resumes by itself.",
                plan.shortfall
            );
        } else if plan.will_finish < plan.queued {
            say!(
                "Budgets leave credits for {} of these photos; the others wait. See: photogate \
                 spending show",
                plan.will_finish
            );
        }
        super::undo::tell(config, &plan.undo);
        Ok(End::Ok)
    }
}
