//! The feed: an organisation's changes, in their order, from where a client has stopped.

use sqlx::PgConnection;

use super::{Change, Type};
use crate::ids::OrganisationId;

/// Where the feed of an organisation begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// The number of the last change.
    pub last: i64,
    /// The last change that is not kept any more.
    pub forgotten: i64,
}

/// Numbers the organisation's new changes, unless somebody does it already.
///
/// # Errors
/// An error of the database.
pub async fn number(db: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT number_changes($1) AS "n!""#, organisation.0).fetch_one(db).await
}

/// The organisations that have changes without a number: at most 100 after this one.
///
/// # Errors
/// An error of the database.
pub async fn to_number(
    db: &mut PgConnection,
    after: OrganisationId,
) -> sqlx::Result<Vec<OrganisationId>> {
    sqlx::query_scalar!(
        r#"SELECT organisations_with_changes($1) AS "organisation!: OrganisationId""#,
        after.0
    )
    .fetch_all(db)
    .await
}

/// Where the feed begins and ends.
///
/// # Errors
/// An error of the database.
pub async fn ends(db: &mut PgConnection, organisation: OrganisationId) -> sqlx::Result<Ends> {
    let found = sqlx::query_as!(
        Ends,
        "SELECT position AS last, forgotten FROM change_end WHERE organisation_id = $1",
        organisation.0
    )
    .fetch_optional(db)
    .await?;
    Ok(found.unwrap_or_default())
}

/// The changes of these types after a position, with their positions; at most `limit`.
///
/// # Errors
/// An error of the database.
pub async fn list(
    db: &mut PgConnection,
    organisation: OrganisationId,
    after: i64,
    types: &[Type],
    limit: i64,
) -> sqlx::Result<Vec<(i64, Change)>> {
    let rows = sqlx::query!(
        r#"SELECT c.position AS "position!", c.type AS "kind: Type", c.subject, c.at,
                  said(c) AS "data!"
           FROM change c
           WHERE c.organisation_id = $1 AND c.position > $2 AND c.type = ANY ($3)
           ORDER BY c.organisation_id, c.position LIMIT $4"#,
        organisation.0,
        after,
        types as &[Type],
        limit
    )
    .fetch_all(db)
    .await?;
    let changes = rows.into_iter().map(|row| {
        let change =
            Change::new(organisation, row.position, row.kind, row.subject, row.at, row.data);
        (row.position, change)
    });
    Ok(changes.collect())
}

/// Deletes changes that are older than so many days: some of one organisation. Returns how many.
///
/// # Errors
/// An error of the database.
pub async fn forget(db: &mut PgConnection, days: i32) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT forget_changes(make_interval(days => $1)) AS "n!""#, days)
        .fetch_one(db)
        .await
}
