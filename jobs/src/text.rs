//! Lines of text, by PP-OCR: one model finds the lines, another model reads them.

use serde::{Deserialize, Serialize};

use crate::{
    blobs::blobs,
    bodies::bodies,
    enclose::enclose,
    eyes::{Eyes, Output},
    faces::Face,
    limits::PhotoError,
    picture::{ChannelOrder, Frame, Picture, to_f32, to_pixels},
    slant::{LINE_HEIGHT, Slant},
};

/// A line of text. Its box is axis-parallel and encloses the line, which may be slanted. Lengths
/// are in pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The text as the model read it, unchanged.
    pub text: String,
    /// Confidence in the reading, from 0 to 1: the mean over the characters.
    pub score: f32,
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
/// The search is the largest part of a photo's CPU time, which grows with the square of this side.
/// This size is enough for runners in front, and for runners whose face is not visible. The places
/// under faces are searched again at a larger size.
const SIDE: u32 = 384;
/// Smaller photos are enlarged until their short side has this many pixels, because the model was
/// trained with such pictures.
const SHORT_SIDE_MIN: u32 = 736;
/// Largest number of lines that are read on one photo; the largest lines are read first. This
/// limits the time for a photo of a wall of posters.
pub const LINES_MAX: usize = 32;
/// Width of a line divided by its height. Other lines (very long ones, or ones that stand on end)
/// are not bib numbers, and are not read.
const RATIO: std::ops::RangeInclusive<f32> = 0.5..=6.0;
/// Smallest height of a line, in pixels of the resized picture in which it was found. Lower lines
/// cannot be read reliably.
const HEIGHT_MIN: f32 = 10.0;

impl Eyes {
    /// Reads the lines of text of a picture. It searches the whole picture, and again at a larger
    /// size where people are.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model fails on the picture.
    pub fn lines(&mut self, picture: &Picture, faces: &[Face]) -> Result<Vec<Line>, PhotoError> {
        let (frame, scale) = (&picture.frame, picture.scale());
        let faces: Vec<_> = faces.iter().map(|face| face.scaled(1.0 / scale)).collect();
        let whole = detection_size(frame, SIDE);
        let zoom = to_f32(whole.0) / to_f32(frame.width());
        let mut slants: Vec<Slant> = Vec::new();
        for body in bodies(frame, &faces, zoom) {
            let part = frame.part(body.left, body.top, body.width, body.height);
            let (left, top) = (to_f32(body.left), to_f32(body.top));
            for slant in self.find(&part, body.size())? {
                // A line that is cut off at the edge is found whole by another search.
                let slant = Slant { worn: true, ..slant.moved(left, top) };
                if slant.is_inside(&body) && !slants.iter().any(|seen| seen.is_again(&slant)) {
                    slants.push(slant);
                }
            }
        }
        let closer = slants.len();
        for slant in self.find(frame, whole)? {
            if !slants[..closer].iter().any(|seen| seen.is_part_of(&slant)) {
                slants.push(slant);
            }
        }
        let mut lines = self.read(frame, slants, LINES_MAX)?;
        for line in &mut lines {
            line.x *= scale;
            line.y *= scale;
            line.width *= scale;
            line.height *= scale;
        }
        Ok(lines)
    }

    /// Reads the `most` largest lines of a frame. The boxes of the result are in pixels of the
    /// frame.
    pub(crate) fn read(
        &mut self,
        frame: &Frame,
        mut slants: Vec<Slant>,
        most: usize,
    ) -> Result<Vec<Line>, PhotoError> {
        slants.retain(|slant| RATIO.contains(&(slant.width / slant.height)));
        slants.sort_by(|a, b| (b.width * b.height).total_cmp(&(a.width * a.height)));
        slants.truncate(most);
        slants.iter().map(|slant| self.recognise(frame, slant)).collect()
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

    /// Reads one line.
    pub(crate) fn recognise(&mut self, frame: &Frame, slant: &Slant) -> Result<Line, PhotoError> {
        let crop = slant.crop(frame);
        let width = crop.width().max(LINE_HEIGHT).next_multiple_of(16);
        // The rest after the line is neutral grey, as in the model's training.
        let mut input = vec![0.0; 3 * (LINE_HEIGHT * width) as usize];
        let planes = crop.planes(ChannelOrder::Bgr, crop.width(), LINE_HEIGHT, 127.5, 1.0 / 127.5);
        for (to, from) in
            input.chunks_exact_mut(width as usize).zip(planes.chunks_exact(crop.width() as usize))
        {
            to[..from.len()].copy_from_slice(from);
        }
        let outputs =
            self.text_recognition.run([1, 3, LINE_HEIGHT as usize, width as usize], input)?;
        let (text, score) = outputs.first().map(|output| self.spell(output)).unwrap_or_default();
        let [x, y, width, height] = slant.bounds();
        Ok(Line { text, score, x, y, width, height, worn: slant.worn })
    }

    /// Decodes the model's output (CTC): class 0 is a blank, and equal classes in a row are one
    /// character. Returns the text and its mean score.
    fn spell(&self, output: &Output) -> (String, f32) {
        let classes = output.shape.last().copied().unwrap_or(1).max(1);
        let (mut text, mut sum, mut characters, mut last) = (String::new(), 0.0, 0.0, 0);
        for step in output.values.chunks_exact(classes) {
            let best = (0..classes).max_by(|a, b| step[*a].total_cmp(&step[*b])).unwrap_or(0);
            if best != 0 && best != last {
                text.push_str(self.alphabet.get(best - 1).map_or(" ", String::as_str));
                sum += step[best];
                characters += 1.0;
            }
            last = best;
        }
        (text, if characters > 0.0 { sum / characters } else { 0.0 })
    }
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
