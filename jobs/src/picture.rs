//! The pixels of a photo at working size, and operations on them.

use std::borrow::Cow;

use fast_image_resize as fr;
use image::{DynamicImage, RgbImage};

use crate::{
    limits::PhotoError,
    orientation::{Orientation, Turn},
};

/// A photo decoded at working size, upright as EXIF says.
#[derive(Debug, Clone)]
pub struct Picture {
    pub(crate) frame: Frame,
    /// Width of the upright full-size photo, in pixels.
    pub width: u32,
    /// Height of the upright full-size photo, in pixels.
    pub height: u32,
}

impl Picture {
    /// The pixels at working size. The long side is about 1,600 pixels.
    pub fn image(&self) -> &RgbImage {
        &self.frame.0
    }

    /// Number of pixels of the full-size photo along one pixel of [`Self::image`].
    pub fn scale(&self) -> f32 {
        to_f32(self.width.max(self.height)) / to_f32(self.frame.long_side())
    }

    /// The same photo, turned clockwise. It is copied only if there is a turn.
    pub fn turned(&self, turn: Turn) -> Cow<'_, Self> {
        let (width, height) = match turn {
            Turn::None => return Cow::Borrowed(self),
            Turn::Half => (self.width, self.height),
            Turn::Quarter | Turn::ThreeQuarters => (self.height, self.width),
        };
        Cow::Owned(Self { frame: self.frame.turned(turn), width, height })
    }
}

/// An RGB picture of 8 bits a channel.
#[derive(Debug, Clone)]
pub struct Frame(pub(crate) RgbImage);

impl Frame {
    pub(crate) fn new(image: DynamicImage) -> Self {
        Self(image.into_rgb8())
    }

    pub(crate) fn width(&self) -> u32 {
        self.0.width()
    }

    pub(crate) fn height(&self) -> u32 {
        self.0.height()
    }

    pub(crate) fn long_side(&self) -> u32 {
        self.width().max(self.height())
    }

    pub(crate) fn turned(&self, turn: Turn) -> Self {
        Self(turned(&self.0, turn))
    }

    pub(crate) fn oriented(self, orientation: Orientation) -> Self {
        if orientation.is_upright() {
            self
        } else {
            Self::new(orientation.apply(DynamicImage::ImageRgb8(self.0)))
        }
    }

    /// The same picture with a long side of at most `side` pixels. It is never enlarged.
    pub(crate) fn fit(&self, side: u32) -> Self {
        if self.long_side() <= side {
            return self.clone();
        }
        let part = |length: u32| {
            let scaled = (u64::from(length) * u64::from(side) + u64::from(self.long_side()) / 2)
                / u64::from(self.long_side());
            u32::try_from(scaled).unwrap_or(side).max(1)
        };
        self.resized(part(self.width()), part(self.height()))
    }

    /// Cuts out a part. Whatever is outside the picture is left out.
    pub(crate) fn part(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        Self(image::imageops::crop_imm(&self.0, left, top, width, height).to_image())
    }

    /// The same picture, stretched to exactly this size.
    pub(crate) fn resized(&self, width: u32, height: u32) -> Self {
        if (width, height) == (self.width(), self.height()) {
            return self.clone();
        }
        let source = fr::images::ImageRef::new(
            self.width(),
            self.height(),
            self.0.as_raw(),
            fr::PixelType::U8x3,
        );
        let mut target = fr::images::Image::new(width, height, fr::PixelType::U8x3);
        let options = fr::ResizeOptions::new()
            .resize_alg(fr::ResizeAlg::Convolution(fr::FilterType::Bilinear));
        let resized = source
            .ok()
            .and_then(|source| fr::Resizer::new().resize(&source, &mut target, &options).ok());
        let pixels = resized.and_then(|()| RgbImage::from_raw(width, height, target.into_vec()));
        // The resizer does not fail: both pictures are 8-bit RGB and have pixels. If it failed all
        // the same, nothing would be found on the black picture.
        Self(pixels.unwrap_or_else(|| RgbImage::new(width, height)))
    }

