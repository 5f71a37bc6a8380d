//! The way to PostgreSQL: as the owner for migrations, as the application for everything else.

mod connections;
mod error;
mod login;
mod patience;
mod refusals;
mod row_security;
mod schema;

pub use connections::{connect, connect_for, connect_worker};
pub use error::DatabaseError;
pub use login::make_login;
pub(crate) use patience::{PATIENCE, in_time};
pub(crate) use refusals::{
    BAD_ARGUMENT, KEY_REUSED, LEASE_LOST, NO_PRICE, NOT_ENOUGH_CREDITS, NOT_FOUND, TOO_SLOW,
    is_code, is_refusal, sentence,
};
pub use row_security::become_organisation;

pub use photogate_schema::{MigrateError, migrate};
