//! A statement as a CSV file: one row for the opening balance, one for each line, one for the
//! closing balance. Pages and the command line write the same.

use std::io;

use chrono::{DateTime, Utc};

use super::{Line, Statement};
use crate::{ledger::credits::Credits, spreadsheet::plain};

const COLUMNS: [&str; 14] = [
    "date",
    "type",
    "credits",
    "balance",
    "day_is_over",
    "event",
    "event_id",
    "operation",
    "run",
    "transaction",
    "user",
    "note",
    "price_per_credit",
    "currency",
];

/// Writes the statement. Cells that a spreadsheet would run as formulas are made plain text.
///
/// # Errors
/// When it cannot be written.
pub fn write_csv(statement: &Statement, to: impl io::Write) -> csv::Result<()> {
    let mut out = csv::Writer::from_writer(to);
    out.write_record(COLUMNS)?;
    out.write_record(edge(statement.begins_at, "Opening", statement.opening))?;
    for line in &statement.lines {
        out.write_record(row(line))?;
    }
    out.write_record(edge(statement.ends_at, "Closing", statement.closing))?;
    out.flush()?;
    Ok(())
}

fn edge(at: DateTime<Utc>, kind: &str, balance: Credits) -> [String; 14] {
    let mut row: [String; 14] = Default::default();
    row[0] = at.to_rfc3339();
    kind.clone_into(&mut row[1]);
    row[3] = balance.0.to_string();
    row
}

fn row(line: &Line) -> [String; 14] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        line.at.to_rfc3339(),
        line.kind.name().to_owned(),
        line.credits.0.to_string(),
        line.balance.0.to_string(),
        (!line.growing).to_string(),
        text(line.event_name.clone().map(plain)),
        text(line.event.map(|event| event.to_string())),
        text(line.operation.map(|operation| operation.to_string())),
        text(line.run.map(|run| run.to_string())),
        text(line.transaction.map(|transaction| transaction.to_string())),
        plain(line.actor.clone()),
        text(line.note.clone().map(plain)),
        text(line.price_per_credit.map(|price| price.to_string())),
        text(line.currency.clone()),
    ]
}
