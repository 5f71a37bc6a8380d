//! Lines of text, by PP-OCR: one model finds the lines, another model reads them.

use std::f32::consts::SQRT_2;

use serde::{Deserialize, Serialize};

use crate::{
    bodies::{Body, bodies},
    eyes::{Eyes, Output},
    faces::Face,
    limits::PhotoError,
    orientation::Turn,
    picture::{ChannelOrder, Frame, Picture, to_f32, to_pixels},
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

/// A pixel of the map with a score above this is text.
const PIXEL_MIN: f32 = 0.3;
/// Smallest mean score of the text pixels of a line.
const BOX_MIN: f32 = 0.5;
/// The model marks only the core of a line. The box grows by this factor times area / perimeter.
const UNCLIP: f32 = 1.6;
/// Smallest side of a box before it grows, in pixels of the map. Smaller boxes hold no readable
/// text.
const BOX_SIDE_MIN: f32 = 3.0;
/// Height to which a line is resized before it is read, in pixels.
const LINE_HEIGHT: u32 = 48;
/// Longest line that is read, in pixels after the resize; the rest is cut off. No bib number is 20
/// times as long as high.
const LINE_WIDTH_MAX: f32 = 960.0;

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
            .filter_map(slant)
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

/// A rectangle that may be slanted: `along` is the unit vector of its width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slant {
    centre: [f32; 2],
    along: [f32; 2],
    width: f32,
    height: f32,
    /// True if it is under a face, where bib numbers are worn.
    worn: bool,
}

impl Slant {
    fn scaled(self, x: f32, y: f32) -> Self {
        let along = [self.along[0] * x, self.along[1] * y];
        let stretch = along[0].hypot(along[1]);
        Self {
            centre: [self.centre[0] * x, self.centre[1] * y],
            along: along.map(|part| part / stretch),
            width: self.width * stretch,
            // The two scales differ only by the rounding to blocks of 32.
            height: self.height * (x * y).sqrt(),
            worn: self.worn,
        }
    }

    /// Length of the longer side.
    pub(crate) fn longest(&self) -> f32 {
        self.width.max(self.height)
    }

    /// Whether it is clearly longer in one direction, so that the direction of the line is known. A
    /// word of two letters is as high as wide, and its direction is unknown.
    pub(crate) fn is_long(&self) -> bool {
        self.longest() >= 1.5 * self.width.min(self.height)
    }

    /// The two turns of the picture after which the line may be readable.
    pub(crate) fn readings(&self) -> [Turn; 2] {
        if self.width >= self.height {
            [Turn::None, Turn::Half]
        } else {
            [Turn::Quarter, Turn::ThreeQuarters]
        }
    }

    /// The same rectangle, to be read as if the picture had been turned by `turn`.
    pub(crate) fn turned(self, turn: Turn) -> Self {
        let [x, y] = self.along;
        let standing = Self { width: self.height, height: self.width, ..self };
        match turn {
            Turn::None => self,
            Turn::Half => Self { along: [-x, -y], ..self },
            // After a quarter turn clockwise, a line that ran upwards runs to the right.
            Turn::Quarter => Self { along: [y, -x], ..standing },
            Turn::ThreeQuarters => Self { along: [-y, x], ..standing },
        }
    }

    fn moved(self, x: f32, y: f32) -> Self {
        Self { centre: [self.centre[0] + x, self.centre[1] + y], ..self }
    }

    /// Whether it is not cut off by the edge of the part that was searched.
    fn is_inside(&self, body: &Body) -> bool {
        let [x, y, width, height] = self.bounds();
        let (left, top) = (to_f32(body.left), to_f32(body.top));
        let (right, bottom) = (left + to_f32(body.width), top + to_f32(body.height));
        x > left + 1.0 && y > top + 1.0 && x + width < right - 1.0 && y + height < bottom - 1.0
    }

    /// Whether the other rectangle is the same line, found again.
    fn is_again(&self, other: &Self) -> bool {
        let both = self.overlap(other);
        both > 0.4 * (self.area() + other.area() - both)
    }

