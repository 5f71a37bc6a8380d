//! The labels of the sample photos: reads what is on each, and compares it with what was found.

use serde::Deserialize;

use crate::{catalog::findings::Found, ids::Operation};

/// What is on a sample photo; see samples/make.py.
#[derive(Debug, Deserialize)]
pub(super) struct Label {
    error: Option<String>,
    bibs: Option<Vec<String>>,
    faces: Option<i64>,
    turn: Option<i16>,
}

impl Label {
    /// Whether a finding is what the label says.
    pub(super) fn agrees(&self, found: &Found) -> bool {
        if self.error.is_some() || found.reason.is_some() {
            return self.error == found.reason;
        }
        match found.operation {
            Operation::PhotoProcessing => {
                self.bibs.as_ref().is_none_or(|bibs| *bibs == found.bibs)
                    && self.faces.is_none_or(|faces| faces == found.faces)
            }
            // A photo without a clear turn has no turn and no upright copy.
            Operation::AiRotation => self.turn == found.turn,
        }
    }
}
