//! Lines of text, by PP-OCR: one model finds the lines, others read them (`reading.rs`).

use serde::{Deserialize, Serialize};

use crate::{
    bibs,
    blobs::blobs,
    bodies::{Body, CLOSE, CLOSER, bodies, people, zone},
    enclose::enclose,
    eyes::Eyes,
    faces::Face,
    limits::PhotoError,
    picture::{ChannelOrder, Frame, Picture, to_f32, to_pixels},
    reading::Reading,
    slant::Slant,
};

/// A line of text with a digit in it, and its readings. Its box is axis-parallel and encloses the
/// line, which may be slanted. Lengths are in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was read: two to [`crate::READINGS_MAX`] readings, which may differ.
    pub readings: Vec<Reading>,
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
    /// True if the line is under a face, where bib numbers are worn.
    pub worn: bool,
}

/// Long side, in pixels, at which text is searched in the whole picture.
///
/// The time for the search grows with the square of this side. This size is enough for runners in
/// front, and for runners whose face is not visible. The places under faces are searched again at a
/// larger size.
const SIDE: u32 = 384;
/// Smaller photos are enlarged until their short side has this many pixels, because the model was
/// trained with such pictures.
const SHORT_SIDE_MIN: u32 = 736;
/// Largest number of lines that are read in each of the two looks at a photo; the largest lines are
/// read first. This limits the time for a photo of a wall of posters.
const READ_MAX: usize = 32;
/// Largest number of lines of one photo.
pub const LINES_MAX: usize = 2 * READ_MAX;
/// Width of a line divided by its height. Other lines (very long ones, or ones that stand on end)
/// are not bib numbers, and are not read.
const RATIO: std::ops::RangeInclusive<f32> = 0.8..=4.0;
/// Smallest height of a line, in pixels of the resized picture in which it was found. Lower lines
/// cannot be read reliably.
const HEIGHT_MIN: f32 = 10.0;
/// Largest number of lines that are looked for under faces. Each is compared with all others.
const FOUND_MAX: usize = 1000;
/// Largest number of lines that are searched again in the second look, because the edge of a part
/// cuts them off. In the first look, that costs more than it finds.
const CUT_MAX: usize = 8;
/// Who wears a number with at least this score is not looked at again.
const SCORE_ENOUGH: f32 = 0.7;

impl Eyes {
    /// Reads the lines of text of a picture that have digits. It searches the whole picture, at a
    /// larger size where people are, and at a still larger size where people are without a number.
    /// The faces are those of [`Eyes::likely_faces`].
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model fails on the picture.
    pub fn lines(&mut self, picture: &Picture, faces: &[Face]) -> Result<Vec<Line>, PhotoError> {
        let (frame, scale) = (&picture.frame, picture.scale());
        let people = people(faces.iter().map(|face| face.scaled(1.0 / scale)).collect());
        let whole = detection_size(frame, SIDE);
        let zoom = to_f32(whole.0) / to_f32(frame.width());
        let mut slants = self.find_worn(frame, &bodies(frame, &people, zoom, &CLOSE), 0)?;
        let worn = slants.len();
        for slant in self.find(frame, whole)? {
            if !slants[..worn].iter().any(|seen| seen.is_part_of(&slant)) {
                slants.push(slant);
            }
        }
        let mut lines = self.read(frame, &mut slants)?;
        let without: Vec<_> = people.into_iter().filter(|face| !has_number(face, &lines)).collect();
        let mut closer = self.find_worn(frame, &bodies(frame, &without, 0.0, &CLOSER), CUT_MAX)?;
        // The same box at a larger size gives the same readings.
        closer.retain(|slant| !slants.iter().any(|seen| seen.is_just(slant)));
        lines.extend(self.read(frame, &mut closer)?);
        for line in &mut lines {
            line.x *= scale;
            line.y *= scale;
            line.width *= scale;
            line.height *= scale;
        }
        Ok(lines)
    }

    /// Finds the lines in these parts of a frame. At `most` as many of those that the edge of a part
    /// cuts off are searched again, each in a part around it.
    pub(crate) fn find_worn(
        &mut self,
        frame: &Frame,
        bodies: &[Body],
        most: usize,
    ) -> Result<Vec<Slant>, PhotoError> {
        let (mut whole, mut cut): (Vec<Slant>, Vec<(Slant, Body)>) = (Vec::new(), Vec::new());
        for body in bodies {
            self.find_in(frame, body, &mut whole, &mut cut)?;
        }
        let mut left = most;
        for (slant, body) in cut {
            // Several parts may cut the same line off.
            if left == 0 || whole.iter().any(|seen| seen.is_part_of(&slant)) {
                continue;
            }
            if let Some(around) = body.around(&slant, frame) {
                self.find_in(frame, &around, &mut whole, &mut Vec::new())?;
                left -= 1;
            }
        }
        Ok(whole)
    }

