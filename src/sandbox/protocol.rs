//! The messages between a worker and its sandbox children.
//!
//! A message is a header in JSON and a body of bytes, both with their lengths. The worker must not
//! trust the answers, because a hostile photo may have taken over the child.

use std::io;

use photogate_jobs::{
    Cue, Embedding, Face, Format, LINES_MAX, Line, OTHERS_MAX, PIXELS_MAX, PhotoError, READING_MAX,
    READINGS_MAX, Rotation, Turn,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::OwnedSemaphorePermit,
};

use super::lockdown::Sandbox;
use crate::ids::Operation;

/// Largest header, in bytes. The findings of a photo with a thousand faces and embeddings are
/// smaller.
const HEADER_MAX: u32 = 4 << 20;
/// Largest body, in MiB. It is a turned photo; a PNG of 120 megapixels may be larger than the
/// original file.
pub(super) const BODY_MAX_MIB: u32 = 512;

/// Largest plausible number of faces. At the size at which faces are searched, no crowd has more.
const FACES_MAX: usize = 2000;

/// The first message of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hello {
    /// The models are loaded, and the child is in its sandbox.
    Ready(Sandbox),
    /// The child cannot work here, for this reason.
    GaveUp(String),
}

/// What a child must do with a photo.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Wants {
    pub(crate) operation: Operation,
    pub(crate) bibs: bool,
    pub(crate) embeddings: bool,
    pub(crate) thumbnail: bool,
    /// The clockwise turn, after that of EXIF, that the photo is known to need: somebody has told
    /// it, or AI Rotation found it before. `None`: it is not known.
    pub(crate) turn: Option<Turn>,
}

/// A child's answer about a photo.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The findings of the photo.
    Seen(Seen),
    /// The photo cannot be processed.
    Refused(PhotoError),
    /// The code panicked with this message. The child ends after this answer.
    Panicked(String),
}

/// The findings of one operation on one photo.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// Findings of Photo Processing.
    Processing {
        /// Width of the upright photo, in pixels.
        width: u32,
        /// Height of the upright photo, in pixels.
        height: u32,
        /// The clockwise turn, after that of EXIF, in which faces and text were looked for. All
        /// places are those on the photo without this turn.
        turn: Turn,
        /// Faces on the photo, with embeddings if they are wanted.
        faces: Vec<(Face, Option<Embedding>)>,
        /// Lines of text on the photo. The worker decides which of them are bib numbers, because it
        /// has the start list.
        lines: Vec<Line>,
        /// A small copy of the photo.
        thumbnail: Thumbnail,
    },
    /// Findings of AI Rotation.
    Rotation {
        /// The turn that the photo needs, or an abstention.
        rotation: Rotation,
        /// The turned photo, if one is needed. Its bytes are the body of the message, except the
        /// end of the body, which is the thumbnail.
        upright: Option<Turned>,
        /// A small copy of the photo.
        thumbnail: Thumbnail,
    },
}

/// A small JPEG of the photo. Its bytes are at the end of the message's body.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Thumbnail {
    length: usize,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

impl Thumbnail {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len(), bytes }
    }
}

/// Largest plausible thumbnail, in bytes.
const THUMBNAIL_MAX: usize = 1 << 20;

/// A photo that was turned.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Turned {
    /// Extension of the file that the worker writes.
    pub(crate) extension: Extension,
    /// Whether the photo was turned without loss: every pixel is as in the original.
    pub(crate) lossless: bool,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
    /// The share of [`super::Pool`]'s memory for turned photos that `bytes` takes.
    #[serde(skip)]
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// The extensions of files that photogate writes. It is an enum, so that a child cannot invent
/// others.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Extension {
    Jpg,
    Png,
    Webp,
}

/// All extensions of files that photogate writes.
pub(crate) const EXTENSIONS: [Extension; 3] = [Extension::Jpg, Extension::Png, Extension::Webp];

