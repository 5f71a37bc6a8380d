//! Decides from the picture itself which way is up.

use serde::{Deserialize, Serialize};

use crate::{
    back::Back,
    eyes::Eyes,
    limits::PhotoError,
    orientation::Turn,
    picture::{Frame, Picture},
    text::detection_size,
};

/// The decision of AI rotation, made from the picture after the EXIF orientation was applied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// The clockwise turn that is still needed. It is [`Turn::None`] after an abstention.
    pub turn: Turn,
    /// How sure the decision is, from 0 to 1. Of the network: the share of such answers that are
    /// right. Of faces and text: the share of the evidence that is for this turn.
    pub confidence: f32,
    /// True if there is too little evidence, or it is contradictory. The photo is then left as it
    /// is.
    pub abstained: bool,
    /// What decided; `None` after an abstention.
    pub cue: Option<Cue>,
}

/// What decided which way is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cue {
    /// The network for orientation.
    Network,
    /// Faces, where the network was not sure.
    Faces,
    /// Text, where neither was.
    Text,
    /// Nothing was looked at: the turn was known.
    Known,
}

impl Rotation {
    /// The decision where the turn is known: somebody has told it, or it was found before.
    pub fn known(turn: Turn) -> Self {
        Self { turn, confidence: 1.0, abstained: false, cue: Some(Cue::Known) }
    }
}

impl Cue {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Faces => "faces",
            Self::Text => "text",
            Self::Known => "known",
        }
    }
}

/// Confidence from which the network decides alone.
const NETWORK_SURE: f32 = 0.95;
/// A turn that the network finds less likely contradicts it. Neither faces nor text may choose it.
const NETWORK_DOUBTS: f32 = 0.1;
/// Long side, in pixels, of the small picture on which faces are searched.
const FACE_SIDE: u32 = 640;
/// Long side, in pixels, at which text is searched.
const TEXT_SIDE: u32 = 512;
/// Largest number of lines that are read; the longest lines come first.
const TEXT_LINES: usize = 6;
/// Score of a face in a turn in which it was not found. Its real score is at most this.
const SCORE_UNSEEN: f32 = 0.6;
/// A face with a lower score in its best turn does not count, because it may not be a face.
const SCORE_SURE: f32 = 0.75;
/// Smallest weight of faces that decides: one clear face of 30 pixels. At this weight, no turn of
/// 150 test pictures was wrong; wrong turns began far below it.
const FACE_WEIGHT_MIN: f32 = 0.1;
/// Smallest share of the weight of all faces that decides.
const FACE_SHARE_MIN: f32 = 0.8;
/// Smallest weight of text that decides: characters, weighted by their scores.
const TEXT_WEIGHT_MIN: f32 = 6.0;
/// Smallest share of the weight of all text that decides.
const TEXT_SHARE_MIN: f32 = 0.75;

impl Eyes {
    /// Decides which way is up: by the network for orientation. Where it is unsure, faces decide, and
    /// then text, but never against the network. Otherwise it abstains.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model fails on the picture.
    pub fn rotation(&mut self, picture: &Picture) -> Result<Rotation, PhotoError> {
        let likely = self.turns(&picture.frame)?;
        if let Some(rotation) = decide(likely, 0.0, NETWORK_SURE, Cue::Network) {
            return Ok(rotation);
        }
        let votes = self.facing(&picture.frame)?;
        let faces = decide(votes, FACE_WEIGHT_MIN, FACE_SHARE_MIN, Cue::Faces);
        if let Some(rotation) = faces.filter(|rotation| !is_doubted(likely, rotation.turn)) {
            return Ok(rotation);
        }
        let votes = self.readable(&picture.frame)?;
        let text = decide(votes, TEXT_WEIGHT_MIN, TEXT_SHARE_MIN, Cue::Text);
        if let Some(rotation) = text.filter(|rotation| !is_doubted(likely, rotation.turn)) {
            return Ok(rotation);
        }
        Ok(Rotation { turn: Turn::None, confidence: 0.0, abstained: true, cue: None })
    }

    /// Returns the weight of the faces that are upright in each of the four turns.
    ///
    /// Faces are searched on the small picture in all four turns. A face may be found in several
    /// turns, but has its best score when it is upright. The landmarks of a face do not help,
    /// because the model always places them as if the face were upright.
    fn facing(&mut self, frame: &Frame) -> Result<[f32; 4], PhotoError> {
        let small = frame.fit(FACE_SIDE);
        let mut seen: Vec<Seen> = Vec::new();
        for turn in Turn::ALL {
            for face in self.detect(&small.turned(turn), FACE_SIDE)? {
                let [x, y] = Back::to(small.width(), small.height(), turn)
                    .point([face.x + face.width / 2.0, face.y + face.height / 2.0]);
                let size = (face.width * face.height).sqrt();
                let known = seen
                    .iter()
                    .position(|seen| (seen.x - x).hypot(seen.y - y) < seen.size.min(size) / 2.0);
                let known = known.unwrap_or_else(|| {
                    seen.push(Seen { x, y, size, scores: [SCORE_UNSEEN; 4] });
                    seen.len() - 1
                });
                let score = &mut seen[known].scores[usize::from(turn.quarters())];
                *score = score.max(face.score);
            }
        }
        let mut votes = [0.0; 4];
        for face in &seen {
            let (turn, weight) = face.vote();
            votes[turn] += weight;
        }
        Ok(votes)
    }

