//! The formats of photos, told apart by their bytes.

use crate::limits::{BYTES_MAX, PhotoError};

/// A supported format. It is detected from the bytes, never from the name of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline or progressive, with at most [`SCANS_MAX`](crate::SCANS_MAX) scans.
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
    /// The format that a file begins with. Nothing is decoded, and the file may still be corrupt.
    ///
    /// # Errors
    /// [`PhotoError::Empty`], [`PhotoError::FileTooLarge`] or [`PhotoError::UnsupportedFormat`].
    pub fn of(bytes: &[u8]) -> Result<Self, PhotoError> {
        sniff(bytes)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_decide_the_format() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1A\n...."), Ok(Format::Png));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Ok(Format::WebP));
        assert_eq!(sniff(b"").unwrap_err().code(), "empty");
        assert_eq!(sniff(b"\0\0\0\x18ftypheic").unwrap_err().code(), "unsupported_format");
    }
}
