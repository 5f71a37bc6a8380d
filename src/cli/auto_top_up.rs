//! `photogate credits auto-top-up …`: when an organisation buys credits by itself.

use super::{End, Output, say};
use crate::{
    access::Caller,
    commands::NewAutoTopUp,
    config::Config,
    database,
    ids::OrganisationId,
    ledger::{
        auto_top_up::{self, AutoTopUp, State},
        credits::Credits,
    },
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url). Workers buy.

Examples:
  photogate credits auto-top-up 1                   how it stands
  photogate credits auto-top-up 1 --below 500 --credits 2000 --monthly-max 10000
  photogate credits auto-top-up 1 --off")]
pub(super) struct Auto {
    /// The organisation's number
    organisation: OrganisationId,
    /// Switch it on: buy when fewer credits than this are available
    #[arg(long, requires = "credits", requires = "monthly_max")]
    below: Option<i64>,
    /// So many credits are bought at once
    #[arg(long, requires = "below")]
    credits: Option<i64>,
    /// At most so many credits are bought in a month
    #[arg(long, requires = "below")]
    monthly_max: Option<i64>,
    /// Switch it off
    #[arg(long, conflicts_with = "below")]
    off: bool,
    /// Your e-mail address or name, for the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
}

impl Auto {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let (id, caller) = (self.organisation, Caller::trusted(&self.actor));
        let done = match (self.below, self.credits, self.monthly_max) {
            (Some(below), Some(credits), Some(most)) => {
                let new = NewAutoTopUp {
                    below: Credits(below),
                    credits: Credits(credits),
                    monthly_max: Credits(most),
                    price: None,
                };
                super::commands(config).await?.set_auto_top_up(&caller, id, &new).await
            }
            _ if self.off => {
                super::commands(config).await?.switch_auto_top_up_off(&caller, id).await
            }
            _ => {
                let pool = database::connect(&config.database_url, 1).await?;
                match auto_top_up::read(&mut *pool.acquire().await?, id).await? {
                    Some(found) => Ok(found),
                    None => {
                        say!("error: there is no organisation {id}");
                        return Ok(End::NotFound);
                    }
                }
            }
        };
        match done {
            Ok(found) => output.one(&found, |out| writeln!(out, "{}", told(&found)))?,
            Err(error) => return super::refused(error),
        }
        Ok(End::Ok)
    }
}

fn told(found: &AutoTopUp) -> String {
    let (State::On | State::Waits | State::Stopped, Some(below), Some(credits), Some(most)) =
        (found.state, found.below, found.credits, found.monthly_max)
    else {
        return "The automatic top-up is off.".into();
    };
    let says = found.says.map(|says| format!("\n{says}")).unwrap_or_default();
    format!(
        "When fewer than {below} credits are available, {credits} are bought, at most {most} in a \
         month; {} so far this month.{says}",
        found.bought_this_month
    )
}
