//! Decides which lines of text are bib numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{listed::listed, start_list::StartList, text::Line};

/// A bib number on a photo. Lengths are in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bib {
    /// The number: upper-case letters and digits.
    pub number: String,
    /// Confidence in the number, from 0 to 1.
    pub score: f32,
    /// What decided the number.
    pub settled_by: SettledBy,
    /// What the readings alone said, where that is another number.
    pub was: Option<String>,
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
}

/// What decided a bib number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettledBy {
    /// The readings of its line, alone.
    Reading,
    /// The start list of the event.
    StartList,
    /// The way in which the event's other numbers look.
    Numbering,
    /// The same person wears the number on another photo of the event.
    Person,
}

/// A bib number with at least this score is sure.
pub const SURE: f32 = 0.9;
/// Smallest score of a bib number.
const SCORE_MIN: f32 = 0.5;
/// Smallest score of a bib number under a face. It is lower, because other text is rare there.
const SCORE_WORN_MIN: f32 = 0.4;
/// Largest length of a bib number: up to two letters, six digits and two letters.
pub(crate) const NUMBER_MAX: usize = 10;
/// A number also gets this share of the votes of readings that are a part of it, ...
const PART: f32 = 0.5;
/// ... if they lack at most this many characters, ...
const PART_LACKS: usize = 2;
/// ... and if their best score is not higher by more than this. What looks like one more digit may
/// be the edge of the bib, which a model reads as a 1, but with a lower score.
const PART_SURER: f32 = 0.005;
/// A longer number takes the place of a part of it with at least this share of the part's score.
const LONGER_MIN: f32 = 0.7;
/// Two numbers whose boxes overlap by more than this share of the smaller one are one line.
const OVERLAP_MAX: f32 = 0.3;

/// Returns the bib numbers among lines of text, each number once, best score first.
///
/// The *whole* line must look like a bib number, because a word with digits in it is a sponsor, a
/// distance or a clock.
///
/// The readings of a line vote. The score is the share of the votes for the number: it is 1 if all
/// readings are the same, and sure of each character.
///
/// If there is a start list, it decides. A number on the list is a bib number, even if it looks
/// like a year. One misread character is corrected if only one number on the list fits. No other
/// line is a bib number.
pub fn bibs(lines: &[Line], start_list: &StartList) -> Vec<Bib> {
    let decided = lines.iter().filter_map(|line| Some(at(line, decide(line, start_list)?)));
    each_once(decided.collect())
}

/// What was decided about one line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) number: String,
    pub(crate) score: f32,
    pub(crate) settled_by: SettledBy,
    /// What the readings alone said, where that is another number.
    pub(crate) was: Option<String>,
}

impl Decision {
    /// This decision, after an earlier one about the same line.
    pub(crate) fn instead_of(mut self, earlier: Option<&Self>) -> Self {
        let said = earlier.map(|earlier| earlier.was.as_ref().unwrap_or(&earlier.number));
        self.was = said.filter(|said| **said != self.number).cloned();
        self
    }
}

/// The number that a line shows, as a bib at its place.
pub(crate) fn at(line: &Line, decision: Decision) -> Bib {
    let &Line { x, y, width, height, .. } = line;
    let Decision { number, score, settled_by, was } = decision;
    Bib { number, score, settled_by, was, x, y, width, height }
}

/// The number that a line shows.
pub(crate) fn decide(line: &Line, list: &StartList) -> Option<Decision> {
    let read = read_in(line).map(|(number, score)| Decision {
        number,
        score,
        settled_by: SettledBy::Reading,
        was: None,
    });
    if list.is_empty() {
        return read;
    }
    let (number, score) = listed(line, list)?;
    let was_sure = read.as_ref().is_some_and(|read| read.number == number && read.score >= SURE);
    let settled_by = if was_sure { SettledBy::Reading } else { SettledBy::StartList };
    let found = Decision { number, score, settled_by, was: None };
    Some(found.instead_of(read.as_ref()))
}

/// Keeps each number once, and one number in each place; best score first.
pub(crate) fn each_once(mut bibs: Vec<Bib>) -> Vec<Bib> {
    bibs.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Bib> = Vec::new();
    for bib in bibs {
        if kept.iter().any(|better| better.number == bib.number) {
            continue;
        }
        // The same place was read before, and better; or less of it was.
        let is_part = |better: &Bib| {
            bib.number.contains(&better.number) && bib.score >= LONGER_MIN * better.score
        };
        if kept.iter().all(|better| !overlap(better, &bib) || is_part(better)) {
            kept.retain(|better| !overlap(better, &bib));
            kept.push(bib);
        }
    }
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept
}

/// Whether two boxes are those of one line.
fn overlap(one: &Bib, other: &Bib) -> bool {
    let width = (one.x + one.width).min(other.x + other.width) - one.x.max(other.x);
    let height = (one.y + one.height).min(other.y + other.height) - one.y.max(other.y);
    let smaller = (one.width * one.height).min(other.width * other.height);
    width > 0.0 && height > 0.0 && width * height > OVERLAP_MAX * smaller
}

