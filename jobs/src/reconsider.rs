//! Decides the bib numbers of a photo again, when more is known of its event. It needs what was
//! read, and no photo.

use std::collections::{BTreeSet, HashMap};

use crate::{
    bibs::{Bib, Decision, SURE, SettledBy, at, characters, decide, each_once},
    bodies::zone_of,
    embedding::Embedding,
    listed::{SECOND_MAX, candidates},
    numbering::Numbering,
    start_list::StartList,
    text::Line,
};

/// What is known of an event.
#[derive(Debug, Default)]
pub struct Known {
    /// Its start list; empty if there is none.
    pub start_list: StartList,
    /// How its sure numbers look.
    pub numbering: Numbering,
    /// Who wears its sure numbers.
    pub worn: HashMap<String, Vec<Worn>>,
}

/// A face above a sure number.
#[derive(Debug, Clone)]
pub struct Worn {
    /// The photo.
    pub photo: u128,
    /// The face.
    pub face: Embedding,
}

/// A face of a photo. Lengths are in pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Wearer {
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
    /// Its embedding, if the event's face search is on and the face is large enough.
    pub face: Option<Embedding>,
}

/// Two faces with this cosine are of one person, if that person may wear the same number.
const SAME_PERSON: f32 = 0.5;
/// The score of a number that the same person wears on another photo, where it is sure.
const WORN_AGAIN: f32 = 0.95;
/// Smallest votes of a number that is taken because the likeliest does not fit.
const FITS_MIN: f32 = 0.3;

/// Decides the bib numbers of a photo from its lines, and from what is known of its event. A number
/// that is sure stays as it is. Each number is returned once, with the best score first.
pub fn reconsider(photo: u128, lines: &[Line], people: &[Wearer], known: &Known) -> Vec<Bib> {
    let decided = lines.iter().filter_map(|line| {
        let found = decide(line, &known.start_list);
        if found.as_ref().is_some_and(|found| found.score >= SURE) {
            return found.map(|found| at(line, found));
        }
        let may_be = candidates(line, &known.start_list);
        worn_again(photo, line, &may_be, people, known)
            .map(|worn| worn.instead_of(found.as_ref()))
            .or_else(|| fitting(found, &may_be, known))
            .map(|found| at(line, found))
    });
    each_once(decided.collect())
}

/// All numbers that may have been read in a line, with this start list or without, also those that
/// are no bib numbers by themselves.
pub fn may_be(line: &Line, list: &StartList) -> BTreeSet<String> {
    let texts = line.readings.iter().flat_map(|reading| {
        let others = reading.others.iter().map(|(text, _)| text);
        std::iter::once(&reading.text).chain(others)
    });
    let decided = [decide(line, list), decide(line, &StartList::default())];
    let decided = decided.into_iter().flatten().map(|decision| decision.number);
    let listed = candidates(line, list).into_iter().map(|(number, _)| number);
    texts.filter_map(|text| characters(text)).chain(decided).chain(listed).collect()
}

/// The number that the person with this line wears on another photo.
fn worn_again(
    photo: u128,
    line: &Line,
    may_be: &[(String, f32)],
    people: &[Wearer],
    known: &Known,
) -> Option<Decision> {
    let face = people[wearer(line.x, line.y, line.width, line.height, people)?].face.as_ref()?;
    let mut worn = may_be.iter().filter(|(number, _)| {
        let others = known.worn.get(number).into_iter().flatten();
        others.filter(|other| other.photo != photo).any(|other| {
            face.iter().zip(&other.face).map(|(a, b)| a * b).sum::<f32>() >= SAME_PERSON
        })
    });
    let (number, _) = worn.next()?;
    // Two numbers of one face: somebody swapped them, or the faces only look alike.
    worn.next().is_none().then(|| Decision {
        number: number.clone(),
        score: WORN_AGAIN,
        settled_by: SettledBy::Person,
        was: None,
    })
}

/// What was found, if it looks like the event's other numbers; else the number that does.
fn fitting(found: Option<Decision>, may_be: &[(String, f32)], known: &Known) -> Option<Decision> {
    // The start list knows better.
    if !known.numbering.is_known() || !known.start_list.is_empty() {
        return found;
    }
    if found.as_ref().is_some_and(|found| known.numbering.fits(&found.number)) {
        return found;
    }
    let mut fit = may_be.iter().filter(|(number, _)| known.numbering.fits(number));
    let (number, votes) = fit.next()?;
    let second = fit.next().map_or(0.0, |(_, votes)| *votes);
    (*votes >= FITS_MIN && second <= SECOND_MAX * votes).then(|| {
        let (score, settled_by) = (votes.min(1.0), SettledBy::Numbering);
        Decision { number: number.clone(), score, settled_by, was: None }.instead_of(found.as_ref())
    })
}

