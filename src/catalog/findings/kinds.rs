//! What can be found on a photo.

use photogate_jobs::{Bib, Embedding, Face, Rotation};

/// What an operation found on a photo. "Nothing" is a finding, too.
#[derive(Debug, Clone)]
pub enum Findings {
    /// Findings of photo processing.
    Processing {
        /// Width of the upright photo, in pixels.
        width: u32,
        /// Height of the upright photo, in pixels.
        height: u32,
        /// Faces on the photo. A face has an embedding only if the event's face search is on.
        faces: Vec<(Face, Option<Embedding>)>,
        /// Bib numbers on the photo, each number once.
        bibs: Vec<Bib>,
    },
    /// Findings of AI rotation.
    Rotation {
        /// The turn that the photo needs, or an abstention.
        rotation: Rotation,
        /// Key of the upright copy, and whether it was made without loss. `None` if there is no
        /// copy, because the original is upright.
        upright: Option<(String, bool)>,
    },
    /// A rehearsal: no photo was processed.
    Nothing,
}
