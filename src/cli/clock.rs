//! `photogate clock confirm`: says that the clock of the database is right.

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
}

impl Clock {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let Self::Confirm { actor } = self;
        let commands = super::commands(config).await?;
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
