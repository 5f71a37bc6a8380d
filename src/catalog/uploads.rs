//! Files that were uploaded through the service: how they may be called, and who uploaded them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::key::is_photo;
use crate::ids::EventId;

/// Longest name of an uploaded file, in bytes.
const NAME_MAX: usize = 200;

/// The directory of the store with the uploaded files of an event. `under` is the organisation's
/// part of the store. No default part of an organisation has an underscore, so none begins so.
pub fn directory(under: &str, event: EventId) -> String {
    format!("{under}event_{event}/")
}

/// Why a file cannot have this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has the characters of a path.
    #[error("the name of a file has no slash and no backslash, and does not begin with a dot")]
    Path,
    /// It has more than 200 bytes.
    #[error("the name of a file has at most {NAME_MAX} bytes: rename it")]
    TooLong,
    /// It has characters that nobody sees, or a space at an end.
    #[error("the name of a file has no invisible characters, and no space at its ends: rename it")]
    Invisible,
    /// It has not the extension of a photo.
    #[error(
        "the name of a photo ends with .jpg, .jpeg, .png, .webp, .gif, .tif or .tiff: send photos only"
    )]
    NoPhoto,
}

/// Checks the name of a file that is uploaded.
///
/// # Errors
/// See [`BadName`].
pub fn check_name(name: &str) -> Result<(), BadName> {
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(BadName::Path);
    }
    if name.len() > NAME_MAX {
        return Err(BadName::TooLong);
    }
    if name.trim() != name || name.chars().any(is_invisible) {
        return Err(BadName::Invisible);
    }
    if is_photo(name) { Ok(()) } else { Err(BadName::NoPhoto) }
}

/// Characters with which a name looks like another one: controls, no width, and the directions of
/// text.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

/// A file that was uploaded.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its key in the store.
    pub key: String,
    /// Its size.
    pub bytes: i64,
    /// The SHA-256 of its content.
    pub sha256: Vec<u8>,
    /// Who uploaded it.
    pub actor: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Finds what was uploaded last under a key.
///
/// # Errors
/// When the database has trouble.
pub async fn find(
    db: &mut PgConnection,
    event: EventId,
    key: &str,
) -> sqlx::Result<Option<Upload>> {
    sqlx::query_as!(
        Upload,
        "SELECT key, bytes, sha256, actor, at FROM upload WHERE event_id = $1 AND key = $2",
        event.0,
        key
    )
    .fetch_optional(db)
    .await
}

/// The latest uploads of an event, newest first.
///
/// # Errors
/// When the database has trouble.
pub async fn latest(db: &mut PgConnection, event: EventId, most: i64) -> sqlx::Result<Vec<Upload>> {
    sqlx::query_as!(
        Upload,
        "SELECT key, bytes, sha256, actor, at FROM upload WHERE event_id = $1
         ORDER BY at DESC LIMIT $2",
        event.0,
        most
    )
    .fetch_all(db)
    .await
}

/// How much was uploaded to an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Number of files.
    pub files: i64,
    /// Number of files that were not queued yet.
    pub new: i64,
}

/// Counts what was uploaded to an event.
///
/// # Errors
/// When the database has trouble.
pub async fn count(db: &mut PgConnection, event: EventId) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"SELECT count(*) AS "files!", count(*) FILTER (WHERE p.key IS NULL) AS "new!"
           FROM upload u LEFT JOIN photo p ON p.event_id = u.event_id AND p.key = u.key
           WHERE u.event_id = $1"#,
        event.0
    )
    .fetch_one(db)
    .await
}

/// Notes that the store has a file. Returns whether the audit log gets a line for it: each file has
/// a row of its own, so it only says that somebody began.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn note(
    tx: &mut PgConnection,
    event: EventId,
    key: &str,
    bytes: i64,
    sha256: &[u8; 32],
    actor: &str,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT note_upload($1, $2, $3, $4, $5) AS "audited!""#,
        event.0,
        key,
        bytes,
        &sha256[..],
        actor
    )
    .fetch_one(tx)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_and_no_path_and_looks_like_itself() {
        for good in ["IMG_0001.JPG", "Köln 1 (2).jpeg", "a%2f..%2fb.png", "会場.webp", "a..jpg"]
        {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("../a.jpg", BadName::Path),
            ("a/b.jpg", BadName::Path),
            ("a\\b.jpg", BadName::Path),
            ("..", BadName::Path),
            (".photogate.jpg", BadName::Path),
            ("a\0.jpg", BadName::Invisible),
            ("a\n.jpg", BadName::Invisible),
            ("gpj.\u{202e}a.jpg", BadName::Invisible),
            ("a\u{200b}.jpg", BadName::Invisible),
            (" a.jpg", BadName::Invisible),
            ("a.jpg.exe", BadName::NoPhoto),
            ("a", BadName::NoPhoto),
            ("", BadName::NoPhoto),
        ] {
            assert_eq!(check_name(bad), Err(why), "{bad:?}");
        }
        assert_eq!(check_name(&format!("{}.jpg", "ä".repeat(99))), Err(BadName::TooLong));
    }
}
