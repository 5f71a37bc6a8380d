//! The commands `photogate jobs …`: list failures, retry, skip and restore photos.

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::events,
    commands::{ChosenPhotos, Retried, Retry},
    config::Config,
    database,
    ids::{EventId, Operation, PhotoId},
    queue::failures::{self, Filter},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Jobs {
    /// Lists failed photos with their reason, newest first; all of them were refunded
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate jobs failures 1 --reason photo_missing")]
    Failures {
        #[command(flatten)]
        which: Which,
        /// Maximum number of rows, 1 to 10,000
        #[arg(
            long,
            default_value_t = 200,
            value_parser = clap::value_parser!(i64).range(1..=10_000),
        )]
        limit: i64,
    },
    /// Queues failed photos again, as new jobs; each reserves one credit again
    #[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), workers are told at once; without it, within a second.

Examples:
  photogate jobs retry 1 --reason store_unavailable --dry-run
  photogate jobs retry 1 --operation ai_rotation")]
    Retry {
        #[command(flatten)]
        which: Which,
        /// Only show how many photos would be queued and what they cost; change nothing
        #[arg(long)]
        dry_run: bool,
        /// Your e-mail address or name, for the receipts and the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Takes waiting photos out of their queue; they are not processed and cost nothing
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate jobs skip 1 2026/IMG_0001.jpg --actor anna@club.example")]
    Skip(Named),
    /// Puts skipped photos back into their queue
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate jobs restore 1 2026/IMG_0001.jpg")]
    Restore(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The event's number
    event: EventId,
    /// The photos' keys in the store
    #[arg(required = true)]
    photos: Vec<String>,
    /// The operation, which names the queue
    #[arg(long, value_enum, default_value = "photo_processing")]
    operation: Operation,
    /// Your e-mail address or name, for the receipts and the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The event's number
    event: EventId,
    /// Only failures of this operation [default: all operations]
    #[arg(long, value_enum)]
    operation: Option<Operation>,
    /// Only failures with this reason, as `truncated` [default: all reasons]
    #[arg(long)]
    reason: Option<String>,
}

impl Named {
    async fn ids(&self, db: &mut PgConnection) -> sqlx::Result<Vec<PhotoId>> {
        let mut ids = Vec::new();
        for key in &self.photos {
            match events::photo(db, self.event, key).await? {
                Some(photo) => ids.push(photo),
                None => say!("event {} has no photo {key}", self.event),
            }
        }
        Ok(ids)
    }

    async fn chosen(&self, config: &Config) -> anyhow::Result<ChosenPhotos> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        // An event that is not there is refused by the command itself.
        let photos = match events::find(&mut db, self.event).await? {
            Some(_) => self.ids(&mut db).await?,
            None => Vec::new(),
        };
        Ok(ChosenPhotos { operation: self.operation, photos })
    }

    async fn skip(&self, config: &Config, output: Output) -> anyhow::Result<End> {
        let chosen = self.chosen(config).await?;
        let caller = Caller::trusted(&self.actor);
        let commands = super::commands(config).await?;
        let skipped = match commands.skip(&caller, self.event, &chosen).await {
            Ok(skipped) => skipped,
            Err(error) => return super::refused(error),
        };
        let (photos, left) = (skipped.photos, self.photos.len() - skipped.photos as usize);
        let said = json!({ "skipped": photos, "left_alone": left, "undo": skipped.undo });
        output.one(&said, |out| {
            writeln!(out, "{photos} photos were skipped; {left} do not wait in this queue.")
        })?;
        super::undo::tell(config, skipped.undo.as_slice());
        Ok(End::Ok)
    }

    async fn restore(&self, config: &Config, output: Output) -> anyhow::Result<End> {
        let chosen = self.chosen(config).await?;
        let caller = Caller::trusted(&self.actor);
        let commands = super::commands(config).await?;
        let restored = match commands.restore(&caller, self.event, &chosen).await {
            Ok(restored) => restored,
            Err(error) => return super::refused(error),
        };
        let (photos, left) = (restored.photos, self.photos.len() - restored.photos as usize);
        let said = json!({ "restored": photos, "left_alone": left, "undo": restored.undo });
        output.one(&said, |out| {
            writeln!(out, "{photos} photos wait again; {left} were not skipped.")
        })?;
        super::undo::tell(config, restored.undo.as_slice());
        Ok(End::Ok)
    }
}

/// What a retry did for one operation.
#[derive(Serialize)]
struct OfOperation {
    operation: Operation,
    #[serde(flatten)]
    done: Retried,
}

impl Which {
    /// Retries the failed photos, one operation after the other.
    async fn retry(
        &self,
        dry_run: bool,
        actor: &str,
        config: &Config,
        output: Output,
    ) -> anyhow::Result<End> {
        let caller = Caller::trusted(actor);
        let commands = super::commands(config).await?;
        let mut retried = Vec::new();
        for operation in self.operation.map_or(Operation::ALL.to_vec(), |one| vec![one]) {
            let retry = Retry { operation, reason: self.reason.as_deref(), dry_run };
            match commands.retry(&caller, self.event, &retry).await {
                Ok(done) if done.photos > 0 => retried.push(OfOperation { operation, done }),
                Ok(_) => {}
                Err(error) => return super::refused(error),
            }
        }
        if let (true, Some(reason)) = (retried.is_empty(), &self.reason) {
            return self.no_such_reason(reason, config).await;
        }
        let header = ["Operation", "Photos", "Credits", "Available", "Queued", "Run"];
        output.rows(&retried, &header, |OfOperation { operation, done }| {
            vec![
                operation.to_string(),
                done.photos.to_string(),
                done.credits.to_string(),
                done.available.to_string(),
                done.queued.to_string(),
                done.run.map_or_else(|| "—".into(), |run| run.to_string()),
            ]
        })?;
        Ok(End::Ok)
    }
}

impl Which {
    /// Says which reasons there are.
    async fn no_such_reason(&self, reason: &str, config: &Config) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let which = failures::Which { event: Some(self.event), ..failures::Which::default() };
        let groups = failures::groups(&mut *pool.acquire().await?, which).await?;
        let there: Vec<String> = groups
            .into_iter()
            .filter(|group| self.operation.is_none_or(|operation| group.operation == operation))
            .map(|group| format!("{} ({}: {})", group.reason, group.operation, group.photos))
            .collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        say!(
            "error: no photo of event {} failed for the reason {reason:?}; the reasons there: {there}",
            self.event
        );
        Ok(End::NotFound)
    }
}

impl Jobs {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::Skip(named) => named.skip(config, output).await,
            Self::Restore(named) => named.restore(config, output).await,
            Self::Retry { which, dry_run, actor } => {
                which.retry(dry_run, &actor, config, output).await
            }
            Self::Failures { which, limit } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let mut db = pool.acquire().await?;
                if events::find(&mut db, which.event).await?.is_none() {
                    say!("error: there is no event {}", which.event);
                    return Ok(End::NotFound);
                }
                let filter = Filter { operation: which.operation, reason: which.reason.as_deref() };
                let failures = failures::list(&mut db, which.event, filter, limit).await?;
                output.rows(&failures, &["Photo", "Operation", "Reason", "Detail"], |failure| {
                    vec![
                        failure.key.clone(),
                        failure.operation.to_string(),
                        failure.reason.clone(),
                        failure.detail.clone().unwrap_or_default(),
                    ]
                })?;
                Ok(End::Ok)
            }
        }
    }
}
