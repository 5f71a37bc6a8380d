//! The commands: every change that a person or a program can request.
//!
//! A command checks the caller's role, runs the transaction, writes the line of the audit log, and
//! wakes the workers. The API, the pages and the command line parse the request, call a method of
//! [`Commands`], and show the result.

/// Runs a transaction: the steps, and then the commit. If PostgreSQL ends it because it and another
/// one waited for each other, nothing of it is left, and it runs again. It is a macro, because the
/// compiler cannot tell that the future of an async closure with borrowed arguments is `Send`.
macro_rules! transaction {
    ($commands:expr, $tx:ident, $steps:block) => {{
        let mut tries = 0;
        loop {
            let mut $tx = $commands.database.begin().await?;
            let done: Result<_, CommandError> = async { Ok($steps) }.await;
            let done = match done {
                Ok(value) => $tx.commit().await.map(|()| value).map_err(CommandError::from),
                Err(error) => Err(error),
            };
            match done {
                Err(error) if $commands.runs_again(&error, &mut tries).await => {}
                done => break done,
            }
        }
    }};
}

mod access;
mod alerts;
#[cfg(feature = "vision")]
mod archive;
mod auto_top_up;
mod books;
mod bulk;
mod corrections;
mod credits;
mod enqueue;
mod erasures;
mod events;
mod finders;
mod holds;
mod invitations;
mod mailboxes;
mod organisations;
mod payments;
mod pipelines;
mod purchases;
mod quotas;
mod restored;
mod retry;
#[cfg(feature = "vision")]
mod search;
mod schedules;
mod second_factor;
mod runs;
mod skips;
mod undo;
#[cfg(feature = "vision")]
mod uploads;
mod spending;
mod webhooks;

use std::time::Duration;

use sqlx::PgPool;

use crate::{
    access::{AccessError, Caller, Denied, Role},
    catalog::{
        events::{self as catalog_events, Event},
        start_list::StartListError,
    },
    config::Config,
    database::{self, DatabaseError},
    ids::EventId,
    ledger::top_up::TopUpError,
    notify::wake::Wake,
    queue::enqueue::EnqueueError,
};

pub use access::{CreatedToken, NewToken, PersonChange};
pub use alerts::NewAlert;
pub use auto_top_up::NewAutoTopUp;
pub use books::Checked;
pub use bulk::{Bulk, BulkAct, BulkDone, BulkPart, BulkPlan, BulkVerb, LeftOut, Need, NewBulk};
pub use corrections::{CorrectNumbers, CorrectTurn, Correctable};
pub use credits::{Addition, Twin};
pub use enqueue::{Enqueue, FundingPlan, OnInsufficient, Payloads, Which};
pub use erasures::NewErasure;
pub use events::{EventChange, NewEvent};
pub use finders::FinderChange;
pub use holds::{Held, LiftedHold, NewHold};
pub use invitations::NewPerson;
pub use mailboxes::MailboxChange;
pub use organisations::{NewOrganisation, OrganisationChange};
pub use quotas::Quotas;
pub use retry::{Retried, Retry};
pub use schedules::NewSchedule;
pub use skips::ChosenPhotos;
pub use spending::NewOrder;
pub use undo::{Undo, UndoneActs};
#[cfg(feature = "vision")]
pub use uploads::{Browsed, Destination, Directory};
pub use webhooks::{NewWebhook, SecretWebhook, WebhookChange};

/// The roles that may archive events, and restore them.
#[cfg(feature = "vision")]
pub const MAY_ARCHIVE: &[Role] = archive::MAY_ARCHIVE;
/// The roles that may change and delete events.
pub const MAY_CHANGE_EVENTS: &[Role] = events::MAY_CHANGE;
/// The roles that may create events.
pub const MAY_CREATE_EVENTS: &[Role] = events::MAY_CREATE;
/// The roles that may correct what was found on photos.
pub const MAY_CORRECT: &[Role] = corrections::MAY_CORRECT;
/// The roles that may enqueue photos.
pub const MAY_ENQUEUE: &[Role] = enqueue::MAY_ENQUEUE;
/// The roles that may change and cancel schedules of others.
pub const MAY_CHANGE_SCHEDULES: &[Role] = schedules::MAY_CHANGE_SCHEDULES;
/// The roles that may retry, skip and restore photos, cancel runs and move them to the front.
pub const MAY_RETRY: &[Role] = retry::MAY_RETRY;
/// The roles that may search for a face.
#[cfg(feature = "vision")]
pub const MAY_SEARCH_FACES: &[Role] = search::MAY_SEARCH_FACES;
/// The roles that may hold queues and lift holds.
pub const MAY_HOLD: &[Role] = holds::MAY_HOLD;
/// The roles that may buy credits, and withdraw a purchase that waits for approval.
pub const MAY_BUY: &[Role] = purchases::MAY_BUY;
/// The roles that see how an automatic top-up stands.
pub const MAY_SEE_AUTO_TOP_UP: &[Role] = auto_top_up::MAY_SEE_AUTO_TOP_UP;
/// The roles that may decide how an organisation's credits are spent.
pub const MAY_SPEND: &[Role] = spending::MAY_SPEND;
/// The roles that see how an organisation's credits are spent.
pub const MAY_SEE_SPENDING: &[Role] = spending::MAY_SEE_SPENDING;
/// The roles that may set the paces of events.
pub const MAY_PACE: &[Role] = spending::MAY_PACE;
/// The roles that may set the pace and the weight of an organisation.
pub const MAY_PACE_ORGANISATIONS: &[Role] = spending::MAY_PACE_ORGANISATIONS;
/// The roles that may create and change organisations.
pub const MAY_CHANGE_ORGANISATIONS: &[Role] = organisations::MAY_CHANGE;
/// The roles that may add credits without a limit, and approve purchases.
pub const MAY_GRANT: &[Role] = credits::MAY_GRANT;
/// The roles that see purchases that wait, and payments.
pub const MAY_SEE_PURCHASES: &[Role] = purchases::MAY_SEE_PURCHASES;
/// The roles that may see and change the tokens and the people of an organisation.
pub const MAY_ADMIT: &[Role] = access::MAY_ADMIT;
/// The roles that add and remove alerts.
pub const MAY_CHANGE_ALERTS: &[Role] = alerts::MAY_CHANGE_ALERTS;
/// The roles that see alerts.
pub const MAY_SEE_ALERTS: &[Role] = alerts::MAY_SEE_ALERTS;
/// The roles that change webhooks.
pub const MAY_CHANGE_WEBHOOKS: &[Role] = webhooks::MAY_CHANGE_WEBHOOKS;
/// The roles that see webhooks and their deliveries.
pub const MAY_SEE_WEBHOOKS: &[Role] = webhooks::MAY_SEE_WEBHOOKS;
/// The roles that may check the books.
pub const MAY_CHECK_BOOKS: &[Role] = books::MAY_CHECK;

