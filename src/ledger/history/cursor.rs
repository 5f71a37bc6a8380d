//! Positions in the history.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A position in the history. Callers must not interpret it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) at: DateTime<Utc>,
    pub(super) rank: i32,
    pub(super) id: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.at.timestamp_micros(), self.rank, self.id)
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: use the cursor of the last row of the previous page")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut numbers = text.split('-').map(|part| i64::from_str_radix(part, 16));
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(at)), Some(Ok(rank)), Some(Ok(id)), None) => Ok(Self {
                at: DateTime::from_timestamp_micros(at).ok_or(BadCursor)?,
                rank: rank.try_into().map_err(|_| BadCursor)?,
                id,
            }),
            _ => Err(BadCursor),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
