//! Decides which lines of text are bib numbers.

use serde::{Deserialize, Serialize};

use crate::{
    start_list::{Entry, StartList},
    text::Line,
};

/// A bib number on a photo. Lengths are in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bib {
    /// The number: upper-case letters and digits.
    pub number: String,
    /// Confidence in the reading, from 0 to 1.
    pub score: f32,
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
}

/// Smallest score of a bib number. A reading with a lower score is a guess.
const SCORE_MIN: f32 = 0.9;
/// Smallest score of a bib number under a face. It is lower, because other text is rare there.
const SCORE_WORN_MIN: f32 = 0.8;
/// Smallest score of a bib number if the event has a start list.
const SCORE_LISTED_MIN: f32 = 0.6;
/// Smallest length of a reading that is corrected. Almost every reading of two characters differs
/// in only one from some runner's number.
const CORRECTED_MIN: usize = 3;
/// Factor for the score of a reading that was corrected.
const CORRECTED: f32 = 0.8;

/// Returns the bib numbers among lines of text, each number once, best score first.
///
/// The *whole* line must look like a bib number, because a word with digits in it is a sponsor, a
/// distance or a clock.
///
/// If there is a start list, it decides. A number on the list is a bib number, even if it looks
/// like a year. One misread character is corrected if only one number on the list fits. No other
/// line is a bib number.
pub fn bibs(lines: &[Line], start_list: &StartList) -> Vec<Bib> {
    let mut bibs: Vec<Bib> = lines
        .iter()
        .filter_map(|line| {
            let (number, score) = if start_list.is_empty() {
                let least = if line.worn { SCORE_WORN_MIN } else { SCORE_MIN };
                (number(&line.text).filter(|_| line.score >= least)?, line.score)
            } else {
                listed(line, start_list)?
            };
            let &Line { x, y, width, height, .. } = line;
            Some(Bib { number, score, x, y, width, height })
        })
        .collect();
    bibs.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Bib> = Vec::new();
    for bib in bibs {
        if kept.iter().all(|better| better.number != bib.number) {
            kept.push(bib);
        }
    }
    kept
}

/// The number on the start list that a line shows, and its score.
fn listed(line: &Line, list: &StartList) -> Option<(String, f32)> {
    let read = characters(&line.text).filter(|_| line.score >= SCORE_LISTED_MIN)?;
    match list.look_up(&read) {
        Entry::Listed => Some((read, line.score)),
        // A word is not corrected to a number from which it differs in one character, unless the
        // two characters look alike.
        Entry::Misread { meant, alike }
            if read.len() >= CORRECTED_MIN && (alike || number(&line.text).is_some()) =>
        {
            Some((meant, CORRECTED * line.score))
        }
        Entry::Misread { .. } | Entry::Unknown => None,
    }
}

/// The letters and digits of a text, in upper case, without the signs between them. `None` if there
/// are none, or if one is not ASCII.
fn characters(text: &str) -> Option<String> {
    let kept: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    (kept.is_ascii() && !kept.is_empty()).then_some(kept)
}

/// The bib number that a text shows, or `None`.
///
/// A bib number has up to two letters, one to six digits, and up to two letters; together at least
/// two characters. It is not a year, a clock or a distance.
fn number(text: &str) -> Option<String> {
    if is_clock(text) {
        return None;
    }
    let number = characters(text).filter(|number| number.len() >= 2)?;
    let rest = number.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let before = number.len() - rest.len();
    let tail = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = rest.len() - tail.len();
    let plausible = before <= 2
        && (1..=6).contains(&digits)
        && tail.len() <= 2
        && tail.chars().all(|c| c.is_ascii_alphabetic());
    (plausible && !is_year(&number) && !is_distance(rest, tail, before)).then_some(number)
}

fn is_year(number: &str) -> bool {
    number.len() == 4 && number.parse().is_ok_and(|year| (1990..=2039).contains(&year))
}

/// Whether a text is a time of day or a race time, such as 10:15 or 1:23:45.
fn is_clock(text: &str) -> bool {
    text.contains(':')
}

/// Whether a text is a distance, such as 5K, 10K or 42KM.
fn is_distance(rest: &str, tail: &str, before: usize) -> bool {
    before == 0 && matches!(tail, "K" | "KM" | "M" | "MI") && rest.len() - tail.len() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        number(text)
    }

    #[test]
    fn letters_and_digits_make_a_bib() {
        for bib in ["12", "3586", "A00662", "59A", "F123", "AB12CD", "123456"] {
            assert_eq!(read(bib).as_deref(), Some(bib));
        }
        assert_eq!(read("#12-34.").as_deref(), Some("1234"));
        assert_eq!(read("a12").as_deref(), Some("A12"));
    }

    #[test]
    fn years_clocks_distances_and_sponsors_are_none() {
        for other in [
            "2019",
            "10:15",
            "1:23:45",
            "5K",
            "10KM",
            "7",
            "Marathon",
            "RUN4FUN",
            "1234567",
            "0800 123 456 789",
            "ABC12",
            "١٢",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_number_seen_twice_is_one_bib_with_its_better_score() {
        let line = |score| Line {
            text: "12".into(),
            score,
            x: 0.0,
            y: 0.0,
            width: 1.0,
            height: 1.0,
            worn: false,
        };

        let bibs = bibs(&[line(0.91), line(0.99), line(0.5)], &StartList::default());

        assert_eq!(bibs.iter().map(|bib| bib.score).collect::<Vec<_>>(), [0.99]);
    }

    #[test]
    fn a_start_list_decides() {
        let list = StartList::new(["2019", "7", "3586"].map(String::from));
        let line = |text: &str, score| Line {
            text: text.into(),
            score,
            x: 0.0,
            y: 0.0,
            width: 1.0,
            height: 1.0,
            worn: false,
        };
        let read = |text, score| {
            bibs(&[line(text, score)], &list).into_iter().map(|bib| bib.number).next()
        };

        assert_eq!(read("2019", 0.95).as_deref(), Some("2019"), "no year here");
        assert_eq!(read("7", 0.7).as_deref(), Some("7"));
        assert_eq!(read("3S86", 0.9).as_deref(), Some("3586"));
        assert_eq!(read("1234", 0.99), None, "nobody wears it");
        assert_eq!(read("3586", 0.5), None, "a guess");
        assert_eq!(read("8", 0.99), None, "too short to be corrected");
    }
}
