//! Why there is no database to work with.

use photogate_schema::VERSION;

use super::pooler::PoolerTrouble;

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is no address.
    #[error("database_url is not usable ({0}): write postgres://user@host/database")]
    Address(sqlx::Error),
    /// Nobody answers, or not to us.
    #[error(
        "the database cannot be reached ({0}): is PostgreSQL running, and is database_url right?"
    )]
    Unreachable(sqlx::Error),
    /// A pooler is between photogate and the server, and does not do.
    #[error(
        "database_url leads to a connection pooler that {0} (docs/operations.md#connection-poolers)"
    )]
    Pooler(PoolerTrouble),
    /// Not ours, or not migrated.
    #[error(
        "this database has no photogate schema, or not for this user: run `photogate migrate` \
         first (or set database_url to the right one)"
    )]
    NotMigrated,
    /// A newer version has migrated, and does not serve this one.
    #[error(
        "the database was migrated by photogate {found}, which serves {serves} and newer, and this \
         is {VERSION}: install {found}"
    )]
    TooOld {
        /// The version that migrated the database.
        found: String,
        /// The oldest version that it serves.
        serves: String,
    },
    /// An older version has migrated.
    #[error(
        "the database was migrated by photogate {0}, and this is {VERSION}: run `photogate \
         migrate` of {VERSION} first"
    )]
    TooNew(String),
    /// The functions in the database are not those that this program was built with.
    #[error(
        "the database's functions are not those of this photogate: if this is the newest one, run \
         `photogate migrate`; if not, install the one that migrated last"
    )]
    OtherFunctions,
    /// A login could not be created.
    #[error("the login could not be created ({0}): connect as a user who may create roles")]
    Login(sqlx::Error),
    /// Something else.
    #[error(transparent)]
    Other(#[from] sqlx::Error),
}
