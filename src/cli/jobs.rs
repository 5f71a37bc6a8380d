//! `photogate jobs …`

use super::{End, Output, say};
use crate::{
    config::Config,
    credits::Credits,
    database, event,
    failures::{self, Filter},
    ids::{EventId, Operation, PhotoId},
    intake::{self, PHOTOS_MAX},
    wake::Wake,
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

impl Jobs {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let (Self::Failures { which, .. } | Self::Retry { which, .. }) = &self;
        let event = which.event;
        let Some(found) = event::find(&mut db, event).await? else {
            say!("error: there is no event {event}");
            return Ok(End::NotFound);
        };
        let filter = Filter { operation: which.operation, reason: which.reason.as_deref() };
        match &self {
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
                    let available = crate::credits::balance(&mut db, found.organisation)
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
                        runs.push(intake::retry(&mut db, event, operation, &photos, actor).await?);
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
