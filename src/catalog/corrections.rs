//! Corrections: what people say a photo shows. They are kept beside what the models have found, and
//! export as labels.

pub mod labels;
#[cfg(feature = "vision")]
mod upright;

use serde_json::Value;
use sqlx::PgConnection;

use crate::ids::PhotoId;

#[cfg(feature = "vision")]
pub(crate) use upright::{UprightError, upright};

/// Most bib numbers that a person may say are on one photo. It is the limit of the database, too.
pub const NUMBERS_MAX: usize = 100;

/// A change of a photo's bib numbers.
#[derive(Debug, Clone)]
pub struct NumbersChange {
    /// The numbers before.
    pub before: Vec<String>,
    /// The numbers now.
    pub after: Vec<String>,
    /// False if the same was said before: then nothing has changed.
    pub changed: bool,
}

impl NumbersChange {
    /// How many numbers there are now that were not there before, and the other way round.
    pub(crate) fn added_and_removed(&self) -> (usize, usize) {
        let lacks = |these: &[String], those: &[String]| {
            these.iter().filter(|number| !those.contains(number)).count()
        };
        (lacks(&self.after, &self.before), lacks(&self.before, &self.after))
    }
}

/// A change of a photo's turn, in degrees clockwise; `None`: it is not known.
#[derive(Debug, Clone, Copy)]
pub struct TurnChange {
    /// The turn before.
    pub before: Option<i16>,
    /// The turn now.
    pub after: Option<i16>,
    /// False if the same was said before: then nothing has changed.
    pub changed: bool,
}

/// Says that a photo shows these bib numbers, and no others. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such photo, `PG006` if a number was erased or may not be kept any more,
/// or trouble with the database.
pub async fn correct_numbers(
    tx: &mut PgConnection,
    photo: PhotoId,
    numbers: &[String],
    actor: &str,
) -> sqlx::Result<NumbersChange> {
    sqlx::query_as!(
        NumbersChange,
        r#"SELECT r_before AS "before!", r_after AS "after!", r_changed AS "changed!"
           FROM correct_numbers($1, $2, $3)"#,
        photo.0,
        numbers,
        actor
    )
    .fetch_one(tx)
    .await
}

/// Takes a correction of a photo's bib numbers back. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such photo, or trouble with the database.
pub async fn take_numbers_back(
    tx: &mut PgConnection,
    photo: PhotoId,
) -> sqlx::Result<NumbersChange> {
    sqlx::query_as!(
        NumbersChange,
        r#"SELECT r_before AS "before!", r_after AS "after!", r_changed AS "changed!"
           FROM take_numbers_back($1)"#,
        photo.0
    )
    .fetch_one(tx)
    .await
}

/// Says by how many degrees clockwise a photo must be turned. `upright`: the key of the copy that
/// is turned so, and whether it has no loss. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such photo, or trouble with the database.
pub async fn correct_turn(
    tx: &mut PgConnection,
    photo: PhotoId,
    turn: i16,
    upright: Option<(&str, bool)>,
    actor: &str,
) -> sqlx::Result<TurnChange> {
    sqlx::query_as!(
        TurnChange,
        r#"SELECT r_before AS before, $2::smallint AS after, r_changed AS "changed!"
           FROM correct_turn($1, $2, $3, $4, $5)"#,
        photo.0,
        turn,
        upright.map(|(key, _)| key),
        upright.map(|(_, lossless)| lossless),
        actor
    )
    .fetch_one(tx)
    .await
}

/// Takes a correction of a photo's turn back. `tx` must be a transaction.
///
/// # Errors
/// `PG002` if there is no such photo, or trouble with the database.
pub async fn take_turn_back(tx: &mut PgConnection, photo: PhotoId) -> sqlx::Result<TurnChange> {
    sqlx::query_as!(
        TurnChange,
        r#"SELECT r_before AS before, r_after AS after, r_changed AS "changed!"
           FROM take_turn_back($1)"#,
        photo.0
    )
    .fetch_one(tx)
    .await
}

/// What the models have found on a corrected photo, where it was looked at and is corrected: the
/// bib numbers, and the turn in words.
#[derive(Debug, Default)]
pub struct Found {
    /// The bib numbers.
    pub numbers: Option<Vec<String>>,
    /// The turn in degrees; `Some(None)`: AI Rotation abstained.
    pub turn: Option<Option<i64>>,
}

/// Reads what the models have found on a photo whose numbers or turn are corrected.
///
/// # Errors
/// When the database has trouble.
pub async fn found(db: &mut PgConnection, photo: PhotoId) -> sqlx::Result<Found> {
    let row = sqlx::query!(
        r#"SELECT (SELECT found FROM number_correction WHERE photo_id = $1) AS numbers,
                  (SELECT found FROM turn_correction WHERE photo_id = $1) AS turn"#,
        photo.0
    )
    .fetch_one(db)
    .await?;
    Ok(Found { numbers: row.numbers.map(|rows| numbers_of(&rows)), turn: row.turn.map(turn_of) })
}

/// The numbers of rows of `bib`, as a correction keeps them.
fn numbers_of(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["number"].as_str().map(str::to_owned)).collect()
}

/// The turn of a row of `rotation`, as a correction keeps it; `None` if it abstains.
fn turn_of(row: Value) -> Option<i64> {
    row["turn"].as_i64().filter(|_| row["abstained"] == false)
}

/// The clockwise turn that a photo is known to need: a person has said it, or AI Rotation has found
/// it. A worker asks before it has the photo looked at.
///
/// # Errors
/// When the database has trouble.
#[cfg(feature = "vision")]
pub(crate) async fn known_turn(
    db: impl sqlx::PgExecutor<'_>,
    photo: PhotoId,
) -> sqlx::Result<Option<photogate_jobs::Turn>> {
    let degrees = sqlx::query_scalar!("SELECT known_turn($1)", photo.0).fetch_one(db).await?;
    Ok(degrees.and_then(|degrees| u16::try_from(degrees).ok()?.try_into().ok()))
}
