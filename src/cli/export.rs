//! `photogate export …`: data of the service as files, for other programs.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};

use super::{End, refunds::instant, say};
use crate::{
    catalog::{
        away,
        corrections::labels::{Which, labels},
        events,
    },
    config::Config,
    database,
    ids::{EventId, OrganisationId},
    ledger::credits,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Export {
    /// Writes what people have corrected as labels: a set of photos to measure and train with
    #[command(after_help = "Needs: PostgreSQL (--database-url).

The output is one JSON object. Its names are the photos' keys in the store, sorted. A photo has the
fields of samples/labels.json and samples/races/labels.json that were corrected: `bibs`, `complete`
and `partial`, or `turn`. `found_bibs` and `found_turn` are what the models had said; null if they
were not asked, or abstained. Bib numbers are personal data: an erasure does not reach this file.

Example:
  photogate export labels --event 1 --since 2026-11-01 > labels.json")]
    Labels {
        /// Only photos of this event, by number [default: all events]
        #[arg(long)]
        event: Option<EventId>,
        /// Only photos of this organisation, by number [default: all organisations]
        #[arg(long, conflicts_with = "event")]
        organisation: Option<OrganisationId>,
        /// Only corrections from this time on: a day (in UTC), or an instant as
        /// 2026-11-01T12:00:00+01:00
        #[arg(long, value_parser = instant)]
        since: Option<DateTime<Utc>>,
    },
}

impl Export {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<End> {
        let Self::Labels { event, organisation, since } = self;
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        if let Some(event) = event
            && events::find(&mut db, event).await?.is_none()
        {
            say!("error: there is no event {event}");
            return Ok(End::NotFound);
        }
        if let Some(organisation) = organisation
            && credits::balance(&mut db, organisation).await?.is_none()
        {
            say!("error: there is no organisation {organisation}");
            return Ok(End::NotFound);
        }
        // What is said of archives must be true of the labels: both are of one instant.
        let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        match event {
            Some(event) => away::must_be_here(&mut tx, event).await?,
            None => left_out(&mut tx, organisation).await?,
        }
        let mut all = std::pin::pin!(labels(&mut tx, Which { event, organisation, since }));
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut photos = 0_u64;
        while let Some(label) = all.try_next().await? {
            // As the files in samples/ are written: one space for each level.
            out.write_all(if photos == 0 { b"{\n " } else { b",\n " })?;
            serde_json::to_writer(&mut out, &label.key)?;
            out.write_all(b": ")?;
            let text = pretty(&label.known)?;
            out.write_all(text.replace('\n', "\n ").as_bytes())?;
            photos += 1;
        }
        out.write_all(if photos == 0 { b"{}\n" } else { b"\n}\n" })?;
        out.flush()?;
        say!("{photos} photos have corrections.");
        Ok(End::Ok)
    }
}

/// Says which events are left out, because what was corrected on their photos is in archives.
async fn left_out(db: &mut PgConnection, of: Option<OrganisationId>) -> sqlx::Result<()> {
    let archived = away::count_since(db, of, DateTime::UNIX_EPOCH).await?;
    if archived > 0 {
        say!("warning: archived events are left out: {archived} (photogate archive list)");
    }
    Ok(())
}

/// JSON with one space for each level.
fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, form))?;
    Ok(String::from_utf8(text)?)
}