/// How often a transaction runs again that met another one.
const TRIES_MAX: u32 = 5;

/// Runs commands. It has the database and the way to wake workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {
    quotas: Quotas,
    database: PgPool,
    wake: Wake,
}

/// What a command created, or found because it was there already.
#[derive(Debug)]
pub struct Created<T> {
    /// The subject.
    pub value: T,
    /// False if it was there already.
    pub is_new: bool,
}

/// Why the commands cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// See [`DatabaseError`].
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The setting `redis_url` is not valid.
    #[error("redis_url is not valid: {0}")]
    Redis(#[from] redis::RedisError),
}

/// Why a command was refused. Nothing changed, but that an enqueue of more than 10,000 photos may
/// have enqueued some of its parts: the same call again does the rest.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The caller's role may not do this, or the caller may not see the subject.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The subject does not exist.
    #[error("there is no {0}")]
    NotFound(String),
    /// A value in the request is not valid.
    #[error("{detail}")]
    Invalid {
        /// A JSON pointer to the value, or the name of the parameter.
        pointer: String,
        /// What is wrong, and what to send instead.
        detail: String,
    },
    /// The request conflicts with the current state.
    #[error("{detail}")]
    Conflict {
        /// A stable code, for programs.
        code: &'static str,
        /// What is in conflict, and what to do.
        detail: String,
    },
    /// The same request is still in progress.
    #[error("the same request is still in progress: send it again in a moment to get its result")]
    InProgress,
    /// Credits are missing, and the caller asked not to let photos wait.
    #[error("{0}")]
    InsufficientCredits(String),
    /// The request exceeds the limit for one call.
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
    /// The database refused the command, with a message of its SQL functions, or has trouble.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
}

impl CommandError {
    /// True if the error means that something does not exist.
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

    /// True if the same transaction can succeed when it runs again: PostgreSQL ended it in favour of
    /// another one.
    fn passes(&self) -> bool {
        let (Self::Database(error)
        | Self::Enqueue(EnqueueError::Database(error))
        | Self::TopUp(TopUpError::Database(error))
        | Self::Access(AccessError::Database(error))) = self
        else {
            return false;
        };
        database::is_code(error, database::DEADLOCK)
            || database::is_code(error, database::NOT_SERIALIZABLE)
    }

    /// Checks the reference of a new subject.
    fn check_reference(reference: Option<&str>) -> Result<(), Self> {
        let is_good = |text: &str| text.trim() == text && (1..=200).contains(&text.chars().count());
        if reference.is_none_or(is_good) {
            return Ok(());
        }
        let detail = "a reference has 1 to 200 characters, and no space at its ends";
        Err(Self::invalid("/reference", detail))
    }

    fn invalid(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::Invalid { pointer: pointer.into(), detail: detail.to_string() }
    }
}

impl Commands {
    /// Connects to the database and to Redis. Each command waits until its wake-up is sent, so that
    /// a program may end right after it.
    ///
    /// # Errors
    /// When the database is not there or not migrated, or a setting is wrong.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let wake = Wake::open(config.redis_url.as_deref())?.waiting();
        let quotas = Quotas::from(config);
        Ok(Self::new(database::connect(&config.database_url, 2).await?, wake).with(quotas))
    }

    /// Creates the commands for a database. `wake` wakes the workers.
    pub fn new(database: PgPool, wake: Wake) -> Self {
        Self { quotas: Quotas::from(&Config::default()), database, wake }
    }

    /// Sets how much an organisation may have.
    #[must_use]
    pub fn with(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Returns whether a transaction that failed is to run again, after a pause.
    async fn runs_again(&self, error: &CommandError, tries: &mut u32) -> bool {
        if !error.passes() || *tries == TRIES_MAX {
            return false;
        }
        *tries += 1;
        tracing::info!(%error, tries, "a transaction met another one, and runs again");
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
        true
    }

    /// Returns the event, or an error if the caller may not see it.
    async fn event_seen_by(&self, caller: &Caller, event: EventId) -> Result<Event, CommandError> {
        let mut db = self.database.acquire().await?;
        Ok(caller.must_see_event(event, catalog_events::find(&mut db, event).await?)?)
    }
}
