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
    /// The format is not one of [`Format`](crate::Format).
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
