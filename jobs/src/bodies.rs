//! Computes the parts of a picture where people wear bib numbers: under their faces.
//!
//! docs/benchmarks.md has the other values that were tried for these constants.

use crate::{
    faces::Face,
    picture::{Frame, to_f32, to_pixels},
    slant::Slant,
};

/// How closely the parts under faces are looked at.
pub(crate) struct Look {
    /// The picture is resized until the face is this wide, in pixels. Digits on a chest are about
    /// half as high as a face is wide.
    face_width: f32,
    /// Largest enlargement.
    enlarge_max: f32,
    /// Smallest face, in pixels of the picture at working size.
    face_width_min: f32,
}

/// The first look. The numbers of people with faces below 8 pixels cannot be read.
pub(crate) const CLOSE: Look = Look { face_width: 60.0, enlarge_max: 2.0, face_width_min: 8.0 };
/// The second look, where the first one found no number.
pub(crate) const CLOSER: Look = Look { face_width: 92.0, enlarge_max: 3.0, face_width_min: 20.0 };

/// A part is searched again only if it is enlarged by at least this factor more than the whole
/// picture was.
const CLOSER_MIN: f32 = 1.25;
/// The part extends this many face widths to both sides of the middle of the face.
const ASIDE: f32 = 1.6;
/// The part begins this many face heights below the top of the face.
const TOP: f32 = 1.2;
/// The part ends this many face heights below the top of the face.
const BOTTOM: f32 = 5.0;
/// The part around a line that was cut off extends by this many of its heights (to the sides, of
/// its longer side).
const AROUND: f32 = 1.0;
/// Largest part around a line, in pixels to search: four times that around a number on a chest.
const AROUND_COST_MAX: f32 = 300_000.0;
/// Largest number of faces under which text is searched; the largest faces come first.
const PEOPLE_MAX: usize = 24;

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

/// Returns the largest of these faces under which text is searched, with the largest first.
pub(crate) fn people(mut faces: Vec<Face>) -> Vec<Face> {
    faces.sort_by(|a, b| b.width.total_cmp(&a.width));
    faces.truncate(PEOPLE_MAX);
    faces
}

/// Returns the parts under these faces that are worth a search. The whole frame was searched at
/// `zoom`. The faces are in pixels of the frame.
pub(crate) fn bodies(frame: &Frame, faces: &[Face], zoom: f32, look: &Look) -> Vec<Body> {
    let mut bodies: Vec<Body> = Vec::new();
    for face in faces.iter().filter(|face| face.width >= look.face_width_min) {
        let body = Body::under(face, frame, look).filter(|body| body.zoom >= CLOSER_MIN * zoom);
        let Some(mut body) = body else {
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

/// Where the person with this face wears a number: left, top, right and bottom. It may be outside
/// of the picture.
pub(crate) fn zone(face: &Face) -> [f32; 4] {
    zone_of([face.x, face.y, face.width, face.height])
}

/// The same for the box of a face: left, top, width and height.
pub(crate) fn zone_of([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    let (middle, aside) = (x + width / 2.0, ASIDE * width);
    let [top, bottom] = [TOP, BOTTOM].map(|heights| y + heights * height);
    [middle - aside, top, middle + aside, bottom]
}

impl Body {
    /// The part under a face; `None` if most of it is outside the picture.
    fn under(face: &Face, frame: &Frame, look: &Look) -> Option<Self> {
        let [left, top, right, bottom] = zone(face);
        let clamp = |value: f32, most: u32| value.clamp(0.0, to_f32(most));
        let (left, right) = (clamp(left, frame.width()), clamp(right, frame.width()));
        let (top, bottom) = (clamp(top, frame.height()), clamp(bottom, frame.height()));
        let zoom = (look.face_width / face.width).min(look.enlarge_max);
        (right - left >= face.width && bottom - top >= face.height / 2.0).then(|| Self {
            left: to_pixels(left.floor()) - u32::from(left < 1.0),
            top: to_pixels(top.floor()) - u32::from(top < 1.0),
            width: to_pixels(right - left),
            height: to_pixels(bottom - top),
            zoom,
        })
    }

    /// A part around a line that the edge of this part cuts off. `None` if it is the edge of the
    /// frame.
    pub(crate) fn around(&self, line: &Slant, frame: &Frame) -> Option<Self> {
        let [x, y, width, height] = line.bounds();
        let (aside, above) = (AROUND * width.max(height), AROUND * height);
        let clamp = |value: f32, most: u32| to_pixels(value.clamp(1.0, to_f32(most)).floor());
        let (left, top) = (clamp(x - aside, frame.width()), clamp(y - above, frame.height()));
        let right = clamp(x + width + aside, frame.width());
        let bottom = clamp(y + height + above, frame.height());
        let (mine_right, mine_bottom) = (self.left + self.width, self.top + self.height);
        let has_more = left + 1 < self.left
            || top + 1 < self.top
            || right > mine_right + 1
            || bottom > mine_bottom + 1;
        let around = Self { left, top, width: right - left, height: bottom - top, zoom: self.zoom };
        (has_more && around.cost() <= AROUND_COST_MAX).then_some(around)
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
