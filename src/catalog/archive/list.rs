//! Archives, as people and programs see them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::State;
use crate::ids::{ArchiveId, EventId, OrganisationId};

/// An archive of an event.
#[derive(Debug, Clone, Serialize)]
pub struct Archive {
    /// The archive's number.
    pub id: ArchiveId,
    /// The event.
    pub event: EventId,
    /// Its name.
    pub event_name: String,
    /// The organisation that the event belongs to.
    pub organisation: OrganisationId,
    /// Its name.
    pub organisation_name: String,
    /// How far it is.
    pub state: State,
    /// Who archived it; `System` if its time had come.
    pub actor: String,
    /// When that began.
    pub began_at: DateTime<Utc>,
    /// When everything was in the store.
    pub archived_at: Option<DateTime<Utc>>,
    /// Its directory in the store, below `.photogate/archives/`.
    pub directory: Uuid,
    /// SHA-256 of its manifest, in hexadecimal.
    pub manifest: Option<String>,
    /// Number of files, without the manifest.
    pub parts: i64,
    /// Number of photos.
    pub photos: i64,
    /// Number of times that a photo was queued.
    pub jobs: i64,
    /// Credits that were spent on them.
    pub committed: i64,
    /// Credits that were given back.
    pub refunded: i64,
    /// Size of the files.
    pub bytes: i64,
    /// Size of what is in them.
    pub text_bytes: i64,
    /// When it was last verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// What was wrong with it then.
    pub damage: Option<String>,
    /// Who restored it, or asked for an erasure that restores it.
    pub restored_by: Option<String>,
    /// When it was restored, stopped, or given up and deleted.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it was given up, because it is lost or damaged.
    pub given_up_at: Option<DateTime<Utc>>,
    /// Who gave it up.
    pub given_up_by: Option<String>,
    /// Why.
    pub given_up_why: Option<String>,
    /// When its files were deleted, because nobody needs them any more.
    pub files_gone_at: Option<DateTime<Utc>>,
    /// Why it could not go on, the last time.
    pub trouble: Option<String>,
}

/// Selects archives. `None` selects all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// Only those of this event.
    pub event: Option<EventId>,
    /// Only those of this organisation.
    pub organisation: Option<OrganisationId>,
    /// Only those before this one.
    pub below: Option<ArchiveId>,
}

/// Returns archives, newest first, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn list(db: &mut PgConnection, which: Which, most: i64) -> sqlx::Result<Vec<Archive>> {
    sqlx::query_as!(
        Archive,
        r#"SELECT a.archive_id AS "id: _", a.event_id AS "event: _", e.name AS event_name,
                  a.organisation_id AS "organisation: _", o.name AS organisation_name,
                  a.state AS "state: _", a.actor, a.began_at, a.archived_at, a.directory,
                  encode(a.manifest, 'hex') AS manifest,
                  p.parts AS "parts!", p.photos AS "photos!", p.jobs AS "jobs!",
                  p.committed AS "committed!", p.refunded AS "refunded!", p.bytes AS "bytes!",
                  p.text_bytes AS "text_bytes!", a.verified_at, a.damage, a.restored_by, a.ended_at,
                  a.given_up_at, a.given_up_by, a.given_up_why, a.files_gone_at, a.trouble
           FROM archive a JOIN event e USING (event_id)
           JOIN organisation o ON o.organisation_id = a.organisation_id CROSS JOIN LATERAL (
               SELECT count(*) AS parts,
                      coalesce(sum(lines) FILTER (WHERE stage = 'photos'), 0)::bigint AS photos,
                      coalesce(sum(jobs), 0)::bigint AS jobs,
                      coalesce(sum(committed), 0)::bigint AS committed,
                      coalesce(sum(refunded), 0)::bigint AS refunded,
                      coalesce(sum(bytes), 0)::bigint AS bytes,
                      coalesce(sum(text_bytes), 0)::bigint AS text_bytes
               FROM archive_part p WHERE p.archive_id = a.archive_id) p
           WHERE ($1::bigint IS NULL OR a.event_id = $1)
             AND ($2::bigint IS NULL OR a.organisation_id = $2)
             AND ($3::bigint IS NULL OR a.archive_id < $3)
           ORDER BY a.archive_id DESC LIMIT $4"#,
        which.event.map(|event| event.0),
        which.organisation.map(|organisation| organisation.0),
        which.below.map(|archive| archive.0),
        most
    )
    .fetch_all(db)
    .await
}

/// The archive of an event that stands: it was not restored, and its packing not ended.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<Archive>> {
    let which = Which { event: Some(event), ..Which::default() };
    let newest = list(db, which, 1).await?.into_iter().next();
    Ok(newest.filter(|archive| !matches!(archive.state, State::Restored | State::Stopped)))
}

/// The archive that has what is known of an event's photos, in place of the database. `None`: the
/// database has all of it.
///
/// # Errors
/// When the database has trouble.
pub async fn away(db: &mut PgConnection, event: EventId) -> sqlx::Result<Option<Archive>> {
    Ok(of_event(db, event).await?.filter(|archive| archive.state != State::Packing))
}

/// What the archives have that stand.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Number of events.
    pub events: i64,
    /// Number of their photos.
    pub photos: i64,
    /// Size in the store.
    pub bytes: i64,
    /// Number of archives of which the last verification found that they are damaged.
    pub damaged: i64,
}

/// Number of archives that somebody must look at: files are missing or changed, or it could not go
/// on the last time.
///
/// # Errors
/// When the database has trouble.
pub async fn in_trouble(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "archives!" FROM archive
           WHERE state NOT IN ('restored', 'stopped', 'given_up')
             AND num_nonnulls(damage, trouble) > 0"#
    )
    .fetch_one(db)
    .await
}

/// Adds up the archives that stand: of one organisation, or all.
///
/// # Errors
/// When the database has trouble.
pub async fn totals(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Totals> {
    sqlx::query_as!(
        Totals,
        r#"SELECT count(*) AS "events!", count(*) FILTER (WHERE a.damage IS NOT NULL) AS "damaged!",
                  coalesce(sum(p.photos), 0)::bigint AS "photos!",
                  coalesce(sum(p.bytes), 0)::bigint AS "bytes!"
           FROM archive a CROSS JOIN LATERAL (
               SELECT sum(lines) FILTER (WHERE stage = 'photos') AS photos, sum(bytes) AS bytes
               FROM archive_part p WHERE p.archive_id = a.archive_id) p
           WHERE a.state IN ('deleting', 'archived', 'restoring')
             AND ($1::bigint IS NULL OR a.organisation_id = $1)"#,
        organisation.map(|organisation| organisation.0)
    )
    .fetch_one(db)
    .await
}
