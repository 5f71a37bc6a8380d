//! How commands speak: data on stdout, words on stderr.

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

/// As the person or the program asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// One thing: an object, or the lines that `words` writes.
    pub(crate) fn one<T: Serialize>(
        self,
        thing: &T,
        words: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json { writeln!(out, "{}", serde_json::to_string(thing)?) } else { words(&mut out) }
    }

    /// A table: an array, or a line a row under a header, columns aligned.
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

/// Columns as wide as they need to be.
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
