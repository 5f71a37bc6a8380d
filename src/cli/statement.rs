//! `photogate statement`: an organisation's month, as CSV or JSON.

use std::io;

use chrono::NaiveDate;

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::statement::{self, StatementError},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate statement --organisation 1 --month 2026-10 > october.csv
  photogate statement --organisation 1 --month 2026-10 --format json

The closing balance of a month is the opening balance of the next one.
A month that is over never changes.")]
pub(super) struct MonthOf {
    /// The organisation's number
    #[arg(long)]
    organisation: OrganisationId,
    /// The month, as 2026-10, in the organisation's time zone
    #[arg(long, value_parser = month)]
    month: NaiveDate,
    /// The format: csv for spreadsheets, json for programs [default: csv; with --json, json]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    Json,
}

fn month(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d")
        .map_err(|_| "must be a month as 2026-10".to_owned())
}

impl MonthOf {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let found =
            match statement::statement(&mut db, self.organisation, self.month, usize::MAX).await {
                Ok(found) => found,
                Err(error @ StatementError::NoOrganisation(_)) => {
                    say!("error: {error}");
                    return Ok(End::NotFound);
                }
                Err(error @ StatementError::DoesNotAddUp { .. }) => {
                    say!("error: {error}");
                    return Ok(End::BooksDoNotBalance);
                }
                Err(error) => return Err(error.into()),
            };
        match self.format.unwrap_or(if output.json { Format::Json } else { Format::Csv }) {
            Format::Json => Output { json: true }.one(&found, |_| Ok(()))?,
            Format::Csv => statement::write_csv(&found, io::stdout().lock())?,
        }
        if !found.closed {
            say!("The month is not over yet: this statement can still change.");
        }
        Ok(End::Ok)
    }
}
