//! `photogate erasures …`: lists what was erased of an event, and makes erasures again after a
//! restore.

use std::fmt;

use serde_json::json;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{erasures, photo_store::PhotoStore},
    commands::Commands,
    config::Config,
    database,
    ids::EventId,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Erasures {
    /// Lists what was erased of an event, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// The event's number
        event: EventId,
    },
    /// Makes all erasures again that came after the backup from which the database was restored
    #[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

Run it after each restore, before the service and the workers start. Workers write a record of each
erasure into the store; this command makes those that the database does not know. It can be run
again at any time.")]
    Apply {
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

/// The most erasures that a list shows.
const MOST: i64 = 1000;

impl Erasures {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::List { event } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let found = erasures::list(&mut *pool.acquire().await?, event, MOST).await?;
                output.rows(
                    &found,
                    &["When", "What", "Who", "Bib", "Faces", "In store"],
                    |one| {
                        vec![
                            one.at.format("%Y-%m-%d %H:%M:%S").to_string(),
                            one.kind.name().into(),
                            one.actor.clone(),
                            one.bib.clone().unwrap_or_else(|| "—".into()),
                            one.faces.to_string(),
                            if one.in_store { "yes".into() } else { "not yet".into() },
                        ]
                    },
                )?;
            }
            Self::Apply { actor } => {
                let commands = super::commands(config).await?;
                let again = apply(&commands, config, &Caller::trusted(&actor)).await?;
                output.one(&again.json(), |out| writeln!(out, "{again}"))?;
                return Ok(again.end());
            }
        }
        Ok(End::Ok)
    }
}

/// What became of the records of erasures in the store.
pub(super) struct Again {
    made: usize,
    known: usize,
    failed: usize,
}

/// Makes all erasures again that the store records and the database does not know.
pub(super) async fn apply(
    commands: &Commands,
    config: &Config,
    caller: &Caller,
) -> anyhow::Result<Again> {
    let store = PhotoStore::open(&config.store_url, &config.store_options)?;
    let (records, others) = store.erasures().await?;
    let mut again = Again { made: 0, known: 0, failed: others.len() };
    for other in &others {
        say!("error: {other} cannot be read as an erasure: look at it, and move it away");
    }
    for record in &records {
        match commands.erase_again(caller, record).await {
            Ok(true) => again.made += 1,
            Ok(false) => again.known += 1,
            Err(error) => {
                say!("error: erasure {} was not made again: {error}", record.id);
                again.failed += 1;
            }
        }
    }
    Ok(again)
}

impl Again {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({ "made_again": self.made, "known": self.known, "failed": self.failed })
    }

    /// Fails if not all of them are done.
    pub(super) fn end(&self) -> End {
        if self.failed == 0 {
            return End::Ok;
        }
        say!("error: {} were not: run this again", self.failed);
        End::Failed
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} erasures were made again. {} were known, or their event is not in this database.",
            self.made, self.known
        )
    }
}
