//! A month of all organisations as a CSV file. Pages, the API and the command line write the same.

use std::io;

use super::{Close, Closes};
use crate::spreadsheet::plain;

const COLUMNS: [&str; 17] = [
    "organisation",
    "organisation_id",
    "month",
    "time_zone",
    "begins",
    "ends",
    "opening",
    "added",
    "purchased",
    "granted",
    "adjusted",
    "used",
    "refunded",
    "closing",
    "sold",
    "state",
    "checked",
];

/// Writes a row for each organisation. Cells that a spreadsheet would run as formulas are made plain
/// text.
///
/// # Errors
/// When it cannot be written.
pub fn write_csv(closes: &Closes, to: impl io::Write) -> csv::Result<()> {
    let mut out = csv::Writer::from_writer(to);
    out.write_record(COLUMNS)?;
    let month = closes.month.format("%Y-%m").to_string();
    closes.items.iter().try_for_each(|close| out.write_record(row(close, &month)))?;
    out.flush()?;
    Ok(())
}

fn row(close: &Close, month: &str) -> [String; 17] {
    let sums = close.sums;
    [
        plain(close.name.clone()),
        close.organisation.to_string(),
        month.to_owned(),
        close.time_zone.clone(),
        close.begins_at.to_rfc3339(),
        close.ends_at.to_rfc3339(),
        sums.opening.0.to_string(),
        sums.added.0.to_string(),
        sums.purchased.0.to_string(),
        sums.granted.0.to_string(),
        sums.adjusted.0.to_string(),
        sums.used.0.to_string(),
        sums.refunded.0.to_string(),
        sums.closing.0.to_string(),
        close.sold.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "),
        if close.is_closed { "closed" } else { "runs" }.to_owned(),
        if close.is_checked { "yes" } else { "no" }.to_owned(),
    ]
}
