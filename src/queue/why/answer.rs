//! What an answer to "why?" consists of.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{ids::OrganisationId, ledger::credits::Credits};

/// Why photos do not run, and what to do about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Why {
    /// The subject of the question, for example `event 4711`.
    pub subject: String,
    /// A short answer, as text for people.
    pub answer: String,
    /// The causes, in the order in which they must be removed. Empty if nothing blocks the subject.
    pub chain: Vec<Cause>,
    /// The one action that helps. Null if there is nothing to do.
    pub action: Option<String>,
    /// What helps, as a page offers it to those who may do it.
    #[serde(skip)]
    pub remedies: Vec<Remedy>,
}

/// Something that removes a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Lift the holds of a queue.
    Lift {
        /// The queue's number.
        queue: i64,
        /// Its event and operation.
        of: String,
    },
    /// Queue the photos of a queue again that failed.
    Retry {
        /// The queue's number.
        queue: i64,
        /// Its event and operation.
        of: String,
        /// Number of photos.
        photos: i64,
    },
    /// Add credits.
    TopUp {
        /// To this organisation.
        organisation: OrganisationId,
        /// So many that all photos that wait can be processed.
        credits: Credits,
    },
    /// Change the budgets of this organisation's events.
    Budget(OrganisationId),
    /// Change the paces of this organisation's events.
    Pace(OrganisationId),
    /// Look after the workers.
    Workers,
}

/// One cause that blocks the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cause {
    /// A stable code, for programs.
    pub code: &'static str,
    /// A sentence, for people.
    pub says: String,
    /// The time since when the cause exists, if it is known.
    pub since: Option<DateTime<Utc>>,
}

impl Cause {
    pub(super) fn new(code: &'static str, since: Option<DateTime<Utc>>, says: String) -> Self {
        Self { code, says, since }
    }
}
