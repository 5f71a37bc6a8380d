//! Decides what a line shows if the event has a start list: one of its numbers, or none.

use std::collections::BTreeMap;

use crate::{
    bibs::{NUMBER_MAX, characters, is_year, number, share},
    reading::Reading,
    start_list::{Entry, StartList},
    text::Line,
};

/// Smallest score of a bib number if the event has a start list.
const SCORE_LISTED_MIN: f32 = 0.3;
/// Smallest length of a reading that is corrected. Almost every reading of two characters differs
/// in only one from some runner's number.
const CORRECTED_MIN: usize = 3;
/// Of several numbers that fit, the likeliest is taken if the second has at most this share of its
/// votes.
pub(crate) const SECOND_MAX: f32 = 0.67;
/// A list is taken to have at least this share of all numbers.
const DENSITY_MIN: f32 = 0.1;
/// Largest score of a year that is on the start list.
const YEAR_MAX: f32 = 0.85;
/// Factor for the votes of a reading that was corrected.
const CORRECTED: f32 = 0.8;

/// The number on the start list that a line shows, and its score.
pub(crate) fn listed(line: &Line, list: &StartList) -> Option<(String, f32)> {
    let mut all: BTreeMap<String, f32> = BTreeMap::new();
    for reading in &line.readings {
        for (number, votes) in listed_in(reading, list) {
            *all.entry(number).or_default() += votes;
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let second = all.get(1).map_or(0.0, |(_, votes)| *votes);
    let (number, votes) = all.into_iter().next()?;
    let score = share(votes, line);
    if score < SCORE_LISTED_MIN || second > SECOND_MAX * votes {
        return None;
    }
    let says = |reading: &Reading| characters(&reading.text).is_some_and(|text| text == number);
    if !line.readings.iter().any(says) {
        // Nobody read it: somebody who is not listed may wear what was read.
        return Some((number, score));
    }
    // What was misread is rarely on the list. So a number that is on it is the surer, the fewer of
    // all numbers are. A year may be worn, but may also be the year.
    let wrong = (1.0 - score) * list.density(&number).max(DENSITY_MIN);
    let most = if is_year(&number) { YEAR_MAX } else { 1.0 };
    let score = (score / (score + wrong)).min(most);
    Some((number, score))
}

/// The numbers on the start list that one reading may mean, with its votes for each.
fn listed_in(reading: &Reading, list: &StartList) -> Vec<(String, f32)> {
    let votes = reading.score * reading.score;
    let read = characters(&reading.text).filter(|read| read.len() <= NUMBER_MAX);
    let misread = match read.as_deref().map(|read| list.look_up(read)) {
        Some(Entry::Listed) => return read.map(|read| (read, votes)).into_iter().collect(),
        // A word is not corrected to a number from which it differs in one character, unless the
        // two characters look alike.
        Some(Entry::Misread { meant, alike })
            if meant.len() >= CORRECTED_MIN && (alike || number(&reading.text).is_some()) =>
        {
            Some(meant)
        }
        Some(Entry::Misread { .. } | Entry::Unknown) | None => None,
    };
    let mut may_be: BTreeMap<String, f32> = BTreeMap::new();
    for (number, votes) in others(reading).filter(|(number, _)| list.has(number)) {
        let best = may_be.entry(number).or_default();
        *best = best.max(votes);
    }
    if let Some(meant) = misread {
        // On a dense list, nearly every number has a neighbour.
        let length = f32::from(u8::try_from(meant.len()).unwrap_or(u8::MAX));
        let neighbours = 9.0 * length * list.density(&meant);
        may_be.insert(meant, CORRECTED * votes / (1.0 + neighbours));
    }
    may_be.into_iter().collect()
}

/// What a reading may mean instead of its text, with its votes for each: as many as the text would
/// have if its characters had these probabilities.
fn others(reading: &Reading) -> impl Iterator<Item = (String, f32)> {
    reading.others.iter().filter_map(|(text, probability)| {
        let text = characters(text).filter(|text| text.len() <= NUMBER_MAX)?;
        let length = f32::from(u8::try_from(text.len()).unwrap_or(u8::MAX));
        Some((text, probability.powf(2.0 / length)))
    })
}

/// All numbers that a line may show, with the share of its votes that each has; the most likely
/// first. If there is a start list, only numbers on it.
pub(crate) fn candidates(line: &Line, list: &StartList) -> Vec<(String, f32)> {
    let mut all: BTreeMap<String, f32> = BTreeMap::new();
    for reading in &line.readings {
        let own = number(&reading.text).map(|number| (number, reading.score * reading.score));
        let may_be = others(reading).filter(|(text, _)| number(text).is_some());
        let may_be = if list.is_empty() {
            own.into_iter().chain(may_be).collect()
        } else {
            listed_in(reading, list)
        };
        for (number, votes) in may_be {
            *all.entry(number).or_default() += votes;
        }
    }
    let mut all: Vec<_> = all.into_iter().map(|(n, votes)| (n, share(votes, line))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bibs::{SURE, SettledBy, bibs};

    /// A line at this place, with these readings.
    fn line_at(x: f32, worn: bool, readings: &[(&str, f32)]) -> Line {
        let readings = readings
            .iter()
            .map(|&(text, score)| Reading { text: text.into(), score, others: Vec::new() })
            .collect();
        Line { readings, x, y: 0.0, width: 10.0, height: 5.0, worn }
    }

    #[test]
    fn a_start_list_decides() {
        let list = StartList::new(["2019", "7", "3586"].map(String::from));
        let read = |text, score| {
            let lines = [line_at(0.0, false, &[(text, score)])];
            bibs(&lines, &list).into_iter().map(|bib| bib.number).next()
        };

        assert_eq!(read("2019", 0.95).as_deref(), Some("2019"), "no year here");
        assert_eq!(read("7", 0.7).as_deref(), Some("7"));
        assert_eq!(read("3S86", 0.9).as_deref(), Some("3586"));
        assert_eq!(read("1234", 0.99), None, "nobody wears it");
        assert_eq!(read("3586", 0.5), None, "a guess");
        assert_eq!(read("8", 0.99), None, "too short to be corrected");
        assert_eq!(read(&"35866".repeat(1000), 0.99), None, "longer than any number");
    }

    #[test]
    fn a_number_on_a_short_list_is_surer_than_one_on_a_list_of_all() {
        let score = |list: &StartList, readings: &[(&str, f32)]| {
            let found = bibs(&[line_at(0.0, true, readings)], list);
            found.first().map_or(0.0, |bib| bib.score)
        };
        let short = StartList::new(["3586", "2019"].map(String::from));
        let all = StartList::new((1000..10_000).map(|number| number.to_string()));
        let two_of_three = [("3586", 0.95), ("3580", 0.9), ("3586", 0.95)];

        assert!(score(&short, &two_of_three) > SURE);
        assert!(score(&all, &two_of_three) < 0.65, "as without a list");
        assert!(score(&short, &[("2019", 1.0)]) < SURE, "it may be the year");
        let corrected = score(&short, &[("3526", 1.0), ("3526", 1.0)]);
        assert!(corrected > SCORE_LISTED_MIN && corrected < SURE, "3526 may be a guest");
        // 3526 has one neighbour here, 3586; but so have many numbers by chance.
        let dense = (1000..10_000).filter(|n| n % 7 == 2 && n / 100 != 35 && n % 1000 != 526);
        let dense = dense.filter(|n| n / 10 != 352).map(|number| number.to_string());
        let dense = StartList::new(dense.chain(["3586".into()]));
        assert!(bibs(&[line_at(0.0, true, &[("3526", 1.0), ("3526", 1.0)])], &dense).is_empty());
    }

    #[test]
    fn what_a_line_may_say_instead_counts_if_it_is_listed() {
        let mut line = line_at(0.0, true, &[("3526", 0.9), ("3526", 0.8)]);
        for reading in &mut line.readings {
            reading.others = vec![("3586".into(), 0.3), ("3566".into(), 0.01)];
        }
        // Both are one character away, so no correction helps.
        let list = StartList::new(["3586", "3566"].map(String::from));

        let found = bibs(&[line], &list);

        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].number, found[0].was.as_deref()), ("3586", Some("3526")));
        assert_eq!(found[0].settled_by, SettledBy::StartList);
        assert!(found[0].score < SURE);
    }
}
