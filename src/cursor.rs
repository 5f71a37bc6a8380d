//! A cursor: a short text that marks the end of a page of a list. Send it to get the next page.

use std::{fmt, str::FromStr};

/// A place in a list: the `N` numbers that the list is ordered by. Callers must not interpret its
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent, no_pg_array)]
pub struct Cursor<const N: usize>(pub(crate) [i64; N]);

/// The text is not a cursor of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: use the one that came with the previous page")]
pub struct BadCursor;

impl<const N: usize> fmt::Display for Cursor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.0.iter().enumerate() {
            let dash = if index == 0 { "" } else { "-" };
            write!(f, "{dash}{number:x}")?;
        }
        Ok(())
    }
}

impl<const N: usize> FromStr for Cursor<N> {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        // A negative number is written as its bits, so a dash only stands between two numbers.
        let number = |part: &str| u64::from_str_radix(part, 16).map(u64::cast_signed);
        let numbers: Vec<i64> =
            text.split('-').map(number).collect::<Result<_, _>>().map_err(|_| BadCursor)?;
        numbers.try_into().map(Self).map_err(|_| BadCursor)
    }
}

impl<const N: usize> serde::Serialize for Cursor<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in [[0, 1], [-5, 7], [i64::MIN, i64::MAX]].map(Cursor) {
            assert_eq!(cursor.to_string().parse::<Cursor<2>>(), Ok(cursor));
        }
        assert_eq!(Cursor([0x0066_0f6f_2784_d6e0, 1, 16]).to_string(), "660f6f2784d6e0-1-10");
    }

    #[test]
    fn other_text_is_no_cursor() {
        for text in ["", "1", "1-2-3", "1--2", "1-x", "1-10000000000000000"] {
            assert_eq!(text.parse::<Cursor<2>>(), Err(BadCursor), "{text}");
        }
    }
}
