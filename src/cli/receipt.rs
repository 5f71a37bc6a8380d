//! `photogate receipt`: everything that happened to the credit of one photo.

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::{End, Output, say};
use crate::{
    catalog::{archive, events, photo_store::PhotoStore},
    config::Config,
    database,
    ids::{EventId, Operation, PhotoId},
    ledger::receipt::{Booking, Job},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs: PostgreSQL (--database-url), and the photo store (--store-url) for photos of archived events.

Examples:
  photogate receipt 019a0d1e-7c1f-7b1a-8f5e-2f6f0a3b9c11
  photogate receipt 2026/IMG_0001.jpg --event 1 --operation photo_processing"
)]
pub(super) struct Receipt {
    /// The photo's ID (a UUID), or, with --event, its key in the store
    photo: String,
    /// The number of the photo's event; needed if the photo is named by its key
    #[arg(long)]
    event: Option<EventId>,
    /// Only jobs of this operation [default: all operations]
    #[arg(long, value_enum)]
    operation: Option<Operation>,
}

impl Receipt {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let pool = database::connect(&config.database_url, 1).await?;
        let mut db = pool.acquire().await?;
        let photo = match (self.event, self.photo.parse()) {
            (Some(event), _) => events::photo(&mut db, event, &self.photo).await?,
            (None, Ok(photo)) => Some(PhotoId(photo)),
            (None, Err(_)) => {
                anyhow::bail!(
                    "{:?} is not the ID of a photo: if it is a key, name its event with --event",
                    self.photo
                )
            }
        };
        let found = match photo {
            Some(photo) => {
                let store = PhotoStore::open(&config.store_url, &config.store_options)?;
                drop(db);
                archive::receipt(&pool, &store, photo, self.operation).await?
            }
            None => None,
        };
        let Some(found) = found else {
            say!("error: there is no photo {}", self.photo);
            return Ok(End::NotFound);
        };
        output.one(&found, |out| {
            writeln!(out, "Photo {}: {}", found.photo, found.key)?;
            writeln!(
                out,
                "of event {} ({}), paid for by organisation {}",
                found.event, found.event_name, found.organisation
            )?;
            found.jobs.iter().try_for_each(|job| write_job(out, job))
        })?;
        Ok(End::Ok)
    }
}

fn write_job(out: &mut dyn Write, job: &Job) -> io::Result<()> {
    let again = if job.retry { ", queued again" } else { "" };
    writeln!(out, "\n{}{again}: {}", job.operation, job.state.replace('_', " "))?;
    writeln!(
        out,
        "  {}  queued by {} in run {}, as job {}",
        instant(job.queued_at),
        job.queued_by,
        job.run,
        job.job
    )?;
    if let Some(skipped) = &job.skipped {
        writeln!(out, "  {}  skipped by {}", instant(skipped.at), skipped.by)?;
    }
    if let Some(reserved) = &job.reserved {
        write_booking(out, reserved, "1 credit reserved")?;
    }
    for attempt in &job.attempts {
        let ended = attempt.ended.as_deref().unwrap_or("still in progress").replace('_', " ");
        let until = attempt.ended_at.map(|at| format!(" at {}", instant(at))).unwrap_or_default();
        let reason = attempt.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        writeln!(
            out,
            "  {}  attempt {} by {}: {ended}{until}{reason}",
            instant(attempt.started_at),
            attempt.number,
            attempt.worker
        )?;
    }
    if let Some(closed) = &job.closed {
        let what = if closed.movement == "commit" { "1 credit spent" } else { "1 credit refunded" };
        let why = job.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        write_booking(out, closed, &format!("{what}{why}"))?;
        if let Some(detail) = &job.detail {
            writeln!(out, "{:28}{detail}", "")?;
        }
        if let Some(original) = &job.duplicate_of {
            writeln!(out, "{:28}the same content as {}, which was paid for", "", original.key)?;
        }
    }
    Ok(())
}

fn write_booking(out: &mut dyn Write, booking: &Booking, what: &str) -> io::Result<()> {
    let worker = booking.worker.as_deref().unwrap_or("—");
    writeln!(out, "  {}  {what}, by {worker}", instant(booking.at))?;
    writeln!(
        out,
        "{:28}ledger entry {}, available {} before and {} after, sealed by {}",
        "", booking.entry, booking.balance_before, booking.balance_after, booking.link
    )
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}
