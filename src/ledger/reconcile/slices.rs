//! A check goes along the ledgers or the queues, slice by slice.

use sqlx::PgConnection;

use super::{Since, invariant::Check, snapshot};
use crate::queue::claim::Incarnation;

/// A part of all ledgers, or of all queues. It may be empty.
pub(super) trait Slice: Sized {
    /// Where a slice ends and the next one begins.
    type Place;

    /// The place of the first slice.
    const BEGIN: Self::Place;

    /// Returns the slice that begins here, and the place where it ends. `None`: there is nothing
    /// after it.
    async fn next(
        tx: &mut PgConnection,
        since: Since,
        size: i64,
        begin: Self::Place,
    ) -> sqlx::Result<(Self, Option<Self::Place>)>;

    /// Checks the invariants on this slice.
    async fn check(&self, tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()>;

    /// Moves the marks to the end of this slice.
    async fn mark(&self, db: &mut PgConnection, me: Incarnation) -> sqlx::Result<()>;
}

/// Checks every slice, and adds what was found to `checks`. The last slice may be empty. It makes
/// sure that every invariant is told.
pub(super) async fn check_all<S: Slice>(
    db: &mut PgConnection,
    since: Since,
    size: i64,
    checks: &mut Vec<Check>,
) -> sqlx::Result<()> {
    let mut place = Some(S::BEGIN);
    while let Some(begin) = place {
        let mut found = Vec::new();
        let mut tx = snapshot(db).await?;
        let (slice, end) = S::next(&mut tx, since, size, begin).await?;
        slice.check(&mut tx, &mut found).await?;
        tx.rollback().await?;
        if let Some(me) = since.marks()
            && found.iter().all(|check| check.violations == 0)
        {
            slice.mark(db, me).await?;
        }
        for check in found {
            check.add_to(checks);
        }
        place = end;
    }
    Ok(())
}
