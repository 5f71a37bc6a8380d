//! Forgets findings: embeddings when face search is switched off, faces and bib numbers when they
//! were kept long enough, everything when an event is deleted. It takes two steps, so that nobody
//! waits: a mark that counts at once, and then the deletion, batch after batch.

use sqlx::PgConnection;

use crate::ids::EventId;
#[cfg(feature = "vision")]
use crate::ids::PhotoId;

/// Switches an event's face search on or off. `actor` has said that the people on the photos agreed.
/// If it is off now, no embedding is written or found
/// from here on. The caller must call [`forget`] next, after a commit.
///
/// # Errors
/// `PG002` if there is no such event, `PG006` if its embeddings are still being deleted, or trouble
/// with the database.
pub async fn flag_face_search(
    db: &mut PgConnection,
    event: EventId,
    on: bool,
    actor: &str,
) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_face_search($1, $2, $3)", event.0, on, actor)
        .execute(db)
        .await
        .map(|_| ())
}

/// Deletes an event: stops its queues for good, and marks the findings on its photos to be
/// forgotten. From here on nobody sees the event. The caller must call [`forget`] next, after a
/// commit.
///
/// The ledger and the photos in the store stay.
///
/// # Errors
/// `PG002` if there is no such event, or it was deleted before; or trouble with the database.
pub async fn flag_deleted(db: &mut PgConnection, event: EventId, actor: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT delete_event($1, $2)", event.0, actor).execute(db).await.map(|_| ())
}

/// Photos whose findings one transaction deletes. The transaction must be short, because workers
/// that settle these photos wait for its row locks.
const FORGOTTEN_AT_ONCE: i32 = 500;

/// Deletes all findings of an event that are marked to be forgotten, batch after batch.
///
/// Returns the number of faces that lost data. If this call is interrupted, a worker deletes the
/// rest.
///
/// # Errors
/// When the database has trouble.
pub async fn forget(db: &mut PgConnection, event: EventId) -> sqlx::Result<u64> {
    let mut faces = 0;
    loop {
        let batch = sqlx::query!(
            r#"SELECT r_faces AS "faces!", r_done AS "done!" FROM forget($1, $2)"#,
            event.0,
            FORGOTTEN_AT_ONCE
        )
        .fetch_one(&mut *db)
        .await?;
        faces += u64::try_from(batch.faces).unwrap_or(0);
        if batch.done {
            return Ok(faces);
        }
    }
}

/// Marks the findings that were kept for as long as their events say. [`forget_what_is_left`]
/// deletes them. Returns the number of events.
///
/// # Errors
/// When the database has trouble.
pub async fn forget_what_is_due(db: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar!(r#"SELECT forget_what_is_due() AS "events!""#).fetch_one(db).await
}

/// Deletes one batch of findings that an interrupted [`forget`] left. Returns the event, or `None`
/// if nothing was left.
pub(crate) async fn forget_what_is_left(db: &mut PgConnection) -> sqlx::Result<Option<EventId>> {
    sqlx::query_scalar!(
        r#"SELECT r_event AS "event: EventId" FROM forget(NULL, $1)"#,
        FORGOTTEN_AT_ONCE
    )
    .fetch_one(db)
    .await
}

/// Returns photos of deleted events whose files, which photogate made, are still in the store. At
/// most `most`.
#[cfg(feature = "vision")]
pub(crate) async fn leftovers(db: &mut PgConnection, most: i32) -> sqlx::Result<Vec<PhotoId>> {
    sqlx::query_scalar!(r#"SELECT l AS "photo!: PhotoId" FROM leftover_files($1) l"#, most)
        .fetch_all(db)
        .await
}

/// Records that the files of these photos are deleted.
#[cfg(feature = "vision")]
pub(crate) async fn leftovers_are_gone(
    db: &mut PgConnection,
    photos: &[PhotoId],
) -> sqlx::Result<()> {
    let photos: Vec<_> = photos.iter().map(|photo| photo.0).collect();
    sqlx::query!("SELECT files_are_deleted($1)", &photos).execute(db).await.map(|_| ())
}
