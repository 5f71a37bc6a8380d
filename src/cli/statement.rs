//! `photogate statement`: an organisation's month, as CSV, JSON or PDF.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;
use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::statement::{self, Csv, Pdf, Reading, StatementError},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate statement --organisation 1 --month 2026-10 > october.csv
  photogate statement --organisation 1 --month 2026-10 --format pdf > october.pdf
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
    /// The format: csv for spreadsheets, pdf for people, json for programs [default: csv; with
    /// --json, json]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Csv,
    Json,
    Pdf,
}

pub(super) fn month(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d")
        .map_err(|_| "must be a month as 2026-10".to_owned())
}

impl MonthOf {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let format = self.format.unwrap_or(if output.json { Format::Json } else { Format::Csv });
        match self.write(&mut db, format).await {
            Ok(closed) => {
                if !closed {
                    say!("The month is not over yet: this statement can still change.");
                }
                Ok(End::Ok)
            }
            Err(error) => match error.downcast_ref() {
                Some(StatementError::NoOrganisation(_)) => {
                    say!("error: {error}");
                    Ok(End::NotFound)
                }
                Some(StatementError::DoesNotAddUp { .. }) => {
                    say!("error: {error}");
                    Ok(End::BooksDoNotBalance)
                }
                _ => Err(error),
            },
        }
    }

    /// Writes the statement, and returns whether its month is over.
    async fn write(&self, db: &mut PgConnection, format: Format) -> anyhow::Result<bool> {
        if format == Format::Json {
            let all = statement::statement(db, self.organisation, self.month, usize::MAX).await?;
            Output { json: true }.one(&all, |_| Ok(()))?;
            return Ok(all.closed);
        }
        if format == Format::Pdf && io::stdout().is_terminal() {
            bail!("a PDF file is not for the terminal: add > FILE");
        }
        let mut reading = Reading::begin(db, self.organisation, self.month).await?;
        if format == Format::Pdf {
            let mut file = Pdf::begin(reading.head());
            while let Some(lines) = reading.next_day().await? {
                file.write(&lines);
            }
            io::stdout().write_all(&file.end(reading.head())?)?;
            return Ok(reading.head().closed);
        }
        // Written while it is read: a month may have a million rows.
        let mut file = Csv::begin(reading.head(), io::stdout().lock())?;
        while let Some(lines) = reading.next_day().await? {
            file.write(&lines)?;
        }
        file.end(reading.head())?;
        Ok(reading.head().closed)
    }
}
