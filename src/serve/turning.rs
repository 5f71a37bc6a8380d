//! Corrects the turn of a photo, for the API and the pages: its upright copy is made in a sandbox
//! child, and then the correction is written.

use photogate_jobs::Turn;

use super::{Service, problem::Problem};
use crate::{access::Caller, catalog::corrections, commands::CorrectTurn, ids::PhotoId};

/// Turns a photo as the caller says. If this ends early, only a file may be left that nothing refers
/// to: the next correction replaces it, and it is deleted with the event.
pub(super) async fn correct_turn(
    service: &Service,
    caller: &Caller,
    photo: PhotoId,
    new: CorrectTurn,
) -> Result<(), Problem> {
    let of = service.commands.may_correct(caller, photo).await?;
    let turn = u16::try_from(new.turn).ok().and_then(|degrees| Turn::try_from(degrees).ok());
    let turn = turn.ok_or_else(|| {
        Problem::invalid("/turn", "a turn is 0, 90, 180 or 270 degrees clockwise")
    })?;
    let eyes = service.eyes().await.map_err(corrections::UprightError::from)?;
    let place = (photo, of.key.as_str());
    let copy = corrections::upright(eyes, &service.store, of.organisation, place, turn).await?;
    let done = service.commands.correct_turn(caller, photo, new, copy.as_ref()).await;
    if let (Err(error), Some((key, _))) = (&done, &copy)
        && error.is_not_found()
        && let Err(error) = service.store.delete(key).await
    {
        // The event was deleted meanwhile, and perhaps its files as well.
        tracing::warn!(%key, %error, "an upright copy of a deleted event could not be deleted");
    }
    Ok(done?)
}
