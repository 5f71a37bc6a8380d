//! Organisations: they own the credits.

use serde::Serialize;
use sqlx::PgConnection;

use crate::ids::OrganisationId;

/// An organisation.
#[derive(Debug, Clone, Serialize)]
pub struct Organisation {
    /// Its number.
    pub id: OrganisationId,
    /// As it calls itself.
    pub name: String,
    /// IANA name; its months begin and end there.
    pub time_zone: String,
}

/// Creates an organisation with an empty account.
///
/// # Errors
/// `PG006` for a time zone that does not exist, or trouble with the database.
pub async fn create(
    db: &mut PgConnection,
    name: &str,
    time_zone: &str,
) -> sqlx::Result<OrganisationId> {
    sqlx::query_scalar!(
        r#"SELECT create_organisation($1, $2) AS "id!: OrganisationId""#,
        name,
        time_zone
    )
    .fetch_one(db)
    .await
}

/// All organisations, by number.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Organisation>> {
    sqlx::query_as!(Organisation, r#"SELECT organisation_id AS "id: _", name, time_zone FROM organisation ORDER BY organisation_id"#)
        .fetch_all(db)
        .await
}
