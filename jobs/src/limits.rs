//! The limits of a photo. They are checked on the bytes, before a decoder reads them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Largest file, in bytes: 100 MiB. The largest JPEG of a 100-megapixel camera has about half of
/// it.
pub const BYTES_MAX: usize = 100 * 1024 * 1024;

/// Largest picture, in pixels: 120 megapixels. It is more than any camera of our users has, and
/// takes 360 MB when decoded in full.
pub const PIXELS_MAX: u64 = 120_000_000;

/// Largest number of scans of a JPEG. A progressive photo has about ten. A hostile file of a few
/// hundred kilobytes can have thousands, and takes a decoder many seconds.
pub const SCANS_MAX: usize = 32;

/// Memory that the image crate's decoders may allocate, in bytes. It is enough for an 8-bit RGBA
/// picture of [`PIXELS_MAX`], and a little more.
pub(crate) const ALLOC_MAX: u64 = 512 * 1024 * 1024;

/// Why a photo cannot be processed. Another attempt would give the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PhotoError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file has more than [`BYTES_MAX`] bytes.
    #[error("the file has {0} bytes, more than the {BYTES_MAX} allowed")]
    FileTooLarge(u64),
    /// The picture has more than [`PIXELS_MAX`] pixels.
    #[error("{width}x{height} pixels are more than the 120 megapixels allowed")]
    TooManyPixels {
        /// Width as stored, in pixels.
        width: u32,
        /// Height as stored, in pixels.
        height: u32,
    },
    /// The JPEG has more than [`SCANS_MAX`] scans.
    #[error("the JPEG has more than the {SCANS_MAX} scans allowed")]
    TooManyScans,
    /// The picture has at most [`PIXELS_MAX`] pixels, but more or deeper channels than a photo has.
    #[error("decoding it takes more than the 512 MB of memory allowed")]
    TooMuchMemory,
    /// The format is not one of [`Format`].
    #[error("{0} is not supported: send JPEG, PNG, WebP, GIF or TIFF")]
    UnsupportedFormat(Cow<'static, str>),
    /// The file ends before the picture does.
    #[error("the file ends before the picture does: {0}")]
    Truncated(String),
    /// The bytes are not a valid file of their format.
    #[error("the file is corrupt: {0}")]
    Corrupt(String),
    /// A model failed on the picture.
    #[error("a model failed on the photo: {0}")]
    Vision(String),
}

impl PhotoError {
    /// The stable code of the error, for programs, in lower case with underscores.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::FileTooLarge(_) => "file_too_large",
            Self::TooManyPixels { .. } => "too_many_pixels",
            Self::TooManyScans => "too_many_scans",
            Self::TooMuchMemory => "too_much_memory",
            Self::UnsupportedFormat(_) => "unsupported_format",
            Self::Truncated(_) => "truncated",
            Self::Corrupt(_) => "corrupt",
            Self::Vision(_) => "vision_failed",
        }
    }
}

/// A supported format. It is detected from the bytes, never from the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline or progressive, with at most [`SCANS_MAX`] scans.
    Jpeg,
    /// PNG, including 16-bit and interlaced files.
    Png,
    /// WebP, lossy or lossless. Only the first frame of an animation is used.
    WebP,
    /// GIF. Only the first frame is used.
    Gif,
    /// TIFF, in the variants that the image crate reads.
    Tiff,
}

impl Format {
    /// The usual extension of a file of this format, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Tiff => "tif",
        }
    }
}

