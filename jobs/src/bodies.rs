//! Computes the parts of a picture where people wear bib numbers: under their faces.

use crate::{
    faces::Face,
    picture::{Frame, to_f32, to_pixels},
};

/// For the text search under a face, the picture is resized until the face is this wide, in pixels.
/// Digits on a chest are about half as high as a face is wide. Every width from 56 to 72 gives the
/// same readings; see docs/benchmarks.md.
const FACE_WIDTH: f32 = 64.0;
/// Largest enlargement. More does not add detail to the picture.
const ENLARGE_MAX: f32 = 2.0;
/// A part is searched again only if it is enlarged by at least this factor more than the whole
/// picture was.
const CLOSER_MIN: f32 = 1.25;
/// The part extends this many face widths to both sides of the middle of the face.
const ASIDE: f32 = 2.0;
/// The part begins this many face heights below the top of the face.
const TOP: f32 = 1.0;
/// The part ends this many face heights below the top of the face.
const BOTTOM: f32 = 5.5;
/// Largest number of faces under which text is searched; the largest faces come first.
const PEOPLE_MAX: usize = 16;
/// Smallest face, in pixels of the picture at working size. The numbers of people with narrower
/// faces cannot be read.
const FACE_WIDTH_MIN: f32 = 8.0;

/// A part of a frame, in pixels of the frame, and the factor by which it is enlarged for the
/// search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Body {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) zoom: f32,
}

/// Returns the parts under these faces that are worth a second search. The whole frame was searched
/// at `zoom`. The faces are in pixels of the frame.
pub(crate) fn bodies(frame: &Frame, faces: &[Face], zoom: f32) -> Vec<Body> {
    let mut faces: Vec<_> = faces.iter().filter(|face| face.width >= FACE_WIDTH_MIN).collect();
    faces.sort_by(|a, b| b.width.total_cmp(&a.width));
    let mut bodies: Vec<Body> = Vec::new();
    for face in faces.into_iter().take(PEOPLE_MAX) {
        let Some(mut body) = Body::under(face, frame).filter(|body| body.zoom >= CLOSER_MIN * zoom)
        else {
            continue;
        };
        // Parts close together are searched as one part, if that is not more pixels.
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
    /// The part under a face; `None` if most of it is outside the picture.
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

    /// The part that contains both, with the larger zoom.
    fn with(&self, other: &Self) -> Self {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let right = (self.left + self.width).max(other.left + other.width);
        let bottom = (self.top + self.height).max(other.top + other.height);
        let zoom = self.zoom.max(other.zoom);
        Self { left, top, width: right - left, height: bottom - top, zoom }
    }

    /// Number of pixels to search.
    fn cost(&self) -> f32 {
        let (width, height) = self.size();
        to_f32(width) * to_f32(height)
    }

    /// Width and height for the search, in pixels, in whole blocks of 32.
    pub(crate) fn size(&self) -> (u32, u32) {
        let blocks = |length: u32| to_pixels(to_f32(length) * self.zoom / 32.0) * 32;
        (blocks(self.width), blocks(self.height))
    }
}
