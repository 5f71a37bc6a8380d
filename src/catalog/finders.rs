//! Finders: the pages on which athletes look for their photos of an event, without an account.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::ids::{EventId, OrganisationId, PhotoId};

/// Who can open the finder of an event.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum FinderAccess {
    /// Nobody: there is no such page.
    #[default]
    Off,
    /// Whoever has its link, which cannot be guessed.
    Link,
    /// Everybody, also at the event's number.
    Public,
}

impl fmt::Display for FinderAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Link => "link",
            Self::Public => "public",
        })
    }
}

/// The finder of an event, as its organisers see it.
#[derive(Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Finder {
    /// Who can open it.
    pub access: FinderAccess,
    /// The secret path of the page; null if it is off.
    #[schema(example = "/find/8d0c3bb1f0a94c3a9a35d1b0a7c2e4f6")]
    pub link: Option<String>,
    /// The path of the page that everybody may know; null if the page is not public.
    #[schema(example = "/find/7")]
    pub public: Option<String>,
    /// Who has set it last.
    pub set_by: Option<String>,
    /// When it was set last.
    pub set_at: Option<DateTime<Utc>>,
}

/// The link stays out of logs.
impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Returns the finder of an event.
///
/// # Errors
/// When the database has trouble.
pub async fn of_event(db: &mut PgConnection, event: EventId) -> sqlx::Result<Finder> {
    let row = sqlx::query!(
        "SELECT secret, is_public, set_by, set_at FROM finder WHERE event_id = $1",
        event.0
    );
    Ok(row.fetch_optional(db).await?.map_or_else(Finder::default, |row| Finder {
        access: if row.is_public { FinderAccess::Public } else { FinderAccess::Link },
        link: Some(format!("/find/{}", row.secret)),
        public: row.is_public.then(|| format!("/find/{event}")),
        set_by: Some(row.set_by),
        set_at: Some(row.set_at),
    }))
}

/// Sets who can open the finder of an event. With `replace`, it gets another link. Returns whether
/// anything has changed.
///
/// # Errors
/// `PG002` if there is no such event, or trouble with the database.
pub async fn set(
    db: &mut PgConnection,
    event: EventId,
    access: FinderAccess,
    replace: bool,
    actor: &str,
) -> sqlx::Result<bool> {
    let public = match access {
        FinderAccess::Off => None,
        FinderAccess::Link => Some(false),
        FinderAccess::Public => Some(true),
    };
    sqlx::query_scalar!(
        r#"SELECT set_finder($1, $2, $3, $4) AS "changed!""#,
        event.0,
        public,
        replace,
        actor
    )
    .fetch_one(db)
    .await
}

/// What a visitor has of a finder: the last part of its address.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// Its secret.
    Secret(String),
    /// The number of its event.
    Event(EventId),
}

/// The secret stays out of logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret(…)"),
            Self::Event(event) => write!(f, "Event({event})"),
        }
    }
}

impl Key {
    /// Reads it as [`of_event`] writes it, and in no other way: each page has one address.
    pub fn read(text: &str) -> Option<Self> {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(is_hex) {
            return Some(Self::Secret(text.to_owned()));
        }
        let event = text.parse().ok().map(EventId)?;
        (event.to_string() == text).then_some(Self::Event(event))
    }
}

/// A finder that somebody has opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The event.
    pub event: EventId,
    /// The event's name.
    pub name: String,
    /// The organisation that owns the event.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub organiser: String,
    /// Whether bib numbers are read.
    pub bib_search: bool,
    /// Whether people can search for a face.
    pub face_search: bool,
    /// Whether what was found on its photos is in an archive, and not in the database.
    pub archived: bool,
}

/// Opens a finder. `None`: there is none with this key, it is off, not public, or its event was
/// deleted; nobody is told which.
///
/// # Errors
/// When the database has trouble.
pub async fn open(db: &mut PgConnection, key: &Key) -> sqlx::Result<Option<Opened>> {
    let (secret, event) = match key {
        Key::Secret(secret) => (Some(secret.as_str()), None),
        Key::Event(event) => (None, Some(event.0)),
    };
    sqlx::query_as!(
        Opened,
        r#"SELECT e.event_id AS "event: _", e.name, e.organisation_id AS "organisation: _",
                  o.name AS organiser, e.bib_search, e.face_search,
                  EXISTS (SELECT FROM archive a WHERE a.event_id = e.event_id
                          AND a.state NOT IN ('packing', 'restored', 'stopped')) AS "archived!"
           FROM event e JOIN organisation o USING (organisation_id)
           WHERE e.deleted_at IS NULL AND e.event_id = (
               SELECT f.event_id FROM finder f WHERE f.secret = $1
               UNION ALL
               SELECT f.event_id FROM finder f WHERE f.event_id = $2 AND f.is_public)"#,
        secret,
        event
    )
    .fetch_optional(db)
    .await
}

/// A photo as visitors see it.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// The photo's ID.
    pub photo: PhotoId,
    /// Its size in pixels; `None` if nobody has looked at it.
    pub width: Option<i32>,
    /// As `width`.
    pub height: Option<i32>,
    /// The clockwise turn that it needs, in degrees.
    pub turn: Option<i16>,
}

/// Returns these photos of an event, in this order.
///
/// # Errors
/// When the database has trouble.
pub async fn pictures(
    db: &mut PgConnection,
    event: EventId,
    photos: &[PhotoId],
) -> sqlx::Result<Vec<Picture>> {
    let photos: Vec<_> = photos.iter().map(|photo| photo.0).collect();
    sqlx::query_as!(
        Picture,
        r#"SELECT p.photo_id AS "photo: _", l.width AS "width?", l.height AS "height?",
                  CASE WHEN NOT r.abstained THEN r.turn END AS turn
           FROM unnest($2::uuid[]) WITH ORDINALITY u (photo_id, place)
           JOIN photo p USING (photo_id)
           LEFT JOIN looked_at l USING (photo_id) LEFT JOIN rotation r USING (photo_id)
           WHERE p.event_id = $1 ORDER BY u.place"#,
        event.0,
        &photos
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_address() {
        let secret = "8d0c3bb1f0a94c3a9a35d1b0a7c2e4f6";
        assert_eq!(Key::read(secret), Some(Key::Secret(secret.into())));
        assert_eq!(Key::read("7"), Some(Key::Event(EventId(7))));
        let shouted = secret.to_uppercase();
        for other in
            ["", "07", "+7", "7.", " 7", "٧", "99999999999999999999", "x", &secret[1..], &shouted]
        {
            assert_eq!(Key::read(other), None, "{other}");
        }
        assert!(!format!("{:?}", Key::read(secret)).contains("8d0c"));
    }
}
