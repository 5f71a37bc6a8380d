//! `photogate months`: a month of all organisations, for whoever closes the books.

use std::io;

use chrono::NaiveDate;

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::{
        credits,
        month_close::{self, Close},
    },
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate months
  photogate months --month 2026-10 --csv > october.csv
  photogate months --month 2026-10 --organisation 1 --json

Opening + added - used + refunded = closing. A month begins and ends in the time zone of its
organisation. Checked: a full check of the books has passed its last entry. The months of one
organisation, one after the other: photogate credits months 1.")]
pub(super) struct MonthOfAll {
    /// The month, as 2026-10 [default: the last one that is over]
    #[arg(long, value_parser = super::statement::month)]
    month: Option<NaiveDate>,
    /// Only this organisation, by number [default: all organisations]
    #[arg(long)]
    organisation: Option<OrganisationId>,
    /// Write a CSV file, with more columns
    #[arg(long)]
    csv: bool,
}

const HEADER: &[&str] = &[
    "ID",
    "Organisation",
    "Opening",
    "Added",
    "Used",
    "Refunded",
    "Closing",
    "Sold",
    "State",
    "Checked",
];

fn row(close: &Close) -> Vec<String> {
    let sums = close.sums;
    let sold: Vec<_> = close.sold.iter().map(ToString::to_string).collect();
    vec![
        close.organisation.to_string(),
        close.name.clone(),
        sums.opening.to_string(),
        sums.added.to_string(),
        sums.used.to_string(),
        sums.refunded.to_string(),
        sums.closing.to_string(),
        if sold.is_empty() { "—".to_owned() } else { sold.join(" + ") },
        if close.is_closed { "closed" } else { "runs" }.to_owned(),
        if close.is_checked { "yes" } else { "no" }.to_owned(),
    ]
}

impl MonthOfAll {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        if let Some(organisation) = self.organisation
            && credits::balance(&mut db, organisation).await?.is_none()
        {
            say!("error: there is no organisation {organisation}");
            return Ok(End::NotFound);
        }
        let month = self.month.unwrap_or_else(month_close::last_month);
        let closes = month_close::read(&mut db, month, self.organisation).await?;
        if self.csv {
            month_close::write_csv(&closes, io::stdout().lock())?;
        } else if output.json {
            output.one(&closes, |_| Ok(()))?;
        } else {
            output.rows(&closes.items, HEADER, row)?;
        }
        let running = closes.items.iter().filter(|close| !close.is_closed).count();
        if running > 0 {
            say!(
                "The month still runs for {running} organisations: their numbers can still change."
            );
        }
        Ok(End::Ok)
    }
}
