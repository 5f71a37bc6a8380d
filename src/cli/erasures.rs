//! `photogate erasures …`: lists what was erased of an event, and makes erasures again after a
//! restore.

use serde_json::json;

use super::{End, Output, say};
use crate::{
    access::Caller,
    catalog::{erasures, photo_store::PhotoStore},
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
                let store = PhotoStore::open(&config.store_url, &config.store_options)?;
                let (records, others) = store.erasures().await?;
                let (mut again, mut failed, caller) = (0, 0, Caller::trusted(&actor));
                for other in &others {
                    say!(
                        "error: {other} cannot be read as an erasure: look at it, and move it away"
                    );
                }
                for record in &records {
                    match commands.erase_again(&caller, record).await {
                        Ok(true) => again += 1,
                        Ok(false) => {}
                        Err(error) => {
                            say!("error: erasure {} was not made again: {error}", record.id);
                            failed += 1;
                        }
                    }
                }
                let known = records.len() - again - failed;
                let said = json!({
                    "made_again": again, "known": known, "failed": failed + others.len(),
                });
                output.one(&said, |out| {
                    writeln!(
                        out,
                        "{again} erasures were made again. {known} were known, or their event is \
                         not in this database."
                    )
                })?;
                if failed + others.len() > 0 {
                    say!("error: {} were not: run this again", failed + others.len());
                    return Ok(End::Failed);
                }
            }
        }
        Ok(End::Ok)
    }
}
