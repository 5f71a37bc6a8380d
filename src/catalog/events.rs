//! Events and their settings.

mod forgetting;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    ids::{EventId, OrganisationId, PhotoId},
    ledger::spending::Class,
};

pub use forgetting::forget_what_is_due;
pub(crate) use forgetting::forget_what_is_left;
pub use forgetting::{flag_deleted, flag_face_search, forget};
#[cfg(feature = "vision")]
pub(crate) use forgetting::{leftovers, leftovers_are_gone};

/// An event: photos that belong together, such as those of a race or a gala.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// The event's number.
    pub id: EventId,
    /// The organisation that owns the event. Its credits pay for the event's photos.
    pub organisation: OrganisationId,
    /// The event's name, as people call it.
    pub name: String,
    /// The ID that another program has for the event; `None` if it gave none.
    pub reference: Option<String>,
    /// Whether Photo Processing reads bib numbers.
    pub bib_search: bool,
    /// Whether people can search for a face. Embeddings are computed only if this is on.
    pub face_search: bool,
    /// Who said that the people on the photos agreed to the search for faces.
    pub face_consent_by: Option<String>,
    /// When they said so.
    pub face_consent_at: Option<DateTime<Utc>>,
    /// Faces and bib numbers are deleted so many days after the last photo was processed; `None`:
    /// when the event is deleted.
    pub keep_findings_days: Option<i32>,
    /// How urgent the event is, where its organisation's order is `priority`.
    pub class: Class,
    /// Since when the event is archived: what it had is in the photo store, and nothing is queued or
    /// changed until `photogate archive restore` brings it back. `None`: it is not.
    pub archived_at: Option<DateTime<Utc>>,
}

/// Creates an event with a queue for each operation. With `face_search`, `actor` has said that the
/// people on the photos agreed to it.
///
/// # Errors
/// `PG002` if there is no such organisation, or trouble with the database.
pub async fn create(
    db: &mut PgConnection,
    organisation: OrganisationId,
    name: &str,
    bib_search: bool,
    face_search: bool,
    actor: &str,
) -> sqlx::Result<EventId> {
    sqlx::query_scalar!(
        r#"SELECT create_event($1, $2, $3, $4, $5) AS "id!: EventId""#,
        organisation.0,
        name,
        bib_search,
        face_search,
        actor
    )
    .fetch_one(db)
    .await
}

/// Creates an event with a reference, or finds the one that the organisation has with this
/// reference and leaves it as it is. Returns the event, and whether it is new.
///
/// # Errors
/// As [`create`].
pub async fn find_or_create(
    db: &mut PgConnection,
    organisation: OrganisationId,
    name: &str,
    bib_search: bool,
    face_search: bool,
    actor: &str,
    reference: &str,
) -> sqlx::Result<(EventId, bool)> {
    loop {
        let made = sqlx::query_scalar!(
            r#"SELECT create_event($1, $2, $3, $4, $5, $6) AS "id: EventId""#,
            organisation.0,
            name,
            bib_search,
            face_search,
            actor,
            reference
        );
        if let Some(id) = made.fetch_one(&mut *db).await? {
            return Ok((id, true));
        }
        // A later statement than the one that waited for whoever created it.
        let found = sqlx::query_scalar!(
            r#"SELECT event_id AS "id: EventId" FROM event
               WHERE organisation_id = $1 AND reference = $2 AND deleted_at IS NULL"#,
            organisation.0,
            reference
        );
        if let Some(id) = found.fetch_optional(&mut *db).await? {
            return Ok((id, false));
        }
        // It was deleted in between, and has given the reference back.
    }
}

/// Changes an event's name, and whether bib numbers are read. `None` leaves a setting as it is.
///
/// The change of `bib_search` applies to photos that are processed from now on.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn change(
    db: &mut PgConnection,
    event: EventId,
    name: Option<&str>,
    bib_search: Option<bool>,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_event($1, $2, $3)", event.0, name, bib_search)
        .execute(db)
        .await
        .map(|_| ())
}

/// Sets for how many days faces and bib numbers are kept. `None`: until the event is deleted.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn set_retention(
    db: &mut PgConnection,
    event: EventId,
    days: Option<i32>,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_retention($1, $2)", event.0, days).execute(db).await.map(|_| ())
}

/// Returns the events of one organisation, or of all organisations (`None`), newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn list(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name,
                  reference, bib_search, face_search, face_consent_by, face_consent_at,
                  keep_findings_days, class AS "class: Class",
                  (SELECT coalesce(a.archived_at, a.began_at) FROM archive a
                   WHERE a.event_id = event.event_id AND a.state NOT IN ('restored', 'stopped'))
                  AS archived_at
           FROM event
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deleted_at IS NULL
           ORDER BY event_id DESC"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_all(db)
    .await
}

/// Returns one page of the events of one organisation, or of all organisations (`None`), newest
/// first.
///
/// The page starts after the event `below` and has at most `most` events. `name` is a part of the
/// event's name, or the event's number.
///
/// # Errors
/// When the database has trouble.
pub async fn page(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    name: &str,
    below: Option<EventId>,
    most: i64,
) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name,
                  reference, bib_search, face_search, face_consent_by, face_consent_at,
                  keep_findings_days, class AS "class: Class",
                  (SELECT coalesce(a.archived_at, a.began_at) FROM archive a
                   WHERE a.event_id = event.event_id AND a.state NOT IN ('restored', 'stopped'))
                  AS archived_at
           FROM event
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND deleted_at IS NULL AND event_id < $2
             AND (name ILIKE '%' || $4 || '%' OR event_id::text = $4)
           ORDER BY event_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.map_or(i64::MAX, |below| below.0),
        most,
        name
    )
    .fetch_all(db)
    .await
}

/// Returns one event; `None` if there is no such event, or it was deleted.
///
/// # Errors
/// When the database has trouble.
pub async fn find(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT event_id AS "id: _", organisation_id AS "organisation: _", name,
                  reference, bib_search, face_search, face_consent_by, face_consent_at,
                  keep_findings_days, class AS "class: Class",
                  (SELECT coalesce(a.archived_at, a.began_at) FROM archive a
                   WHERE a.event_id = event.event_id AND a.state NOT IN ('restored', 'stopped'))
                  AS archived_at
           FROM event WHERE event_id = $1 AND deleted_at IS NULL"#,
        event.0
    )
    .fetch_optional(db)
    .await
}

/// Returns the ID of the photo with this key in an event; `None` if it was never queued.
///
/// # Errors
/// When the database has trouble.
pub async fn photo(
    db: &mut PgConnection,
    event: EventId,
    key: &str,
) -> sqlx::Result<Option<PhotoId>> {
    sqlx::query_scalar!(
        r#"SELECT photo_id AS "id: PhotoId" FROM photo WHERE event_id = $1 AND key = $2"#,
        event.0,
        key
    )
    .fetch_optional(db)
    .await
}
