//! The head of a JPEG: its size and its scans, read before any decoder runs.

use crate::limits::{PhotoError, SCANS_MAX, check_size};

/// Reads the frame header of a JPEG and counts its scans, in one pass over the markers.
///
/// Returns width and height as stored, and the number of colour components.
pub(crate) fn scan_jpeg(bytes: &[u8]) -> Result<(u32, u32, u8), PhotoError> {
    let mut frame = None;
    let mut scans = 0;
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            // TEM, RSTn and SOI have no length.
            0x01 | 0xD0..=0xD8 => {}
            0xD9 => break,
            _ => {
                let Some(length) = be16(bytes, at).filter(|length| *length >= 2) else { break };
                let body = bytes.get(at + 2..at + length).unwrap_or_default();
                match marker {
                    // SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC).
                    0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                        if let (Some(height), Some(width), Some(components)) =
                            (be16(body, 1), be16(body, 3), body.get(5))
                        {
                            let size = (
                                u32::try_from(width).unwrap_or(0),
                                u32::try_from(height).unwrap_or(0),
                            );
                            check_size(size.0, size.1)?;
                            frame.get_or_insert((size.0, size.1, *components));
                        }
                    }
                    0xDA => {
                        scans += 1;
                        if scans > SCANS_MAX {
                            return Err(PhotoError::TooManyScans);
                        }
                    }
                    _ => {}
                }
                at += length;
            }
        }
    }
    frame.ok_or_else(|| PhotoError::Corrupt("no frame header".into()))
}

/// Moves `at` behind the next marker and returns the marker's code. Skips entropy-coded data and
/// fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|byte| *byte == 0xFF)?;
        while *bytes.get(*at)? == 0xFF {
            *at += 1;
        }
        let code = bytes[*at];
        *at += 1;
        // FF00 is not a marker: it stands for the data byte FF.
        if code != 0 {
            return Some(code);
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg(height: u16, width: u16, scans: usize) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8];
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes.extend([1, 1, 0x11, 0]);
        for _ in 0..scans {
            bytes.extend([0xFF, 0xDA, 0, 3, 1, 0x12, 0xFF, 0, 0x34]);
        }
        bytes.extend([0xFF, 0xD9]);
        bytes
    }

    #[test]
    fn a_frame_header_tells_the_size_before_any_decoder_runs() {
        assert_eq!(scan_jpeg(&jpeg(3000, 4000, 1)), Ok((4000, 3000, 1)));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        assert!(matches!(scan_jpeg(&jpeg(65500, 65500, 1)), Err(PhotoError::TooManyPixels { .. })));
    }

    #[test]
    fn thousands_of_scans_are_refused() {
        assert_eq!(scan_jpeg(&jpeg(10, 10, 2000)), Err(PhotoError::TooManyScans));
    }
}
