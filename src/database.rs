//! Connections to PostgreSQL: as owner for migrations, as worker for `work`, as application for the
//! rest.

mod connections;
mod error;
mod error_codes;
mod login;
mod pooler;
mod row_security;
mod schema_check;
mod timeout;

pub use connections::{connect, connect_for, connect_worker};
pub(crate) use connections::{connect_as_login, is_direct_or_does, is_open_to_others};
pub use error::DatabaseError;
pub(crate) use error_codes::{
    ARCHIVED, BAD_ARGUMENT, DEADLOCK, DETAILS_LOST, KEY_REUSED, LEASE_LOST, LIMIT_REACHED, LOCKED,
    MOVED_ON, NO_PRICE, NOT_ENOUGH_CREDITS, NOT_FOUND, NOT_SERIALIZABLE, TOO_SLOW, is_code,
    is_refusal, own_sentence, sentence,
};
pub use login::{Login, login_of, make_login};
pub use pooler::PoolerTrouble;
pub use row_security::become_organisation;
pub(crate) use schema_check::check_version;
pub(crate) use timeout::{PATIENCE, in_time};

pub use photogate_schema::{
    MigrateError, Migrated, Plan, migrate, migrate_aloud, plan, run_numbered,
};
