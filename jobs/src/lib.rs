//! What photogate does to a photo. Pure: bytes in, findings out. No runtime, database, network, environment or clock.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut eyes = photogate_jobs::Eyes::open(std::path::Path::new("models"))?;
//! let bytes = std::fs::read("photo.jpg")?;
//!
//! let photo = photogate_jobs::Photo::open(&bytes)?;     // sniffed, within limits, EXIF read
//! let picture = photo.picture()?;                       // decoded at working size, upright as EXIF says
//! let faces = eyes.faces(&picture)?;                    // boxes in pixels of the upright full-size photo
//! let lines = eyes.lines(&picture, &faces)?;            // text, and from it …
//! let bibs = photogate_jobs::bibs(&lines, &photogate_jobs::StartList::default()); // … the bib numbers
//! let rotation = eyes.rotation(&picture)?;              // the turn still needed, or an abstention
//! let upright = photo.upright(rotation.turn)?;          // the photo itself, turned, without loss where possible
//! # Ok(()) }
//! ```

mod bibs;
mod bodies;
mod decode;
mod embedding;
mod encode;
mod exif;
mod eyes;
mod faces;
mod limits;
mod orientation;
mod picture;
mod rotate;
mod start_list;
mod text;
mod thumbnail;

pub use bibs::{Bib, bibs};
pub use decode::Photo;
pub use embedding::{EMBEDDABLE_WIDTH, Embedding};
pub use encode::Upright;
pub use eyes::{Eyes, EyesError, MODELS, RUNTIME};
pub use faces::Face;
pub use limits::{BYTES_MAX, Format, PIXELS_MAX, PhotoError, SCANS_MAX};
pub use orientation::{Orientation, Rotation, Turn};
pub use picture::{Frame, Picture, turned};
pub use start_list::StartList;
pub use text::{LINES_MAX, Line};

/// What only the fuzzer calls by itself: a file's EXIF put right after a turn, and the same of bare TIFF.
#[cfg(fuzzing)]
pub fn patch(bytes: &mut [u8]) {
    if let Some(tiff) = exif::jpeg_tiff(bytes) {
        exif::set_upright(tiff, 4000, 3000, |small| Some(small.to_vec()));
    }
    exif::set_upright(bytes, 4000, 3000, |small| Some(small.to_vec()));
}
