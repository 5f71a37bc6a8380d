//! A rectangle that may be slanted: where a line of text is.

use std::f32::consts::SQRT_2;

use crate::{
    bodies::Body,
    orientation::Turn,
    picture::{Frame, to_f32, to_pixels},
};

/// Height to which a line is resized before it is read, in pixels.
pub(crate) const LINE_HEIGHT: u32 = 48;

/// Longest line that is read, in pixels after the resize; the rest is cut off. No bib number is 20
/// times as long as high.
pub(crate) const LINE_WIDTH_MAX: u32 = 960;

/// A rectangle that may be slanted: `along` is the unit vector of its width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slant {
    pub(crate) centre: [f32; 2],
    pub(crate) along: [f32; 2],
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// True if it is under a face, where bib numbers are worn.
    pub(crate) worn: bool,
}

impl Slant {
    /// The same rectangle in a frame that is larger by these factors.
    pub(crate) fn scaled(self, x: f32, y: f32) -> Self {
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

    /// The same rectangle in the mirror image of a frame of this width. It runs to the right again.
    pub(crate) fn mirrored(self, width: f32) -> Self {
        let ([x, y], [along, down]) = (self.centre, self.along);
        Self { centre: [width - x, y], along: [along, -down], ..self }
    }

    /// The same rectangle, moved.
    pub(crate) fn moved(self, x: f32, y: f32) -> Self {
        Self { centre: [self.centre[0] + x, self.centre[1] + y], ..self }
    }

    /// Whether it is not cut off by the edge of the part that was searched.
    pub(crate) fn is_inside(&self, body: &Body) -> bool {
        let [x, y, width, height] = self.bounds();
        let (left, top) = (to_f32(body.left), to_f32(body.top));
        let (right, bottom) = (left + to_f32(body.width), top + to_f32(body.height));
        x > left + 1.0 && y > top + 1.0 && x + width < right - 1.0 && y + height < bottom - 1.0
    }

    /// Whether the other rectangle is the same line, found again.
    pub(crate) fn is_again(&self, other: &Self) -> bool {
        let both = self.overlap(other);
        both > 0.4 * (self.area() + other.area() - both)
    }

    /// Whether this is the same line as the other, or a part of it.
    pub(crate) fn is_part_of(&self, other: &Self) -> bool {
        self.overlap(other) > 0.4 * self.area().min(other.area())
    }

    /// Whether both are the same line, and neither shows clearly more of it.
    pub(crate) fn is_just(&self, other: &Self) -> bool {
        self.overlap(other) > 0.85 * self.area().max(other.area())
    }

    /// The same line, longer at both ends by a share of its height.
    pub(crate) fn longer(self, heights: f32) -> Self {
        Self { width: self.width + 2.0 * heights * self.height, ..self }
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
    pub(crate) fn bounds(&self) -> [f32; 4] {
        let width = self.width * self.along[0].abs() + self.height * self.along[1].abs();
        let height = self.width * self.along[1].abs() + self.height * self.along[0].abs();
        [self.centre[0] - width / 2.0, self.centre[1] - height / 2.0, width, height]
    }

    /// Cuts the line out of the frame and straightens it, with a height of [`LINE_HEIGHT`].
    pub(crate) fn crop(&self, frame: &Frame) -> Frame {
        let scale = self.height / to_f32(LINE_HEIGHT);
        let width = to_pixels((self.width / scale).clamp(8.0, to_f32(LINE_WIDTH_MAX)));
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

    /// The same rectangle with `along` pointing to the right, at most 45 degrees up or down.
    pub(crate) fn lying(self) -> Self {
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
