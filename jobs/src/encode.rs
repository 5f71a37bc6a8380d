//! Writes the upright copy of a photo, and its thumbnail.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageEncoder,
    codecs::{png::PngEncoder, webp::WebPEncoder},
};
use img_parts::{ImageEXIF, ImageICC, jpeg::Jpeg};
use turbojpeg::{Compressor, PixelFormat, ScalingFactor, Subsamp};

use crate::{
    decode::{Photo, decoder},
    exif,
    format::Format,
    limits::PhotoError,
    orientation::{Orientation, Turn},
    picture::{Frame, Picture},
    rotate, thumbnail,
};

/// JPEG quality of a photo that is encoded again. The loss is not visible: one such encoding has
/// about 45 dB PSNR.
const QUALITY: i32 = 95;

/// A photo whose pixels are upright.
#[derive(Debug)]
pub struct Upright {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Format of the file. It is the format of the original, but PNG for GIF and TIFF.
    pub format: Format,
    /// True if every pixel is as in the original.
    pub lossless: bool,
}

impl Photo<'_> {
    /// Writes the photo with upright pixels: turned as EXIF says, and then by `turn`. See
    /// [`Self::upright_as`].
    ///
    /// # Errors
    /// As [`Self::upright_as`].
    pub fn upright(&self, turn: Turn) -> Result<Upright, PhotoError> {
        self.upright_as(self.orientation.then(turn))
    }

    /// Writes the photo with upright pixels, which are changed by `orientation`.
    ///
    /// In the written file, the EXIF orientation is 1 and the dimensions are right. The EXIF
    /// thumbnail is turned too, or removed if it cannot be turned. The ICC profile and all other
    /// EXIF data are kept.
    ///
    /// A JPEG is turned without loss if its sides allow it; otherwise it is encoded again at high
    /// quality.
    ///
    /// # Errors
    /// [`PhotoError::Truncated`] or [`PhotoError::Corrupt`] when the photo cannot be decoded in
    /// full.
    pub fn upright_as(&self, orientation: Orientation) -> Result<Upright, PhotoError> {
        let (width, height) = if orientation.swaps_sides() {
            (self.stored_height, self.stored_width)
        } else {
            (self.stored_width, self.stored_height)
        };
        let turned = match self.format {
            // The EXIF tag is wrong, and the stored pixels are upright: only the tag is changed.
            Format::Jpeg if orientation.is_upright() => Some(self.bytes.to_vec()),
            Format::Jpeg => rotate::lossless(self.bytes, orientation),
            Format::Png | Format::WebP | Format::Gif | Format::Tiff => None,
        };
        if let Some(mut bytes) = turned {
            if let Some(tiff) = exif::jpeg_tiff(&mut bytes) {
                exif::set_upright(tiff, width, height, |small| {
                    thumbnail::turned(small, orientation)
                });
            }
            // Some files have the tag in a place that `set_upright` does not reach. They are
            // encoded again.
            if exif::orientation(&bytes, Format::Jpeg).is_upright() {
                return Ok(Upright { bytes, format: Format::Jpeg, lossless: true });
            }
        }
        let mut kept = decoder(self.bytes)?;
        let icc = kept.icc_profile().ok().flatten();
        let tiff = kept.exif_metadata().ok().flatten().map(|raw| {
            let mut tiff = raw.strip_prefix(b"Exif\0\0").unwrap_or(&raw).to_vec();
            exif::set_upright(&mut tiff, width, height, |small| {
                thumbnail::turned(small, orientation)
            });
            tiff
        });
        drop(kept);
        if self.format == Format::Jpeg {
            let pixels = if self.is_plain_jpeg() {
                self.jpeg_pixels(ScalingFactor::ONE)?
            } else {
                Frame::new(self.decode()?)
            };
            let bytes = with_metadata(
                jpeg(&pixels.oriented(orientation), QUALITY, Subsamp::None)?,
                icc,
                tiff,
            )?;
            return Ok(Upright { bytes, format: Format::Jpeg, lossless: false });
        }
        let image = orientation.apply(self.decode()?);
        let (bytes, format) = match self.format {
            Format::WebP => (webp(image, icc, tiff)?, Format::WebP),
            Format::Jpeg | Format::Png | Format::Gif | Format::Tiff => {
                (png(image, icc, tiff)?, Format::Png)
            }
        };
        // A lossy WebP is also written without loss: its pixels are as in the original.
        Ok(Upright { bytes, format, lossless: true })
    }
}

/// Long side of a thumbnail, in pixels. It is sharp at a width of 13 rem on a dense screen.
const THUMBNAIL_SIDE: u32 = 480;
/// JPEG quality of a thumbnail.
const THUMBNAIL_QUALITY: i32 = 80;

impl Picture {
    /// Makes a thumbnail: a JPEG of 10 to 60 kilobytes.
    ///
    /// # Errors
    /// [`PhotoError::Corrupt`] if the encoder refuses the picture.
    pub fn thumbnail(&self) -> Result<Vec<u8>, PhotoError> {
        jpeg(&self.frame.fit(THUMBNAIL_SIDE), THUMBNAIL_QUALITY, Subsamp::Sub2x2)
    }
}

fn corrupt(error: impl std::fmt::Display) -> PhotoError {
    PhotoError::Corrupt(error.to_string())
}

fn jpeg(frame: &Frame, quality: i32, subsampling: Subsamp) -> Result<Vec<u8>, PhotoError> {
    let mut compressor = Compressor::new().map_err(corrupt)?;
    compressor.set_quality(quality).map_err(corrupt)?;
    compressor.set_subsamp(subsampling).map_err(corrupt)?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let image = turbojpeg::Image {
        pixels: &frame.0.as_raw()[..],
        width,
        pitch: 3 * width,
        height,
        format: PixelFormat::RGB,
    };
    compressor.compress_to_vec(image).map_err(corrupt)
}

fn with_metadata(
    bytes: Vec<u8>,
    icc: Option<Vec<u8>>,
    tiff: Option<Vec<u8>>,
) -> Result<Vec<u8>, PhotoError> {
    let mut jpeg = Jpeg::from_bytes(bytes.into()).map_err(corrupt)?;
    jpeg.set_icc_profile(icc.map(Into::into));
    jpeg.set_exif(tiff.map(Into::into));
    let mut bytes = Vec::new();
    jpeg.encoder().write_to(&mut bytes).map_err(corrupt)?;
    Ok(bytes)
}

fn png(
    image: DynamicImage,
    icc: Option<Vec<u8>>,
    tiff: Option<Vec<u8>>,
) -> Result<Vec<u8>, PhotoError> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(Cursor::new(&mut bytes));
    keep(&mut encoder, icc, tiff);
    image.write_with_encoder(encoder).map_err(corrupt)?;
    Ok(bytes)
}

fn webp(
    image: DynamicImage,
    icc: Option<Vec<u8>>,
    tiff: Option<Vec<u8>>,
) -> Result<Vec<u8>, PhotoError> {
    let mut bytes = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(Cursor::new(&mut bytes));
    keep(&mut encoder, icc, tiff);
    image.write_with_encoder(encoder).map_err(corrupt)?;
    Ok(bytes)
}

/// Gives the metadata to the encoder. Metadata that the format cannot hold is left out, because the
/// pixels matter more.
fn keep(encoder: &mut impl ImageEncoder, icc: Option<Vec<u8>>, tiff: Option<Vec<u8>>) {
    let _ = icc.map(|icc| encoder.set_icc_profile(icc));
    let _ = tiff.map(|tiff| encoder.set_exif_metadata(tiff));
}
