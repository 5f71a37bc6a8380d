//! Output of commands: data goes to stdout, messages go to stderr.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a line for a person to stderr.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}
pub(crate) use say;

/// The output format: text for people, or JSON with `--json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints one value: as a JSON object, or as the lines that `words` writes.
    pub(crate) fn one<T: Serialize>(
        self,
        thing: &T,
        words: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json { writeln!(out, "{}", serde_json::to_string(thing)?) } else { words(&mut out) }
    }

    /// Prints many values: as a JSON array, or as a table with a header and aligned columns.
    pub(crate) fn rows<T: Serialize>(
        self,
        things: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(things)?);
        }
        let rows: Vec<_> = things.iter().map(row).collect();
        write!(out, "{}", table(header, &rows))
    }
}

/// Formats a table. Each column is as wide as its longest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head = line(header.to_vec());
    std::iter::once(head)
        .chain(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())))
        .collect()
}