    /// Returns the channels as planes of floats, `(value - mean) * factor`, padded to `width` x
    /// `height` with black pixels.
    pub(crate) fn planes(
        &self,
        order: ChannelOrder,
        width: u32,
        height: u32,
        mean: f32,
        factor: f32,
    ) -> Vec<f32> {
        let (width, height) = (width as usize, height as usize);
        let (own_width, plane) = (self.width() as usize, width * height);
        let mut planes = vec![(0.0 - mean) * factor; 3 * plane];
        for (y, row) in self.0.as_raw().chunks_exact(3 * own_width).take(height).enumerate() {
            for channel in 0..3 {
                let from = match order {
                    ChannelOrder::Rgb => channel,
                    ChannelOrder::Bgr => 2 - channel,
                };
                let start = channel * plane + y * width;
                for (value, pixel) in
                    planes[start..start + width.min(own_width)].iter_mut().zip(row.chunks_exact(3))
                {
                    *value = (f32::from(pixel[from]) - mean) * factor;
                }
            }
        }
        planes
    }

    /// Samples a picture of `width` x `height` pixels. Pixel (x, y) of the result is taken from the
    /// point `matrix` * (x, y, 1) of this picture, interpolated between its pixels.
    pub(crate) fn warp(&self, matrix: [[f32; 3]; 2], width: u32, height: u32) -> Self {
        let (most_x, most_y) = (to_f32(self.width() - 1), to_f32(self.height() - 1));
        let stride = 3 * self.width() as usize;
        let pixels = self.0.as_raw();
        Self(RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (to_f32(x), to_f32(y));
            let [source_x, source_y] = matrix.map(|[a, b, c]| a * x + b * y + c);
            let (source_x, source_y) = (source_x.clamp(0.0, most_x), source_y.clamp(0.0, most_y));
            let (left, top) = (floor(source_x), floor(source_y));
            let (right, bottom) = (
                (left + 1).min(self.width() as usize - 1),
                (top + 1).min(self.height() as usize - 1),
            );
            let (part_x, part_y) = (source_x.fract(), source_y.fract());
            let at = |x: usize, y: usize, channel: usize| {
                f32::from(pixels[y * stride + 3 * x + channel])
            };
            image::Rgb(std::array::from_fn(|channel| {
                let above =
                    at(left, top, channel) * (1.0 - part_x) + at(right, top, channel) * part_x;
                let below = at(left, bottom, channel) * (1.0 - part_x)
                    + at(right, bottom, channel) * part_x;
                to_u8(above * (1.0 - part_y) + below * part_y)
            }))
        }))
    }
}

/// Returns the picture turned clockwise by `turn`.
pub fn turned(image: &RgbImage, turn: Turn) -> RgbImage {
    match turn {
        Turn::None => image.clone(),
        Turn::Quarter => image::imageops::rotate90(image),
        Turn::Half => image::imageops::rotate180(image),
        Turn::ThreeQuarters => image::imageops::rotate270(image),
    }
}

/// The order of the colour channels that a model was trained with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChannelOrder {
    Rgb,
    Bgr,
}

/// A number of pixels as a float. It is exact: sides are far below 2^24, up to where a float holds
/// every whole number.
#[allow(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn to_f32(pixels: u32) -> f32 {
    pixels as f32
}

/// The whole pixel at or before a coordinate. The coordinate must be inside the picture.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a picture's size by the caller"
)]
pub(crate) fn floor(coordinate: f32) -> usize {
    coordinate.max(0.0) as usize
}

/// The nearest whole number of pixels, at least 1.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float casts saturating; sizes are bounded by the callers"
)]
pub(crate) fn to_pixels(length: f32) -> u32 {
    length.round().max(1.0) as u32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
fn to_u8(value: f32) -> u8 {
    (value + 0.5) as u8
}

/// Turns a model's error into an error of the photo.
pub(crate) fn vision<E: std::fmt::Display>(error: E) -> PhotoError {
    PhotoError::Vision(error.to_string())
}
