//! The labels of the sample photos: reads what is on each, and compares it with what was found.

use serde::Deserialize;

use crate::{catalog::findings::Found, ids::Operation, queue::failures::UNDECIDED};

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
        let is_unclear =
            found.operation == Operation::AiRotation && self.error.is_none() && self.turn.is_none();
        if is_unclear {
            // It has no turn and no upright copy, and costs nothing.
            return found.reason.as_deref() == Some(UNDECIDED)
                && found.turn.is_none()
                && found.upright_key.is_none();
        }
        if self.error.is_some() || found.reason.is_some() {
            return self.error == found.reason;
        }
        match found.operation {
            Operation::PhotoProcessing => {
                self.bibs.as_ref().is_none_or(|bibs| *bibs == found.bibs)
                    && self.faces.is_none_or(|faces| faces == found.faces)
            }
            Operation::AiRotation => self.turn == found.turn,
        }
    }
}
