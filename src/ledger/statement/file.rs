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

/// A file that is written while its statement is read.
#[derive(Debug)]
pub struct Csv<W: io::Write> {
    out: csv::Writer<W>,
}

impl<W: io::Write> Csv<W> {
    /// Writes the names of the columns, and the row for the opening balance. Cells that a spreadsheet
    /// would run as formulas are made plain text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(head: &Statement, to: W) -> csv::Result<Self> {
        let mut out = csv::Writer::from_writer(to);
        out.write_record(COLUMNS)?;
        out.write_record(edge(head.begins_at, "Opening", head.opening))?;
        Ok(Self { out })
    }

    /// Writes a row for each line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, lines: &[Line]) -> csv::Result<()> {
        lines.iter().try_for_each(|line| self.out.write_record(row(line)))
    }

    /// Writes the row for the closing balance. A file without it is not whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(mut self, head: &Statement) -> csv::Result<()> {
        self.out.write_record(edge(head.ends_at, "Closing", head.closing))?;
        self.out.flush()?;
        Ok(())
    }
}

/// Writes a statement that was read.
///
/// # Errors
/// When it cannot be written.
pub fn write_csv(statement: &Statement, to: impl io::Write) -> csv::Result<()> {
    let mut file = Csv::begin(statement, to)?;
    file.write(&statement.lines)?;
    file.end(statement)
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
