//! The upright photo, as a file.

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
    limits::{Format, PhotoError},
    orientation::Turn,
    picture::{Frame, Picture},
    rotate, thumbnail,
};

/// Visually without loss; a generation costs about 45 dB PSNR.
const QUALITY: i32 = 95;

/// A photo whose pixels are upright.
#[derive(Debug)]
pub struct Upright {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its format: that of the original, but PNG for GIF and TIFF.
    pub format: Format,
    /// True when every pixel is that of the original.
    pub lossless: bool,
}

impl Photo<'_> {
    /// Writes the photo with upright pixels: what EXIF says and then `turn`. Orientation is 1 afterwards, the
    /// dimensions are right, the thumbnail is turned too (or dropped, if it cannot be), the ICC profile and all other EXIF are kept.
    ///
    /// A JPEG is turned without loss where its sides allow, else coded again at high quality.
    ///
    /// # Errors
    /// [`PhotoError::Truncated`] or [`PhotoError::Corrupt`] when the photo cannot be decoded in full.
    pub fn upright(&self, turn: Turn) -> Result<Upright, PhotoError> {
        let orientation = self.orientation.then(turn);
        let (width, height) = if orientation.swaps_sides() {
            (self.stored_height, self.stored_width)
        } else {
            (self.stored_width, self.stored_height)
        };
        let turned = match self.format {
            // Its tag lies, and the pixels are upright as they are.
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
            // Some tags are where no turn reaches them: then all is coded again.
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
        // A lossy WebP is written without loss too: the pixels are those of the original.
        Ok(Upright { bytes, format, lossless: true })
    }
}

/// The long side of a thumbnail: sharp at 13 rem on a dense screen.
const THUMBNAIL_SIDE: u32 = 480;
const THUMBNAIL_QUALITY: i32 = 80;

impl Picture {
    /// A small JPEG of it, of 10 to 60 kilobytes.
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

/// Metadata that the encoder cannot carry is left out: the pixels matter more.
fn keep(encoder: &mut impl ImageEncoder, icc: Option<Vec<u8>>, tiff: Option<Vec<u8>>) {
    let _ = icc.map(|icc| encoder.set_icc_profile(icc));
    let _ = tiff.map(|tiff| encoder.set_exif_metadata(tiff));
}
