//! Makes the upright copy of a photo for a turn that a person has said.

use photogate_jobs::{BYTES_MAX, PhotoError, Turn};

use crate::{
    catalog::{
        key::{Key, KeyError},
        photo_store::{PhotoStore, StoreError},
    },
    ids::{Operation, OrganisationId, PhotoId},
    sandbox::{Answer, Pool, PoolError, Seen, Trouble, Wants},
};

/// Why a photo was not turned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UprightError {
    /// The photo's key is not one that the store can have.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The original cannot be read, or the copy cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read as a photo.
    #[error(transparent)]
    Photo(#[from] PhotoError),
    /// The sandbox child crashed while it turned the photo.
    #[error("the photo could not be turned ({0})")]
    Crashed(String),
    /// No sandbox child could be started.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Writes the copy of a photo that is turned clockwise by `turn`, and returns its key and whether
/// it has no loss. `None`: the original is upright then, also for whoever does not read its tag.
///
/// The key says the turn. So nobody who is busy with another turn replaces this copy, neither a
/// worker nor another person. If nothing refers to the copy in the end, it is deleted with the event.
pub(crate) async fn upright(
    pool: &Pool,
    store: &PhotoStore,
    organisation: OrganisationId,
    (photo, key): (PhotoId, &str),
    turn: Turn,
) -> Result<Option<(Key, bool)>, UprightError> {
    let original = Key::parse(key)?;
    let wants = Wants {
        operation: Operation::AiRotation,
        bibs: false,
        embeddings: false,
        thumbnail: false,
        turn: Some(turn),
    };
    // First the slot: no more originals are in memory than photos can be turned.
    let slot = pool.slot(organisation).await;
    let bytes = store.get(&original, BYTES_MAX).await?;
    let turned = match pool.look(&slot, wants, bytes).await {
        Ok(Answer::Seen(Seen::Rotation { upright, .. })) => upright,
        Ok(Answer::Seen(Seen::Processing { .. })) => None,
        Ok(Answer::Refused(error)) => return Err(error.into()),
        Ok(Answer::Panicked(why)) | Err(Trouble::Crashed(why)) => {
            return Err(UprightError::Crashed(why));
        }
        Err(Trouble::NoChild(error)) => return Err(error.into()),
    };
    drop(slot);
    let Some(turned) = turned else { return Ok(None) };
    let copy = Key::corrected(photo, turn.degrees(), turned.extension.name());
    store.put(&copy, turned.bytes).await?;
    Ok(Some((copy, turned.lossless)))
}
