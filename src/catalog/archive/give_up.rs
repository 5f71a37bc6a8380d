//! Gives an archive up that is lost or damaged: what is left of it is deleted, and its books stay.

use sqlx::PgConnection;

use super::{ArchiveError, Archivist, Row};
use crate::{
    catalog::key::Key,
    ids::{ArchiveId, EventId},
};

/// Begins to give the archive of an event up. Returns it, and false if that was done before. `tx` must
/// be a transaction.
///
/// # Errors
/// `PG002` if there is no such event, `PG010` if it is not archived or nothing was deleted yet, or
/// trouble with the database.
pub(crate) async fn begin(
    tx: &mut PgConnection,
    event: EventId,
    actor: &str,
    why: &str,
) -> sqlx::Result<(ArchiveId, bool)> {
    let begun = sqlx::query!(
        r#"SELECT r_archive AS "archive!: ArchiveId", r_begun AS "begun!"
           FROM begin_give_up($1, $2, $3)"#,
        event.0,
        actor,
        why
    )
    .fetch_one(tx)
    .await?;
    Ok((begun.archive, begun.begun))
}

impl Archivist {
    /// Deletes rows that were not deleted yet, or restored already; then the files.
    pub(super) async fn give_up(&self, row: &Row) -> Result<(), ArchiveError> {
        if !self.delete_rows(row.id).await? {
            return Ok(());
        }
        self.store.delete_below(&Key::archive(row.directory)).await?;
        sqlx::query_scalar!(r#"SELECT end_give_up($1) AS "ended!""#, row.id.0)
            .fetch_one(&mut *self.pool.acquire().await?)
            .await?;
        Ok(())
    }
}
