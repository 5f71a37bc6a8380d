//! Decodes the bytes of a photo to pixels.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader};
use turbojpeg::{Decompressor, PixelFormat, ScalingFactor};

use crate::{
    exif,
    format::{Format, sniff},
    jpeg_head::scan_jpeg,
    limits::{ALLOC_MAX, PhotoError, SCANS_MAX, check_size},
    orientation::Orientation,
    picture::{Frame, Picture},
};

/// Smallest long side, in pixels, to which a JPEG is scaled while decoding. Photos of other formats
/// get exactly this long side, if they are larger.
///
/// Below it, the bib numbers of runners in the second row are not read. Above it, nothing is gained
/// for faces and crowds.
const WORKING_SIDE: u32 = 1600;

/// A photo that is within the limits and is not decoded yet.
#[derive(Debug, Clone, Copy)]
pub struct Photo<'a> {
    pub(crate) bytes: &'a [u8],
    /// Format of the file, as its bytes say.
    pub format: Format,
    /// Width as stored, in pixels, before the EXIF orientation is applied.
    pub stored_width: u32,
    /// Height as stored, in pixels, before the EXIF orientation is applied.
    pub stored_height: u32,
    /// The change that makes the stored pixels upright, as EXIF says.
    pub orientation: Orientation,
    components: u8,
}

impl<'a> Photo<'a> {
    /// Reads format, size and orientation from the head of the file, and checks the limits of this
    /// crate.
    ///
    /// # Errors
    /// Every [`PhotoError`] except `Truncated` and `Vision`.
    pub fn open(bytes: &'a [u8]) -> Result<Self, PhotoError> {
        let format = sniff(bytes)?;
        let (stored_width, stored_height, components) = match format {
            Format::Jpeg => scan_jpeg(bytes)?,
            Format::Png | Format::WebP | Format::Gif | Format::Tiff => {
                let (width, height) = decoder(bytes)?.dimensions();
                check_size(width, height)?;
                (width, height, 0)
            }
        };
        let orientation = exif::orientation(bytes, format);
        Ok(Self { bytes, format, stored_width, stored_height, orientation, components })
    }

    /// Width and height of the photo, in pixels, after it is made upright as EXIF says.
    pub fn upright_size(&self) -> (u32, u32) {
        if self.orientation.swaps_sides() {
            (self.stored_height, self.stored_width)
        } else {
            (self.stored_width, self.stored_height)
        }
    }

    /// Decodes the photo at working size, upright as EXIF says. A JPEG is scaled while it is
    /// decoded.
    ///
    /// # Errors
    /// [`PhotoError::Truncated`] or [`PhotoError::Corrupt`] when the photo cannot be decoded.
    pub fn picture(&self) -> Result<Picture, PhotoError> {
        let frame = match self.is_plain_jpeg().then(|| self.scaled_jpeg()) {
            Some(Ok(frame)) => frame,
            // turbojpeg reports a warning about the header as an error. The other decoder can read
            // such a file.
            Some(Err(PhotoError::Corrupt(warning))) if is_harmless(&warning) => {
                Frame::new(self.decode()?).fit(WORKING_SIDE)
            }
            Some(Err(error)) => return Err(error),
            None => Frame::new(self.decode()?).fit(WORKING_SIDE),
        };
        let (width, height) = self.upright_size();
        let mirrored = self.orientation.mirrored;
        Ok(Picture { frame: frame.oriented(self.orientation), mirrored, width, height })
    }

    /// Decodes all pixels as stored, in the pixel type of the file.
    pub(crate) fn decode(&self) -> Result<DynamicImage, PhotoError> {
        DynamicImage::from_decoder(decoder(self.bytes)?).map_err(decode_error)
    }

    /// Whether turbojpeg can decode the photo to RGB. It cannot for CMYK; the slower decoder takes
    /// those.
    pub(crate) fn is_plain_jpeg(&self) -> bool {
        self.format == Format::Jpeg && self.components != 4
    }

    /// Decodes a plain JPEG at the smallest scale that is still [`WORKING_SIDE`] long.
    fn scaled_jpeg(&self) -> Result<Frame, PhotoError> {
        let long = u64::from(self.stored_width.max(self.stored_height));
        let eighths =
            (1..8).find(|eighths| long * eighths / 8 >= u64::from(WORKING_SIDE)).unwrap_or(8);
        self.jpeg_pixels(ScalingFactor::new(usize::try_from(eighths).unwrap_or(8), 8))
    }

    /// Decodes the pixels of a plain JPEG as stored, and scales them while decoding.
    pub(crate) fn jpeg_pixels(&self, factor: ScalingFactor) -> Result<Frame, PhotoError> {
        let corrupt = |error: turbojpeg::Error| PhotoError::Corrupt(error.to_string());
        let mut decompressor = Decompressor::new().map_err(corrupt)?;
        decompressor
            .set_scan_limit(u32::try_from(SCANS_MAX).unwrap_or(u32::MAX))
            .map_err(corrupt)?;
        let header = decompressor.read_header(self.bytes).map_err(corrupt)?;
        decompressor.set_scaling_factor(factor).map_err(corrupt)?;
        let size = header.scaled(factor);
        let mut pixels = vec![0; size.width * size.height * 3];
        let output = turbojpeg::Image {
            pixels: &mut pixels[..],
            width: size.width,
            pitch: size.width * 3,
            height: size.height,
            format: PixelFormat::RGB,
        };
        decompressor.decompress(self.bytes, output).or_else(forgive)?;
        let sides = (u32::try_from(size.width).ok(), u32::try_from(size.height).ok());
        let (Some(width), Some(height)) = sides else {
            return Err(PhotoError::Corrupt("impossible size".into()));
        };
        let image = image::RgbImage::from_raw(width, height, pixels);
        image.map(Frame).ok_or_else(|| PhotoError::Corrupt("impossible size".into()))
    }
}

/// Ignores harmless warnings. libjpeg warns about odd bytes and still decodes every pixel, but
/// turbojpeg reports the warnings as errors.
fn forgive(error: turbojpeg::Error) -> Result<(), PhotoError> {
    let message = error.to_string();
    if is_harmless(&message) {
        return Ok(());
    }
    if message.contains("Premature end") || message.contains("premature end") {
        return Err(PhotoError::Truncated(message));
    }
    Err(PhotoError::Corrupt(message))
}

fn is_harmless(message: &str) -> bool {
    let warnings = [
        "extraneous bytes before marker",
        "bad ICC marker",
        "Unknown Adobe color transform",
        "Invalid SOS parameters",
        "Inconsistent progression sequence",
    ];
    warnings.iter().any(|warning| message.contains(warning))
}

/// Makes the image crate's decoder for these bytes, with a limit on its memory.
pub(crate) fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder + '_, PhotoError> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(ALLOC_MAX);
    reader.limits(limits);
    let reader =
        reader.with_guessed_format().map_err(|error| PhotoError::Corrupt(error.to_string()))?;
    reader.into_decoder().map_err(decode_error)
}

fn decode_error(error: image::ImageError) -> PhotoError {
    use image::ImageError as E;
    match error {
        E::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PhotoError::Truncated(error.to_string())
        }
        E::Limits(_) => PhotoError::TooMuchMemory,
        E::Unsupported(_) => PhotoError::UnsupportedFormat("this variant of the format".into()),
        E::Decoding(_) | E::Encoding(_) | E::Parameter(_) | E::IoError(_) => {
            PhotoError::Corrupt(error.to_string())
        }
    }
}
