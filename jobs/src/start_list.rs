//! The start list of an event: the bib numbers that are worn there.

use std::collections::{HashMap, HashSet};

use crate::numbering::shape;

/// The start list of an event. It is empty if the organiser gave none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartList {
    numbers: HashSet<String>,
    /// How many numbers have each shape.
    shapes: HashMap<String, u32>,
}

/// What a start list says about a number that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The number is on the list.
    Listed,
    /// One character was misread, and only the number `meant` fits. `alike` is true if the two
    /// characters look alike.
    Misread { meant: String, alike: bool },
    /// The number is not on the list, and cannot be corrected.
    Unknown,
}

/// Pairs of characters that are easily mistaken for each other. In print they often look the same.
const ALIKE: [(char, char); 6] =
    [('0', 'O'), ('1', 'I'), ('1', 'L'), ('5', 'S'), ('8', 'B'), ('2', 'Z')];

impl StartList {
    /// Makes a start list from numbers of upper-case letters and digits. Other numbers never match
    /// a reading.
    pub fn new(numbers: impl IntoIterator<Item = String>) -> Self {
        let numbers: HashSet<String> = numbers.into_iter().collect();
        let mut shapes: HashMap<String, u32> = HashMap::new();
        for number in &numbers {
            *shapes.entry(shape(number)).or_default() += 1;
        }
        Self { numbers, shapes }
    }

    /// True if the list has no numbers.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether a number is on the list.
    pub(crate) fn has(&self, number: &str) -> bool {
        self.numbers.contains(number)
    }

    /// The share of the list among all numbers that look like this one, from 0 to 1: how likely a
    /// wrong number is on the list by chance.
    pub(crate) fn density(&self, number: &str) -> f32 {
        let shape = shape(number);
        let all: f32 = shape.chars().map(|c| if c == 'A' { 26.0 } else { 10.0 }).product();
        let listed = self.shapes.get(&shape).copied().unwrap_or(0);
        (u16::try_from(listed).map_or(f32::from(u16::MAX), f32::from) / all).min(1.0)
    }

    /// Looks up a number that was read.
    pub(crate) fn look_up(&self, number: &str) -> Entry {
        if self.has(number) {
            return Entry::Listed;
        }
        let mut fits = HashSet::new();
        // Characters that look alike come first: if two numbers fit, the more likely one is meant.
        for alike in [true, false] {
            for (at, was) in number.char_indices() {
                for now in ('0'..='9').chain('A'..='Z').filter(|now| *now != was) {
                    if alike && !is_alike(was, now) {
                        continue;
                    }
                    let other = format!("{}{now}{}", &number[..at], &number[at + was.len_utf8()..]);
                    if self.has(&other) {
                        fits.insert(other);
                    }
                }
            }
            match fits.len() {
                0 => {}
                1 => {
                    let meant = fits.into_iter().next();
                    return meant.map_or(Entry::Unknown, |meant| Entry::Misread { meant, alike });
                }
                _ => return Entry::Unknown,
            }
        }
        Entry::Unknown
    }
}

fn is_alike(one: char, other: char) -> bool {
    ALIKE.contains(&(one, other)) || ALIKE.contains(&(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(numbers: &[&str]) -> StartList {
        StartList::new(numbers.iter().map(|number| (*number).to_owned()))
    }

    #[test]
    fn one_misread_digit_is_corrected_where_only_one_runner_fits() {
        let list = list(&["1234", "1335", "A77"]);

        assert_eq!(list.look_up("1234"), Entry::Listed);
        let misread = |meant: &str, alike| Entry::Misread { meant: meant.into(), alike };
        assert_eq!(list.look_up("1274"), misread("1234", false));
        assert_eq!(list.look_up("B77"), misread("A77", false));
        assert_eq!(list.look_up("1334"), Entry::Unknown, "1234 and 1335 both fit");
        assert_eq!(list.look_up("9999"), Entry::Unknown);
        assert_eq!(list.look_up("123"), Entry::Unknown, "a digit that is missing is no misreading");
    }

    #[test]
    fn what_looks_alike_goes_before_what_does_not() {
        let misread = Entry::Misread { meant: "O12".into(), alike: true };
        assert_eq!(list(&["O12", "A12"]).look_up("012"), misread);
    }
}