/// The bib number that a line shows, and its score, where there is no start list.
pub(crate) fn read_in(line: &Line) -> Option<(String, f32)> {
    // The votes for each text, and the best score of its readings.
    let mut votes: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    for reading in &line.readings {
        let (votes, best) = votes.entry(without_letter_at_end(&reading.text)).or_default();
        (*votes, *best) = (*votes + reading.score * reading.score, best.max(reading.score));
    }
    let with_parts = |(text, (own, best)): (&String, &(f32, f32))| {
        let parts = votes.iter().filter(|(part, (_, surest))| {
            let lacks = text.len().saturating_sub(part.len());
            let is_part = !part.is_empty() && text.contains(*part);
            is_part && (1..=PART_LACKS).contains(&lacks) && *surest <= best + PART_SURER
        });
        let more: f32 = parts.map(|(_, (votes, _))| PART * votes).sum();
        if number(text).is_some() { own + more } else { *own }
    };
    let all = votes.iter().map(|entry| (entry.0, with_parts(entry)));
    let (text, votes) = all.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let number = number(text)?;
    let is_sign = !line.worn && number.len() < 3 && number.bytes().all(|b| b.is_ascii_digit());
    let score = share(votes, line);
    let least = if line.worn { SCORE_WORN_MIN } else { SCORE_MIN };
    (!is_sign && score >= least).then_some((number, score))
}

/// The share of all readings of a line that these votes are.
pub(crate) fn share(votes: f32, line: &Line) -> f32 {
    let readings = u16::try_from(line.readings.len()).unwrap_or(u16::MAX);
    (votes / f32::from(readings.max(1))).min(1.0)
}

/// The letters and digits of a reading. A letter that looks like a 0 is one, after three digits or
/// more: no event numbers its runners that way. A clock stays as it is.
fn without_letter_at_end(text: &str) -> String {
    if is_clock(text) {
        return text.to_owned();
    }
    let mut read = characters(text).unwrap_or_default();
    if let Some(digits) = read.strip_suffix(['D', 'O', 'Q'])
        && (3..=5).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        read = format!("{digits}0");
    }
    read
}

/// The letters and digits of a text, in upper case, without the signs between them. `None` if there
/// are none, or if one is not ASCII.
pub(crate) fn characters(text: &str) -> Option<String> {
    let kept: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    (kept.is_ascii() && !kept.is_empty()).then_some(kept)
}

/// The bib number that a text shows, or `None`.
///
/// A bib number has up to two letters, one to six digits, and up to two letters; together at least
/// two characters. It is not a year, a clock or a distance.
pub(crate) fn number(text: &str) -> Option<String> {
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

pub(crate) fn is_year(number: &str) -> bool {
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
    use crate::reading::Reading;

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

    /// A line at this place, with these readings.
    fn line_at(x: f32, worn: bool, readings: &[(&str, f32)]) -> Line {
        let readings = readings
            .iter()
            .map(|&(text, score)| Reading { text: text.into(), score, others: Vec::new() })
            .collect();
        Line { readings, x, y: 0.0, width: 10.0, height: 5.0, worn }
    }

    fn seen(lines: &[Line]) -> Vec<(String, f32)> {
        let bibs = bibs(lines, &StartList::default()).into_iter();
        bibs.map(|bib| (bib.number, (bib.score * 100.0).round() / 100.0)).collect()
    }

    #[test]
    fn a_number_seen_twice_is_one_bib_with_its_better_score() {
        let line = |x, score| line_at(x, false, &[("12A", score)]);

        let seen = seen(&[line(0.0, 0.9), line(50.0, 1.0), line(90.0, 0.8)]);

        assert_eq!(seen, [("12A".into(), 1.0)]);
    }

    #[test]
    fn the_readings_of_a_line_vote() {
        let seen = |readings: &[(&str, f32)]| seen(&[line_at(0.0, true, readings)]);

        assert_eq!(seen(&[("1432", 1.0), ("1432", 1.0)]), [("1432".into(), 1.0)]);
        let cut_off = [("432", 1.0), ("1432", 1.0), ("432", 0.8), ("1432", 0.9)];
        assert_eq!(seen(&cut_off), [("1432".into(), 0.66)], "the longer one has what was cut off");
        let edge = [("7431", 1.0), ("7431", 1.0), ("17431", 0.97), ("17431", 0.99)];
        assert_eq!(seen(&edge), [("7431".into(), 0.5)], "the edge of the bib is no 1");
        assert_eq!(seen(&[("12", 0.5), ("87", 0.6), ("RUN", 0.5)]), [], "they agree on nothing");
        assert_eq!(seen(&[("3260", 1.0), ("326D", 0.9)]), [("3260".into(), 0.91)]);
        assert_eq!(seen(&[("10:15", 1.0), ("10:15", 1.0)]), []);
    }

    #[test]
    fn a_short_number_that_nobody_wears_is_a_sign() {
        let seen = |worn| seen(&[line_at(0.0, worn, &[("22", 1.0)])]).len();

        assert_eq!((seen(true), seen(false)), (1, 0));
    }

    #[test]
    fn of_two_numbers_in_one_place_the_longer_or_the_surer_stays() {
        let part = line_at(2.0, true, &[("432", 1.0)]);
        let whole = line_at(0.0, true, &[("1432", 0.9)]);
        let other = line_at(1.0, true, &[("1438", 0.8)]);
        let elsewhere = line_at(50.0, true, &[("143", 1.0)]);

        let numbers: Vec<_> =
            seen(&[part, whole, other, elsewhere]).into_iter().map(|(number, _)| number).collect();

        assert_eq!(numbers, ["143", "1432"]);
        let far = [line_at(0.0, true, &[("7431", 1.0)]), line_at(1.0, true, &[("17431", 0.7)])];
        assert_eq!(seen(&far).len(), 1, "a longer one that is far less sure does not win");
        assert_eq!(seen(&far)[0].0, "7431");
        // The one in the middle overlaps both, which do not overlap each other.
        let row = [("111", 0.0, 0.8), ("222", 6.0, 0.9), ("333", 12.0, 1.0)]
            .map(|(text, x, score)| line_at(x, true, &[(text, score)]));
        let numbers: Vec<_> = seen(&row).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, ["333", "111"]);
    }
}
