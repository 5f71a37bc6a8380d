//! Newtypes for every id, so that none is taken for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
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
    /// An organisation, and its account.
    OrganisationId(i64)
);
id!(
    /// An event of an organisation.
    EventId(i64)
);
id!(
    /// A photo of an event: a key in the store. Grows with time (UUID version 7).
    PhotoId(uuid::Uuid)
);
id!(
    /// One enqueue call.
    RunId(i64)
);
id!(
    /// A photo queued once for an operation; also its transaction in the ledger.
    JobId(i64)
);
id!(
    /// One incarnation of a worker process. Never used again.
    WorkerId(i64)
);
id!(
    /// A person's hold on a queue.
    HoldId(i64)
);
id!(
    /// Somebody who logs in.
    PersonId(i64)
);
id!(
    /// A token of a program.
    TokenId(i64)
);
id!(
    /// Grows by one each time a job in flight gets a new owner: the fence against late workers.
    Attempt(i32)
);

/// What can be done to a photo. Each costs one credit a photo, and has a queue of its own in every event.
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
    /// Faces, bib numbers, index.
    PhotoProcessing,
    /// Which way is up, and an upright copy.
    AiRotation,
}

impl Operation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::PhotoProcessing, Self::AiRotation];

    /// As programs call it.
    pub fn code(self) -> &'static str {
        match self {
            Self::PhotoProcessing => "photo_processing",
            Self::AiRotation => "ai_rotation",
        }
    }

    /// As people call it, at the head of something.
    pub fn title(self) -> &'static str {
        match self {
            Self::PhotoProcessing => "Photo processing",
            Self::AiRotation => "AI rotation",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PhotoProcessing => "photo processing",
            Self::AiRotation => "AI rotation",
        })
    }
}
