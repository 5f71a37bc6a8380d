//! Cells of CSV files that a spreadsheet must not run.

/// Puts an apostrophe before a cell that a spreadsheet would run as a formula. Numbers stay as they
/// are.
pub(crate) fn plain(cell: String) -> String {
    match cell.chars().next() {
        Some('=' | '@' | '+' | '-' | '\t' | '\r' | '\n') if cell.parse::<f64>().is_err() => {
            format!("'{cell}")
        }
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_finds_no_formula() {
        for (cell, plain_cell) in [
            ("=1+1", "'=1+1"),
            ("-12", "-12"),
            ("+0.5", "+0.5"),
            ("@me", "'@me"),
            ("-x", "'-x"),
            ("thanks", "thanks"),
        ] {
            assert_eq!(plain(cell.into()), plain_cell);
        }
    }
}
