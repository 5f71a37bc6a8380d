//! `photogate purchases …`: lists, approves and refuses purchases above the limit of the month.

use super::{End, Output};
use crate::{
    access::Caller,
    config::Config,
    database,
    ids::{OrganisationId, PurchaseId},
    ledger::purchases::{self, Filter, State},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Purchases {
    /// Lists purchases that wait for approval, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate purchases list --all")]
    List {
        /// Only those of this organisation
        #[arg(long)]
        organisation: Option<OrganisationId>,
        /// Those that are decided, too
        #[arg(long)]
        all: bool,
    },
    /// Approves a purchase: its credits are added
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Approve(Which),
    /// Refuses a purchase: nothing is added
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Refuse(Which),
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The number of the request
    request: PurchaseId,
    /// Who decides, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

/// The most requests that a list shows.
const MOST: i64 = 1000;

impl Purchases {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let decided = match self {
            Self::List { organisation, all } => {
                let state = (!all).then_some(State::Pending);
                let filter = Filter { organisation, state, below: None };
                let pool = database::connect(&config.database_url, 1).await?;
                let found = purchases::list(&mut *pool.acquire().await?, filter, MOST).await?;
                output.rows(
                    &found,
                    &["Request", "Organisation", "Credits", "Price", "Who", "Asked", "State"],
                    |one| {
                        vec![
                            one.id.to_string(),
                            format!("{} ({})", one.organisation, one.organisation_name),
                            one.credits.to_string(),
                            one.price.to_string(),
                            one.actor.clone(),
                            one.asked_at.format("%Y-%m-%d %H:%M").to_string(),
                            one.state.name().into(),
                        ]
                    },
                )?;
                return Ok(End::Ok);
            }
            Self::Approve(which) => {
                let caller = Caller::trusted(&which.actor);
                super::commands(config).await?.approve_purchase(&caller, which.request).await
            }
            Self::Refuse(which) => {
                let caller = Caller::trusted(&which.actor);
                super::commands(config).await?.refuse_purchase(&caller, which.request).await
            }
        };
        match decided {
            Ok(request) => output.one(&request, |out| {
                writeln!(
                    out,
                    "The purchase of {} credits by organisation {} is {}.",
                    request.credits,
                    request.organisation,
                    request.state.name()
                )
            })?,
            Err(error) => return super::refused(error),
        }
        Ok(End::Ok)
    }
}
