//! Decodes what a model for text says of a line (CTC): for each step along the line, how likely each
//! character is. Class 0 is a blank, and equal classes in a row are one character.

use std::collections::BTreeMap;

use crate::eyes::Output;

/// A text with the score of each of its characters, and what the line may say instead.
pub(crate) struct Spelled {
    pub(crate) text: String,
    pub(crate) scores: Vec<f32>,
    /// Other texts with the probability of each, the likeliest first.
    pub(crate) others: Vec<(String, f32)>,
}

/// So many beginnings of a text are followed at the same time.
const BEAMS: usize = 12;
/// Largest number of characters that are tried at one step.
const CHOICES: usize = 6;
/// Less likely characters are not tried.
const LEAST: f32 = 0.002;
/// Largest number of other texts that are kept.
pub const OTHERS_MAX: usize = 8;
/// Less likely texts are not kept.
const OTHER_MIN: f32 = 0.001;

/// The probability of a beginning: of all ways to spell it that end in a blank, and in a character.
#[derive(Clone, Copy, Default)]
struct Beam {
    blank: f32,
    character: f32,
}

impl Beam {
    fn sum(self) -> f32 {
        self.blank + self.character
    }
}

/// Decodes the output of a model. `alphabet` has the characters from class 1 on.
pub(crate) fn spell(output: &Output, alphabet: &[String]) -> Spelled {
    let classes = output.shape.last().copied().unwrap_or(1).max(1);
    let character = |class: usize| alphabet.get(class - 1).map_or(" ", String::as_str);
    let (mut text, mut scores, mut last) = (String::new(), Vec::new(), 0);
    for step in output.values.chunks_exact(classes) {
        let best = (0..classes).max_by(|a, b| step[*a].total_cmp(&step[*b])).unwrap_or(0);
        if best != 0 && best != last {
            text.push_str(character(best));
            scores.push(step[best]);
        }
        last = best;
    }
    let has_digit = text.contains(|c: char| c.is_ascii_digit());
    let mut others = if has_digit { beams(output, classes) } else { Vec::new() }
        .into_iter()
        .map(|(classes, p)| (classes.into_iter().map(character).collect::<String>(), p.min(1.0)))
        .filter(|(other, p)| *other != text && *p >= OTHER_MIN)
        .collect::<Vec<_>>();
    others.truncate(OTHERS_MAX);
    Spelled { text, scores, others }
}

/// The likeliest texts, as classes, with their probabilities; the likeliest first.
fn beams(output: &Output, classes: usize) -> Vec<(Vec<usize>, f32)> {
    let mut beams = vec![(Vec::new(), Beam { blank: 1.0, character: 0.0 })];
    for step in output.values.chunks_exact(classes) {
        let mut choices: Vec<usize> = (1..classes).filter(|class| step[*class] >= LEAST).collect();
        choices.sort_by(|a, b| step[*b].total_cmp(&step[*a]));
        choices.truncate(CHOICES);
        let mut next: BTreeMap<Vec<usize>, Beam> = BTreeMap::new();
        for (text, beam) in &beams {
            let last = text.last().copied();
            let stays = next.entry(text.clone()).or_default();
            stays.blank += beam.sum() * step[0];
            stays.character += last.map_or(0.0, |last| beam.character * step[last]);
            for class in &choices {
                // The same character twice needs a blank between.
                let from = if last == Some(*class) { beam.blank } else { beam.sum() };
                let longer = [&text[..], &[*class]].concat();
                next.entry(longer).or_default().character += from * step[*class];
            }
        }
        beams = next.into_iter().collect();
        beams.sort_by(|a, b| b.1.sum().total_cmp(&a.1.sum()));
        beams.truncate(BEAMS);
    }
    beams.into_iter().map(|(text, beam)| (text, beam.sum())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of a model with the classes blank, "1", "7".
    fn output(steps: &[[f32; 3]]) -> Output {
        Output { shape: vec![1, steps.len(), 3], values: steps.as_flattened().to_vec() }
    }

    #[test]
    fn all_ways_to_spell_a_text_count_for_it() {
        let alphabet = ["1", "7"].map(String::from);
        let steps = [[0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0]];

        let spelled = spell(&output(&steps), &alphabet);

        assert_eq!(spelled.text, "11");
        assert_eq!(spelled.scores, [0.6, 0.9]);
        let of = |text: &str| {
            let found = spelled.others.iter().find(|(other, _)| other == text);
            format!("{:.3}", found.map_or(0.0, |(_, p)| *p))
        };
        // 7-1, 771 and 711: equal characters without a blank between are one.
        assert_eq!(of("71"), "0.282");
        // The second step is no blank.
        assert_eq!(of("1"), "0.190");
        assert!(spelled.others.is_sorted_by(|a, b| a.1 >= b.1));
    }

    #[test]
    fn a_line_without_a_digit_has_no_other_texts() {
        let alphabet = ["A", "7"].map(String::from);

        assert!(spell(&output(&[[0.1, 0.5, 0.4]]), &alphabet).others.is_empty());
        assert!(spell(&output(&[]), &alphabet).text.is_empty());
    }
}
