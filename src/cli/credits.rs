//! `photogate credits …`: balance, top-ups and history of an organisation.

use anyhow::bail;
use sqlx::PgConnection;

use super::{End, Output, auto_top_up, say};
use crate::{
    access::Caller,
    commands::{Addition, Twin},
    config::Config,
    database,
    ids::{EventId, OrganisationId, RunId},
    ledger::{
        credits,
        history::{self, Cursor, Kind, Movement, Page, PhotoOfRun},
        months,
        top_up::TopUpKind,
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Credits {
    /// Shows available, reserved and spent credits
    #[command(after_help = "Needs: PostgreSQL (--database-url).")]
    Balance {
        /// The organisation's number
        organisation: OrganisationId,
    },
    /// Adds credits that were paid for, at the organisation's price; paused queues resume
    #[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), workers are told at once; without it, within a second.
A top-up does not lift a hold: see `photogate events lift`.

Example:
  photogate credits top-up 1 500 --key order-4711")]
    TopUp(Amount),
    /// Adds credits without payment (grant or gift), or adjusts the balance up or down
    #[command(after_help = "Needs: PostgreSQL (--database-url).
With Redis (--redis-url), workers are told at once; without it, within a second.

Examples:
  photogate credits grant 1 100 --key welcome-1 --kind free_credits
  photogate credits grant 1 --key ticket-88 --kind adjustment -- -20")]
    Grant {
        #[command(flatten)]
        amount: Amount,
        /// The kind of the top-up; only an adjustment may have negative credits
        #[arg(long, value_enum, default_value = "admin_grant")]
        kind: TopUpKind,
    },
    /// Shows and sets when an organisation buys credits by itself, and how many
    AutoTopUp(auto_top_up::Auto),
    /// Shows usage, additions and balances of the current month and the months before it
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate credits months 1 --before 11")]
    Months {
        /// The organisation's number
        organisation: OrganisationId,
        /// Number of months before the current one, 0 to 120
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(0..=120))]
        before: i32,
    },
    /// Lists the photos of a run, with their state, charge and refund
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Example:
  photogate credits run 17 --json")]
    Run {
        /// The run's number, from the Run column of `photogate credits history`
        run: RunId,
        /// Start after this position; for the next page, the last position of this one
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Maximum number of rows, 1 to 10,000
        #[arg(
            long,
            default_value_t = 200,
            value_parser = clap::value_parser!(i64).range(1..=10_000),
        )]
        limit: i64,
    },
    /// Lists what changed the balance, newest first
    #[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate credits history 1 --limit 200 --json
  photogate credits history 1 --kind refund --event 3
  photogate credits history 1 --after b496e-4f1-11      next page, after this cursor")]
    History {
        /// The organisation's number
        organisation: OrganisationId,
        /// Only rows of this kind; may be repeated [default: all kinds]
        #[arg(long, value_enum)]
        kind: Vec<Kind>,
        /// Only rows of this event, by number [default: all events]
        #[arg(long)]
        event: Option<EventId>,
        /// Start after this row; for the next page, the cursor of the last row of this one
        #[arg(long, value_name = "CURSOR")]
        after: Option<Cursor>,
        /// Maximum number of rows, 1 to 200
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
        limit: i64,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Amount {
    /// The organisation's number
    organisation: OrganisationId,
    /// Number of credits; not 0, negative only in an adjustment
    credits: i64,
    /// The idempotency key, such as an order number: the same key again changes nothing, so that a
    /// call can be repeated safely
    #[arg(long)]
    key: String,
    /// Your e-mail address or name, for the history and the audit log
    #[arg(long, default_value = "cli")]
    actor: String,
    /// A note for people who read the statement
    #[arg(long, default_value = "")]
    note: String,
}

impl Credits {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        match self {
            Self::AutoTopUp(auto) => auto.run(config, output).await,
            Self::Balance { organisation } => balance(&mut db, organisation, output).await,
            Self::TopUp(amount) => amount.credit(TopUpKind::Purchase, config, output).await,
            Self::Grant { kind: TopUpKind::Purchase, .. } => {
                bail!("a grant cannot be a purchase: use `photogate credits top-up`")
            }
            Self::Grant { amount, kind } => amount.credit(kind, config, output).await,
            Self::Months { organisation, before } => {
                months(&mut db, organisation, before, output).await
            }
            Self::Run { run, after, limit } => {
                let photos = history::photos_of_run(&mut db, run, after, limit).await?;
                if photos.is_empty() && after == 0 {
                    say!("error: there is no run {run}, or it queued no photos");
                    return Ok(End::NotFound);
                }
                output.rows(&photos, PHOTOS, photo_row)?;
                Ok(End::Ok)
            }
            Self::History { organisation, kind, event, after, limit } => {
                let page = Page { kinds: &kind, event, after, most: limit, ..Page::default() };
                history(&mut db, organisation, page, output).await
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
    page: Page<'_>,
    output: Output,
) -> anyhow::Result<End> {
    if credits::balance(db, organisation).await?.is_none() {
        say!("error: there is no organisation {organisation}");
        return Ok(End::NotFound);
    }
    let rows = history::history(db, organisation, page).await?;
    output.rows(&rows, HISTORY, history_row)?;
    if let Some(last) = rows.last().filter(|_| i64::try_from(rows.len()) == Ok(page.most)) {
        say!("There may be more rows. Next page: --after {}", last.cursor);
    }
    Ok(End::Ok)
}

async fn months(
    db: &mut PgConnection,
    organisation: OrganisationId,
    before: i32,
    output: Output,
) -> anyhow::Result<End> {
    let months = months::latest(db, organisation, before).await?;
    if months.is_empty() {
        say!("error: there is no organisation {organisation}");
        return Ok(End::NotFound);
    }
    let header = &["Month", "Usage", "Credits added", "Net", "Transactions", "Opening", "Closing"];
    output.rows(&months, header, |month| {
        let current = if month.current { " (current)" } else { "" };
        vec![
            format!("{}{current}", month.month.format("%Y-%m")),
            month.usage.to_string(),
            month.added.to_string(),
            format!("{:+}", month.net),
            month.transactions.to_string(),
            month.opening.to_string(),
            month.closing.to_string(),
        ]
    })?;
    Ok(End::Ok)
}

const PHOTOS: &[&str] = &["Position", "Photo", "Key", "State", "Reason", "Charged", "Refunded"];

fn photo_row(row: &PhotoOfRun) -> Vec<String> {
    let instant = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(|| "—".into(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
    };
    vec![
        row.position.to_string(),
        row.photo.to_string(),
        row.key.clone(),
        row.state.replace('_', " "),
        row.reason.clone().unwrap_or_else(|| "—".into()),
        instant(row.charged_at),
        instant(row.refunded_at),
    ]
}

pub(super) const HISTORY: &[&str] =
    &["Type", "Credits", "Balance", "Event", "Event ID", "Operation", "Run", "User", "Date"];

pub(super) fn history_row(row: &Movement) -> Vec<String> {
    let dash = || "—".to_owned();
    vec![
        row.kind.name().to_owned(),
        format!("{:+}", row.credits),
        row.balance.to_string(),
        row.event_name.clone().unwrap_or_else(dash),
        row.event.map_or_else(dash, |event| event.to_string()),
        row.operation.map_or_else(dash, |operation| operation.to_string()),
        row.run.map_or_else(dash, |run| run.to_string()),
        row.actor.clone(),
        format!(
            "{}{}",
            row.at.format("%Y-%m-%d %H:%M:%S UTC"),
            if row.growing { ", today so far" } else { "" }
        ),
    ]
}

impl Amount {
    async fn credit(self, kind: TopUpKind, config: &Config, output: Output) -> anyhow::Result<End> {
        let amount = credits::Credits(self.credits);
        let addition = Addition {
            organisation: self.organisation,
            kind,
            credits: amount,
            note: &self.note,
            idempotency_key: &self.key,
            price: None,
            twin: Twin::Waits,
        };
        let caller = Caller::trusted(&self.actor);
        let credited = super::commands(config).await?.add_credits(&caller, &addition).await;
        let credited = match credited {
            Ok(credited) => credited,
            Err(error) => return super::refused(error),
        };
        output.one(&credited, |out| {
            let what = if credited.credited {
                format!("{amount} credits were added")
            } else {
                "This key was credited before; nothing changed".into()
            };
            let then = if credited.resumed { "; paused queues resume" } else { "" };
            writeln!(out, "{what}: {} available{then}.", credited.available)
        })?;
        Ok(End::Ok)
    }
}
