//! Start lists: the bib numbers that are worn at an event. Reads them from the organiser's file,
//! and keeps them in the database.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::ids::EventId;

/// Largest file of a start list, in bytes.
pub const FILE_MAX: usize = 16 << 20;
/// Names that people give to the column of bib numbers, in lower case, without spaces and signs.
///
/// The surest name is first, because a table may also have a column that numbers its rows.
const COLUMNS: [&str; 13] = [
    "bib",
    "bibnumber",
    "bibno",
    "startnumber",
    "startnummer",
    "stnr",
    "racenumber",
    "dossard",
    "dorsal",
    "number",
    "num",
    "no",
    "nr",
];

/// Why a file is not a valid start list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartListError {
    /// The file has more than [`FILE_MAX`] bytes.
    #[error("the file has more than {FILE_MAX} bytes: is it a start list?")]
    TooLarge,
    /// The file is not text in UTF-8.
    #[error("the file is not text in UTF-8: save it as CSV (UTF-8)")]
    NotText,
    /// A line cannot be read as a row, or its number is not a bib number.
    #[error("line {line}: {problem}")]
    Line {
        /// Number of the line; the first line is 1.
        line: u64,
        /// What is wrong with the line, in words.
        problem: String,
    },
    /// No column has a name that stands for bib numbers.
    #[error("no column is called \"bib\" or \"number\": write one of these above the numbers")]
    NoColumn,
    /// The file has more numbers than this, which is the most that a start list may have.
    #[error("the file has more than {0} numbers: is it the list of one event?")]
    TooMany(usize),
    /// The file has no numbers.
    #[error("the file has no numbers")]
    Empty,
}

/// Reads the bib numbers from a file, each once; `most` is how many there may be.
///
/// The file has one number on each line, or is CSV (comma, semicolon or tab) with a column named
/// `bib` or `number`. Other usual names of the column are also accepted.
///
/// # Errors
/// See [`StartListError`]. If one line is wrong, no numbers are returned.
pub fn parse(file: &[u8], most: usize) -> Result<Vec<String>, StartListError> {
    if file.len() > FILE_MAX {
        return Err(StartListError::TooLarge);
    }
    let text = std::str::from_utf8(file).map_err(|_| StartListError::NotText)?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let delimiter = [b';', b'\t', b',']
        .into_iter()
        .max_by_key(|delimiter| first.bytes().filter(|byte| byte == delimiter).count())
        .unwrap_or(b',');
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let (mut column, mut numbers, mut known) = (None, Vec::new(), HashSet::new());
    for row in rows.records() {
        let row = row.map_err(|error| StartListError::Line {
            line: error.position().map_or(0, csv::Position::line),
            problem: "this is not a row of a table".into(),
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let column = match column {
            Some(column) => column,
            None => {
                let heading =
                    COLUMNS.iter().find_map(|name| row.iter().position(|cell| word(cell) == *name));
                let is_data = row.len() == 1
                    && row.iter().any(|cell| cell.contains(|c: char| c.is_ascii_digit()));
                if heading.is_none() && !is_data {
                    return Err(StartListError::NoColumn);
                }
                column = Some(heading.unwrap_or(0));
                if heading.is_some() {
                    continue;
                }
                0
            }
        };
        // A runner may not have a number yet: skip the row.
        let Some(cell) = row.get(column).filter(|cell| !cell.is_empty()) else { continue };
        let number = number(cell).ok_or_else(|| StartListError::Line {
            line,
            problem: format!(
                "{:?} is not a bib number: at most ten letters and digits",
                cell.chars().take(40).collect::<String>()
            ),
        })?;
        if known.insert(number.clone()) {
            numbers.push(number);
        }
        if numbers.len() > most {
            return Err(StartListError::TooMany(most));
        }
    }
    if numbers.is_empty() { Err(StartListError::Empty) } else { Ok(numbers) }
}

/// The letters and digits of a heading, in lower case, to compare with [`COLUMNS`].
fn word(cell: &str) -> String {
    cell.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The bib number in the form in which it is read on a photo: upper-case letters and digits. `None`
/// if it is empty, has more than ten characters, or has letters other than A to Z.
pub(crate) fn number(text: &str) -> Option<String> {
    let number: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    let is_number =
        (1..=10).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then_some(number)
}

/// Replaces an event's start list. Without numbers, the event has no start list.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn set(db: &mut PgConnection, event: EventId, numbers: &[String]) -> sqlx::Result<()> {
    sqlx::query_scalar!(r#"SELECT set_start_list($1, $2) AS "none""#, event.0, numbers)
        .fetch_one(db)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &[u8]) -> Result<Vec<String>, StartListError> {
        super::parse(file, 3)
    }

    #[test]
    fn a_number_a_line_is_a_start_list_and_so_is_a_table() {
        assert_eq!(
            parse(b"12\nA-77\r\n\n 9 \n").as_deref(),
            Ok(&["12", "A77", "9"].map(String::from)[..])
        );
        assert_eq!(
            parse("\u{feff}Name;Start-Nr.;Bib No.\nM\u{fc}ller;x;12\nKaya;x;\n".as_bytes())
                .as_deref(),
            Ok(&["12"].map(String::from)[..])
        );
    }

    #[test]
    fn rows_that_are_numbered_are_not_the_runners() {
        let file = b"\nNr;Name;Startnummer\n1;Anna;4711\n2;Bo;4712\n";

        assert_eq!(parse(file).as_deref(), Ok(&["4711", "4712"].map(String::from)[..]));
    }

    #[test]
    fn a_number_counts_once_and_there_is_an_end() {
        assert_eq!(parse(b"1\n2\n2\n1\n3\n").map(|numbers| numbers.len()), Ok(3));
        assert_eq!(parse(b"1\n2\n3\n4\n"), Err(StartListError::TooMany(3)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(parse(b"name,age\nAnna,33\n"), Err(StartListError::NoColumn));
        assert_eq!(parse(b"Name\nAnna\n"), Err(StartListError::NoColumn));
        assert_eq!(parse(b"\xff\xfe"), Err(StartListError::NotText));
        assert_eq!(parse(b"bib\n"), Err(StartListError::Empty));
        let error = parse(b"bib\n12\nto be announced\n").unwrap_err();
        assert!(
            error.to_string().starts_with("line 3: \"to be announced\" is not a bib number"),
            "{error}"
        );
    }
}
