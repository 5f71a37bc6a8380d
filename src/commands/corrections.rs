//! Corrects what was found on a photo: its bib numbers, and its turn. A correction is free.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
#[cfg(feature = "vision")]
use crate::catalog::key::Key;
use crate::{
    access::{Caller, Role, audit_log},
    bounded,
    catalog::{
        corrections::{self, NUMBERS_MAX, NumbersChange, TurnChange},
        events, photos, start_list,
    },
    database,
    ids::{OrganisationId, PhotoId},
};

/// No pipeline: a correction says what a person has seen.
pub(super) const MAY_CORRECT: &[Role] = &[Role::Organiser, Role::Staff];

/// The bib numbers that a person sees on a photo.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"numbers": ["1482", "A77"]}))]
pub struct CorrectNumbers {
    /// All bib numbers on the photo, at most 100; none if it shows none. A number has at most ten
    /// letters and digits.
    #[serde(deserialize_with = "bounded::list::<NUMBERS_MAX, _, _>")]
    #[schema(max_items = 100)]
    pub numbers: Vec<String>,
}

/// The turn that a photo needs, as a person sees it.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"turn": 90}))]
pub struct CorrectTurn {
    /// By how many degrees clockwise the photo must be turned, after its EXIF tag was applied: 0,
    /// 90, 180 or 270.
    pub turn: i16,
}

/// A photo that somebody may correct.
#[derive(Debug)]
pub struct Correctable {
    /// The photo's ID.
    pub photo: PhotoId,
    /// The photo's key in the store.
    pub key: String,
    /// The organisation of its event.
    pub organisation: OrganisationId,
}

impl Commands {
    /// Checks that the caller may correct the photo, before anything is done for it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn may_correct(
        &self,
        caller: &Caller,
        photo: PhotoId,
    ) -> Result<Correctable, CommandError> {
        caller.must_be(MAY_CORRECT)?;
        let missing = || CommandError::NotFound(format!("photo {photo}"));
        let mut db = self.database.acquire().await?;
        let (event, key) = photos::place_of(&mut db, photo).await?.ok_or_else(missing)?;
        let event = caller.must_see_event(event, events::find(&mut db, event).await?);
        let organisation = event.map_err(|_| missing())?.organisation;
        Ok(Correctable { photo, key, organisation })
    }

    /// Says that a photo shows these bib numbers, and no others. No run of the models replaces it.
    /// The same once more changes nothing.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn correct_numbers(
        &self,
        caller: &Caller,
        photo: PhotoId,
        new: &CorrectNumbers,
    ) -> Result<(), CommandError> {
        let of = self.may_correct(caller, photo).await?;
        if new.numbers.len() > NUMBERS_MAX {
            let detail = format!("a photo has at most {NUMBERS_MAX} bib numbers: send fewer");
            return Err(CommandError::invalid("/numbers", detail));
        }
        let numbers = new.numbers.iter().enumerate().map(|(at, text)| {
            start_list::number(text).ok_or_else(|| {
                let text: String = text.chars().take(40).collect();
                let detail =
                    format!("{text:?} is not a bib number: write at most ten letters and digits");
                CommandError::invalid(format!("/numbers/{at}"), detail)
            })
        });
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        transaction!(self, tx, {
            let said = corrections::correct_numbers(&mut tx, photo, &numbers, &caller.actor).await;
            let change = said.map_err(|error| {
                if database::is_code(&error, database::BAD_ARGUMENT) {
                    return CommandError::invalid("/numbers", database::sentence(&error));
                }
                error.into()
            })?;
            numbers_were_changed(&mut tx, caller, &of, &change, "photo.correct_numbers").await?;
        })
    }

    /// Takes the correction of a photo's bib numbers back: what the models have found counts again.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn take_numbers_back(
        &self,
        caller: &Caller,
        photo: PhotoId,
    ) -> Result<(), CommandError> {
        let of = self.may_correct(caller, photo).await?;
        transaction!(self, tx, {
            let change = corrections::take_numbers_back(&mut tx, photo).await?;
            numbers_were_changed(&mut tx, caller, &of, &change, "photo.take_numbers_back").await?;
        })
    }

    /// Says by how much a photo must be turned. `upright` is the copy that is turned so, and whether
    /// it has no loss; it is in the store already. `None`: the original is upright.
    ///
    /// # Errors
    /// See [`CommandError`].
    #[cfg(feature = "vision")]
    pub(crate) async fn correct_turn(
        &self,
        caller: &Caller,
        photo: PhotoId,
        new: CorrectTurn,
        upright: Option<&(Key, bool)>,
    ) -> Result<(), CommandError> {
        let of = self.may_correct(caller, photo).await?;
        transaction!(self, tx, {
            let (actor, copy) = (&caller.actor, upright.map(|(key, whole)| (key.as_str(), *whole)));
            let change = corrections::correct_turn(&mut tx, photo, new.turn, copy, actor).await?;
            turn_was_changed(&mut tx, caller, &of, change, "photo.correct_turn").await?;
        })
    }

    /// Takes the correction of a photo's turn back: what AI Rotation has found counts again.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn take_turn_back(
        &self,
        caller: &Caller,
        photo: PhotoId,
    ) -> Result<(), CommandError> {
        let of = self.may_correct(caller, photo).await?;
        transaction!(self, tx, {
            let change = corrections::take_turn_back(&mut tx, photo).await?;
            turn_was_changed(&mut tx, caller, &of, change, "photo.take_turn_back").await?;
        })
    }
}

/// Writes the audit log. A number is personal data, which may be erased, and the audit log is for
/// ever: so it says how many numbers were changed, and not which. Those are in `number_correction`.
async fn numbers_were_changed(
    tx: &mut sqlx::PgConnection,
    caller: &Caller,
    of: &Correctable,
    change: &NumbersChange,
    action: &str,
) -> Result<(), CommandError> {
    if !change.changed {
        return Ok(());
    }
    let (added, removed) = change.added_and_removed();
    let detail = json!({
        "before": change.before.len(), "after": change.after.len(),
        "added": added, "removed": removed,
    });
    let (whose, subject) = (Some(of.organisation), format!("photo {}", of.photo));
    audit_log::record(tx, caller, whose, action, &subject, detail).await?;
    Ok(())
}

/// Writes the audit log.
async fn turn_was_changed(
    tx: &mut sqlx::PgConnection,
    caller: &Caller,
    of: &Correctable,
    change: TurnChange,
    action: &str,
) -> Result<(), CommandError> {
    if !change.changed {
        return Ok(());
    }
    let detail = json!({ "before": change.before, "after": change.after });
    let (whose, subject) = (Some(of.organisation), format!("photo {}", of.photo));
    audit_log::record(tx, caller, whose, action, &subject, detail).await?;
    Ok(())
}
