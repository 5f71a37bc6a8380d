//! What is let in: decided on the bytes, before any decoder sees them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// 100 MiB a file: the largest JPEG of a 100-megapixel camera is about half of it.
pub const BYTES_MAX: usize = 100 * 1024 * 1024;

/// 120 megapixels: larger than any camera our users own; 360 MB when decoded in full.
pub const PIXELS_MAX: u64 = 120_000_000;

/// Scans of a JPEG. A progressive photo has about ten; a few hundred kilobytes with thousands of scans cost a
/// decoder many seconds each.
pub const SCANS_MAX: usize = 32;

/// What the image crate's decoders may allocate, in bytes: an 8-bit RGBA picture of [`PIXELS_MAX`], and a little more.
pub(crate) const ALLOC_MAX: u64 = 512 * 1024 * 1024;

/// Why a photo cannot be looked at. None of these gets better by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PhotoError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// More than [`BYTES_MAX`].
    #[error("the file has {0} bytes, more than the {BYTES_MAX} allowed")]
    FileTooLarge(u64),
    /// More than [`PIXELS_MAX`].
    #[error("{width}x{height} pixels are more than the 120 megapixels allowed")]
    TooManyPixels {
        /// As stored, in pixels.
        width: u32,
        /// As stored, in pixels.
        height: u32,
    },
    /// More than [`SCANS_MAX`].
    #[error("more than {SCANS_MAX} scans, which only a hostile JPEG has")]
    TooManyScans,
    /// Within [`PIXELS_MAX`], but with more or deeper channels than a photo has.
    #[error("decoding it takes more than the 512 MB of memory allowed")]
    TooMuchMemory,
    /// Not one of [`Format`].
    #[error("{0} is not supported: send JPEG, PNG, WebP, GIF or TIFF")]
    UnsupportedFormat(Cow<'static, str>),
    /// The file ends before the picture does.
    #[error("the file ends before the picture does: {0}")]
    Truncated(String),
    /// The bytes are not what they claim to be.
    #[error("the file is corrupt: {0}")]
    Corrupt(String),
    /// A model refused a picture.
    #[error("the photo could not be looked at: {0}")]
    Vision(String),
}

impl PhotoError {
    /// A stable code for programs; lower case and underscores.
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

/// A format that is let in. The bytes decide, never the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Baseline or progressive, up to [`SCANS_MAX`] scans.
    Jpeg,
    /// Including 16-bit and interlaced.
    Png,
    /// Lossy or lossless; of an animation the first frame.
    WebP,
    /// The first frame.
    Gif,
    /// What the image crate reads of it.
    Tiff,
}

impl Format {
    /// The usual extension of a file, without the dot.
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

/// Recognises the format by its magic bytes.
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

/// The size of a picture, refused when it is larger than [`PIXELS_MAX`] or has no pixels.
pub(crate) fn check_size(width: u32, height: u32) -> Result<(), PhotoError> {
    if width == 0 || height == 0 {
        return Err(PhotoError::Corrupt(format!("{width}x{height} pixels")));
    }
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(PhotoError::TooManyPixels { width, height });
    }
    Ok(())
}

/// Reads the frame header of a JPEG and counts its scans, in one bounded pass over the markers.
/// Returns width and height as stored, and the number of colour components.
pub(crate) fn scan_jpeg(bytes: &[u8]) -> Result<(u32, u32, u8), PhotoError> {
    let mut frame = None;
    let mut scans = 0;
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            // Standalone: TEM, RSTn, SOI.
            0x01 | 0xD0..=0xD8 => {}
            0xD9 => break,
            _ => {
                let Some(length) = be16(bytes, at).filter(|length| *length >= 2) else { break };
                let body = bytes.get(at + 2..at + length).unwrap_or_default();
                match marker {
                    // SOF0-15, without DHT (C4), JPG (C8) and DAC (CC).
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

/// Moves `at` behind the next marker and returns its code; skips entropy-coded data and fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|byte| *byte == 0xFF)?;
        while *bytes.get(*at)? == 0xFF {
            *at += 1;
        }
        let code = bytes[*at];
        *at += 1;
        // FF00 is a data byte that happens to be FF.
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
