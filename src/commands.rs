//! Every write that a person or a program can ask for, once: who may do it, the transaction, the entry in the audit log,
//! and the wake-up of workers. The API, the pages and the command line parse what was asked, call a method of
//! [`Commands`], and show the answer.

mod access;
mod books;
mod credits;
mod events;
mod holds;
mod organisations;
mod photos;

use sqlx::PgPool;

use crate::{
    access::{AccessError, Caller, Denied, Role},
    catalog::{
        events::{self as catalog_events, Event},
        start_list::StartListError,
    },
    database,
    ids::EventId,
    ledger::top_up::TopUpError,
    notify::wake::Wake,
    queue::enqueue::EnqueueError,
};

pub use access::{CreatedToken, NewPerson, NewToken, PersonChange};
pub use books::Checked;
pub use credits::{Addition, Twin};
pub use events::{EventChange, NewEvent};
pub use holds::{Held, LiftedHold, NewHold};
pub use organisations::{NewOrganisation, OrganisationChange};
pub use photos::{ChosenPhotos, Enqueue, FundingPlan, OnInsufficient, Retried, Retry, Which};

/// Who may change events.
pub const MAY_CHANGE_EVENTS: &[Role] = events::MAY_CHANGE;
/// Who may create events.
pub const MAY_CREATE_EVENTS: &[Role] = events::MAY_CREATE;
/// Who may enqueue photos.
pub const MAY_ENQUEUE: &[Role] = photos::MAY_ENQUEUE;
/// Who may retry, skip and restore photos.
pub const MAY_RETRY: &[Role] = photos::MAY_RETRY;
/// Who may hold queues and lift holds.
pub const MAY_HOLD: &[Role] = holds::MAY_HOLD;
/// Who may buy credits.
pub const MAY_BUY: &[Role] = credits::MAY_BUY;
/// Who may look at other people's accounts and tokens, and change them.
pub const MAY_ADMIT: &[Role] = access::MAY_ADMIT;
/// Who may check the books.
pub const MAY_CHECK_BOOKS: &[Role] = books::MAY_CHECK;

/// What every command needs: the database, and the way to wake workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {
    database: PgPool,
    wake: Wake,
}

/// Why a command was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Somebody else may, or it is not there for this caller.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such thing.
    #[error("there is no {0}")]
    NotFound(String),
    /// A part of the request is not possible.
    #[error("{detail}")]
    Invalid {
        /// A JSON pointer into the request, or the name of a parameter.
        pointer: String,
        /// What is wrong, and what to write instead.
        detail: String,
    },
    /// It contradicts the present state.
    #[error("{detail}")]
    Conflict {
        /// Stable, for programs.
        code: &'static str,
        /// What to do.
        detail: String,
    },
    /// The same request is being answered at this moment.
    #[error("the same request is being answered: send it again in a moment to hear how it ended")]
    InProgress,
    /// Credits are missing, and the caller did not want photos to wait.
    #[error("{0}")]
    InsufficientCredits(String),
    /// More than one call may ask for.
    #[error("{0}")]
    TooMuch(String),
    /// The photo store does not answer.
    #[error("the photo store does not answer: try again in a moment")]
    StoreUnavailable,
    /// See [`EnqueueError`].
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// See [`StartListError`].
    #[error(transparent)]
    StartList(#[from] StartListError),
    /// See [`TopUpError`].
    #[error(transparent)]
    TopUp(#[from] TopUpError),
    /// The database refused, in the words of its functions, or has trouble.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
}

impl CommandError {
    /// True when it says that something is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Denied(Denied::NotFound(_))
            | Self::NotFound(_)
            | Self::Enqueue(EnqueueError::NoEvent(_))
            | Self::TopUp(TopUpError::NoOrganisation(_))
            | Self::Access(AccessError::NoOrganisation(_)) => true,
            Self::Database(error)
            | Self::Enqueue(EnqueueError::Database(error))
            | Self::TopUp(TopUpError::Database(error))
            | Self::Access(AccessError::Database(error)) => {
                database::is_code(error, database::NOT_FOUND)
            }
            Self::Denied(Denied::Forbidden(_))
            | Self::Invalid { .. }
            | Self::Conflict { .. }
            | Self::InProgress
            | Self::InsufficientCredits(_)
            | Self::TooMuch(_)
            | Self::StoreUnavailable
            | Self::Enqueue(_)
            | Self::StartList(_)
            | Self::TopUp(_)
            | Self::Access(_) => false,
        }
    }

    fn invalid(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::Invalid { pointer: pointer.into(), detail: detail.to_string() }
    }
}

impl Commands {
    /// Commands on a database; `wake` tells the workers.
    pub fn new(database: PgPool, wake: Wake) -> Self {
        Self { database, wake }
    }

    /// The event, if this caller may see it.
    async fn event_seen_by(&self, caller: &Caller, event: EventId) -> Result<Event, CommandError> {
        let mut db = self.database.acquire().await?;
        Ok(caller.must_see_event(event, catalog_events::find(&mut db, event).await?)?)
    }
}
