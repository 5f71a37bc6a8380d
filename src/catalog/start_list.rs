//! Start lists: the numbers that are worn at an event. As a file of the organiser's, and in the database.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use photogate_jobs::StartList;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;

use crate::ids::EventId;

/// Bytes of a file, at most.
pub const FILE_MAX: usize = 16 << 20;
/// Numbers of an event, at most.
pub const NUMBERS_MAX: usize = 200_000;

/// Names that the column of the numbers has in people's files, in lower case without spaces and signs; the surest first:
/// a table may have its rows numbered too.
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

/// What is wrong with a start list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartListError {
    /// The file is larger than any start list.
    #[error("the file has more than {FILE_MAX} bytes: is it a start list?")]
    TooLarge,
    /// Not text.
    #[error("the file is no text in UTF-8: save it as CSV (UTF-8)")]
    NotText,
    /// No row could be read.
    #[error("line {line}: {problem}")]
    Line {
        /// 1 is the first.
        line: u64,
        /// In words.
        problem: String,
    },
    /// Several columns, and none is named like a number's.
    #[error(
        "none of the columns is called \"bib\" or \"number\": write one of these over the numbers"
    )]
    NoColumn,
    /// More than [`NUMBERS_MAX`].
    #[error("more than {NUMBERS_MAX} numbers")]
    TooMany,
    /// Nothing in it.
    #[error("there is no number in the file")]
    Empty,
}

/// Reads a file: one number a line, or CSV (comma, semicolon or tab) with a column named `bib` or `number`.
///
/// # Errors
/// See [`StartListError`]; nothing is read in part.
pub fn parse(file: &[u8]) -> Result<Vec<String>, StartListError> {
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
    let (mut column, mut numbers) = (None, Vec::new());
    for row in rows.records() {
        let row = row.map_err(|error| StartListError::Line {
            line: error.position().map_or(0, csv::Position::line),
            problem: "this is no row of a table".into(),
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
        // Who has no number yet, has none to be found by.
        let Some(cell) = row.get(column).filter(|cell| !cell.is_empty()) else { continue };
        numbers.push(number(cell).ok_or_else(|| StartListError::Line {
            line,
            problem: format!(
                "{:?} is no bib number: at most ten letters and digits",
                cell.chars().take(40).collect::<String>()
            ),
        })?);
        if numbers.len() > NUMBERS_MAX {
            return Err(StartListError::TooMany);
        }
    }
    if numbers.is_empty() { Err(StartListError::Empty) } else { Ok(numbers) }
}

fn word(cell: &str) -> String {
    cell.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// As it is read on a photo: upper-case letters and digits.
pub(crate) fn number(text: &str) -> Option<String> {
    let number: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    let is_number =
        (1..=10).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then_some(number)
}

/// Replaces an event's start list; no numbers: it has none. Returns how many it has now.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn set(db: &mut PgConnection, event: EventId, numbers: &[String]) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT set_start_list($1, $2) AS "n!""#, event.0, numbers)
        .fetch_one(db)
        .await
}

/// How long a worker goes on with a list that it has read.
const FRESH: Duration = Duration::from_secs(5);

/// The start lists of the events that a worker works on.
#[derive(Debug)]
pub(crate) struct StartLists {
    pool: PgPool,
    /// Locked while one is read: who wants the same waits for it.
    read: Mutex<HashMap<EventId, (Instant, Arc<StartList>)>>,
}

impl StartLists {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, read: Mutex::default() }
    }

    /// An event's; empty where it has none.
    pub(crate) async fn of(&self, event: EventId) -> sqlx::Result<Arc<StartList>> {
        let mut read = self.read.lock().await;
        read.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some((_, list)) = read.get(&event) {
            return Ok(list.clone());
        }
        let numbers =
            sqlx::query_scalar!("SELECT number FROM start_list WHERE event_id = $1", event.0)
                .fetch_all(&self.pool)
                .await?;
        let list = Arc::new(StartList::new(numbers));
        read.insert(event, (Instant::now(), list.clone()));
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(parse(b"name,age\nAnna,33\n"), Err(StartListError::NoColumn));
        assert_eq!(parse(b"Name\nAnna\n"), Err(StartListError::NoColumn));
        assert_eq!(parse(b"\xff\xfe"), Err(StartListError::NotText));
        assert_eq!(parse(b"bib\n"), Err(StartListError::Empty));
        let error = parse(b"bib\n12\nto be announced\n").unwrap_err();
        assert!(
            error.to_string().starts_with("line 3: \"to be announced\" is no bib number"),
            "{error}"
        );
    }
}