    /// Whether this is the same line as the other, or a part of it.
    fn is_part_of(&self, other: &Self) -> bool {
        self.overlap(other) > 0.4 * self.area().min(other.area())
    }

    /// Area of the axis-parallel box around it, in pixels.
    fn area(&self) -> f32 {
        let [.., width, height] = self.bounds();
        width * height
    }

    /// Area of the overlap of the two axis-parallel boxes, in pixels.
    fn overlap(&self, other: &Self) -> f32 {
        let (one, two) = (self.bounds(), other.bounds());
        let [across, down] = [0, 1].map(|axis| {
            (one[axis] + one[axis + 2]).min(two[axis] + two[axis + 2]) - one[axis].max(two[axis])
        });
        across.max(0.0) * down.max(0.0)
    }

    /// The unit vector of the height: across the line, downwards.
    fn across(&self) -> [f32; 2] {
        [-self.along[1], self.along[0]]
    }

    /// Left, top, width and height of the axis-parallel box around it.
    fn bounds(&self) -> [f32; 4] {
        let width = self.width * self.along[0].abs() + self.height * self.along[1].abs();
        let height = self.width * self.along[1].abs() + self.height * self.along[0].abs();
        [self.centre[0] - width / 2.0, self.centre[1] - height / 2.0, width, height]
    }

    /// Cuts the line out of the frame and straightens it, with a height of [`LINE_HEIGHT`].
    fn crop(&self, frame: &Frame) -> Frame {
        let scale = self.height / to_f32(LINE_HEIGHT);
        let width = to_pixels((self.width / scale).clamp(8.0, LINE_WIDTH_MAX));
        // Takes more samples and averages them, so that thin strokes of large digits are not
        // missed.
        let finer = to_pixels(scale.floor().clamp(1.0, 4.0));
        let step = [self.width / to_f32(width * finer), scale / to_f32(finer)];
        let (along, across) = (self.along, self.across());
        let corner: [f32; 2] = std::array::from_fn(|axis| {
            self.centre[axis] - along[axis] * self.width / 2.0 - across[axis] * self.height / 2.0
        });
        let matrix = std::array::from_fn(|axis| {
            [along[axis] * step[0], across[axis] * step[1], corner[axis]]
        });
        frame.warp(matrix, width * finer, LINE_HEIGHT * finer).resized(width, LINE_HEIGHT)
    }
}

/// Finds the blobs (text pixels that touch each other) of a map of scores, `width` wide. Returns
/// the edge pixels of each blob whose mean score is at least [`BOX_MIN`].
fn blobs(map: &[f32], width: usize) -> Vec<Vec<(i32, i32)>> {
    let height = map.len() / width.max(1);
    let mut seen = vec![false; map.len()];
    let mut found = Vec::new();
    let mut open = Vec::new();
    for start in 0..map.len() {
        if seen[start] || map[start] <= PIXEL_MIN {
            continue;
        }
        seen[start] = true;
        open.push(start);
        let (mut edge, mut sum, mut count) = (Vec::new(), 0.0, 0.0);
        while let Some(at) = open.pop() {
            let (x, y) = (at % width, at / width);
            sum += map[at];
            count += 1.0;
            let mut inside = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    if map[near] <= PIXEL_MIN {
                        inside = false;
                    } else if !seen[near] {
                        seen[near] = true;
                        open.push(near);
                    }
                }
            }
            if !inside {
                edge.push((i32::try_from(x).unwrap_or(0), i32::try_from(y).unwrap_or(0)));
            }
        }
        if sum / count >= BOX_MIN {
            found.push(edge);
        }
    }
    found
}

/// The smallest rectangle around a blob, grown to the size of the line; `None` if it is too small
/// to read.
fn slant(edge: Vec<(i32, i32)>) -> Option<Slant> {
    let hull = hull(edge);
    let tightest = |best: Option<Slant>, slant: Slant| match best {
        Some(best) if best.width * best.height <= slant.width * slant.height => Some(best),
        _ => Some(slant),
    };
    let sides = hull.iter().zip(hull.iter().cycle().skip(1)).filter(|(a, b)| a != b);
    let slant = sides.map(|(a, b)| around(&hull, *a, *b)).fold(None, tightest)?;
    if slant.width.min(slant.height) < BOX_SIDE_MIN {
        return None;
    }
    let grow = 2.0 * slant.width * slant.height * UNCLIP / (2.0 * (slant.width + slant.height));
    Some(Slant { width: slant.width + grow, height: slant.height + grow, ..slant }.lying())
}

