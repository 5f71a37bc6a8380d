//! What an answer to "why?" consists of.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

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
