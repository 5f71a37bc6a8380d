//! `photogate events timeline`: what happened to an event's queues.

use std::io;

use crate::{
    catalog::events,
    cli::{End, Output, say},
    config::Config,
    database,
    ids::EventId,
    queue::timeline::{self, COLUMNS, Entry},
    spreadsheet::plain,
};

/// Prints the timeline of an event, newest first.
pub(super) async fn list(
    event: EventId,
    most: i64,
    csv: bool,
    config: &Config,
    output: Output,
) -> anyhow::Result<End> {
    let pool = database::connect(&config.database_url, 1).await?;
    let mut db = pool.acquire().await?;
    if events::find(&mut db, event).await?.is_none() {
        say!("error: there is no event {event}");
        return Ok(End::NotFound);
    }
    let entries = timeline::list(&mut db, event, None, most).await?;
    if csv {
        write_csv(&entries)?;
        return Ok(End::Ok);
    }
    let header = ["Entry", "When", "Operation", "Who", "What happened"];
    output.rows(&entries, &header, |entry| {
        vec![
            entry.id.to_string(),
            entry.at.format("%Y-%m-%d %H:%M:%S").to_string(),
            entry.operation.map_or_else(|| "both".into(), |operation| operation.to_string()),
            entry.actor.clone().unwrap_or_else(|| "System".into()),
            entry.to_string(),
        ]
    })?;
    Ok(End::Ok)
}

/// Writes the entries as CSV, with the columns of the page's file.
fn write_csv(entries: &[Entry]) -> io::Result<()> {
    let mut out = csv::Writer::from_writer(io::stdout().lock());
    out.write_record(COLUMNS.map(|(name, _)| name))?;
    for entry in entries {
        out.write_record(COLUMNS.map(|(_, cell)| plain(cell(entry))))?;
    }
    out.flush()
}
