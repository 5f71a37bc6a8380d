//! Lines of text, by PP-OCR: found by one model, read by another.

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

/// A line of text. The box is axis-parallel, around the line as it stands; pixels of the upright full-size photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// As read, untouched.
    pub text: String,
    /// 0 to 1: the mean over its characters.
    pub score: f32,
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Of the box.
    pub width: f32,
    /// Of the box.
    pub height: f32,
    /// Where numbers are worn: under a face.
    pub worn: bool,
}

/// The long side, in pixels, at which text is looked for in the whole picture. Finding it is most of what a photo costs,
/// and grows with the square of it: this is enough for whoever runs in front, and whoever does not show a face. The
/// others are looked at again, closer.
const SIDE: u32 = 384;
/// Smaller photos are enlarged until their short side has this many pixels, as the model was trained.
const SHORT_SIDE_MIN: u32 = 736;
/// Lines read of one photo, largest first: a wall of posters does not hold up the queue.
pub const LINES_MAX: usize = 32;
/// What is ten times as long as high, or stands on end, is no bib number and need not be read.
const RATIO: std::ops::RangeInclusive<f32> = 0.5..=6.0;
/// What is lower than this where it was found, in pixels, cannot be read with any certainty.
const HEIGHT_MIN: f32 = 10.0;

/// Above it, a pixel is text.
const PIXEL_MIN: f32 = 0.3;
/// The mean over a box.
const BOX_MIN: f32 = 0.5;
/// The model marks the core of a line; the line itself is this much larger (area over perimeter).
const UNCLIP: f32 = 1.6;
/// Boxes lower than this hold nothing that can be read, in pixels of the map.
const BOX_SIDE_MIN: f32 = 3.0;
/// Height of a line for recognition, in pixels.
const LINE_HEIGHT: u32 = 48;
/// A line longer than this is cut off: no bib is 20 times as long as high.
const LINE_WIDTH_MAX: f32 = 960.0;

impl Eyes {
    /// The lines of text of a picture: of the whole of it, and closer where people are.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when a model refuses the picture.
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
                // What is cut off at the edge is seen whole by another look.
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

    /// Reads the `most` largest lines of a frame; in its pixels.
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

    /// Where text is that can be read, in pixels of the frame; it is looked at in this size.
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

    pub(crate) fn recognise(&mut self, frame: &Frame, slant: &Slant) -> Result<Line, PhotoError> {
        let crop = slant.crop(frame);
        let width = crop.width().max(LINE_HEIGHT).next_multiple_of(16);
        // Behind the line, the neutral grey that the model was trained with.
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

    /// Connectionist decoding: class 0 is a blank, and a class that goes on is one character.
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

/// At most `side` long, at least [`SHORT_SIDE_MIN`] short as long as that allows, whole blocks of 32.
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
    /// Under a face, where numbers are worn.
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
            // The two scales differ by the rounding to blocks of 32 only.
            height: self.height * (x * y).sqrt(),
            worn: self.worn,
        }
    }

    /// Its longer side.
    pub(crate) fn longest(&self) -> f32 {
        self.width.max(self.height)
    }

    /// Clearly a line, lying or standing; a word of two letters is as high as wide, and may be anything.
    pub(crate) fn is_long(&self) -> bool {
        self.longest() >= 1.5 * self.width.min(self.height)
    }

    /// The turns of the picture after which it can be read.
    pub(crate) fn readings(&self) -> [Turn; 2] {
        if self.width >= self.height {
            [Turn::None, Turn::Half]
        } else {
            [Turn::Quarter, Turn::ThreeQuarters]
        }
    }

    /// To be read as in a picture that was turned.
    pub(crate) fn turned(self, turn: Turn) -> Self {
        let [x, y] = self.along;
        let standing = Self { width: self.height, height: self.width, ..self };
        match turn {
            Turn::None => self,
            Turn::Half => Self { along: [-x, -y], ..self },
            // What runs upwards runs to the right after a quarter clockwise.
            Turn::Quarter => Self { along: [y, -x], ..standing },
            Turn::ThreeQuarters => Self { along: [-y, x], ..standing },
        }
    }

    fn moved(self, x: f32, y: f32) -> Self {
        Self { centre: [self.centre[0] + x, self.centre[1] + y], ..self }
    }

    /// Not cut off by the edge of what was looked at.
    fn is_inside(&self, body: &Body) -> bool {
        let [x, y, width, height] = self.bounds();
        let (left, top) = (to_f32(body.left), to_f32(body.top));
        let (right, bottom) = (left + to_f32(body.width), top + to_f32(body.height));
        x > left + 1.0 && y > top + 1.0 && x + width < right - 1.0 && y + height < bottom - 1.0
    }

    /// Another look at the same line.
    fn is_again(&self, other: &Self) -> bool {
        let both = self.overlap(other);
        both > 0.4 * (self.area() + other.area() - both)
    }

    /// A closer look at (some of) the same.
    fn is_part_of(&self, other: &Self) -> bool {
        self.overlap(other) > 0.4 * self.area().min(other.area())
    }

    /// Pixels of the box around it.
    fn area(&self) -> f32 {
        let [.., width, height] = self.bounds();
        width * height
    }

    /// Pixels that both have.
    fn overlap(&self, other: &Self) -> f32 {
        let (one, two) = (self.bounds(), other.bounds());
        let [across, down] = [0, 1].map(|axis| {
            (one[axis] + one[axis + 2]).min(two[axis] + two[axis + 2]) - one[axis].max(two[axis])
        });
        across.max(0.0) * down.max(0.0)
    }

    /// Across the line, downwards.
    fn across(&self) -> [f32; 2] {
        [-self.along[1], self.along[0]]
    }

    /// Left, top, width and height of the axis-parallel box around it.
    fn bounds(&self) -> [f32; 4] {
        let width = self.width * self.along[0].abs() + self.height * self.along[1].abs();
        let height = self.width * self.along[1].abs() + self.height * self.along[0].abs();
        [self.centre[0] - width / 2.0, self.centre[1] - height / 2.0, width, height]
    }

    /// The line, laid straight, [`LINE_HEIGHT`] high.
    fn crop(&self, frame: &Frame) -> Frame {
        let scale = self.height / to_f32(LINE_HEIGHT);
        let width = to_pixels((self.width / scale).clamp(8.0, LINE_WIDTH_MAX));
        // Sampled finer and then averaged, or thin strokes of large numbers fall between the samples.
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

/// The edges of the blobs (pixels of text that touch each other) of a map of scores, `width` wide, whose mean is at
/// least [`BOX_MIN`].
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

/// The smallest rectangle around a blob, grown to the size of the line; nothing if it is too small to read.
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

/// Coordinates of a map are far below 2^24, where a float still holds every whole number.
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
