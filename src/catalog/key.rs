//! Keys of photos: their paths in the store.

use crate::ids::PhotoId;

/// Prefix of every key that photogate writes. No photo's key may begin with it, so that an upright
/// copy never replaces an original.
pub const DERIVED: &str = ".photogate/";

/// Longest key, in bytes. This is the limit of S3.
const KEY_MAX: usize = 1024;

/// Longest name between two slashes, in bytes. This is the limit of file systems.
const NAME_MAX: usize = 255;

/// The key of a file in the store. It is checked, and cannot lead out of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

/// Why a text is not a valid key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has no characters.
    #[error("the key is empty")]
    Empty,
    /// The key has more than 1024 bytes.
    #[error("the key has more than {KEY_MAX} bytes")]
    TooLong,
    /// A name between two slashes has more than 255 bytes.
    #[error("the key has a name with more than {NAME_MAX} bytes")]
    NameTooLong,
    /// The key begins with [`DERIVED`], which is reserved for files that photogate writes.
    #[error("the key begins with \"{DERIVED}\", which is reserved for photogate's own files")]
    Reserved,
    /// The key has `..`, `//`, a backslash, a control character, or a leading or trailing slash.
    #[error("the key {0:?} is not a plain path such as \"2026/marathon/IMG_0001.jpg\"")]
    NotPlain(String),
}

impl Key {
    /// Checks a key that comes from outside photogate.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > KEY_MAX {
            return Err(KeyError::TooLong);
        }
        if key.starts_with(DERIVED) {
            return Err(KeyError::Reserved);
        }
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\\');
        if !key.split('/').all(is_plain) || key.chars().any(char::is_control) {
            return Err(KeyError::NotPlain(key.to_owned()));
        }
        if key.split('/').any(|name| name.len() > NAME_MAX) {
            return Err(KeyError::NameTooLong);
        }
        Ok(Self(key.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Key of the thumbnail of a photo. The thumbnail is upright as the photo's EXIF tag says.
    pub(crate) fn thumbnail(photo: PhotoId) -> Self {
        Self::derived(&format!("thumbnails/{photo}.jpg"))
    }

    /// Key of the upright copy of a photo.
    pub(crate) fn upright(photo: PhotoId, extension: &str) -> Self {
        Self::derived(&format!("upright/{photo}.{extension}"))
    }

    /// Key of the upright copy for a turn that a person has said, in degrees clockwise. No worker
    /// writes it.
    #[cfg(feature = "vision")]
    pub(crate) fn corrected(photo: PhotoId, turn: u16, extension: &str) -> Self {
        Self::derived(&format!("upright/{photo}/{turn}.{extension}"))
    }

    /// The directory of a photo's upright copies for turns that people have said.
    #[cfg(feature = "vision")]
    pub(crate) fn all_corrected(photo: PhotoId) -> Self {
        Self::derived(&format!("upright/{photo}"))
    }

    /// Keys of all files that workers may have made of a photo.
    #[cfg(feature = "vision")]
    pub(crate) fn all_derived(photo: PhotoId) -> impl Iterator<Item = Self> {
        let upright =
            crate::sandbox::EXTENSIONS.map(|extension| Self::upright(photo, extension.name()));
        upright.into_iter().chain([Self::thumbnail(photo)])
    }

    /// The directory of the records of erasures.
    #[cfg(feature = "vision")]
    pub(crate) fn erasures() -> Self {
        Self::derived("erasures")
    }

    /// Key of the record of an erasure.
    #[cfg(feature = "vision")]
    pub(crate) fn erasure(id: uuid::Uuid) -> Self {
        Self::derived(&format!("erasures/{id}.json"))
    }

    /// The directory of an archive.
    #[cfg(feature = "vision")]
    pub(crate) fn archive(directory: uuid::Uuid) -> Self {
        Self::derived(&format!("archives/{directory}"))
    }

    /// Key of a part of an archive. Its name has its SHA-256: whoever writes another content writes
    /// another file.
    #[cfg(feature = "vision")]
    pub(crate) fn archive_part(directory: uuid::Uuid, part: i32, sha256: &[u8]) -> Self {
        let hash = hex::encode(sha256);
        Self::derived(&format!("archives/{directory}/part-{part:06}-{hash}.ndjson.zst"))
    }

    /// Key of the manifest of an archive; with `.sig`, of its signature.
    #[cfg(feature = "vision")]
    pub(crate) fn archive_manifest(directory: uuid::Uuid, sha256: &[u8], extension: &str) -> Self {
        let hash = hex::encode(sha256);
        Self::derived(&format!("archives/{directory}/manifest-{hash}.{extension}"))
    }

    /// Key of a file that tells whether the store works.
    #[cfg(feature = "vision")]
    pub(crate) fn probe(id: uuid::Uuid) -> Self {
        Self::derived(&format!("probes/{id}"))
    }

    /// Makes a key below [`DERIVED`]. The caller must not put text from outside into `path`,
    /// because it is not checked.
    fn derived(path: &str) -> Self {
        Self(format!("{DERIVED}{path}"))
    }
}

/// Whether a key has the extension of a photo. A directory may also contain other files, for
/// example from a sync program.
pub(crate) fn is_photo(key: &str) -> bool {
    let extension = key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| {
        ["jpg", "jpeg", "png", "webp", "gif", "tif", "tiff"].contains(&extension.as_str())
    })
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_lead_out_of_the_store() {
        for key in
            ["../secret", "a/../../b", "/etc/passwd", "a//b", "a/", "a\\..\\b", "a\nb", "./a"]
        {
            assert!(matches!(Key::parse(key), Err(KeyError::NotPlain(_))), "{key}");
        }
        assert_eq!(Key::parse(""), Err(KeyError::Empty));
        assert_eq!(Key::parse(".photogate/upright/x.jpg"), Err(KeyError::Reserved));
        assert_eq!(Key::parse(&"a".repeat(1025)), Err(KeyError::TooLong));
        assert_eq!(Key::parse(&format!("2026/{}", "a".repeat(256))), Err(KeyError::NameTooLong));
        assert!(Key::parse(&format!("2026/{}", "a".repeat(255))).is_ok());
        assert!(Key::parse("2026/Köln Marathon/IMG_0001.JPG").is_ok());
    }

    #[cfg(feature = "vision")]
    proptest::proptest! {
        /// What photogate takes for a key, the store takes for the same path.
        #[test]
        fn the_store_knows_every_key(text in "[a-zA-Z0-9 ./\\\\%~*#?\\x00-\\x20éß]{0,12}") {
            use object_store::path::Path;
            if let Ok(key) = Key::parse(&text) {
                let path = Path::parse(key.as_str()).expect("the store takes it");
                proptest::prop_assert_eq!(path.as_ref(), text);
            }
        }
    }
}
