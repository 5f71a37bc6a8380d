//! Turns, and the eight orientations in which EXIF says that a picture is stored.

use image::DynamicImage;
use serde::{Deserialize, Serialize};

use crate::rotation::Rotation;

/// A clockwise turn in steps of 90 degrees.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(into = "u16", try_from = "u16")]
pub enum Turn {
    /// No turn: 0 degrees.
    #[default]
    None,
    /// A quarter turn clockwise: 90 degrees.
    Quarter,
    /// A half turn: 180 degrees.
    Half,
    /// A quarter turn counter-clockwise: 270 degrees.
    ThreeQuarters,
}

impl Turn {
    /// All four turns, ordered by angle.
    pub const ALL: [Self; 4] = [Self::None, Self::Quarter, Self::Half, Self::ThreeQuarters];

    /// The angle in degrees clockwise: 0, 90, 180 or 270.
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

    pub(crate) fn from_quarters(quarters: usize) -> Self {
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
            .ok_or("a turn is 0, 90, 180 or 270 degrees")
    }
}

/// One of the eight orientations of a picture: first mirrored left to right if `mirrored`, then
/// turned clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation {
    /// True if the picture is mirrored left to right before the turn.
    pub mirrored: bool,
    /// The turn after the mirroring.
    pub turn: Turn,
}

impl Orientation {
    /// Reads the value of the EXIF tag 0x0112. Values that are not in the standard mean "upright".
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

    /// This orientation with one more turn after it.
    #[must_use]
    pub fn then(self, turn: Turn) -> Self {
        let quarters = self.turn.quarters() + turn.quarters();
        Self { mirrored: self.mirrored, turn: Turn::from_quarters(usize::from(quarters)) }
    }

    /// This orientation with one more mirroring, left to right, after it.
    fn then_mirrored(self) -> Self {
        Self { mirrored: !self.mirrored, turn: self.turn.back() }
    }

    /// The change that makes the stored pixels upright, as AI rotation decided.
    #[must_use]
    pub fn after(self, rotation: &Rotation) -> Self {
        let turned = self.then(rotation.turn);
        if rotation.unmirrored { turned.then_mirrored() } else { turned }
    }

    /// True if the picture is upright as stored.
    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// True if width and height are exchanged.
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
}
