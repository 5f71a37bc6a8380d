//! A part of an archive: lines of JSON, compressed with zstd.

use std::io::{self, BufRead, BufReader, Write};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A part has at most so many lines, and about so many bytes of text: so the memory that packing,
/// restoring and a receipt need is bounded.
const LINES_MAX: i32 = 10_000;
const TEXT_MAX: u64 = 16 << 20;
/// Largest line. An event with a larger one is not archived.
const LINE_MAX: u64 = 16 << 20;
/// Largest file of a part. zstd makes nothing that cannot be compressed larger than this.
pub(super) const FILE_MAX: usize = 40 << 20;
/// zstd's default: 3. Higher levels take three times as long for a tenth.
const LEVEL: i32 = 3;

/// What the books need to know of a line. The rest goes through untouched.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    /// The photo; `None`: it is the line of a content.
    pub(super) photo: Option<uuid::Uuid>,
    #[serde(default)]
    pub(super) jobs: Vec<Job>,
}

/// A job of a line.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    #[serde(rename = "job_id")]
    pub(super) id: i64,
    #[serde(rename = "queue_id")]
    pub(super) queue: i64,
    pub(super) outcome: Option<Outcome>,
}

/// What became of a job.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) state: String,
}

impl Outcome {
    pub(super) fn is_committed(&self) -> bool {
        self.state == "processed"
    }
}

impl Line {
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        Ok(serde_json::from_str(text)?)
    }
}

/// Jobs beside each other that ended alike.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) from: Vec<i64>,
    pub(super) to: Vec<i64>,
    pub(super) committed: Vec<bool>,
}

impl Ranges {
    fn of(mut ends: Vec<(i64, bool)>) -> Self {
        ends.sort_unstable();
        let mut ranges = Self::default();
        for (job, committed) in ends {
            match (ranges.to.last_mut(), ranges.committed.last()) {
                (Some(to), Some(last)) if *to + 1 == job && *last == committed => *to = job,
                _ => {
                    ranges.from.push(job);
                    ranges.to.push(job);
                    ranges.committed.push(committed);
                }
            }
        }
        ranges
    }
}

/// A part that is written.
pub(super) struct Writer {
    encoder: zstd::Encoder<'static, Vec<u8>>,
    pub(super) first: Option<String>,
    pub(super) last: String,
    pub(super) lines: i32,
    pub(super) text_bytes: u64,
    jobs: i64,
    ends: Vec<(i64, bool)>,
}

/// A part that was written.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: [u8; 32],
    pub(super) jobs: i64,
    pub(super) ranges: Ranges,
}

impl Writer {
    pub(super) fn new() -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            encoder,
            first: None,
            last: String::new(),
            lines: 0,
            text_bytes: 0,
            jobs: 0,
            ends: Vec::new(),
        })
    }

    /// Adds the line of a key. Keys come in order.
    pub(super) fn add(&mut self, key: String, text: &str) -> io::Result<()> {
        if text.len() as u64 > LINE_MAX {
            let most = LINE_MAX >> 20;
            return Err(io::Error::other(format!("{key} was queued too often: above {most} MiB")));
        }
        let line = Line::parse(text)?;
        self.jobs += i64::try_from(line.jobs.len()).unwrap_or(i64::MAX);
        for job in line.jobs {
            self.ends.extend(job.outcome.map(|outcome| (job.id, outcome.is_committed())));
        }
        self.encoder.write_all(text.as_bytes())?;
        self.encoder.write_all(b"\n")?;
        self.text_bytes += text.len() as u64 + 1;
        self.lines += 1;
        self.first.get_or_insert_with(|| key.clone());
        self.last = key;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.lines >= LINES_MAX || self.text_bytes >= TEXT_MAX
    }

    pub(super) fn finish(self) -> io::Result<Written> {
        let bytes = self.encoder.finish()?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Written { bytes, sha256, jobs: self.jobs, ranges: Ranges::of(self.ends) })
    }
}

/// Reads the lines of a part with `text_bytes` of text, one after the other. Nothing of a line is
/// lost without an error: a part with another length ends with one.
pub(super) fn lines(
    file: &[u8],
    text_bytes: i64,
) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    let mut left = u64::try_from(text_bytes).unwrap_or(0);
    // One byte more, so that a longer text is noticed.
    let decoder = zstd::Decoder::with_buffer(file)?;
    let mut text = BufReader::new(io::Read::take(decoder, left + 1));
    let mut has_ended = false;
    Ok(std::iter::from_fn(move || {
        let mut line = String::new();
        let read = match text.read_line(&mut line) {
            _ if has_ended => return None,
            Ok(read) => read as u64,
            Err(error) => {
                has_ended = true;
                return Some(Err(error));
            }
        };
        has_ended = read == 0 || read > left;
        match left.checked_sub(read) {
            Some(0) if read == 0 => None,
            Some(rest) if read > 0 => {
                left = rest;
                line.truncate(line.trim_end_matches('\n').len());
                Some(Ok(line))
            }
            _ => Some(Err(io::Error::other(format!("its text has not {text_bytes} bytes")))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_beside_each_other_that_ended_alike_are_one_range() {
        let ranges = Ranges::of(vec![(7, true), (5, true), (6, true), (8, false), (10, false)]);
        assert_eq!(ranges.from, [5, 8, 10]);
        assert_eq!(ranges.to, [7, 8, 10]);
        assert_eq!(ranges.committed, [true, false, false]);
        assert_eq!(Ranges::of(Vec::new()), Ranges::default());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut part = Writer::new().unwrap();
        let line = r#"{"photo":"01930c2e-5f6b-7a31-9d4a-7f1f0f9f2b11","jobs":[{"job_id":7,
            "queue_id":1,"outcome":{"state":"failed","x":1e300}}]}"#
            .replace('\n', "");
        part.add("a".into(), &line).unwrap();
        part.add("b".into(), r#"{"content":{"job_id":7}}"#).unwrap();
        assert!(part.add("c".into(), &"x".repeat(17 << 20)).is_err());
        let text = part.text_bytes;
        let written = part.finish().unwrap();

        assert_eq!((written.jobs, written.ranges.committed), (1, vec![false]));
        let read = |bytes: &[u8], length: i64| -> io::Result<Vec<String>> {
            lines(bytes, length).and_then(Iterator::collect)
        };
        let length = i64::try_from(text).unwrap();
        let found = read(&written.bytes, length).unwrap();
        assert_eq!(found, [line.as_str(), r#"{"content":{"job_id":7}}"#]);
        // What is cut off, or comes on top, is an error.
        for other in [0, 1, length - 1, length + 1] {
            assert!(read(&written.bytes, other).is_err(), "{other}");
        }
        let mut broken = written.bytes;
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        let read = read(&broken, length);
        assert!(read.is_err() || read.unwrap()[0] != line);
    }
}