    /// Returns how much text can be read in each of the four turns: the number of characters,
    /// weighted by the square of the lines' scores.
    ///
    /// Text is searched only once. Horizontal lines are read as they are and upside down; vertical
    /// lines are read upwards and downwards.
    fn readable(&mut self, frame: &Frame) -> Result<[f32; 4], PhotoError> {
        let mut votes = [0.0; 4];
        let mut slants = self.find(frame, detection_size(frame, TEXT_SIDE))?;
        slants.sort_by(|a, b| b.longest().total_cmp(&a.longest()));
        for slant in slants.iter().filter(|slant| slant.is_long()).take(TEXT_LINES) {
            for turn in slant.readings() {
                let line = self.recognise(frame, &slant.turned(turn))?;
                let characters =
                    line.text.chars().filter(char::is_ascii_alphanumeric).count().min(8);
                if line.score > 0.7 && characters >= 2 {
                    votes[usize::from(turn.quarters())] +=
                        line.score * line.score * f32::from(u8::try_from(characters).unwrap_or(8));
                }
            }
        }
        Ok(votes)
    }
}

/// Whether the network holds this turn for unlikely.
fn is_doubted(likely: [f32; 4], turn: Turn) -> bool {
    likely[usize::from(turn.quarters())] < NETWORK_DOUBTS
}

/// The turn with the largest weight, if its weight and its share of all weight are large enough.
fn decide(votes: [f32; 4], weight_min: f32, share_min: f32, cue: Cue) -> Option<Rotation> {
    let all: f32 = votes.iter().sum();
    let best = (0..4).max_by(|a, b| votes[*a].total_cmp(&votes[*b]))?;
    let share = votes[best] / all.max(f32::EPSILON);
    (votes[best] >= weight_min && share >= share_min).then(|| Rotation {
        turn: Turn::from_quarters(best),
        confidence: share.clamp(0.0, 1.0),
        abstained: false,
        cue: Some(cue),
    })
}

/// One face of a photo, with its score in each of the four turns.
struct Seen {
    /// Horizontal position of the centre, in pixels of the unturned small picture.
    x: f32,
    /// Vertical position of the centre, in pixels of the unturned small picture.
    y: f32,
    /// Side of a square with the same area as the face's box, in pixels.
    size: f32,
    /// Score in each turn, in the order of [`Turn::ALL`].
    scores: [f32; 4],
}

impl Seen {
    /// Returns the turn in which the face has its best score, as a number of quarters, and the
    /// weight of this vote. The weight grows with the size of the face, and with the distance to
    /// its second best score.
    fn vote(&self) -> (usize, f32) {
        let mut best: Vec<_> = self.scores.into_iter().enumerate().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let margin = if best[0].1 < SCORE_SURE { 0.0 } else { best[0].1 - best[1].1 };
        (best[0].0, margin * self.size.min(80.0) / 20.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_or_divided_evidence_decides_nothing() {
        assert_eq!(decide([0.3, 0.0, 0.0, 0.0], 0.45, 0.7, Cue::Faces), None);
        assert_eq!(decide([1.0, 0.0, 0.9, 0.0], 0.45, 0.7, Cue::Faces), None);
        assert_eq!(
            decide([0.0, 2.0, 0.1, 0.0], 0.45, 0.7, Cue::Faces).map(|rotation| rotation.turn),
            Some(Turn::Quarter)
        );
    }

    #[test]
    fn the_network_decides_from_its_threshold_on() {
        let decided = |share: f32| {
            let likely = [1.0 - share, 0.0, share, 0.0];
            decide(likely, 0.0, NETWORK_SURE, Cue::Network).map(|rotation| rotation.turn)
        };

        assert_eq!(decided(NETWORK_SURE + 0.01), Some(Turn::Half));
        assert_eq!(decided(NETWORK_SURE - 0.01), None);
    }

    #[test]
    fn what_the_network_holds_for_unlikely_nothing_else_may_choose() {
        let likely = [0.6, 0.35, 0.04, 0.01];

        assert!(!is_doubted(likely, Turn::Quarter), "the second most likely turn may be right");
        assert!(is_doubted(likely, Turn::Half));
    }
}
