//! `photogate enqueue`

use std::io::{self, BufRead};

use anyhow::Context;

use sqlx::Connection;

use super::{End, Output, deed, say};
use crate::{
    config::Config,
    database,
    ids::{EventId, Operation},
    ledger::credits::Credits,
    notify::wake::Wake,
    queue::enqueue::{self, IntakeError, PHOTOS_MAX, Run},
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
        enqueue::check_keys(&photos)?;
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let wake = Wake::open(config.redis_url.as_deref())?;
        let mut runs: Vec<Run> = Vec::new();
        for part in photos.chunks(PHOTOS_MAX) {
            let mut tx = db.begin().await?;
            match enqueue::enqueue(&mut tx, self.event, self.operation, part, &self.actor).await {
                Ok(run) => {
                    let detail = serde_json::json!({ "operation": self.operation, "runs": [run.run], "queued": run.queued });
                    deed::of_event(&mut tx, &self.actor, self.event, "photos.queue", detail)
                        .await?;
                    tx.commit().await?;
                    runs.push(run);
                }
                Err(error @ IntakeError::NoEvent(_)) => {
                    say!("error: {error}");
                    return Ok(End::NotFound);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if runs.iter().any(|run| run.woke) {
            wake.ring_now().await;
        }
        output.rows(
            &runs,
            &[
                "Run",
                "Queued",
                "Queued before",
                "Done before",
                "Failed before",
                "Skipped before",
                "Repeated",
                "Available",
                "Shortfall",
            ],
            |run| {
                let skipped = run.skipped;
                let counts = [
                    run.queued,
                    skipped.already_queued,
                    skipped.already_processed,
                    skipped.failed_before,
                    skipped.skipped_before,
                    skipped.repeated,
                ];
                let counts = counts.iter().map(u32::to_string);
                std::iter::once(run.run.to_string())
                    .chain(counts)
                    .chain([run.available.to_string(), run.shortfall.to_string()])
                    .collect()
            },
        )?;
        if let Some(run) = runs.last().filter(|run| run.shortfall > Credits(0)) {
            say!(
                "The organisation lacks {} credits to finish: top up, and the rest goes on by itself.",
                run.shortfall
            );
        }
        Ok(End::Ok)
    }
}
