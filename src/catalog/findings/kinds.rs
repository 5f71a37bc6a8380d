//! The type `Findings`: what a worker hands over after it has looked at a photo.

#[cfg(feature = "vision")]
use photogate_jobs::{Bib, Embedding, Face, Line, Rotation, Turn};

/// SHA-256 of a photo's bytes. A content is paid for once in an event for an operation, under
/// whatever keys it comes.
#[cfg(feature = "vision")]
pub type Content = [u8; 32];

/// What an operation found on a photo. "Nothing" is a finding, too.
#[derive(Debug, Clone)]
pub enum Findings {
    /// Findings of Photo Processing.
    #[cfg(feature = "vision")]
    Processing {
        /// The content on which all this was found, if it is known.
        content: Option<Content>,
        /// Width of the upright photo, in pixels.
        width: u32,
        /// Height of the upright photo, in pixels.
        height: u32,
        /// By how much the photo was turned to look at it. Boxes are without this turn.
        turn: Turn,
        /// Faces on the photo. A face has an embedding only if the event's face search is on.
        faces: Vec<(Face, Option<Embedding>)>,
        /// Bib numbers on the photo, each number once.
        bibs: Vec<Bib>,
        /// The lines of text from which the numbers were decided, to decide them again later.
        lines: Vec<Line>,
    },
    /// Findings of AI Rotation.
    #[cfg(feature = "vision")]
    Rotation {
        /// The content on which this was found, if it is known.
        content: Option<Content>,
        /// The turn that the photo needs, or an abstention.
        rotation: Rotation,
        /// Key of the upright copy, and whether it was made without loss. `None` if there is no
        /// copy, because the original is upright.
        upright: Option<(String, bool)>,
    },
    /// There is nothing to keep: no photo was looked at.
    Nothing,
}

impl Findings {
    /// True if there is nothing to write.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// The SHA-256 of what was looked at, if it is known.
    pub(crate) fn content(&self) -> Option<&[u8]> {
        match self {
            #[cfg(feature = "vision")]
            Self::Processing { content, .. } | Self::Rotation { content, .. } => {
                content.as_ref().map(<[u8; 32]>::as_slice)
            }
            Self::Nothing => None,
        }
    }
}
