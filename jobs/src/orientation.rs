//! Which way is up: what EXIF says, and what the picture itself says.

use image::DynamicImage;
use serde::{Deserialize, Serialize};

use crate::{
    eyes::Eyes,
    faces::Face,
    limits::PhotoError,
    picture::{Frame, Picture, to_f32},
    text::detection_size,
};

/// A clockwise turn.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(into = "u16", try_from = "u16")]
pub enum Turn {
    /// As it is.
    #[default]
    None,
    /// A quarter clockwise.
    Quarter,
    /// Upside down.
    Half,
    /// A quarter counter-clockwise.
    ThreeQuarters,
}

impl Turn {
    /// All four, by growing angle.
    pub const ALL: [Self; 4] = [Self::None, Self::Quarter, Self::Half, Self::ThreeQuarters];

    /// Degrees clockwise: 0, 90, 180 or 270.
    pub fn degrees(self) -> u16 {
        90 * self.quarters()
    }

    pub(crate) fn quarters(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Quarter => 1,
            Self::Half => 2,
            Self::ThreeQuarters => 3,
        }
    }

    fn from_quarters(quarters: usize) -> Self {
        Self::ALL[quarters % 4]
    }
}

impl From<Turn> for u16 {
    fn from(turn: Turn) -> Self {
        turn.degrees()
    }
}

impl TryFrom<u16> for Turn {
    type Error = &'static str;

    fn try_from(degrees: u16) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|turn| turn.degrees() == degrees)
            .ok_or("a turn is by 0, 90, 180 or 270 degrees")
    }
}

/// One of the eight ways a rectangle fits itself: first mirrored left to right if `mirrored`, then turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    /// Mirror left to right, before the turn.
    pub mirrored: bool,
    /// Then turn.
    pub turn: Turn,
}

impl Orientation {
    /// From the value of the EXIF tag 0x0112. Values that the standard does not know mean "as it is".
    pub fn from_exif(value: u32) -> Self {
        let (mirrored, turn) = match value {
            2 => (true, Turn::None),
            3 => (false, Turn::Half),
            4 => (true, Turn::Half),
            5 => (true, Turn::ThreeQuarters),
            6 => (false, Turn::Quarter),
            7 => (true, Turn::Quarter),
            8 => (false, Turn::ThreeQuarters),
            _ => (false, Turn::None),
        };
        Self { mirrored, turn }
    }

    /// This orientation, and then one more turn.
    #[must_use]
    pub fn then(self, turn: Turn) -> Self {
        let quarters = self.turn.quarters() + turn.quarters();
        Self { mirrored: self.mirrored, turn: Turn::from_quarters(usize::from(quarters)) }
    }

    /// True when nothing has to be done.
    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// True when width and height change places.
    pub fn swaps_sides(self) -> bool {
        self.turn.quarters() % 2 == 1
    }

    pub(crate) fn apply(self, image: DynamicImage) -> DynamicImage {
        let image = if self.mirrored { image.fliph() } else { image };
        match self.turn {
            Turn::None => image,
            Turn::Quarter => image.rotate90(),
            Turn::Half => image.rotate180(),
            Turn::ThreeQuarters => image.rotate270(),
        }
    }
}

/// What the picture says about which way is up, after EXIF was applied.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// The clockwise turn still needed; none when abstained.
    pub turn: Turn,
    /// 0 to 1: how much of the evidence speaks for this turn.
    pub confidence: f32,
    /// Too little evidence, or evidence against evidence: the photo is left as it is.
    pub abstained: bool,
}

/// The side, in pixels, of the small picture on which faces vote for a direction.
const FACE_SIDE: u32 = 640;
/// The sides on which text votes, if faces did not decide; the larger if the smaller did not, and there is more to see.
const TEXT_SIDES: [u32; 2] = [512, 704];
/// Lines that vote, longest first.
const TEXT_LINES: usize = 6;
/// What a face that was not found in a turn may have scored, at most.
const SCORE_UNSEEN: f32 = 0.6;
/// Less in its best turn, and it may be no face at all.
const SCORE_SURE: f32 = 0.75;
/// A photo is never turned on less: one clear face of 30 pixels. Wrong turns began far below, at none of 150 views.
const FACE_WEIGHT_MIN: f32 = 0.1;
/// Of the weight of all faces, what the winner must have.
const FACE_SHARE_MIN: f32 = 0.8;
/// Characters, weighed by their scores, that text must have in one direction.
const TEXT_WEIGHT_MIN: f32 = 6.0;
/// Of the weight of all text, what the winner must have.
const TEXT_SHARE_MIN: f32 = 0.75;