impl Extension {
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpg,
            Format::WebP => Self::Webp,
            Format::Png | Format::Gif | Format::Tiff => Self::Png,
        }
    }

    /// The extension without the dot.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpg => Format::Jpeg.extension(),
            Self::Png => Format::Png.extension(),
            Self::Webp => Format::WebP.extension(),
        }
    }
}

/// Longest text in an answer, in bytes.
const TEXT_MAX: usize = 1000;

impl Answer {
    /// The answer after a panic with this message.
    pub(super) fn panicked(message: &str) -> Self {
        let end = message.floor_char_boundary(TEXT_MAX);
        Self::Panicked(message[..end].to_owned())
    }

    /// Whether an honest child can give this answer to `wants`. The database would refuse an
    /// implausible answer, and the whole batch of photos with it.
    pub(super) fn is_plausible(&self, wants: Wants, body: &[u8]) -> bool {
        match self {
            Self::Seen(Seen::Processing { width, height, turn, faces, lines, thumbnail }) => {
                wants.operation == Operation::PhotoProcessing
                    && wants.turn.is_none_or(|known| known == *turn)
                    && body.len() == thumbnail.length.min(THUMBNAIL_MAX)
                    && (1..=PIXELS_MAX).contains(&(u64::from(*width) * u64::from(*height)))
                    && faces.len() <= FACES_MAX
                    && faces.iter().all(|(face, embedding)| {
                        is_finite(&[face.x, face.y, face.width, face.height, face.score])
                            && is_finite(face.landmarks.as_flattened())
                            && embedding
                                .as_ref()
                                .is_none_or(|embedding| wants.embeddings && is_unit(embedding))
                    })
                    && lines.len() <= if wants.bibs { LINES_MAX } else { 0 }
                    && lines.iter().all(|line| {
                        line.readings.len() <= READINGS_MAX
                            && is_finite(&[line.x, line.y, line.width, line.height])
                            && line.readings.iter().all(|reading| {
                                is_text(&reading.text)
                                    && is_finite(&[reading.score])
                                    && reading.others.len() <= OTHERS_MAX
                                    && reading.others.iter().all(|(text, probability)| {
                                        is_text(text) && (0.0..=1.0).contains(probability)
                                    })
                            })
                    })
            }
            Self::Seen(Seen::Rotation { rotation, upright, thumbnail }) => {
                wants.operation == Operation::AiRotation
                    && thumbnail.length <= body.len().min(THUMBNAIL_MAX)
                    && (upright.is_some() || body.len() == thumbnail.length)
                    && (0.0..=1.0).contains(&rotation.confidence)
                    && (!rotation.abstained || rotation.turn == Turn::None)
                    && !(rotation.abstained && rotation.unmirrored)
                    && rotation.abstained == rotation.cue.is_none()
                    && (rotation.cue == Some(Cue::Known)) == wants.turn.is_some()
                    && wants.turn.is_none_or(|turn| rotation.turn == turn)
            }
            Self::Refused(error) => body.is_empty() && error.to_string().len() <= 2 * TEXT_MAX,
            Self::Panicked(message) => body.is_empty() && message.len() <= TEXT_MAX,
        }
    }

    /// Takes the bytes out of the answer. They are the body of its message.
    pub(super) fn body(&mut self) -> Vec<u8> {
        match self {
            Self::Seen(Seen::Processing { thumbnail, .. }) => std::mem::take(&mut thumbnail.bytes),
            Self::Seen(Seen::Rotation { upright, thumbnail, .. }) => {
                let mut body = upright
                    .as_mut()
                    .map(|turned| std::mem::take(&mut turned.bytes))
                    .unwrap_or_default();
                body.append(&mut thumbnail.bytes);
                body
            }
            Self::Refused(_) | Self::Panicked(_) => Vec::new(),
        }
    }

