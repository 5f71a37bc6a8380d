//! How the demo prints: a line above the progress bar, a sentence about findings, a mark for good
//! or bad.

use crate::{catalog::findings::Found, ids::Operation, queue::failures::UNDECIDED};

/// Prints a line to stdout, above the progress bar if there is one.
macro_rules! tell {
    ($bar:expr) => { tell!($bar, "") };
    ($bar:expr, $($arg:tt)*) => {{
        let line = format!($($arg)*);
        $bar.suspend(|| {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }};
}
pub(super) use tell;

/// A finding, as a sentence.
pub(super) fn sentence(found: &Found) -> String {
    let Found { key, operation, reason, faces, bibs, turn, upright_key, .. } = found;
    if reason.as_deref() == Some(UNDECIDED) {
        return format!("{key}: turn unclear; no copy written; refunded");
    }
    if let Some(reason) = reason {
        return format!("{key}, {operation}: failed ({reason}); refunded");
    }
    match operation {
        Operation::PhotoProcessing => {
            let bibs = if bibs.is_empty() {
                "no bib number".into()
            } else {
                format!("bib {}", bibs.join(" and "))
            };
            format!(
                "{key}: {}, {bibs}",
                if *faces == 1 { "1 face".into() } else { format!("{faces} faces") }
            )
        }
        Operation::AiRotation => match (turn, upright_key) {
            (None, _) => format!("{key}: turn unclear; no copy written"),
            (Some(0), None) => format!("{key}: upright"),
            (Some(0), Some(_)) => format!("{key}: upright by its EXIF tag; upright copy written"),
            (Some(turn), _) => format!("{key}: turned by {turn} degrees; upright copy written"),
        },
    }
}

/// The mark of a check that passed or failed.
pub(super) fn mark(good: bool) -> console::StyledObject<&'static str> {
    if good { console::style("✓").green() } else { console::style("✗").red() }
}
