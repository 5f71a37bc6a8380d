//! `photogate reconcile`: checks the books.

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ledger::reconcile::{self, Scope},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url). It only reads.
Prints the number of violations of each invariant; every number must be 0.

Examples:
  photogate reconcile --json | jq '.[] | select(.violations > 0)'
  photogate reconcile --incremental                 the check that workers do every minute

Workers do both checks by themselves: settings reconcile_seconds and reconcile_full_hours. Their full check
begins where the last one ended; this one begins at the first entry of each ledger. It reads in slices,
so it can run while photos are processed.
`photogate ledger verify` checks the hash chain of the ledger.")]
pub(super) struct Reconcile {
    /// Only the cheap check, whose cost does not grow with the ledger [default: the full check]
    #[arg(long)]
    incremental: bool,
}

impl Reconcile {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let scope = if self.incremental { Scope::Incremental } else { Scope::Full };
        let checks = reconcile::reconcile(&mut *pool.acquire().await?, scope).await?;
        output.rows(&checks, &["Violations", "Invariant", "Meaning"], |check| {
            vec![check.violations.to_string(), check.invariant.into(), check.meaning.into()]
        })?;
        for check in &checks {
            for broken in &check.broken {
                let whose = broken
                    .organisation
                    .map(|organisation| format!("organisation {organisation}, "))
                    .unwrap_or_default();
                say!("error: {}: {whose}{}", check.invariant, broken.what);
            }
        }
        if checks.iter().all(|check| check.violations == 0) {
            say!("The books balance.");
            Ok(End::Ok)
        } else {
            say!("error: the books do not balance");
            Ok(End::BooksDoNotBalance)
        }
    }
}