    /// Finds the lines in one part of a frame: those that are not known yet, and those that its
    /// edge cuts off.
    fn find_in(
        &mut self,
        frame: &Frame,
        body: &Body,
        whole: &mut Vec<Slant>,
        cut: &mut Vec<(Slant, Body)>,
    ) -> Result<(), PhotoError> {
        let part = frame.part(body.left, body.top, body.width, body.height);
        let (left, top) = (to_f32(body.left), to_f32(body.top));
        for slant in self.find(&part, body.size())? {
            if whole.len() + cut.len() >= FOUND_MAX {
                break;
            }
            let slant = Slant { worn: true, ..slant.moved(left, top) };
            if !slant.is_inside(body) {
                cut.push((slant, *body));
            } else if !whole.iter().any(|seen| seen.is_again(&slant)) {
                whole.push(slant);
            }
        }
        Ok(())
    }

    /// Reads the largest lines of a frame, and removes from `slants` what is not read. The boxes of
    /// the result are in pixels of the frame.
    fn read(&mut self, frame: &Frame, slants: &mut Vec<Slant>) -> Result<Vec<Line>, PhotoError> {
        slants.retain(|slant| RATIO.contains(&(slant.width / slant.height)));
        slants.sort_by(|a, b| (b.width * b.height).total_cmp(&(a.width * a.height)));
        slants.truncate(READ_MAX);
        let mut lines = Vec::new();
        for slant in slants {
            if let Some(readings) = self.readings(frame, slant)? {
                let [x, y, width, height] = slant.bounds();
                lines.push(Line { readings, x, y, width, height, worn: slant.worn });
            }
        }
        Ok(lines)
    }

    /// Finds the lines of text that are large enough to read. The frame is resized to `width` x
    /// `height` for the search; the result is in pixels of the frame.
    pub(crate) fn find(
        &mut self,
        frame: &Frame,
        (width, height): (u32, u32),
    ) -> Result<Vec<Slant>, PhotoError> {
        let input = frame.resized(width, height).planes(
            ChannelOrder::Bgr,
            width,
            height,
            127.5,
            1.0 / 127.5,
        );
        let outputs = self.text_detection.run([1, 3, height as usize, width as usize], input)?;
        let map = outputs.into_iter().next().map(|output| output.values).unwrap_or_default();
        let (scale_x, scale_y) =
            (to_f32(frame.width()) / to_f32(width), to_f32(frame.height()) / to_f32(height));
        Ok(blobs(&map, width as usize)
            .into_iter()
            .filter_map(enclose)
            .filter(|slant| slant.width.min(slant.height) >= HEIGHT_MIN)
            .map(|slant| slant.scaled(scale_x, scale_y))
            .collect())
    }
}

/// Whether a number was read well where the person with this face wears one.
fn has_number(face: &Face, lines: &[Line]) -> bool {
    let [left, top, right, bottom] = zone(face);
    lines.iter().any(|line| {
        let (x, y) = (line.x + line.width / 2.0, line.y + line.height / 2.0);
        (left..=right).contains(&x)
            && (top..=bottom).contains(&y)
            && bibs::read_in(line).is_some_and(|(_, score)| score >= SCORE_ENOUGH)
    })
}

/// The size for a text search, in whole blocks of 32 pixels. The long side has at most `side`
/// pixels. If that allows it, the short side has at least [`SHORT_SIDE_MIN`].
pub(crate) fn detection_size(frame: &Frame, side: u32) -> (u32, u32) {
    let (width, height) = (to_f32(frame.width()), to_f32(frame.height()));
    let grow = to_f32(SHORT_SIDE_MIN.min(side)) / width.min(height);
    let shrink = to_f32(side) / width.max(height);
    let scale = if shrink < 1.0 { shrink } else { grow.clamp(1.0, shrink) };
    let blocks = |length: f32| to_pixels(length * scale / 32.0) * 32;
    (blocks(width), blocks(height))
}
