//! Finds EXIF tags that mirror a photo wrongly. Cameras almost never write the four tags that
//! mirror, and some programs write them by mistake. The text on such a photo could not be read.

use crate::{
    bodies::{CLOSE, bodies, people},
    eyes::Eyes,
    limits::PhotoError,
    orientation::Turn,
    picture::{Picture, to_f32},
    reading::Reading,
    text::detection_size,
};

/// Long side, in pixels, at which text is searched.
const SIDE: u32 = 512;
/// Largest number of lines that are read; the longest lines come first.
const LINES: usize = 6;
/// A line that is read with a lower score says nothing: a mirrored line is read as something, too.
const SCORE_MIN: f32 = 0.97;
/// The doubt (1 - score) about the mirror image of such a line must be larger by this factor. Some
/// numbers, such as 808, are the same in a mirror.
const DOUBT_FACTOR: f32 = 5.0;
/// A smaller doubt counts as this one.
const DOUBT_MIN: f32 = 0.005;
/// The longest line that counts in full, in characters.
const CHARACTERS_MAX: usize = 8;
/// So many characters must say that the tag is wrong: one number of three digits.
const WEIGHT_MIN: f32 = 3.0;
/// The share of them among all characters that say something.
const SHARE_MIN: f32 = 0.75;

impl Eyes {
    /// Whether the EXIF tag mirrors this photo, and the text on it says that this is wrong. Without
    /// text, the tag is believed. A photo whose tag does not mirror takes no time.
    pub(crate) fn is_mirrored_wrongly(&mut self, picture: &Picture) -> Result<bool, PhotoError> {
        if !picture.mirrored {
            return Ok(false);
        }
        // Which way is up is the same in a mirror.
        let view = self.view_upright(picture, None)?;
        let frame = &view.picture.frame;
        let whole = detection_size(frame, SIDE);
        let mut slants = self.find(frame, whole)?;
        let scale = 1.0 / picture.scale();
        let people = people(view.likely.iter().map(|face| face.scaled(scale)).collect());
        let zoom = to_f32(whole.0) / to_f32(frame.width());
        slants.extend(self.find_worn(frame, &bodies(frame, &people, zoom, &CLOSE), 0)?);
        slants.sort_by(|a, b| b.longest().total_cmp(&a.longest()));
        let mirror = frame.mirrored();
        let (mut followed, mut ignored) = (0.0_f32, 0.0_f32);
        for slant in slants.iter().filter(|slant| slant.is_long()).take(LINES) {
            let mirrored = slant.mirrored(to_f32(frame.width()));
            let mut readings = [Vec::new(), Vec::new()];
            for turn in slant.readings() {
                readings[0].push(self.recognise(frame, &slant.turned(turn))?);
                readings[1].push(self.recognise(&mirror, &mirrored.turned(turn))?);
            }
            let [one, other] = readings.map(surest);
            followed += lead(&one, &other);
            ignored += lead(&other, &one);
        }
        Ok(ignored >= WEIGHT_MIN && ignored >= SHARE_MIN * (ignored + followed))
    }
}

/// The surest reading of one line.
fn surest(readings: Vec<Reading>) -> Reading {
    let nothing = Reading { text: String::new(), score: 0.0, others: Vec::new() };
    readings
        .into_iter()
        .fold(nothing, |best, read| if read.score > best.score { read } else { best })
}

/// The number of characters of a line that is surely read, if its mirror image is not.
fn lead(read: &Reading, other: &Reading) -> f32 {
    let characters = read.text.chars().filter(char::is_ascii_alphanumeric).count();
    let leads = 1.0 - other.score >= DOUBT_FACTOR * (1.0 - read.score).max(DOUBT_MIN);
    if characters < 2 || read.score < SCORE_MIN || !leads {
        return 0.0;
    }
    f32::from(u8::try_from(characters.min(CHARACTERS_MAX)).unwrap_or(u8::MAX))
}

impl Picture {
    /// The same photo, mirrored left to right: as if the EXIF tag did not mirror it. A turn that
    /// this picture needs is the opposite turn of the other one.
    pub(crate) fn unmirrored(&self) -> Self {
        Self { frame: self.frame.mirrored(), mirrored: false, ..*self }
    }
}

impl Turn {
    /// The turn that undoes this one.
    pub(crate) fn back(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Quarter => Self::ThreeQuarters,
            Self::Half => Self::Half,
            Self::ThreeQuarters => Self::Quarter,
        }
    }
}
