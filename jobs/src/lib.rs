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
//! // Turned, if it lies sideways. What may be a face was looked for already.
//! let view = eyes.view(&picture, None)?;
//! // Boxes in pixels of the full-size photo, upright as EXIF says.
//! let faces = view.faces();
//! // Lines of text, and the bib numbers among them.
//! let lines = view.before(eyes.lines(&view.picture, &view.likely)?);
//! let bibs = photogate_jobs::bibs(&lines, &photogate_jobs::StartList::default());
//! // The turn that is still needed, or an abstention.
//! let rotation = eyes.rotation(&picture)?;
//! // The turned photo, without loss if possible.
//! let upright = photo.upright_as(photo.orientation.after(&rotation))?;
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
mod listed;
mod mirror;
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
mod view;
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
pub use reconsider::{Known, Wearer, Worn, may_be, reconsider, wearer};
pub use rotation::{Cue, Rotation};
pub use start_list::StartList;
pub use text::{LINES_MAX, Line};
pub use view::View;

/// Corrects the EXIF data of a JPEG as after a turn, and then of the same bytes read as bare TIFF.
/// Only the fuzzer calls this function.
#[cfg(fuzzing)]
pub fn patch(bytes: &mut [u8]) {
    if let Some(tiff) = exif::jpeg_tiff(bytes) {
        exif::set_upright(tiff, 4000, 3000, |small| Some(small.to_vec()));
    }
    exif::set_upright(bytes, 4000, 3000, |small| Some(small.to_vec()));
}

/// Decodes these bytes as the output of a model for text with three classes. Only the fuzzer calls
/// this function.
#[cfg(fuzzing)]
pub fn spell(bytes: &[u8]) {
    let values: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect();
    let alphabet = ["1".to_owned(), "7".to_owned()];
    let spelled =
        ctc::spell(&eyes::Output { shape: vec![1, values.len() / 3, 3], values }, &alphabet);
    assert!(spelled.others.iter().all(|(_, p)| (0.0..=1.0).contains(p)));
}