/// Which of these people wears what is in this box: whose face is above it, and nearest.
pub fn wearer(x: f32, y: f32, width: f32, height: f32, people: &[Wearer]) -> Option<usize> {
    let (x, y) = (x + width / 2.0, y + height / 2.0);
    let aside = |face: &Wearer| (face.x + face.width / 2.0 - x).abs() / face.width;
    let above = people.iter().enumerate().filter(|(_, face)| {
        let [left, top, right, bottom] = zone_of([face.x, face.y, face.width, face.height]);
        (left..=right).contains(&x) && (top..=bottom).contains(&y)
    });
    above.min_by(|(_, a), (_, b)| aside(a).total_cmp(&aside(b))).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;

    fn face(x: f32, of: usize) -> Wearer {
        let mut face = vec![0.0; 128];
        face[of] = 1.0;
        Wearer { x, y: 0.0, width: 100.0, height: 100.0, face: Some(face) }
    }

    /// A line below a face at `x`, with these readings.
    fn line(x: f32, readings: &[(&str, f32)]) -> Line {
        let readings = readings
            .iter()
            .map(|&(text, score)| Reading { text: text.into(), score, others: Vec::new() })
            .collect();
        Line { readings, x: x + 20.0, y: 200.0, width: 60.0, height: 30.0, worn: true }
    }

    fn numbers(bibs: &[Bib]) -> Vec<(&str, SettledBy, Option<&str>)> {
        bibs.iter().map(|bib| (&*bib.number, bib.settled_by, bib.was.as_deref())).collect()
    }

    /// An event where 1432 is worn by person 1, and four digits are the rule.
    fn known() -> Known {
        let sure: Vec<String> = (1400..1460).map(|number| number.to_string()).collect();
        let one = Worn { photo: 7, face: face(0.0, 1).face.unwrap() };
        Known {
            start_list: StartList::default(),
            numbering: Numbering::learn(sure.iter().map(String::as_str)),
            worn: HashMap::from([("1432".to_owned(), vec![one])]),
        }
    }

    #[test]
    fn the_same_person_wears_the_same_number() {
        let unsure = [line(0.0, &[("1482", 0.95), ("1432", 0.7), ("1482", 0.9), ("1432", 0.7)])];
        let seen = |photo, of| {
            let bibs = reconsider(photo, &unsure, &[face(500.0, 1), face(0.0, of)], &known());
            numbers(&bibs).iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(" ")
        };

        assert_eq!(seen(8, 1), r#"("1432", Person, Some("1482"))"#);
        assert_eq!(seen(8, 2), r#"("1482", Reading, None)"#, "somebody else");
        assert_eq!(seen(7, 1), r#"("1482", Reading, None)"#, "the same photo proves nothing");
    }

    #[test]
    fn what_is_sure_stays() {
        let sure = [line(0.0, &[("1482", 1.0), ("1482", 0.99)])];

        assert_eq!(
            numbers(&reconsider(8, &sure, &[face(0.0, 1)], &known())),
            [("1482", SettledBy::Reading, None)]
        );
        let other = [line(0.0, &[("17", 1.0), ("17", 0.99)])];
        assert_eq!(reconsider(8, &other, &[], &known()).len(), 1, "whatever the others look like");
    }

    #[test]
    fn a_number_unlike_all_others_is_misread_or_none() {
        let edge = [line(0.0, &[("17431", 0.9), ("7431", 0.9), ("17431", 0.9), ("7431", 0.8)])];
        assert_eq!(
            numbers(&reconsider(8, &edge, &[], &known())),
            [("7431", SettledBy::Numbering, Some("17431"))]
        );
        let sign = [line(0.0, &[("12345", 0.8), ("12345", 0.8)])];
        assert!(reconsider(8, &sign, &[], &known()).is_empty());
        assert_eq!(reconsider(8, &sign, &[], &Known::default()).len(), 1, "nothing is known");
        let either = [line(0.0, &[("1432", 0.7), ("1482", 0.7), ("14321", 0.9)])];
        assert!(reconsider(8, &either, &[], &known()).is_empty(), "one of two");
    }

    #[test]
    fn all_that_may_have_been_read_is_told() {
        let mut clear = line(0.0, &[("326D", 1.0), ("32-60", 0.9), ("7", 0.4)]);
        clear.readings[0].others = vec![("3266".into(), 0.1)];
        let list = StartList::new(["3261".into()]);

        let told = may_be(&clear, &list);

        for number in ["3260", "326D", "7", "3266", "3261"] {
            assert!(told.contains(number), "{number} of {told:?}");
        }
    }

    #[test]
    fn the_nearest_face_above_wears_it() {
        let people = [face(0.0, 1), face(120.0, 2)];

        assert_eq!(wearer(20.0, 200.0, 60.0, 30.0, &people), Some(0));
        assert_eq!(wearer(120.0, 200.0, 60.0, 30.0, &people), Some(1));
        assert_eq!(wearer(20.0, 20.0, 60.0, 30.0, &people), None, "not below a face");
        assert_eq!(wearer(2000.0, 200.0, 60.0, 30.0, &people), None);
    }
}
