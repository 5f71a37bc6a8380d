//! Where people wear their numbers: under their faces.

use crate::{
    faces::Face,
    picture::{Frame, to_f32, to_pixels},
};

/// Text is looked for there with the face this wide, in pixels: digits on a chest are about half as high as a face is
/// wide. From 56 to 72, it reads the same; see docs/benchmarks.md.
const FACE_WIDTH: f32 = 64.0;
/// No closer than this: what the picture does not have, no enlargement brings.
const ENLARGE_MAX: f32 = 2.0;
/// Not worth a second look: hardly closer than the whole picture was looked at.
const CLOSER_MIN: f32 = 1.25;
/// The place for a number: so many widths of the face to both sides of its middle, and heights below its top.
const ASIDE: f32 = 2.0;
const TOP: f32 = 1.0;
const BOTTOM: f32 = 5.5;
/// People looked at closer, largest first.
const PEOPLE_MAX: usize = 16;
/// In a picture, narrower faces belong to people whose numbers cannot be read.
const FACE_WIDTH_MIN: f32 = 8.0;

/// A part of a frame, in its pixels, and how much larger it is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Body {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) zoom: f32,
}

/// The bodies under these faces (in pixels of the frame) that are worth a closer look than at `zoom`.
pub(crate) fn bodies(frame: &Frame, faces: &[Face], zoom: f32) -> Vec<Body> {
    let mut faces: Vec<_> = faces.iter().filter(|face| face.width >= FACE_WIDTH_MIN).collect();
    faces.sort_by(|a, b| b.width.total_cmp(&a.width));
    let mut bodies: Vec<Body> = Vec::new();
    for face in faces.into_iter().take(PEOPLE_MAX) {
        let Some(mut body) = Body::under(face, frame).filter(|body| body.zoom >= CLOSER_MIN * zoom)
        else {
            continue;
        };
        // People who stand together are looked at together, where that is less to look at.
        while let Some(near) =
            bodies.iter().position(|near| near.with(&body).cost() <= near.cost() + body.cost())
        {
            body = bodies.swap_remove(near).with(&body);
        }
        bodies.push(body);
    }
    bodies
}

impl Body {
    /// `None` where the picture ends above it.
    fn under(face: &Face, frame: &Frame) -> Option<Self> {
        let middle = face.x + face.width / 2.0;
        let clamp = |value: f32, most: u32| value.clamp(0.0, to_f32(most));
        let left = clamp(middle - ASIDE * face.width, frame.width());
        let right = clamp(middle + ASIDE * face.width, frame.width());
        let top = clamp(face.y + TOP * face.height, frame.height());
        let bottom = clamp(face.y + BOTTOM * face.height, frame.height());
        let zoom = (FACE_WIDTH / face.width).min(ENLARGE_MAX);
        (right - left >= face.width && bottom - top >= face.height / 2.0).then(|| Self {
            left: to_pixels(left.floor()) - u32::from(left < 1.0),
            top: to_pixels(top.floor()) - u32::from(top < 1.0),
            width: to_pixels(right - left),
            height: to_pixels(bottom - top),
            zoom,
        })
    }

    /// Around both, as close as the closer.
    fn with(&self, other: &Self) -> Self {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let right = (self.left + self.width).max(other.left + other.width);
        let bottom = (self.top + self.height).max(other.top + other.height);
        let zoom = self.zoom.max(other.zoom);
        Self { left, top, width: right - left, height: bottom - top, zoom }
    }

    /// Pixels to look at.
    fn cost(&self) -> f32 {
        let (width, height) = self.size();
        to_f32(width) * to_f32(height)
    }

    /// As large as it is looked at, in whole blocks of 32.
    pub(crate) fn size(&self) -> (u32, u32) {
        let blocks = |length: u32| to_pixels(to_f32(length) * self.zoom / 32.0) * 32;
        (blocks(self.width), blocks(self.height))
    }
}