impl Eyes {
    /// Decides which way is up, by faces, else by text, else not at all.
    ///
    /// The small picture is shown in four turns. A face is found in more than one of them, but scores best when it is
    /// upright; where its landmarks are put says nothing, the model puts them upright always.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model refuses the picture.
    pub fn rotation(&mut self, picture: &Picture) -> Result<Rotation, PhotoError> {
        let small = picture.frame.fit(FACE_SIDE);
        let mut seen: Vec<Seen> = Vec::new();
        for turn in Turn::ALL {
            for face in self.detect(&small.turned(turn), FACE_SIDE)? {
                let (x, y) = unturned(&face, turn, &small);
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
        if let Some(rotation) = decide(votes, FACE_WEIGHT_MIN, FACE_SHARE_MIN) {
            return Ok(rotation);
        }
        let sides = [picture.frame.width(), picture.frame.height()];
        let has_more = |side| side == TEXT_SIDES[0] || sides.iter().any(|have| *have >= side);
        for side in TEXT_SIDES.into_iter().filter(|side| has_more(*side)) {
            let votes = self.readable(&picture.frame, side)?;
            if let Some(rotation) = decide(votes, TEXT_WEIGHT_MIN, TEXT_SHARE_MIN) {
                return Ok(rotation);
            }
        }
        Ok(Rotation { turn: Turn::None, confidence: 0.0, abstained: true })
    }

    /// How much can be read in each of the four turns: characters, weighed by the square of their scores.
    ///
    /// Text is looked for once: lines that lie are read as they are and upside down, lines that stand both ways up.
    fn readable(&mut self, frame: &Frame, side: u32) -> Result<[f32; 4], PhotoError> {
        let mut votes = [0.0; 4];
        let mut slants = self.find(frame, detection_size(frame, side))?;
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

/// The winner among four directions, if it has enough weight and enough of it.
fn decide(votes: [f32; 4], weight_min: f32, share_min: f32) -> Option<Rotation> {
    let all: f32 = votes.iter().sum();
    let best = (0..4).max_by(|a, b| votes[*a].total_cmp(&votes[*b]))?;
    let share = votes[best] / all.max(f32::EPSILON);
    (votes[best] >= weight_min && share >= share_min).then(|| Rotation {
        turn: Turn::from_quarters(best),
        confidence: share.clamp(0.0, 1.0),
        abstained: false,
    })
}

/// One face of a photo, as it was seen in the four turns.
struct Seen {
    /// Its centre in the unturned picture.
    x: f32,
    y: f32,
    size: f32,
    scores: [f32; 4],
}

impl Seen {
    /// For the turn in which it looks most like a face; the more, the larger it is and the less it does in the others.
    fn vote(&self) -> (usize, f32) {
        let mut best: Vec<_> = self.scores.into_iter().enumerate().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let margin = if best[0].1 < SCORE_SURE { 0.0 } else { best[0].1 - best[1].1 };
        (best[0].0, margin * self.size.min(80.0) / 20.0)
    }
}

/// The centre of a face found in a turned picture, in the picture as it was before.
fn unturned(face: &Face, turn: Turn, before: &Frame) -> (f32, f32) {
    let (x, y) = (face.x + face.width / 2.0, face.y + face.height / 2.0);
    let (width, height) = (to_f32(before.width()), to_f32(before.height()));
    match turn {
        Turn::None => (x, y),
        Turn::Quarter => (y, height - x),
        Turn::Half => (width - x, height - y),
        Turn::ThreeQuarters => (width - y, x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma};

    #[test]
    fn every_exif_orientation_puts_the_marked_corner_on_top_left() {
        // A 3x2 picture whose top left pixel is marked, stored in each of the eight ways.
        let mut upright = GrayImage::new(3, 2);
        upright.put_pixel(0, 0, Luma([255]));
        upright.put_pixel(1, 0, Luma([128]));
        let upright = DynamicImage::ImageLuma8(upright);
        let stored = [
            (1, upright.clone()),
            (2, upright.fliph()),
            (3, upright.rotate180()),
            (4, upright.flipv()),
            (5, upright.rotate90().fliph()),
            (6, upright.rotate270()),
            (7, upright.rotate270().fliph()),
            (8, upright.rotate90()),
        ];
        for (value, picture) in stored {
            assert_eq!(
                Orientation::from_exif(value).apply(picture),
                upright,
                "orientation {value}"
            );
        }
    }

    #[test]
    fn a_turn_on_top_of_an_orientation_is_one_orientation() {
        assert!(Orientation::from_exif(6).then(Turn::ThreeQuarters).is_upright());
        assert_eq!(Orientation::from_exif(3).then(Turn::Quarter).turn, Turn::ThreeQuarters);
    }

    #[test]
    fn little_or_divided_evidence_decides_nothing() {
        assert_eq!(decide([0.3, 0.0, 0.0, 0.0], 0.45, 0.7), None);
        assert_eq!(decide([1.0, 0.0, 0.9, 0.0], 0.45, 0.7), None);
        assert_eq!(
            decide([0.0, 2.0, 0.1, 0.0], 0.45, 0.7).map(|rotation| rotation.turn),
            Some(Turn::Quarter)
        );
    }
}
