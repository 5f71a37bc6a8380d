//! Access to the service: people log in with a password, programs use a token. Only hashes of
//! passwords and tokens are stored. A token is shown once, when it is created.

pub mod audit_log;
mod invitations;
mod people;
mod pipelines;
mod second_factor;
mod sessions;
mod tokens;
mod weakness;

use std::fmt;

use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::{
    catalog::events::Event,
    database,
    ids::{EventId, OrganisationId},
};

pub use invitations::{
    Invitation, Link, find_invitation, invitations, invite, password_link, use_invitation,
    withdraw_invitation,
};
pub use people::{
    Hashed, Person, create_person, disable_person, find_person, people, present_password,
    set_password, set_time_zone,
};
pub use pipelines::{Pipeline, allow_pipeline, pipelines, revoke_pipeline};
pub use second_factor::{
    NEED_SECOND_FACTOR, Proof, SecondFactor, Setup, begin_second_factor, confirm_second_factor,
    remove_second_factor, second_factor, setup, use_code,
};
pub use sessions::{
    Begun, Device, LoggedIn, Networks, SESSION, SESSIONS_MAX, Session, caller_with_session,
    end_sessions, form_key, has_logged_in, log_in, log_out, may_log_in, prove_session, sessions,
    zone_of_session,
};
pub use tokens::{
    TOKEN_DAYS, Token, caller_with_token, create_token, must_still_be, revoke_token, tokens,
};

/// What a person or a token may do. Pipelines and organisers belong to an organisation. Operators
/// and finance may belong to one, and then see nothing else; otherwise, like staff, they see all
/// organisations.
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
#[sqlx(type_name = "access_role", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Role {
    /// A program that queues photos.
    Pipeline,
    /// Runs an organisation's events and buys its credits.
    Organiser,
    /// Keeps the queues running: sees everything, holds queues, lifts holds and retries photos, but
    /// cannot add credits.
    Operator,
    /// Checks the books; only reads.
    Finance,
    /// Support: may do everything. Only staff can grant and adjust credits.
    Staff,
}

impl Role {
    /// All roles, in the order of their declaration.
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

/// The person or program that makes a request, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name in the ledger and the audit log: an e-mail address, or the name of a token.
    pub actor: String,
    /// What the caller may do.
    pub role: Role,
    /// The only organisation that the caller sees; `None`: all organisations.
    pub organisation: Option<OrganisationId>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller's role or organisation does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// It does not exist, or this caller may not see it. The answer does not tell which.
    #[error("there is no {0}")]
    NotFound(String),
}

impl Caller {
    /// Makes a caller who may do everything. For programs that have the database's password, such
    /// as the command line.
    pub fn trusted(actor: &str) -> Self {
        Self { actor: actor.to_owned(), role: Role::Staff, organisation: None }
    }

    /// Checks that the caller has one of these roles.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn must_be(&self, roles: &[Role]) -> Result<(), Denied> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
        Err(Denied::Forbidden(format!(
            "this needs the role {}; yours is {}",
            roles.join(" or "),
            self.role
        )))
    }

    /// Checks that the caller may see the organisation.
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

    /// Checks that the event exists and that the caller may see its organisation.
    ///
    /// # Errors
    /// [`Denied::NotFound`], also if there is no such event.
    pub fn must_see_event(&self, event: EventId, found: Option<Event>) -> Result<Event, Denied> {
        found
            .filter(|found| self.organisation.is_none_or(|own| own == found.organisation))
            .ok_or_else(|| Denied::NotFound(format!("event {event}")))
    }

    /// Checks that the caller does not belong to one organisation, because the action affects all
    /// of them.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn must_run_photogate(&self) -> Result<(), Denied> {
        let detail = "this affects all organisations, but you belong to only one";
        self.organisation.map_or(Ok(()), |_| Err(Denied::Forbidden(detail.into())))
    }
}

/// The text of a new secret, to be shown to its owner once. It is not stored, and `{:?}` does not
/// print it.
#[derive(Clone, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Makes a secret from 256 random bits of the operating system.
    fn new(prefix: &str) -> Self {
        let mut bytes = [0; 32];
        // Without random bits there are no safe secrets, so a panic is right.
        #[expect(
            clippy::unwrap_used,
            reason = "without random bits of the operating system nothing can work"
        )]
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).unwrap();
        Self(prefix.to_owned() + &hex::encode(bytes))
    }
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Lets one transaction at a time count an organisation's tokens or people and add to them.
async fn alone(tx: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('access of ' || $1::bigint, 0))",
        organisation.0
    )
    .execute(tx)
    .await
    .map(|_| ())
}

/// Why a person or a token could not be created or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The role needs an organisation and has none, or must have none and has one.
    #[error(
        "pipelines and organisers need an organisation, and staff must have none: \
         this does not fit the role {0}"
    )]
    Belongs(Role),
    /// There is no such organisation.
    #[error("there is no organisation {0}")]
    NoOrganisation(OrganisationId),
    /// A person with this e-mail address exists already.
    #[error("{0} has an account already")]
    Known(String),
    /// The password is too short to be safe, or too long to be hashed.
    #[error("a password has 12 to 200 characters")]
    Password,
    /// The password is one of the first that somebody would try.
    #[error(
        "this password is easy to guess. {0} Choose a longer one, such as four or five words that \
         do not belong together"
    )]
    Weak(String),
    /// The organisation has as many people as it may have.
    #[error(
        "organisation {0} has 1,000 people and open invitations: disable those who have left, or \
         withdraw invitations"
    )]
    TooManyPeople(OrganisationId),
    /// The text is not an e-mail address.
    #[error("{0:?} is not an e-mail address")]
    Address(String),
    /// The token's name is empty or too long.
    #[error("a token's name has 1 to 100 characters: say what it is for")]
    Name,
    /// The token would be valid for no day, or for too many.
    #[error("a token is valid for 1 to 730 days")]
    Days,
    /// The organisation has as many valid tokens as it may have.
    #[error("organisation {0} has 100 valid tokens: revoke those that are not used any more")]
    TooManyTokens(OrganisationId),
    /// The name of the login is empty or too long.
    #[error("the name of a login has 1 to 63 bytes, and no control characters")]
    Login,
    /// The organisation has as many pipelines as it may have.
    #[error("organisation {0} has 100 pipelines: revoke those that are not used any more")]
    TooManyPipelines(OrganisationId),
    /// The person was disabled, or the token revoked, since the request began.
    #[error("your access has ended")]
    Ended,
    /// The database has trouble.
    #[error("{}", database::sentence(.0))]
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
                "person_belongs" | "token_belongs" | "invitation_belongs" | "person_staff"
                | "token_staff" | "invitation_staff" | "person_role_check",
            ) => Self::Belongs(role),
            (Some(organisation), name) if name.ends_with("organisation_id_fkey") => {
                Self::NoOrganisation(organisation)
            }
            _ => Self::Database(error),
        }
    }
}
