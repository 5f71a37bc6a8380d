//! `photogate credits …`

use anyhow::bail;
use sqlx::PgConnection;

use super::{End, Output, say};
use crate::{
    config::Config,
    credits, database,
    ids::OrganisationId,
    ledger,
    top_up::{self, TopUp, TopUpError, TopUpKind},
    wake::Wake,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Credits {
    /// Shows the balance
    Balance {
        /// Whose
        organisation: OrganisationId,
    },
    /// Credits a purchase; paused queues go on by themselves
    #[command(after_help = "Example:\n  photogate credits top-up 1 500 --key order-4711")]
    TopUp(Amount),
    /// Credits a grant, a gift or an adjustment by staff
    #[command(after_help = "Examples:
  photogate credits grant 1 100 --key welcome-1 --kind free_credits
  photogate credits grant 1 --key ticket-88 --kind refund -- -20")]
    Grant {
        #[command(flatten)]
        amount: Amount,
        /// Why
        #[arg(long, value_enum, default_value = "admin_grant")]
        kind: TopUpKind,
    },
    /// Shows what came in and went out, newest first
    #[command(after_help = "Example:\n  photogate credits history 1 --limit 200 --json")]
    History {
        /// Whose
        organisation: OrganisationId,
        /// Rows, at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
        limit: i64,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Amount {
    /// Whose account
    organisation: OrganisationId,
    /// How many credits
    credits: i64,
    /// The idempotency key: the same for every try of the same top-up, such as the number of an order
    #[arg(long)]
    key: String,
    /// Who does it, for the books
    #[arg(long, default_value = "System")]
    actor: String,
    /// For people
    #[arg(long, default_value = "")]
    note: String,
}

impl Credits {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::Balance { organisation } => balance(&mut db, organisation, output).await,
            Self::TopUp(amount) => {
                amount.credit(&mut db, TopUpKind::Purchase, config, output).await
            }
            Self::Grant { kind: TopUpKind::Purchase, .. } => {
                bail!("a purchase is no grant: use `photogate credits top-up`")
            }
            Self::Grant { amount, kind } => amount.credit(&mut db, kind, config, output).await,
            Self::History { organisation, limit } => {
                history(&mut db, organisation, limit, output).await
            }
        }
    }
}

async fn balance(
    db: &mut PgConnection,
    organisation: OrganisationId,
    output: Output,
) -> anyhow::Result<End> {
    let Some(balance) = credits::balance(db, organisation).await? else {
        say!("error: there is no organisation {organisation}");
        return Ok(End::NotFound);
    };
    output.one(&balance, |out| {
        writeln!(
            out,
            "{} credits available, {} reserved for photos in progress, {} spent",
            balance.available, balance.reserved, balance.spent
        )
    })?;
    Ok(End::Ok)
}

async fn history(
    db: &mut PgConnection,
    organisation: OrganisationId,
    limit: i64,
    output: Output,
) -> anyhow::Result<End> {
    if credits::balance(db, organisation).await?.is_none() {
        say!("error: there is no organisation {organisation}");
        return Ok(End::NotFound);
    }
    let rows = ledger::history(db, organisation, limit).await?;
    output.rows(&rows, HISTORY, history_row)?;
    Ok(End::Ok)
}

pub(super) const HISTORY: &[&str] =
    &["Type", "Credits", "Event", "Event ID", "Operation", "User", "Date"];

pub(super) fn history_row(row: &ledger::Movement) -> Vec<String> {
    let dash = || "—".to_owned();
    let kind = match row.kind.as_str() {
        "usage" => "Usage",
        "refund" => "Refund",
        "purchase" => "Purchase",
        "admin_grant" => "Admin Grant",
        "free_credits" => "Free Credits",
        other => other,
    };
    vec![
        kind.to_owned(),
        format!("{:+}", row.credits),
        row.event_name.clone().unwrap_or_else(dash),
        row.event.map_or_else(dash, |event| event.to_string()),
        row.operation.map_or_else(dash, |operation| operation.to_string()),
        row.actor.clone(),
        row.at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    ]
}

impl Amount {
    async fn credit(
        self,
        db: &mut PgConnection,
        kind: TopUpKind,
        config: &Config,
        output: Output,
    ) -> anyhow::Result<End> {
        let wake = Wake::open(config.redis_url.as_deref())?;
        let amount = crate::credits::Credits(self.credits);
        let asked = TopUp {
            organisation: self.organisation,
            kind,
            amount,
            actor: &self.actor,
            note: &self.note,
            idempotency_key: &self.key,
        };
        let credited = match top_up::top_up(db, asked).await {
            Ok(credited) => credited,
            Err(error @ TopUpError::NoOrganisation(_)) => {
                say!("error: {error}");
                return Ok(End::NotFound);
            }
            Err(error) => return Err(error.into()),
        };
        if credited.resumed {
            wake.ring_now().await;
        }
        output.one(&credited, |out| {
            let what = if credited.credited {
                format!("{amount} credits were added")
            } else {
                "This was credited before, nothing changed".into()
            };
            let then = if credited.resumed { "; paused queues go on" } else { "" };
            writeln!(out, "{what}: {} available{then}.", credited.available)
        })?;
        Ok(End::Ok)
    }
}
