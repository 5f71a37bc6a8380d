//! Which lines of text are bib numbers.

use serde::{Deserialize, Serialize};

use crate::{
    start_list::{Entry, StartList},
    text::Line,
};

/// A bib number. The box in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bib {
    /// Upper-case letters and digits.
    pub number: String,
    /// 0 to 1.
    pub score: f32,
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Of the box.
    pub width: f32,
    /// Of the box.
    pub height: f32,
}

/// Below it a reading is a guess.
const SCORE_MIN: f32 = 0.9;
/// The same where numbers are worn: what else is written there?
const SCORE_WORN_MIN: f32 = 0.8;
/// The same where a start list has the number.
const SCORE_LISTED_MIN: f32 = 0.6;
/// Shorter readings are not corrected: almost any two characters are one away from somebody's.
const CORRECTED_MIN: usize = 3;
/// How sure a corrected reading is, of what it was.
const CORRECTED: f32 = 0.8;

/// The bib numbers among lines of text, each number once, best first.
///
/// The *whole* line must look like a bib: a word with digits in it is a sponsor, a distance or a clock. Where there is a
/// start list, it decides: what is on it is a bib, even if it looks like a year; one misread character is corrected
/// where only one runner fits; anything else is none.
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

/// What a start list makes of a line, and how sure that is.
fn listed(line: &Line, list: &StartList) -> Option<(String, f32)> {
    let read = characters(&line.text).filter(|_| line.score >= SCORE_LISTED_MIN)?;
    match list.look_up(&read) {
        Entry::Listed => Some((read, line.score)),
        // A word that is a character away from somebody's number is a word.
        Entry::Misread { meant, alike }
            if read.len() >= CORRECTED_MIN && (alike || number(&line.text).is_some()) =>
        {
            Some((meant, CORRECTED * line.score))
        }
        Entry::Misread { .. } | Entry::Unknown => None,
    }
}

/// Upper-case letters and digits, without the signs between them; `None` where there are others.
fn characters(text: &str) -> Option<String> {
    let kept: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    (kept.is_ascii() && !kept.is_empty()).then_some(kept)
}

/// A letter or two, one to six digits, a letter or two; at least two characters; not a year, a clock or a distance.
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

/// 10:15, 1:23:45, 12.30
fn is_clock(text: &str) -> bool {
    text.contains(':')
}

/// 5K, 10K, 42KM.
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
