//! `photogate alerts …`: what an organisation wants to be told of.

use rust_decimal::Decimal;

use super::{End, Output, output::table};
use crate::{
    access::Caller,
    changes::alerts::{self, Alert, Kind},
    commands::NewAlert,
    config::Config,
    database,
    ids::{AlertId, OrganisationId},
};

const HEADER: [&str; 4] = ["Alert", "Organisation", "When", "State"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum Alerts {
    /// Lists alerts; those that are raised come first
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    List {
        /// Only those of this organisation, by number
        #[arg(long)]
        organisation: Option<OrganisationId>,
    },
    /// Adds an alert, which webhooks and the feed of changes say
    #[command(
        after_help = "Needs: PostgreSQL (--database-url). Workers measure all but low_balance.

Examples:
  photogate alerts add 1 low_balance 500      below 500 credits
  photogate alerts add 1 time_to_zero 12      credits last for less than 12 hours
  photogate alerts add 1 failures 5           more than 5 % of the photos of a day fail
  photogate alerts add 1 floor_short 0        floors of events lack credits
  photogate alerts add 1 hold_ends 30         a hold ends within 30 minutes
  photogate alerts add 0 purchase_waits 4     the staff: a purchase waits for approval for 4 hours
  photogate alerts add 0 books_drift 0        the staff: rows of the books do not agree"
    )]
    Add {
        /// The organisation's number; 0: the staff
        organisation: OrganisationId,
        /// What is measured
        #[arg(value_enum)]
        kind: Kind,
        /// Credits, hours, percent, minutes or rows
        threshold: Decimal,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
    /// Removes an alert
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Remove {
        /// The alert's number
        alert: AlertId,
        /// Your e-mail address or name, for the audit log
        #[arg(long, default_value = "cli")]
        actor: String,
    },
}

impl Alerts {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::List { organisation } => {
                let pool = database::connect(&config.database_url, 1).await?;
                let found = alerts::list(&mut *pool.acquire().await?, organisation, None).await?;
                output.rows(&found, &HEADER, row)?;
                Ok(End::Ok)
            }
            Self::Add { organisation, kind, threshold, actor } => {
                let commands = super::commands(config).await?;
                let new = NewAlert { kind, threshold };
                match commands.add_alert(&Caller::trusted(&actor), organisation, &new).await {
                    Ok(made) => {
                        output.one(&made.value, |out| {
                            write!(out, "{}", table(&HEADER, &[row(&made.value)]))
                        })?;
                        Ok(End::Ok)
                    }
                    Err(error) => super::refused(error),
                }
            }
            Self::Remove { alert, actor } => {
                let commands = super::commands(config).await?;
                match commands.remove_alert(&Caller::trusted(&actor), alert).await {
                    Ok(()) => Ok(End::Ok),
                    Err(error) => super::refused(error),
                }
            }
        }
    }
}

fn row(alert: &Alert) -> Vec<String> {
    let state = match (alert.raised_at, alert.measured) {
        (Some(at), Some(measured)) => {
            format!("raised since {} at {}", at.format("%F %T UTC"), measured.normalize())
        }
        _ => "not raised".to_owned(),
    };
    vec![
        alert.id.to_string(),
        alert.organisation.to_string(),
        alert.kind.says(alert.threshold),
        state,
    ]
}
