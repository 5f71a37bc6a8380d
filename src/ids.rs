//! A type of its own for every ID, so that the compiler rejects an ID of the wrong kind.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug,
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Serialize,
            Deserialize,
            sqlx::Type,
            utoipa::ToSchema,
        )]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = <$inner as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// The number of an organisation, and of its account.
    OrganisationId(i64)
);
impl OrganisationId {
    /// Those who run photogate. They are no organisation, and have no account: what concerns them is
    /// said to this number, and their webhooks and alerts have it.
    pub const STAFF: Self = Self(0);
}
id!(
    /// The number of an event.
    EventId(i64)
);
id!(
    /// The ID of a photo: one key within one event. IDs grow with time (UUID version 7).
    PhotoId(uuid::Uuid)
);
id!(
    /// The number of a run: one enqueue or retry call.
    RunId(i64)
);
id!(
    /// The number by which something that was done can be taken back.
    UndoId(i64)
);
id!(
    /// The number of an archive of an event.
    ArchiveId(i64)
);
id!(
    /// The number of a job: one photo, queued once for one operation. It is also the number of the
    /// job's transaction in the ledger.
    JobId(i64)
);
id!(
    /// The number of a worker incarnation. It is never used again.
    WorkerId(i64)
);
id!(
    /// The number of a hold that a person placed on a queue.
    HoldId(i64)
);
id!(
    /// The number of a purchase that waits, or waited, for approval.
    PurchaseId(i64)
);
id!(
    /// The number of a payment that a provider has reported.
    PaymentId(i64)
);
id!(
    /// The number of a person who can log in.
    PersonId(i64)
);
id!(
    /// The number of an invitation, to withdraw it with. It is not its secret.
    InvitationId(i64)
);
id!(
    /// The number of a session, to end it with. It is not its secret.
    SessionId(i64)
);
id!(
    /// The number of a program's API token.
    TokenId(i64)
);
id!(
    /// The number of a pipeline: a login of PostgreSQL that queues photos of an organisation.
    PipelineId(i64)
);
id!(
    /// The number of a schedule: photos that are queued at a later time.
    ScheduleId(i64)
);
id!(
    /// The number of a webhook: an address that hears an organisation's changes.
    WebhookId(i64)
);
id!(
    /// The number of an alert: what an organisation wants to be told of.
    AlertId(i64)
);
id!(
    /// The number of an attempt. It grows by one each time that a job in flight gets a new owner.
    /// It is part of the fence against late workers.
    Attempt(i32)
);

/// An operation on a photo. It costs one credit for each photo. Every event has one queue for each
/// operation.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "operation", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Operation {
    /// Finds faces and reads bib numbers, so that people can search for them.
    PhotoProcessing,
    /// Finds out which way is up, and writes an upright copy if the photo must be turned.
    AiRotation,
}

/// What a call queues photos for: one operation, or both.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[sqlx(type_name = "operations", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Operations {
    /// Photo Processing.
    PhotoProcessing,
    /// AI Rotation.
    AiRotation,
    /// AI Rotation first, and then Photo Processing, photo by photo.
    Both,
}

impl Operations {
    /// The operations, in the order in which they are done.
    pub fn in_order(self) -> &'static [Operation] {
        match self {
            Self::PhotoProcessing => &[Operation::PhotoProcessing],
            Self::AiRotation => &[Operation::AiRotation],
            Self::Both => &[Operation::AiRotation, Operation::PhotoProcessing],
        }
    }

    /// The stable code, as programs use it.
    pub fn code(self) -> &'static str {
        match self {
            Self::PhotoProcessing => Operation::PhotoProcessing.code(),
            Self::AiRotation => Operation::AiRotation.code(),
            Self::Both => "both",
        }
    }
}

impl From<Operation> for Operations {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::PhotoProcessing => Self::PhotoProcessing,
            Operation::AiRotation => Self::AiRotation,
        }
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhotoProcessing => Operation::PhotoProcessing.fmt(f),
            Self::AiRotation => Operation::AiRotation.fmt(f),
            Self::Both => f.write_str("AI Rotation, then Photo Processing"),
        }
    }
}

impl Operation {
    /// All operations that there are.
    pub const ALL: [Self; 2] = [Self::PhotoProcessing, Self::AiRotation];

    /// The operation's stable code, as programs and SQL use it.
    pub fn code(self) -> &'static str {
        match self {
            Self::PhotoProcessing => "photo_processing",
            Self::AiRotation => "ai_rotation",
        }
    }

    /// The operation's name, as people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PhotoProcessing => "Photo Processing",
            Self::AiRotation => "AI Rotation",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
