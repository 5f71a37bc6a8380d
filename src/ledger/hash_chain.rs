//! Verifies the hash chains that seal the ledger, link by link, from the database or from an
//! export. The text of a link, which is hashed, is defined in `migrations/functions/chain.sql`.

mod export;
mod follower;
mod link;
mod read;

use sqlx::PgConnection;

use self::{
    follower::Follower,
    read::{Read, begin, heads, read},
};
use crate::ids::OrganisationId;

pub use export::{ExportError, ImportError, export, verify_export};
pub use follower::{Broken, Verified};
pub use link::{Entry, Head, Link, SealedTopUp};

/// Verifies the chains of one organisation, or of all, in the database. It reads one snapshot, so
/// other work can go on. `seen` is called with every link that was read.
///
/// # Errors
/// When the database has trouble. A broken chain is a result, not an error.
pub async fn verify(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    mut seen: impl FnMut(&Link),
) -> sqlx::Result<Vec<Verified>> {
    let mut tx = begin(db).await?;
    let mut all = Vec::new();
    for head in heads(&mut tx, organisation).await? {
        let mut follower = Follower::new(head.organisation);
        let mut after = 0;
        loop {
            let page = read(&mut tx, head.organisation, after).await?;
            let Some(last) = page.last() else { break };
            after = last.link.last_entry;
            for Read { link, foreign } in &page {
                if let Some(entry) = foreign {
                    let what =
                        format!("entry {entry} has another time, worker or leg than its link");
                    follower.breaks(link.first_entry, link.last_entry, what);
                }
                follower.follow(link);
                seen(link);
            }
            if follower.verified.broken.is_some() {
                break;
            }
        }
        follower.arrive(&head);
        all.push(follower.verified);
    }
    tx.rollback().await?;
    Ok(all)
}
