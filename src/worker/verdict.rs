//! What became of a photo in the hands of a worker.

use std::time::Duration;

use crate::catalog::findings::Findings;

/// A worker's verdict about one photo.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The photo was processed: its credit is committed.
    Processed(Findings),
    /// The work was done, and found no answer: its credit is refunded. What was found is kept. This is
    /// no failure, and a person's retry does not take the photo, unless it names the reason.
    Undecided {
        /// What was found all the same.
        findings: Findings,
        /// More about the reason, as text for people.
        detail: String,
    },
    /// The photo cannot be processed: its credit is refunded.
    Failed {
        /// The reason, as a stable code.
        reason: &'static str,
        /// More about the reason, as text for people.
        detail: String,
    },
    /// Trouble that may pass: the photo is tried again later, under the same reservation. The work
    /// decides how often, by [`retries`](crate::queue::claim::Reservation::retries), and then fails
    /// the photo. After [`RETRIES_MAX`](super::RETRIES_MAX) retries, the worker fails it.
    Retry {
        /// The reason, as a stable code.
        reason: &'static str,
        /// More about the reason, as text for people.
        detail: String,
        /// The wait before the next attempt.
        after: Duration,
        /// True if the trouble is not of this photo, but of something that all photos need. Make
        /// sure of it: one file that cannot be read is no outage. The worker claims nothing until
        /// the wait is over and [`Work::is_ready`](super::work::Work::is_ready) says yes.
        outage: bool,
    },
    /// The work crashed: the photo is tried again, as a suspect from the second crash on. After
    /// [`CRASHES_MAX`](super::CRASHES_MAX) crashes it is quarantined.
    Crashed {
        /// More about the reason, as text for people.
        detail: String,
    },
    /// The worker had to stop: another worker may take the photo at once. A worker that need not
    /// stop takes it for a retry.
    HandedBack,
}

impl Verdict {
    /// The verdict's stable name in metrics and traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Processed(_) => "committed",
            Self::Undecided { .. } => "undecided",
            Self::Failed { .. } => "refunded",
            Self::Retry { .. } => "retried",
            Self::Crashed { .. } => "crashed",
            Self::HandedBack => "handed_back",
        }
    }

    /// What was found, if that is kept.
    pub(super) fn findings(&self) -> Option<&Findings> {
        match self {
            Self::Processed(findings) | Self::Undecided { findings, .. } => Some(findings),
            Self::Failed { .. } | Self::Retry { .. } | Self::Crashed { .. } | Self::HandedBack => {
                None
            }
        }
    }

    /// True if the reservation stays open, because the photo will be tried again.
    pub(super) fn goes_back(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Crashed { .. } | Self::HandedBack)
    }

    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Failed { reason, .. } | Self::Retry { reason, .. } => Some(reason),
            Self::Undecided { .. } => Some("undecided"),
            Self::Crashed { .. } => Some("crashed"),
            Self::Processed(_) | Self::HandedBack => None,
        }
    }

    pub(super) fn detail(&self) -> Option<&str> {
        match self {
            Self::Undecided { detail, .. }
            | Self::Failed { detail, .. }
            | Self::Retry { detail, .. }
            | Self::Crashed { detail } => Some(detail),
            Self::Processed(_) | Self::HandedBack => None,
        }
    }
}
