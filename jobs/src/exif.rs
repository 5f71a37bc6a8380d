//! Reads the orientation from EXIF data, and corrects EXIF data after a turn.

use std::io::Cursor;

use exif::{In, Reader, Tag};
use img_parts::{ImageEXIF, webp::WebP};

use crate::{format::Format, orientation::Orientation};

/// Reads the orientation of a file. A file without readable EXIF data is upright.
pub(crate) fn orientation(bytes: &[u8], format: Format) -> Orientation {
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    let read = match format {
        Format::Gif => return Orientation::default(),
        // Some programs begin the chunk with "Exif\0\0" as in a JPEG. The reader does not expect
        // this.
        Format::WebP => match webp_exif(bytes) {
            Some(raw) => reader.read_raw(raw),
            None => return Orientation::default(),
        },
        Format::Jpeg | Format::Png | Format::Tiff => {
            reader.read_from_container(&mut Cursor::new(bytes))
        }
    };
    let read = read.or_else(|error| error.distill_partial_result(|_| ()));
    let value =
        read.ok().and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
    Orientation::from_exif(value.unwrap_or(1))
}

fn webp_exif(bytes: &[u8]) -> Option<Vec<u8>> {
    let raw = WebP::from_bytes(bytes.to_vec().into()).ok()?.exif()?;
    Some(raw.strip_prefix(b"Exif\0\0").unwrap_or(&raw).to_vec())
}

/// Corrects a TIFF structure, in place, after the pixels were turned upright.
///
/// The orientation becomes 1, and the pixel dimensions become `width` and `height`. `turn` turns
/// the thumbnail; if it returns `None` or more bytes than before, the thumbnail is removed, because
/// it would still lie on its side. Everything else stays, maker notes included. Tags that are
/// missing or damaged are left alone.
pub(crate) fn set_upright(
    tiff: &mut [u8],
    width: u32,
    height: u32,
    turn: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) {
    let Some(order) = Order::of(tiff) else { return };
    let Some(ifd0) = order.u32(tiff, 4) else { return };
    let mut details = None;
    let Some(end) = order.each_entry(tiff, ifd0, |tiff, entry| match order.u16(tiff, entry) {
        Some(0x0112) => order.write(tiff, entry, 1),
        Some(0x0100) => order.write(tiff, entry, width),
        Some(0x0101) => order.write(tiff, entry, height),
        Some(0x8769) => details = order.u32(tiff, entry + 8),
        _ => {}
    }) else {
        return;
    };
    // Without a turned thumbnail, the link to its directory is removed.
    if order.turn_thumbnail(tiff, end, turn).is_none()
        && let Some(link) = tiff.get_mut(end..end + 4)
    {
        link.fill(0);
    }
    if let Some(details) = details {
        order.each_entry(tiff, details, |tiff, entry| match order.u16(tiff, entry) {
            Some(0xA002) => order.write(tiff, entry, width),
            Some(0xA003) => order.write(tiff, entry, height),
            _ => {}
        });
    }
}

/// Returns the TIFF structure in a JPEG's first EXIF segment; `None` if there is no such segment
/// before the first scan.
pub(crate) fn jpeg_tiff(bytes: &mut [u8]) -> Option<&mut [u8]> {
    let mut at = 2;
    loop {
        let header: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        match header {
            [0xFF, 0xE1, ..] if bytes.get(at + 4..at + 10) == Some(b"Exif\0\0") => {
                return bytes.get_mut(at + 10..at + 2 + length);
            }
            [0xFF, 0xDA | 0xD9, ..] => return None,
            [0xFF, ..] if length >= 2 => at += 2 + length,
            _ => return None,
        }
    }
}

/// The byte order of a TIFF structure.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(tiff: &[u8]) -> Option<Self> {
        match tiff.get(..4)? {
            b"II*\0" => Some(Self::Little),
            b"MM\0*" => Some(Self::Big),
            _ => None,
        }
    }

    fn u16(self, tiff: &[u8], at: usize) -> Option<u16> {
        let bytes = tiff.get(at..at + 2)?.try_into().ok()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, tiff: &[u8], at: usize) -> Option<usize> {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
        .ok()
    }

    /// Calls `visit` with the offset of each entry of a directory, and returns the offset after the
    /// last entry.
    ///
    /// This always ends, whatever the bytes are: a directory has at most 65535 entries, and no
    /// entry is followed to another directory here.
    fn each_entry(
        self,
        tiff: &mut [u8],
        directory: usize,
        mut visit: impl FnMut(&mut [u8], usize),
    ) -> Option<usize> {
        let entries = usize::from(self.u16(tiff, directory)?);
        let end = directory + 2 + 12 * entries;
        if end > tiff.len() {
            return None;
        }
        (0..entries).for_each(|entry| visit(tiff, directory + 2 + 12 * entry));
        Some(end)
    }

    /// Turns the thumbnail of the directory that is linked at `link`, in place. `None` if there is
    /// no thumbnail, or it cannot be turned in its place.
    fn turn_thumbnail(
        self,
        tiff: &mut [u8],
        link: usize,
        turn: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<()> {
        let directory = self.u32(tiff, link).filter(|directory| *directory > 0)?;
        let (mut start, mut length, mut length_entry) = (None, None, None);
        self.each_entry(tiff, directory, |tiff, entry| match self.u16(tiff, entry) {
            Some(0x0112) => self.write(tiff, entry, 1),
            Some(0x0201) => start = self.u32(tiff, entry + 8),
            Some(0x0202) => {
                length = self.u32(tiff, entry + 8);
                length_entry = Some(entry);
            }
            _ => {}
        })?;
        let (start, length) = (start?, length?);
        let room = tiff.get_mut(start..start.checked_add(length)?)?;
        let turned = turn(room).filter(|turned| turned.len() <= length)?;
        room.fill(0);
        room.get_mut(..turned.len())?.copy_from_slice(&turned);
        self.write(tiff, length_entry?, u32::try_from(turned.len()).ok()?);
        Some(())
    }

    /// Writes a value into an entry of type SHORT or LONG. Entries of other types are left alone.
    fn write(self, tiff: &mut [u8], entry: usize, value: u32) {
        let kind = self.u16(tiff, entry + 2);
        let short = u16::try_from(value).unwrap_or(u16::MAX);
        let Some(slot) = tiff.get_mut(entry + 8..entry + 12) else { return };
        match (kind, self) {
            (Some(3), Self::Little) => slot[..2].copy_from_slice(&short.to_le_bytes()),
            (Some(3), Self::Big) => slot[..2].copy_from_slice(&short.to_be_bytes()),
            (Some(4), Self::Little) => slot.copy_from_slice(&value.to_le_bytes()),
            (Some(4), Self::Big) => slot.copy_from_slice(&value.to_be_bytes()),
            _ => {}
        }
    }
}
