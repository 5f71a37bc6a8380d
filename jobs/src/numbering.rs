//! The way in which the bib numbers of an event look: learnt from those that are sure.

use std::collections::{BTreeMap, BTreeSet};

/// How the numbers of an event look, such as "four digits" or "a letter and three digits". Nothing
/// is known before [`ENOUGH`] numbers were read surely.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbering(BTreeSet<String>);

/// So many different numbers tell how the others look.
const ENOUGH: usize = 20;
/// A shape that fewer different numbers have is none of the event: what is read on a banner is one
/// number, on however many photos.
const OF_A_SHAPE: usize = 2;

impl Numbering {
    /// Learns from the numbers that are sure. A number counts once, however often it was seen.
    pub fn learn<'a>(sure: impl IntoIterator<Item = &'a str>) -> Self {
        let different: BTreeSet<&str> = sure.into_iter().collect();
        if different.len() < ENOUGH {
            return Self::default();
        }
        let mut shapes: BTreeMap<String, usize> = BTreeMap::new();
        for number in different {
            *shapes.entry(shape(number)).or_default() += 1;
        }
        Self(shapes.into_iter().filter(|(_, n)| *n >= OF_A_SHAPE).map(|(shape, _)| shape).collect())
    }

    /// Whether enough was learnt to decide.
    pub fn is_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a number looks like those of the event.
    pub fn fits(&self, number: &str) -> bool {
        self.0.contains(&shape(number))
    }
}

/// A number with an A for each letter, and a 0 for each digit.
pub(crate) fn shape(number: &str) -> String {
    number.chars().map(|c| if c.is_ascii_digit() { '0' } else { 'A' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sure_numbers_tell_how_the_others_look() {
        let mut sure: Vec<String> = (0..ENOUGH).map(|n| (1000 + 7 * n).to_string()).collect();
        assert!(!Numbering::learn(sure[1..].iter().map(String::as_str)).is_known(), "too few");
        sure.extend(["F12", "F13", "17431"].map(String::from));
        sure.extend(vec!["24H".to_owned(); 40]);

        let numbering = Numbering::learn(sure.iter().map(String::as_str));

        assert!(numbering.is_known());
        for fits in ["9999", "X99"] {
            assert!(numbering.fits(fits), "{fits}");
        }
        for other in ["99", "17431", "24H", "F123", ""] {
            assert!(!numbering.fits(other), "{other}");
        }
    }
}
