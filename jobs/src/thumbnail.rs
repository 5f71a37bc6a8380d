//! Turns the thumbnail in the EXIF data together with its photo.

use turbojpeg::{Compressor, Decompressor, Image, PixelFormat, Subsamp};

use crate::{orientation::Orientation, picture::Frame, rotate};

/// Largest side of an EXIF thumbnail, in pixels. No camera writes a larger one, so a larger one is
/// not decoded.
const SIDE_MAX: usize = 1024;

/// Turns a thumbnail. The result has at most as many bytes as before. `None` if the thumbnail
/// cannot be read, or the result does not fit.
pub(crate) fn turned(jpeg: &[u8], orientation: Orientation) -> Option<Vec<u8>> {
    let room = jpeg.len();
    let without_loss = rotate::lossless(jpeg, orientation).filter(|turned| turned.len() <= room);
    without_loss.or_else(|| {
        let mut decompressor = Decompressor::new().ok()?;
        let header = decompressor.read_header(jpeg).ok()?;
        if header.width.max(header.height) > SIDE_MAX {
            return None;
        }
        let (width, pitch, height) = (header.width, 3 * header.width, header.height);
        let mut pixels = vec![0; pitch * height];
        let format = PixelFormat::RGB;
        decompressor
            .decompress(jpeg, Image { pixels: &mut pixels[..], width, pitch, height, format })
            .ok()?;
        let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let frame = Frame(image::RgbImage::from_raw(width, height, pixels)?).oriented(orientation);
        [90, 80, 65, 50].into_iter().find_map(|quality| {
            let (width, height) = (frame.width() as usize, frame.height() as usize);
            let pixels = &frame.0.as_raw()[..];
            let mut compressor = Compressor::new().ok()?;
            compressor.set_quality(quality).ok()?;
            compressor.set_subsamp(Subsamp::Sub2x2).ok()?;
            let turned = compressor
                .compress_to_vec(Image { pixels, width, pitch: 3 * width, height, format })
                .ok()?;
            (turned.len() <= room).then_some(turned)
        })
    })
}
