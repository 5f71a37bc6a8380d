//! `photogate jobs …`

use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{End, Output, deed, say};
use crate::{
    catalog::events,
    config::Config,
    database,
    ids::{EventId, Operation, PhotoId},
    ledger::credits::Credits,
    notify::wake::Wake,
    queue::{
        enqueue::{self, PHOTOS_MAX},
        failures::{self, Filter},
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Jobs {
    /// Shows the photos that failed, newest first; all were refunded
    Failures {
        #[command(flatten)]
        which: Which,
        /// Rows, at most
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Queues failed photos again; each reserves a credit anew
    #[command(after_help = "Examples:
  photogate jobs retry 1 --reason store_unavailable --dry-run
  photogate jobs retry 1 --operation ai_rotation")]
    Retry {
        #[command(flatten)]
        which: Which,
        /// Only says what it would do, and cost
        #[arg(long)]
        dry_run: bool,
        /// Who asks, for the books
        #[arg(long, default_value = "System")]
        actor: String,
    },
    /// Takes waiting photos out of their queue; they are not done, and cost nothing
    #[command(
        after_help = "Example:\n  photogate jobs skip 1 2026/IMG_0001.jpg --actor anna@club.example"
    )]
    Skip(Named),
    /// Puts skipped photos back
    #[command(after_help = "Example:\n  photogate jobs restore 1 2026/IMG_0001.jpg")]
    Restore(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// Of which event
    event: EventId,
    /// The photos' keys in the store
    #[arg(required = true)]
    photos: Vec<String>,
    /// From which queue
    #[arg(long, value_enum, default_value = "photo_processing")]
    operation: Operation,
    /// Who asks, for the books
    #[arg(long, default_value = "System")]
    actor: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Of which event
    event: EventId,
    /// Of one operation
    #[arg(long, value_enum)]
    operation: Option<Operation>,
    /// With one reason
    #[arg(long)]
    reason: Option<String>,
}

impl Named {
    async fn ids(&self, db: &mut PgConnection) -> sqlx::Result<Vec<PhotoId>> {
        let mut ids = Vec::new();
        for key in &self.photos {
            match events::photo(db, self.event, key).await? {
                Some(photo) => ids.push(photo),
                None => say!("{key} is no photo of event {}", self.event),
            }
        }
        Ok(ids)
    }

    async fn skip(&self, db: &mut PgConnection, output: Output) -> anyhow::Result<()> {
        let photos = self.ids(db).await?;
        let mut tx = db.begin().await?;
        let skipped =
            enqueue::skip(&mut tx, self.event, self.operation, &photos, &self.actor).await?;
        let detail = json!({ "operation": self.operation, "photos": skipped });
        deed::of_event(&mut tx, &self.actor, self.event, "photos.skip", detail).await?;
        tx.commit().await?;
        let left = self.photos.len() - skipped as usize;
        output.one(&json!({ "skipped": skipped, "left_alone": left }), |out| {
            writeln!(out, "{skipped} photos were taken out of the queue; {left} do not wait in it.")
        })?;
        Ok(())
    }

    async fn restore(
        &self,
        db: &mut PgConnection,
        config: &Config,
        output: Output,
    ) -> anyhow::Result<()> {
        let photos = self.ids(db).await?;
        let mut tx = db.begin().await?;
        let done =
            enqueue::restore(&mut tx, self.event, self.operation, &photos, &self.actor).await?;
        let detail = json!({ "operation": self.operation, "photos": done.restored });
        deed::of_event(&mut tx, &self.actor, self.event, "photos.restore", detail).await?;
        tx.commit().await?;
        if done.woke {
            Wake::open(config.redis_url.as_deref())?.ring_now().await;
        }
        output.one(&done, |out| {
            let left = self.photos.len() - done.restored as usize;
            writeln!(out, "{} photos wait again; {left} had not been skipped.", done.restored)
        })?;
        Ok(())
    }
}

impl Jobs {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let (event, which) = match &self {
            Self::Failures { which, .. } | Self::Retry { which, .. } => (which.event, Some(which)),
            Self::Skip(named) | Self::Restore(named) => (named.event, None),
        };
        let Some(found) = events::find(&mut db, event).await? else {
            say!("error: there is no event {event}");
            return Ok(End::NotFound);
        };
        let filter = Filter {
            operation: which.and_then(|which| which.operation),
            reason: which.and_then(|which| which.reason.as_deref()),
        };
        match &self {
            Self::Skip(named) => named.skip(&mut db, output).await?,
            Self::Restore(named) => named.restore(&mut db, config, output).await?,
            Self::Failures { limit, .. } => {
                let failures = failures::list(&mut db, event, filter, *limit).await?;
                output.rows(&failures, &["Photo", "Operation", "Reason", "Detail"], |failure| {
                    vec![
                        failure.key.clone(),
                        failure.operation.to_string(),
                        failure.reason.clone(),
                        failure.detail.clone().unwrap_or_default(),
                    ]
                })?;
            }
            Self::Retry { dry_run, actor, .. } => {
                let most = i64::try_from(PHOTOS_MAX).unwrap_or(i64::MAX);
                let failures = failures::list(&mut db, event, filter, most).await?;
                if *dry_run {
                    let available = crate::ledger::credits::balance(&mut db, found.organisation)
                        .await?
                        .map_or(Credits(0), |balance| balance.available);
                    let plan = serde_json::json!({ "photos": failures.len(), "credits": failures.len(), "available": available });
                    output.one(&plan, |out| {
                        writeln!(
                            out,
                            "Retry {0} photos: {0} credits, {available} available.",
                            failures.len()
                        )
                    })?;
                    return Ok(End::Ok);
                }
                let mut runs = Vec::new();
                for operation in Operation::ALL {
                    let photos: Vec<PhotoId> = failures
                        .iter()
                        .filter(|failure| failure.operation == operation)
                        .map(|failure| failure.photo)
                        .collect();
                    if !photos.is_empty() {
                        let mut tx = db.begin().await?;
                        let run = enqueue::retry(&mut tx, event, operation, &photos, actor).await?;
                        let detail = json!({ "operation": operation, "reason": filter.reason, "run": run.run, "queued": run.queued });
                        deed::of_event(&mut tx, actor, event, "photos.retry", detail).await?;
                        tx.commit().await?;
                        runs.push(run);
                    }
                }
                if runs.iter().any(|run| run.woke) {
                    Wake::open(config.redis_url.as_deref())?.ring_now().await;
                }
                output.rows(
                    &runs,
                    &["Run", "Queued", "Skipped", "Available", "Shortfall"],
                    |run| {
                        vec![
                            run.run.to_string(),
                            run.queued.to_string(),
                            run.skipped.to_string(),
                            run.available.to_string(),
                            run.shortfall.to_string(),
                        ]
                    },
                )?;
            }
        }
        Ok(End::Ok)
    }
}
