//! `photogate refunds`: counts refunded credits, or lists refunded photos.

use chrono::{DateTime, NaiveDate, Utc};

use super::{End, Output, say};
use crate::{
    config::Config,
    database,
    ids::OrganisationId,
    ledger::{
        credits,
        refunds::{self, By, Filter},
    },
};

/// Number of refunds read from the database at a time.
const PAGE: i64 = 10_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: PostgreSQL (--database-url).

Examples:
  photogate refunds --since 2026-11-01 --by reason
  photogate refunds --since 2026-11-01 --organisation 1 --photos --json

`photogate receipt` shows everything that happened to the credit of one photo.")]
pub(super) struct Refunds {
    /// Refunds from this time on: a day (in UTC), or an instant as 2026-11-01T12:00:00+01:00
    #[arg(long, value_parser = instant)]
    since: DateTime<Utc>,
    /// Refunds before this time, written the same way [default: until now]
    #[arg(long, value_parser = instant)]
    until: Option<DateTime<Utc>>,
    /// Only refunds of this organisation, by number [default: all organisations]
    #[arg(long)]
    organisation: Option<OrganisationId>,
    /// Group the counts by this
    #[arg(long, value_enum, default_value = "reason")]
    by: By,
    /// List the refunded photos instead of counting them
    #[arg(long, conflicts_with = "by")]
    photos: bool,
}

pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .and_then(|day| day.and_hms_opt(0, 0, 0))
        .map(|day| day.and_utc());
    day.or_else(|| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc()))
        .ok_or_else(|| "must be a day as 2026-11-01, or an instant as 2026-11-01T12:00:00Z".into())
}

impl Refunds {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        if let Some(organisation) = self.organisation
            && credits::balance(&mut db, organisation).await?.is_none()
        {
            say!("error: there is no organisation {organisation}");
            return Ok(End::NotFound);
        }
        let filter =
            Filter { since: self.since, until: self.until, organisation: self.organisation };
        if !self.photos {
            let counted = refunds::count(&mut db, filter, self.by).await?;
            output.rows(
                &counted,
                &["Of", "Name", "Photos", "Credits", "First", "Last"],
                |row| {
                    vec![
                        row.of.clone(),
                        row.name.clone(),
                        row.photos.to_string(),
                        row.credits.to_string(),
                        row.first_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
                        row.last_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
                    ]
                },
            )?;
            return Ok(End::Ok);
        }
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|row: &refunds::Refund| (row.at, row.job));
            let page = refunds::list(&mut db, filter, after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        output.rows(
            &all,
            &["Date", "Photo", "Key", "Event", "Organisation", "Operation", "Reason", "Entry"],
            |row| {
                vec![
                    row.at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
                    row.photo.to_string(),
                    row.key.clone(),
                    row.event_name.clone(),
                    row.organisation_name.clone(),
                    row.operation.to_string(),
                    row.reason.clone(),
                    row.entry.to_string(),
                ]
            },
        )?;
        Ok(End::Ok)
    }
}
