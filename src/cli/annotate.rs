//! Draws what was found on a photo onto a copy of it, so that a person can check it.

use std::{fs::File, io::BufWriter, path::Path};

use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder};
use photogate_jobs::{Bib, Face, Picture, Rotation};

const FACE: Rgb<u8> = Rgb([40, 220, 90]);
const BIB: Rgb<u8> = Rgb([255, 140, 0]);
const TURN: Rgb<u8> = Rgb([70, 160, 255]);
const INK: Rgb<u8> = Rgb([0, 0, 0]);

/// Draws the faces and bib numbers at working size, and turns the copy as AI Rotation decided.
pub(super) fn draw(
    picture: &Picture,
    faces: &[Face],
    bibs: &[Bib],
    rotation: Option<Rotation>,
) -> RgbImage {
    let mut paper = Paper {
        image: picture.image().clone(),
        thick: picture.image().width().max(picture.image().height()) / 400 + 1,
    };
    let scale = picture.scale();
    let place = |lengths: [f32; 4]| lengths.map(|length| round(length / scale));
    for face in faces {
        let at = place([face.x, face.y, face.width, face.height]);
        paper.frame(at, FACE);
        for [x, y] in face.landmarks {
            let [x, y, ..] = place([x, y, 0.0, 0.0]);
            let thick = i64::from(paper.thick);
            paper.fill([x - thick, y - thick, 2 * thick, 2 * thick], FACE);
        }
        paper.label(&format!("{:.2}", face.score), at, FACE);
    }
    for bib in bibs {
        let at = place([bib.x, bib.y, bib.width, bib.height]);
        paper.frame(at, BIB);
        paper.label(&format!("{} {:.2}", bib.number, bib.score), at, BIB);
    }
    let Some(rotation) = rotation else { return paper.image };
    let mut turned =
        Paper { image: photogate_jobs::turned(&paper.image, rotation.turn), thick: paper.thick };
    let said = if rotation.abstained {
        "turn unclear".to_owned()
    } else {
        format!("turned by {} ({:.2})", rotation.turn.degrees(), rotation.confidence)
    };
    turned.label(&said, [0, i64::from(16 * turned.thick), 0, 0], TURN);
    turned.image
}

/// Writes the copy as a JPEG. Refuses to replace a file: it may be an original photo.
pub(super) fn write(image: &RgbImage, path: &Path) -> anyhow::Result<()> {
    let file = BufWriter::new(File::create_new(path)?);
    JpegEncoder::new_with_quality(file, 90).encode_image(image)?;
    Ok(())
}

struct Paper {
    image: RgbImage,
    /// Line width in pixels.
    thick: u32,
}

impl Paper {
    fn fill(&mut self, [x, y, width, height]: [i64; 4], colour: Rgb<u8>) {
        let inside =
            |value: i64, most: u32| u32::try_from(value.clamp(0, i64::from(most))).unwrap_or(0);
        let (right, bottom) =
            (inside(x + width, self.image.width()), inside(y + height, self.image.height()));
        for row in inside(y, self.image.height())..bottom {
            for column in inside(x, self.image.width())..right {
                self.image.put_pixel(column, row, colour);
            }
        }
    }

    fn frame(&mut self, [x, y, width, height]: [i64; 4], colour: Rgb<u8>) {
        let thick = i64::from(self.thick);
        self.fill([x, y, width, thick], colour);
        self.fill([x, y + height - thick, width, thick], colour);
        self.fill([x, y, thick, height], colour);
        self.fill([x + width - thick, y, thick, height], colour);
    }

    /// Writes a text above a box.
    fn label(&mut self, text: &str, [x, y, ..]: [i64; 4], colour: Rgb<u8>) {
        let dot = i64::from(self.thick);
        let height = 10 * dot;
        let top = (y - height).max(0);
        let width = 8 * dot * i64::try_from(text.chars().count()).unwrap_or(0);
        self.fill([x, top, width + 2 * dot, height], colour);
        for (number, letter) in text.chars().enumerate() {
            let left = x + dot + 8 * dot * i64::try_from(number).unwrap_or(0);
            for (row, bits) in
                font8x8::BASIC_FONTS.get(letter).unwrap_or_default().into_iter().enumerate()
            {
                for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                    let row = i64::try_from(row).unwrap_or(0);
                    self.fill([left + column * dot, top + (row + 1) * dot, dot, dot], INK);
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float casts saturating; drawing clips")]
fn round(length: f32) -> i64 {
    length.round() as i64
}
