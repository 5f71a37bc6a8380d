//! `photogate restored`: what must be done with a database that was restored from a backup.

use serde_json::json;

use super::{End, Output, erasures};
use crate::{access::Caller, config::Config};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url) and the photo store (--store-url).

Run it once after each restore, before anybody else can reach the database. It ends all workers that
the database knows: a worker that still runs, with photos that it claimed after the backup, changes
nothing any more and begins anew. Then it makes those erasures again that came after the backup, as
`photogate erasures apply` does.

Example:
  photogate restored --yes --actor anna@photogate.example")]
pub(super) struct Restored {
    /// Your e-mail address or name, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
    /// Confirms that this database was restored: all its workers begin anew
    #[arg(long)]
    yes: bool,
}

impl Restored {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let commands = super::commands(config).await?;
        anyhow::ensure!(
            self.yes,
            "this ends all workers of the database, and photos that they have in hand are looked at \
             again: if it was restored from a backup, confirm with --yes"
        );
        let caller = Caller::trusted(&self.actor);
        let workers = match commands.retire_all_workers(&caller).await {
            Ok(workers) => workers,
            Err(error) => return super::refused(error),
        };
        let again = erasures::apply(&commands, config, &caller).await?;
        let said = json!({ "workers_ended": workers, "erasures": again.json() });
        output.one(&said, |out| {
            writeln!(out, "{workers} workers of before the restore were ended.")?;
            writeln!(out, "{again}")
        })?;
        Ok(again.end())
    }
}
