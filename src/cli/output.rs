//! Output of commands: data goes to stdout, messages go to stderr.

use std::{
    fmt,
    io::{self, Write},
    panic::PanicHookInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use serde_json::json;

use crate::telemetry::panics;

/// Writes a line for a person to stderr; as JSON if the log is JSON.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::output::tell(format_args!($($arg)*)) };
}
pub(crate) use say;

/// Whether the log is JSON. Then every line on stderr is: a program reads them.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on, all messages and panics are JSON objects of one line, like those of the log.
pub(super) fn speak_json() {
    if !JSON.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(tell_panic));
    }
}

/// See [`say`].
pub(super) fn tell(words: fmt::Arguments<'_>) {
    if !JSON.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "{words}");
        return;
    }
    let words = words.to_string();
    let (level, message) = match words.split_once(": ") {
        Some(("error", message)) => ("ERROR", message),
        Some(("warning", message)) => ("WARN", message),
        _ => ("INFO", &*words),
    };
    line(level, &json!({ "message": message.trim_end() }));
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let message = panics::message(panic.payload());
    let at = panic.location().map(ToString::to_string);
    line("ERROR", &json!({ "message": "the program panicked", "panic": message, "at": at }));
}

/// Writes a line in the form of the log's. It is one write, so that no other line comes between.
fn line(level: &str, fields: &serde_json::Value) {
    let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let line = format!(r#"{{"timestamp":"{timestamp}","level":"{level}","fields":{fields}}}"#);
    let _ = io::stderr().write_all((line + "\n").as_bytes());
}

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