/// Detects the format by its magic bytes, and checks the size of the file.
pub(crate) fn sniff(bytes: &[u8]) -> Result<Format, PhotoError> {
    if bytes.is_empty() {
        return Err(PhotoError::Empty);
    }
    if bytes.len() > BYTES_MAX {
        return Err(PhotoError::FileTooLarge(bytes.len() as u64));
    }
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..offset + magic.len()) == Some(magic);
    if at(0, b"\xFF\xD8\xFF") {
        return Ok(Format::Jpeg);
    }
    if at(0, b"\x89PNG\r\n\x1A\n") {
        return Ok(Format::Png);
    }
    if at(0, b"RIFF") && at(8, b"WEBP") {
        return Ok(Format::WebP);
    }
    if at(0, b"GIF87a") || at(0, b"GIF89a") {
        return Ok(Format::Gif);
    }
    if at(0, b"II*\0") || at(0, b"MM\0*") {
        return Ok(Format::Tiff);
    }
    let name =
        if at(4, b"ftypheic") || at(4, b"ftypheix") || at(4, b"ftypmif1") || at(4, b"ftypmsf1") {
            "HEIC"
        } else if at(4, b"ftypavif") || at(4, b"ftypavis") {
            "AVIF"
        } else if at(0, b"BM") {
            "BMP"
        } else if at(0, b"8BPS") {
            "PSD"
        } else if at(0, b"\0\0\x01\0") {
            "ICO"
        } else if at(0, b"<svg") || at(0, b"<?xml") {
            "SVG"
        } else {
            "this kind of file"
        };
    Err(PhotoError::UnsupportedFormat(name.into()))
}

/// Refuses a picture with more than [`PIXELS_MAX`] pixels, or with no pixels.
pub(crate) fn check_size(width: u32, height: u32) -> Result<(), PhotoError> {
    if width == 0 || height == 0 {
        return Err(PhotoError::Corrupt(format!("{width}x{height} pixels")));
    }
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(PhotoError::TooManyPixels { width, height });
    }
    Ok(())
}

/// Reads the frame header of a JPEG and counts its scans, in one pass over the markers.
///
/// Returns width and height as stored, and the number of colour components.
pub(crate) fn scan_jpeg(bytes: &[u8]) -> Result<(u32, u32, u8), PhotoError> {
    let mut frame = None;
    let mut scans = 0;
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            // TEM, RSTn and SOI have no length.
            0x01 | 0xD0..=0xD8 => {}
            0xD9 => break,
            _ => {
                let Some(length) = be16(bytes, at).filter(|length| *length >= 2) else { break };
                let body = bytes.get(at + 2..at + length).unwrap_or_default();
                match marker {
                    // SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC).
                    0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                        if let (Some(height), Some(width), Some(components)) =
                            (be16(body, 1), be16(body, 3), body.get(5))
                        {
                            let size = (
                                u32::try_from(width).unwrap_or(0),
                                u32::try_from(height).unwrap_or(0),
                            );
                            check_size(size.0, size.1)?;
                            frame.get_or_insert((size.0, size.1, *components));
                        }
                    }
                    0xDA => {
                        scans += 1;
                        if scans > SCANS_MAX {
                            return Err(PhotoError::TooManyScans);
                        }
                    }
                    _ => {}
                }
                at += length;
            }
        }
    }
    frame.ok_or_else(|| PhotoError::Corrupt("no frame header".into()))
}

/// Moves `at` behind the next marker and returns the marker's code. Skips entropy-coded data and
/// fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|byte| *byte == 0xFF)?;
        while *bytes.get(*at)? == 0xFF {
            *at += 1;
        }
        let code = bytes[*at];
        *at += 1;
        // FF00 is not a marker: it stands for the data byte FF.
        if code != 0 {
            return Some(code);
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(height: u16, width: u16, scans: usize) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8];
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes.extend([1, 1, 0x11, 0]);
        for _ in 0..scans {
            bytes.extend([0xFF, 0xDA, 0, 3, 1, 0x12, 0xFF, 0, 0x34]);
        }
        bytes.extend([0xFF, 0xD9]);
        bytes
    }

    #[test]
    fn a_frame_header_tells_the_size_before_any_decoder_runs() {
        assert_eq!(scan_jpeg(&jpeg(3000, 4000, 1)), Ok((4000, 3000, 1)));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        assert!(matches!(scan_jpeg(&jpeg(65500, 65500, 1)), Err(PhotoError::TooManyPixels { .. })));
    }

    #[test]
    fn thousands_of_scans_are_refused() {
        assert_eq!(scan_jpeg(&jpeg(10, 10, 2000)), Err(PhotoError::TooManyScans));
    }

    #[test]
    fn the_bytes_decide_the_format() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1A\n...."), Ok(Format::Png));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Ok(Format::WebP));
        assert_eq!(sniff(b"").unwrap_err().code(), "empty");
        assert_eq!(sniff(b"\0\0\0\x18ftypheic").unwrap_err().code(), "unsupported_format");
    }
}