    /// Puts the body of the message into the answer. The caller must have checked that the answer
    /// is plausible.
    pub(super) fn with(mut self, mut body: Vec<u8>, room: OwnedSemaphorePermit) -> Self {
        if let Self::Seen(Seen::Processing { thumbnail, .. } | Seen::Rotation { thumbnail, .. }) =
            &mut self
        {
            thumbnail.bytes = body.split_off(body.len().saturating_sub(thumbnail.length));
        }
        if let Self::Seen(Seen::Rotation { upright: Some(turned), .. }) = &mut self {
            turned.bytes = body;
            turned.room = Some(room);
        }
        self
    }
}

/// Whether a model can have read this: printable ASCII. The database takes no NUL.
fn is_text(text: &str) -> bool {
    text.len() <= READING_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn is_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Whether an embedding has 128 numbers and unit length.
fn is_unit(embedding: &Embedding) -> bool {
    let length = embedding.iter().map(|value| value * value).sum::<f32>();
    embedding.len() == 128 && (0.98..=1.02).contains(&length)
}

/// Writes one message: lengths, header and body.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    header: &impl Serialize,
    body: &[u8],
) -> io::Result<()> {
    to.write_all(&head(header, body)?).await?;
    to.write_all(body).await?;
    to.flush().await
}

/// Reads a message up to its body. Returns the header and the length of the body.
pub(super) async fn receive<H: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<(H, usize)> {
    let mut lengths = [0; 12];
    from.read_exact(&mut lengths).await?;
    let (header, body) = lengths_of(lengths)?;
    let mut bytes = vec![0; header];
    from.read_exact(&mut bytes).await?;
    Ok((serde_json::from_slice(&bytes)?, body))
}

/// Reads the body of a message.
pub(super) async fn receive_body(
    from: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The same functions for the child, which has no async runtime.
pub(super) mod blocking {
    use std::io::{self, Read, Write};

    use super::{DeserializeOwned, Serialize, head, lengths_of};

    pub(in crate::sandbox) fn send(
        to: &mut impl Write,
        header: &impl Serialize,
        body: &[u8],
    ) -> io::Result<()> {
        to.write_all(&head(header, body)?)?;
        to.write_all(body)?;
        to.flush()
    }

    pub(in crate::sandbox) fn receive<H: DeserializeOwned>(
        from: &mut impl Read,
    ) -> io::Result<(H, Vec<u8>)> {
        let mut lengths = [0; 12];
        from.read_exact(&mut lengths)?;
        let (header, body) = lengths_of(lengths)?;
        let mut bytes = vec![0; header];
        from.read_exact(&mut bytes)?;
        let header = serde_json::from_slice(&bytes)?;
        let mut bytes = vec![0; body];
        from.read_exact(&mut bytes)?;
        Ok((header, bytes))
    }
}

/// The beginning of a message: both lengths, and the header.
fn head(header: &impl Serialize, body: &[u8]) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &(body.len() as u64).to_le_bytes(), &header].concat())
}

/// Reads the lengths of header and body, and checks their limits.
fn lengths_of(bytes: [u8; 12]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, rest @ ..] = bytes;
    let (header, body) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(rest));
    if header > HEADER_MAX || body > u64::from(BODY_MAX_MIB) << 20 {
        return Err(io::Error::other("the message is too long"));
    }
    Ok((header as usize, usize::try_from(body).map_err(io::Error::other)?))
}

#[cfg(test)]
mod tests {
    use photogate_jobs::Reading;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_received() {
        let mut pipe = Vec::new();
        send(&mut pipe, &"header", b"body").await.expect("a vector takes all");

        let mut from = &pipe[..];
        let (header, length): (String, _) = receive(&mut from).await.expect("whole");
        let body = receive_body(&mut from, length).await.expect("whole");

        assert_eq!((header.as_str(), &body[..]), ("header", &b"body"[..]));
        assert!(blocking::receive::<String>(&mut &pipe[..pipe.len() - 1]).is_err(), "cut short");
    }

