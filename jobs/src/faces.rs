//! Finds faces with the model YuNet.

use serde::{Deserialize, Serialize};

use crate::{
    eyes::Eyes,
    limits::PhotoError,
    picture::{ChannelOrder, Frame, Picture, to_f32},
};

/// A face on a photo. Lengths and positions are in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Left edge of the box, in pixels.
    pub x: f32,
    /// Upper edge of the box, in pixels.
    pub y: f32,
    /// Width of the box, in pixels.
    pub width: f32,
    /// Height of the box, in pixels.
    pub height: f32,
    /// Confidence that this is a face, from 0 to 1.
    pub score: f32,
    /// Points (x, y) of the person's right eye, left eye, nose, right and left corner of the mouth.
    pub landmarks: [[f32; 2]; 5],
}

/// Long side, in pixels, at which faces are searched. It finds nearly every face that is 40 pixels
/// wide in print.
const SIDE: u32 = 640;
/// Smallest score of a face. YuNet's own default of 0.9 misses one clear face in eight.
const SCORE_MIN: f32 = 0.6;
/// Smallest score of what may be a face: enough to look for a number below it.
const SCORE_LIKELY: f32 = 0.45;
/// Boxes that overlap more than this (intersection over union) are one face.
const OVERLAP_MAX: f32 = 0.3;
/// Pixels from one cell of the model's output to the next, for each of its three levels.
const STRIDES: [u16; 3] = [8, 16, 32];

impl Eyes {
    /// Finds the faces of a picture, best score first.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when the model fails on the picture.
    pub fn faces(&mut self, picture: &Picture) -> Result<Vec<Face>, PhotoError> {
        let likely = self.likely_faces(picture)?;
        Ok(likely.into_iter().filter(Face::is_sure).collect())
    }

    /// Finds what may be a face, best score first. [`Face::is_sure`] tells which are faces. Under
    /// the others, numbers may be worn: a face that is half hidden has a low score.
    ///
    /// # Errors
    /// [`PhotoError::Vision`] when the model fails on the picture.
    pub fn likely_faces(&mut self, picture: &Picture) -> Result<Vec<Face>, PhotoError> {
        let mut faces = self.detect_from(&picture.frame, SIDE, SCORE_LIKELY)?;
        let scale = picture.scale();
        for face in &mut faces {
            *face = face.scaled(scale);
        }
        Ok(faces)
    }

    /// Finds the faces of a frame at a long side of at most `side` pixels. The result is in pixels
    /// of the frame.
    pub(crate) fn detect(&mut self, frame: &Frame, side: u32) -> Result<Vec<Face>, PhotoError> {
        self.detect_from(frame, side, SCORE_MIN)
    }

    fn detect_from(
        &mut self,
        frame: &Frame,
        side: u32,
        least: f32,
    ) -> Result<Vec<Face>, PhotoError> {
        let small = frame.fit(side);
        let scale = to_f32(frame.long_side()) / to_f32(small.long_side());
        let (width, height) =
            (small.width().next_multiple_of(32), small.height().next_multiple_of(32));
        let input = small.planes(ChannelOrder::Bgr, width, height, 0.0, 1.0);
        let outputs = self.faces.run([1, 3, height as usize, width as usize], input)?;
        let [class, object, boxes, points] =
            [0, 3, 6, 9].map(|first| outputs.get(first..first + 3).unwrap_or_default());
        let mut found = Vec::new();
        for (level, stride) in STRIDES.iter().enumerate().take(class.len().min(points.len())) {
            let columns = width as usize / usize::from(*stride);
            let cells = class[level].values.iter().zip(&object[level].values);
            for (cell, (class, object)) in cells.enumerate() {
                let score = (class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0)).sqrt();
                if score < least {
                    continue;
                }
                let (Some(values), Some(marks)) = (
                    boxes[level].values.get(4 * cell..4 * cell + 4),
                    points[level].values.get(10 * cell..10 * cell + 10),
                ) else {
                    continue;
                };
                let stride = f32::from(*stride);
                let column = to_f32(u32::try_from(cell % columns).unwrap_or(0));
                let row = to_f32(u32::try_from(cell / columns).unwrap_or(0));
                let (width, height) = (values[2].exp() * stride, values[3].exp() * stride);
                let face = Face {
                    x: (column + values[0]) * stride - width / 2.0,
                    y: (row + values[1]) * stride - height / 2.0,
                    width,
                    height,
                    score,
                    landmarks: std::array::from_fn(|mark| {
                        [(column + marks[2 * mark]) * stride, (row + marks[2 * mark + 1]) * stride]
                    }),
                };
                found.push(face.scaled(scale));
            }
        }
        Ok(best_of_each(found))
    }
}

impl Face {
    /// Whether this is a face, and not only likely to be one.
    pub fn is_sure(&self) -> bool {
        self.score >= SCORE_MIN
    }

    pub(crate) fn scaled(self, scale: f32) -> Self {
        Self {
            x: self.x * scale,
            y: self.y * scale,
            width: self.width * scale,
            height: self.height * scale,
            score: self.score,
            landmarks: self.landmarks.map(|point| point.map(|value| value * scale)),
        }
    }

    /// Intersection over union of the two boxes, from 0 to 1.
    fn overlap(&self, other: &Self) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        width * height / (self.width * self.height + other.width * other.height - width * height)
    }
}

/// The best score of these faces; 0 if there is none.
pub(crate) fn best_score(faces: &[Face]) -> f32 {
    faces.iter().map(|face| face.score).fold(0.0, f32::max)
}

/// Keeps only the face with the best score of faces whose boxes overlap.
fn best_of_each(mut faces: Vec<Face>) -> Vec<Face> {
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Face> = Vec::new();
    for face in faces {
        if kept.iter().all(|better| face.overlap(better) < OVERLAP_MAX) {
            kept.push(face);
        }
    }
    kept
}
