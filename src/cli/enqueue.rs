//! `photogate enqueue`

use std::io::{self, BufRead};

use anyhow::Context;

use super::{End, Output, say};
use crate::{
    access::Caller,
    commands::{self, OnInsufficient, Which},
    config::Config,
    ids::{EventId, Operation},
    ledger::credits::Credits,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  photogate enqueue 1 2026/IMG_0001.jpg 2026/IMG_0002.jpg
  ls photos | photogate enqueue 1 --operation ai_rotation -

A photo that is queued or done already is skipped and costs nothing: sending twice is safe.")]
pub(super) struct Enqueue {
    /// The event
    event: EventId,
    /// The photos' keys in the store; `-` reads them from stdin, a line each
    #[arg(required = true)]
    photos: Vec<String>,
    /// What is to be done
    #[arg(long, value_enum, default_value = "photo_processing")]
    operation: Operation,
    /// Only says what would happen, and what it takes
    #[arg(long)]
    dry_run: bool,
    /// Who asks, for the books
    #[arg(long, default_value = "System")]
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
        let enqueue = commands::Enqueue {
            operation: self.operation,
            photos: Which::Keys(&photos),
            dry_run: self.dry_run,
            on_insufficient: OnInsufficient::Wait,
        };
        let caller = Caller::at_the_command_line(&self.actor);
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
                ("Queued before", skipped.already_queued.to_string()),
                ("Done before", skipped.already_processed.to_string()),
                ("Failed before", skipped.failed_before.to_string()),
                ("Skipped before", skipped.skipped_before.to_string()),
                ("Named twice", skipped.repeated.to_string()),
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
                "{} credits are missing to finish: top up, and the rest goes on by itself.",
                plan.shortfall
            );
        }
        Ok(End::Ok)
    }
}
