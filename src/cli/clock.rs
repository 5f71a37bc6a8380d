//! `photogate clock`: says that the clock of the database is right, and repairs what a wrong one did.

use serde_json::json;

use super::{End, Output};
use crate::{access::Caller, config::Config};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Clock {
    /// Says that the clock of the database is right, after photogate has refused to book anything
    #[command(after_help = "Needs: PostgreSQL (--database-url).

photogate books nothing while the clock of the database is more than a month after everything that
tells the time: the last movement, the leases of workers, and the start of the server. If the clock
is wrong, set it right instead: then everything goes on by itself.

Example:
  photogate clock confirm --actor anna@photogate.example")]
    Confirm {
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Puts accounts back that were booked in the future, after the clock was set right
    #[command(after_help = "Needs: PostgreSQL (--database-url).

An account's movements are booked at times that never decrease. So after one movement in the future,
all later ones are booked there too. This puts such accounts back to now. The entries of the future
stay in the ledger as they are. History and statement show them now, in the month that is open, and
a month that was opened too early is taken back.

Set the clock of the database right first. Statements that were made meanwhile may change.

Example:
  photogate clock repair --today 2026-11-28 --actor anna@photogate.example")]
    Repair {
        /// The date of today. If the clock of the database says another one, nothing is changed
        #[arg(long)]
        today: chrono::NaiveDate,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Clock {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let commands = super::commands(config).await?;
        let actor = match self {
            Self::Confirm { actor } => actor,
            Self::Repair { today, actor } => {
                let caller = Caller::trusted(&actor);
                let repaired = match commands.repair_clock(&caller, today).await {
                    Ok(repaired) => repaired,
                    Err(error) => return super::refused(error),
                };
                output.rows(&repaired, &["Organisation", "Entries of the future"], |one| {
                    vec![one.organisation.to_string(), one.entries.to_string()]
                })?;
                super::say!("{} accounts were put back.", repaired.len());
                return Ok(End::Ok);
            }
        };
        let at = match commands.confirm_clock(&Caller::trusted(&actor)).await {
            Ok(at) => at,
            Err(error) => return super::refused(error),
        };
        output.one(&json!({ "confirmed": at }), |out| {
            writeln!(out, "The clock of the database is right: {at}.")
        })?;
        Ok(End::Ok)
    }
}
