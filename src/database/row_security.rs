//! Row security: a transaction that sees one organisation only.

use sqlx::{Postgres, Transaction};

use crate::ids::OrganisationId;

/// From here to the end of the transaction, the rows of other organisations do not exist.
///
/// # Errors
/// When the database has trouble.
pub async fn become_organisation(
    tx: &mut Transaction<'_, Postgres>,
    organisation: OrganisationId,
) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "SELECT set_config('photogate.organisation', $1, true)",
        organisation.to_string()
    )
    .fetch_one(&mut **tx)
    .await?;
    // A role's name is no parameter, and no query has columns to check.
    sqlx::query("SET LOCAL ROLE photogate_organisation").execute(&mut **tx).await?;
    Ok(())
}
