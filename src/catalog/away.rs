//! Whether what is known of an event's photos is in the database, for whoever reads or changes it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::ids::{EventId, OrganisationId};

/// Refuses to read what is known of an event's photos, if the database does not have all of it. Without
/// it, an archived event would look as if nothing had ever been found.
///
/// Ask before you read, so that nobody reads in vain, and again afterwards: an archive may be sealed in
/// between, and its rows deleted.
///
/// # Errors
/// `PG011` says what to do, `PG012` that they are lost; or trouble with the database.
pub async fn must_be_here(db: &mut PgConnection, event: EventId) -> sqlx::Result<()> {
    sqlx::query!("SELECT refuse_packed($1)", event.0).execute(db).await.map(|_| ())
}

/// As [`must_be_here`], for a list of an organisation's photos: of an event of another one it has nothing
/// to list, and nothing to tell. `None`: of any organisation.
///
/// # Errors
/// As [`must_be_here`].
pub async fn must_be_here_of(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    event: EventId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT refuse_packed(event_id) FROM event
         WHERE event_id = $1 AND ($2::bigint IS NULL OR organisation_id = $2)",
        event.0,
        organisation.map(|organisation| organisation.0)
    )
    .execute(db)
    .await
    .map(|_| ())
}

/// Refuses to change an event that is archived, or on its way.
///
/// # Errors
/// As [`must_be_here`].
pub async fn must_not_be_archived(db: &mut PgConnection, event: EventId) -> sqlx::Result<()> {
    sqlx::query!("SELECT refuse_archived($1)", event.0).execute(db).await.map(|_| ())
}

/// Since when an event is archived, if the database does not have all that is known of its photos.
///
/// # Errors
/// `PG012` if they are lost, or trouble with the database.
pub async fn since(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query!("SELECT refuse_given_up($1)", event.0).execute(&mut *db).await?;
    let since = sqlx::query_scalar!(
        r#"SELECT archived_at AS "at!" FROM archive
           WHERE event_id = $1 AND state NOT IN ('packing', 'restored', 'stopped')"#,
        event.0
    );
    since.fetch_optional(db).await
}

/// Those of these events that are archived, or on their way; and whether their details are lost.
///
/// # Errors
/// When the database has trouble.
pub async fn archived(
    db: &mut PgConnection,
    events: &[EventId],
) -> sqlx::Result<HashMap<EventId, bool>> {
    let events: Vec<_> = events.iter().map(|event| event.0).collect();
    let found = sqlx::query!(
        r#"SELECT event_id AS "event: EventId", state IN ('giving_up', 'given_up') AS "is_lost!"
           FROM archive WHERE event_id = ANY ($1) AND state NOT IN ('restored', 'stopped')"#,
        &events
    )
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().map(|one| (one.event, one.is_lost)).collect())
}

/// Of how many events something that is known of photos from this instant on is in archives, or lost with
/// them: of one organisation's, or of all.
///
/// # Errors
/// When the database has trouble.
pub async fn count_since(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    since: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(DISTINCT event_id) AS "count!" FROM archive
           WHERE state NOT IN ('packing', 'restored', 'stopped') AND archived_at >= $2
             AND ($1::bigint IS NULL OR organisation_id = $1)"#,
        organisation.map(|organisation| organisation.0),
        since
    )
    .fetch_one(db)
    .await
}
