//! Which lines of text are bib numbers.

use serde::Serialize;

use crate::text::Line;

/// A bib number. The box in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// The bib numbers among lines of text, each number once, best first.
///
/// The *whole* line must look like a bib: a word with digits in it is a sponsor, a distance or a clock.
pub fn bibs(lines: &[Line]) -> Vec<Bib> {
    let mut bibs: Vec<Bib> = lines
        .iter()
        .filter(|line| line.score >= SCORE_MIN)
        .filter_map(|line| {
            let &Line { score, x, y, width, height, .. } = line;
            number(&line.text).map(|number| Bib { number, score, x, y, width, height })
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

/// A letter or two, one to six digits, a letter or two; at least two characters; not a year, a clock or a distance.
fn number(text: &str) -> Option<String> {
    if is_clock(text) {
        return None;
    }
    let number: String =
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    if !number.is_ascii() || number.len() < 2 {
        return None;
    }
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
        let line =
            |score| Line { text: "12".into(), score, x: 0.0, y: 0.0, width: 1.0, height: 1.0 };

        let bibs = bibs(&[line(0.91), line(0.99), line(0.5)]);

        assert_eq!(bibs.iter().map(|bib| bib.score).collect::<Vec<_>>(), [0.99]);
    }
}
