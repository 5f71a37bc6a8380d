//! Who may use the service: people with a password, programs with a token. Secrets are hashed at rest, and shown once.

pub mod audit_log;
mod people;
mod sessions;
mod tokens;

use std::fmt;

use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    catalog::events::Event,
    ids::{EventId, OrganisationId},
};

pub use people::{Person, create_person, disable_person, find_person, people, set_password};
pub use sessions::{caller_with_session, form_key, log_in, log_out};
pub use tokens::{Token, caller_with_token, create_token, revoke_token, tokens};

/// What somebody may do. Pipelines and organisers belong to an organisation; operators, finance and staff may belong to one, and then
/// see nothing else, or to none, and then run photogate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, clap::ValueEnum, ToSchema,
)]
#[sqlx(type_name = "access_role", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Role {
    /// A program that queues photos.
    Pipeline,
    /// Whoever runs an organisation's events, and buys its credits.
    Organiser,
    /// Whoever keeps queues running: looks at all, holds, lifts, retries; moves no credit in.
    Operator,
    /// Whoever checks the books: reads.
    Finance,
    /// Support: everything, and the only one to grant and adjust.
    Staff,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pipeline, Self::Organiser, Self::Operator, Self::Finance, Self::Staff];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipeline => "pipeline",
            Self::Organiser => "organiser",
            Self::Operator => "operator",
            Self::Finance => "finance",
            Self::Staff => "staff",
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As it stands in the books: an address, or the name of a token.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// The only organisation they see; `None`: all.
    pub organisation: Option<OrganisationId>,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Another role may.
    #[error("{0}")]
    Forbidden(String),
    /// It is not there, or not for this caller: which of both is not told.
    #[error("there is no {0}")]
    NotFound(String),
}

impl Caller {
    /// Whoever works at the command line has the database's password: they may do everything.
    pub fn at_the_command_line(actor: &str) -> Self {
        Self { actor: actor.to_owned(), role: Role::Staff, organisation: None }
    }

    /// Refuses a role that is not among these.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn must_be(&self, roles: &[Role]) -> Result<(), Denied> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
        Err(Denied::Forbidden(format!("{} may, and this is {}", roles.join(", "), self.role)))
    }

    /// Hides somebody else's organisation.
    ///
    /// # Errors
    /// [`Denied::NotFound`].
    pub fn must_see(&self, organisation: OrganisationId) -> Result<(), Denied> {
        if self.organisation.is_none_or(|own| own == organisation) {
            Ok(())
        } else {
            Err(Denied::NotFound(format!("organisation {organisation}")))
        }
    }

    /// Hides an event of somebody else's organisation.
    ///
    /// # Errors
    /// [`Denied::NotFound`], also if there is no such event.
    pub fn must_see_event(&self, event: EventId, found: Option<Event>) -> Result<Event, Denied> {
        found
            .filter(|found| self.organisation.is_none_or(|own| own == found.organisation))
            .ok_or_else(|| Denied::NotFound(format!("event {event}")))
    }

    /// Refuses whoever belongs to one organisation: this concerns all of them.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn must_run_photogate(&self) -> Result<(), Denied> {
        let detail = "this concerns all organisations, and you belong to one";
        self.organisation.map_or(Ok(()), |_| Err(Denied::Forbidden(detail.into())))
    }
}

/// A secret, on its way to whoever keeps it. Not printed by `{:?}`, not kept anywhere.
#[derive(Clone, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// 256 random bits of the operating system.
    fn new(prefix: &str) -> Self {
        let mut bytes = [0; 32];
        // Without randomness there are no secrets: nothing good could follow.
        #[expect(
            clippy::unwrap_used,
            reason = "the operating system has random bits, or nothing works"
        )]
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap();
        Self(bytes.iter().fold(prefix.to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Why nobody was let in, or made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A pipeline or an organiser without an organisation, or staff with one.
    #[error(
        "pipelines and organisers belong to an organisation, and staff to none: {0} does not fit"
    )]
    Belongs(Role),
    /// No such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// The address has an account.
    #[error("{0} has an account already")]
    Known(String),
    /// Too short to be safe, or too long to be hashed.
    #[error("a password has 12 to 200 characters")]
    Password,
    /// No e-mail address.
    #[error("{0:?} is no e-mail address")]
    Address(String),
    /// Too long, or nothing.
    #[error("a token's name has 1 to 100 characters: say what it is for")]
    Name,
    /// Trouble.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AccessError {
    fn from(error: sqlx::Error, role: Role, organisation: Option<OrganisationId>) -> Self {
        let constraint = error
            .as_database_error()
            .and_then(|error| error.constraint().map(str::to_owned))
            .unwrap_or_default();
        match (organisation, constraint.as_str()) {
            (
                _,
                "person_belongs" | "token_belongs" | "person_staff" | "token_staff"
                | "person_role_check",
            ) => Self::Belongs(role),
            (Some(organisation), name) if name.ends_with("organisation_id_fkey") => {
                Self::NoOrganisation(organisation)
            }
            _ => Self::Database(error),
        }
    }
}
