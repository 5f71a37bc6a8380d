//! `photogate queues …`: lists queues, and does something to several at once.

use chrono::{TimeDelta, Utc};

use super::{End, Output, say};
use crate::{
    access::Caller,
    commands::{BulkVerb, NewBulk},
    config::Config,
    database,
    ids::{OrganisationId, UndoId},
    queue::status::{self, Filter, Queue},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Queues {
    /// Lists queues with their numbers; paused queues come first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate queues list --organisation 1")]
    List {
        /// Only queues of this organisation, by number [default: all organisations]
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Only queues whose event or organisation has this text in its name
        #[arg(long)]
        name: Option<String>,
        /// Leave out queues in which nothing waits
        #[arg(long)]
        busy: bool,
        /// Maximum number of rows, 1 to 10,000
        #[arg(
            long,
            default_value_t = 200,
            value_parser = clap::value_parser!(i64).range(1..=10_000),
        )]
        limit: i64,
    },
    /// Holds those of the queues that are not held
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Photos in progress are finished; waiting photos wait.

Example:
  photogate queues hold 11 12 --note 'bad camera clock' --for-minutes 90 --actor ops@example.org")]
    Hold {
        #[command(flatten)]
        which: Which,
        /// The reason for the holds
        #[arg(long, default_value = "")]
        note: String,
        /// End the holds by themselves after this many minutes, 1 to 525,600 (a year) [default: no end]
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..=525_600))]
        for_minutes: Option<i64>,
    },
    /// Lifts every hold that stands on the queues
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate queues lift 11 12 --actor ops@example.org")]
    Lift(Which),
    /// Queues failed photos of the queues again, at most 10,000; each reserves one credit again
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate queues retry 11 12 --dry-run")]
    Retry(Which),
    /// Lets the photos of the newest run of each queue go before the others of that queue
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate queues newest-first 11 12")]
    NewestFirst(Which),
    /// Takes back what one of these commands did: all of it, or nothing
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate queues undo 17")]
    Undo {
        /// The number that the command printed
        number: UndoId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The numbers of the queues, at most 200, as `photogate queues list` shows them
    #[arg(required = true)]
    queues: Vec<i64>,
    /// Only show how many queues and photos it concerns; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Your e-mail address or name, for the audit log; of a hold, whom to ask about it
    #[arg(long, default_value = "cli")]
    actor: String,
}

impl Which {
    fn does(self, act: BulkVerb) -> (String, NewBulk) {
        let Self { queues, dry_run, actor } = self;
        let (note, until, holds) = (String::new(), None, None);
        (actor, NewBulk { queues, act, note, until, holds, dry_run })
    }
}

impl Queues {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let (actor, new) = match self {
            Self::List { organisation, name, busy, limit } => {
                let filter = Filter {
                    organisation,
                    name: name.as_deref(),
                    busy,
                    most: limit,
                    ..Filter::default()
                };
                return list(filter, config, output).await;
            }
            Self::Undo { number, actor } => return undo(number, &actor, config, output).await,
            Self::Hold { which, note, for_minutes } => {
                let (actor, new) = which.does(BulkVerb::Hold);
                let until = for_minutes.map(|minutes| Utc::now() + TimeDelta::minutes(minutes));
                (actor, NewBulk { note, until, ..new })
            }
            Self::Lift(which) => which.does(BulkVerb::Lift),
            Self::Retry(which) => which.does(BulkVerb::Retry),
            Self::NewestFirst(which) => which.does(BulkVerb::NewestFirst),
        };
        let commands = super::commands(config).await?;
        let done = match commands.bulk_as_asked(&Caller::trusted(&actor), &new).await {
            Ok(done) => done,
            Err(error) => return super::refused(error),
        };
        output.one(&done, |out| {
            let (queues, photos) = (done.queues, done.photos);
            let would = if new.dry_run { "would be" } else { "were" };
            writeln!(out, "{queues} queues {would} changed; it concerns {photos} photos.")
        })?;
        for left in &done.left_out {
            say!("warning: queue {} is left out: {}", left.queue, left.why);
        }
        if let Some(undo) = done.undo.filter(|_| config.undo_seconds > 0) {
            say!("for {} seconds: photogate queues undo {undo}", config.undo_seconds);
        }
        Ok(End::Ok)
    }
}

async fn list(filter: Filter<'_>, config: &Config, output: Output) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let most = filter.most;
    let found = status::list(&mut *pool.acquire().await?, filter).await?;
    let queues: Vec<Queue> = found.into_iter().map(|(_, queue)| queue).collect();
    let header = &[
        "Queue",
        "Organisation",
        "Event",
        "Operation",
        "State",
        "Waiting",
        "In progress",
        "Failed",
    ];
    output.rows(&queues, header, |queue| {
        vec![
            queue.id.to_string(),
            queue.organisation_name.clone(),
            queue.event_name.clone(),
            queue.operation.to_string(),
            queue.state.code().replace('_', " "),
            queue.waiting.to_string(),
            queue.in_progress.to_string(),
            queue.failed.to_string(),
        ]
    })?;
    if i64::try_from(queues.len()) == Ok(most) {
        say!("There may be more queues: raise --limit, or name an organisation.");
    }
    Ok(End::Ok)
}

async fn undo(number: UndoId, actor: &str, config: &Config, output: Output) -> anyhow::Result<End> {
    let commands = super::commands(config).await?;
    match commands.undo_bulk(&Caller::trusted(actor), number).await {
        Ok(done) => {
            output.one(&done, |out| {
                writeln!(out, "Taken back in {} queues ({} photos).", done.acts.len(), done.photos)
            })?;
            Ok(End::Ok)
        }
        Err(error) => super::refused(error),
    }
}