impl Slant {
    /// The same rectangle with `along` pointing to the right, at most 45 degrees up or down.
    fn lying(self) -> Self {
        let [x, y] = self.along;
        let flat = if x.abs() < SQRT_2 / 2.0 {
            Self { along: [y, -x], width: self.height, height: self.width, ..self }
        } else {
            self
        };
        if flat.along[0] < 0.0 {
            Self { along: flat.along.map(|part| -part), ..flat }
        } else {
            flat
        }
    }
}

/// The smallest rectangle around a hull with one side along `from` -> `to`.
fn around(hull: &[(i32, i32)], from: (i32, i32), to: (i32, i32)) -> Slant {
    let point = |(x, y): (i32, i32)| [coordinate(x), coordinate(y)];
    let ([x0, y0], [x1, y1]) = (point(from), point(to));
    let length = (x1 - x0).hypot(y1 - y0);
    let along = [(x1 - x0) / length, (y1 - y0) / length];
    let (mut most, mut least) = ([f32::MIN; 2], [f32::MAX; 2]);
    for corner in hull {
        let [x, y] = point(*corner);
        for (axis, value) in
            [x * along[0] + y * along[1], y * along[0] - x * along[1]].into_iter().enumerate()
        {
            most[axis] = most[axis].max(value);
            least[axis] = least[axis].min(value);
        }
    }
    let [s, t] = [0, 1].map(|axis| f32::midpoint(most[axis], least[axis]));
    Slant {
        centre: [s * along[0] - t * along[1], s * along[1] + t * along[0]],
        along,
        width: most[0] - least[0] + 1.0,
        height: most[1] - least[1] + 1.0,
        worn: false,
    }
}

/// A map's coordinate as a float. It is exact: coordinates are far below 2^24, up to where a float
/// holds every whole number.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn coordinate(value: i32) -> f32 {
    value as f32
}

/// The convex hull, by Andrew's monotone chain.
fn hull(mut points: Vec<(i32, i32)>) -> Vec<(i32, i32)> {
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turn = |a: (i32, i32), b: (i32, i32), c: (i32, i32)| {
        i64::from(b.0 - a.0) * i64::from(c.1 - a.1) - i64::from(b.1 - a.1) * i64::from(c.0 - a.0)
    };
    let half = |points: &mut dyn Iterator<Item = (i32, i32)>| {
        let mut chain: Vec<(i32, i32)> = Vec::new();
        for point in points {
            while chain.len() >= 2
                && turn(chain[chain.len() - 2], chain[chain.len() - 1], point) <= 0
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let lower = half(&mut points.iter().copied());
    let upper = half(&mut points.iter().rev().copied());
    [lower, upper].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_of_text_becomes_a_rectangle_somewhat_larger() {
        let mut map = vec![0.0; 100 * 50];
        for y in 20..30 {
            for x in 20..80 {
                map[y * 100 + x] = 0.9;
            }
        }

        let blobs = blobs(&map, 100);
        let slant = blobs.into_iter().next().and_then(slant).expect("one blob");

        let [x, y, width, height] = slant.bounds();
        assert!(x < 20.0 && y < 20.0 && x + width > 80.0 && y + height > 30.0);
        assert!(width < 90.0 && height < 30.0);
    }

    #[test]
    fn faint_text_is_no_text() {
        assert!(blobs(&[0.35; 100], 10).is_empty());
    }

    #[test]
    fn the_hull_of_a_square_is_its_corners() {
        let square = (0..25).map(|i| (i % 5, i / 5)).collect();

        let mut corners = hull(square);

        corners.sort_unstable();
        assert_eq!(corners, [(0, 0), (0, 4), (4, 0), (4, 4)]);
    }
}
