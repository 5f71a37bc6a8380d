//! The image work of photogate: from the bytes of a photo to its findings.
//!
//! The crate is pure: it uses no async runtime, database, network, environment or clock.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut eyes = photogate_jobs::Eyes::open(std::path::Path::new("models"))?;
//! let bytes = std::fs::read("photo.jpg")?;
//!
//! // Detects the format, checks the limits, and reads the EXIF orientation.
//! let photo = photogate_jobs::Photo::open(&bytes)?;
//! // Decodes at working size, upright as EXIF says.
//! let picture = photo.picture()?;
//! // Boxes in pixels of the upright full-size photo. Not all of them are faces.
//! let likely = eyes.likely_faces(&picture)?;
//! let faces: Vec<_> = likely.iter().filter(|face| face.is_sure()).collect();
//! // Lines of text, and the bib numbers among them.
//! let lines = eyes.lines(&picture, &likely)?;
//! let bibs = photogate_jobs::bibs(&lines, &photogate_jobs::StartList::default());
//! // The turn that is still needed, or an abstention.
//! let rotation = eyes.rotation(&picture)?;
//! // The turned photo, without loss if possible.
//! let upright = photo.upright(rotation.turn)?;
//! # Ok(()) }
//! ```

mod back;
mod bibs;
mod blobs;
mod bodies;
mod ctc;
mod decode;
mod embedding;
mod enclose;
mod encode;
mod exif;
mod eyes;
mod faces;
mod format;
mod jpeg_head;
mod limits;
mod numbering;
mod orientation;
mod picture;
mod reading;
mod reconsider;
mod rotate;
mod rotation;
mod slant;
mod start_list;
mod text;
mod thumbnail;
mod turns;
mod warm_up;

pub use bibs::{Bib, SURE, SettledBy, bibs};
pub use ctc::OTHERS_MAX;
pub use decode::Photo;
pub use embedding::{EMBEDDABLE_WIDTH, Embedding};
pub use encode::Upright;
pub use eyes::{Eyes, EyesError, MODELS, RUNTIME};
pub use faces::Face;
pub use format::Format;
pub use limits::{BYTES_MAX, PIXELS_MAX, PhotoError, SCANS_MAX};
pub use numbering::Numbering;
pub use orientation::{Orientation, Turn};
pub use picture::{Frame, Picture, turned};
pub use reading::{READING_MAX, READINGS_MAX, Reading};
pub use reconsider::{Known, Wearer, Worn, reconsider, wearer};
pub use rotation::{Cue, Rotation};
pub use start_list::StartList;
pub use text::{LINES_MAX, Line};

/// Corrects the EXIF data of a JPEG as after a turn, and then of the same bytes read as bare TIFF.
/// Only the fuzzer calls this function.
#[cfg(fuzzing)]
pub fn patch(bytes: &mut [u8]) {
    if let Some(tiff) = exif::jpeg_tiff(bytes) {
        exif::set_upright(tiff, 4000, 3000, |small| Some(small.to_vec()));
    }
    exif::set_upright(bytes, 4000, 3000, |small| Some(small.to_vec()));
}