    #[test]
    fn an_answer_that_no_photo_has_is_not_believed() {
        let turn = Wants {
            operation: Operation::AiRotation,
            bibs: false,
            embeddings: false,
            thumbnail: false,
            turn: None,
        };
        let decided = |confidence, cue| {
            let (turn, abstained, unmirrored) = (Turn::Half, false, false);
            let rotation = Rotation { turn, confidence, abstained, cue, unmirrored };
            Answer::Seen(Seen::Rotation {
                rotation,
                upright: None,
                thumbnail: Thumbnail::default(),
            })
        };
        let rotation = |confidence| decided(confidence, Some(Cue::Network));
        assert!(rotation(0.9).is_plausible(turn, b""));
        assert!(!decided(0.9, None).is_plausible(turn, b""), "nothing has decided");
        assert!(!rotation(f32::INFINITY).is_plausible(turn, b""));
        assert!(!rotation(0.9).is_plausible(turn, b"a body nobody asked for"));
        let known = |turned| decided(1.0, Some(Cue::Known)).is_plausible(turned, b"");
        assert!(known(Wants { turn: Some(Turn::Half), ..turn }));
        assert!(!known(Wants { turn: Some(Turn::None), ..turn }), "another turn is known");
        assert!(!known(turn), "nobody has told it");
        assert!(!rotation(0.9).is_plausible(Wants { turn: Some(Turn::Half), ..turn }, b""));
        let look = Wants {
            operation: Operation::PhotoProcessing,
            bibs: false,
            embeddings: true,
            thumbnail: false,
            turn: None,
        };
        assert!(!rotation(0.9).is_plausible(look, b""), "not what was asked for");
        let seen = |width, embedding: Vec<f32>| {
            let landmarks = [[1.0; 2]; 5];
            let face = Face { x: 0.0, y: 0.0, width: 1.0, height: 1.0, score: 0.9, landmarks };
            let (height, faces, lines) = (10, vec![(face, Some(embedding))], Vec::new());
            let (thumbnail, turn) = (Thumbnail::default(), Turn::Half);
            Answer::Seen(Seen::Processing { width, height, turn, faces, lines, thumbnail })
        };
        let read = |text: String| {
            let readings = vec![Reading { text, score: 0.9, others: Vec::new() }];
            let line = Line { readings, x: 0.0, y: 0.0, width: 1.0, height: 1.0, worn: true };
            let (lines, faces, thumbnail) = (vec![line], Vec::new(), Thumbnail::default());
            let (width, height, turn) = (9, 9, Turn::None);
            Answer::Seen(Seen::Processing { width, height, turn, faces, lines, thumbnail })
        };
        let bibs = Wants { bibs: true, ..look };
        assert!(read("1".repeat(READING_MAX)).is_plausible(bibs, b""));
        assert!(!read("1".repeat(READING_MAX + 1)).is_plausible(bibs, b""), "too long to look up");
        assert!(!read("1\0".into()).is_plausible(bibs, b""), "the database takes no NUL");
        assert!(!read("é1".into()).is_plausible(bibs, b""), "the models know only ASCII");
        let unit = || vec![128f32.sqrt().recip(); 128];
        assert!(seen(10, unit()).is_plausible(look, b""));
        assert!(!seen(10, unit()).is_plausible(Wants { embeddings: false, ..look }, b""));
        let told = |turn| seen(10, unit()).is_plausible(Wants { turn: Some(turn), ..look }, b"");
        assert!(told(Turn::Half) && !told(Turn::None), "it was told another turn");
        assert!(!seen(0, unit()).is_plausible(look, b""));
        assert!(!seen(u32::MAX, unit()).is_plausible(look, b""));
        assert!(!seen(10, vec![1.0; 128]).is_plausible(look, b""), "looks like everybody");
        assert!(!seen(10, unit()[..127].to_vec()).is_plausible(look, b""));
    }

    #[tokio::test]
    async fn a_length_that_cannot_be_is_not_believed() {
        let lie = [&8u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), b"12345678"].concat();

        assert!(receive::<u32>(&mut &lie[..]).await.is_err());
    }
}
