//! The photos of the busy scene are the sample photos, under 20,000 names. Each sample is really
//! looked at, once; then its findings are those of every photo that shows it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use photogate_jobs::{PhotoError, StartList};
use sha2::{Digest, Sha256};

use crate::{
    catalog::{findings::Findings, key::Key},
    config::Config,
    ids::{Operation, OrganisationId, PhotoId},
    queue::claim::Reservation,
    sandbox::{Answer, Pool, Seen, THIS_PROGRAM, Wants},
    worker::verdict::Verdict,
};

/// A sample that can be looked at, and what was found on it.
struct Sample {
    file: PathBuf,
    processing: Findings,
    rotation: Findings,
    thumbnail: PathBuf,
    upright: Option<(PathBuf, &'static str, bool)>,
}

/// What was found on the samples, and the store in which their copies are.
pub(super) struct Lens {
    samples: Vec<Sample>,
    /// A file that ends in the middle of the photo.
    broken: PathBuf,
    store: PathBuf,
}

impl Lens {
    /// Looks at all samples. Their files are copied to `place`, from where they are linked into the
    /// store under other names.
    pub(super) async fn open(
        config: &Config,
        samples: &Path,
        place: &Path,
        store: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        let mut files = Vec::new();
        for folder in ["marathon", "gala", "races"] {
            let folder = samples.join(folder);
            let entries =
                fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
            for entry in entries {
                let file = entry?.path();
                let name = file.file_name().unwrap_or_default();
                if file.extension().is_some_and(|extension| extension != "json") {
                    let copy = place.join(name);
                    fs::copy(&file, &copy)?;
                    files.push(copy);
                }
            }
        }
        files.sort();
        let pool = Pool::open(THIS_PROGRAM.as_ref(), config).await?;
        let looked: Vec<Option<Sample>> = futures::stream::iter(files.iter())
            .map(|file| look(&pool, file))
            .buffered(config.slots())
            .try_collect()
            .await?;
        let samples: Vec<Sample> = looked.into_iter().flatten().collect();
        let broken = place.join("IMG_0008.jpg");
        if samples.is_empty() || !broken.exists() {
            bail!("these are not the sample photos of photogate: --samples names their directory");
        }
        Ok(Self { samples, broken, store: store.to_owned() })
    }

    /// The sample that a photo of this key shows. Photos that follow each other show others.
    fn shown(&self, key: &str) -> &Sample {
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        let digits = name.bytes().filter(u8::is_ascii_digit);
        let number =
            digits.fold(0, |number, digit| (10 * number + usize::from(digit - b'0')) % 100_000);
        &self.samples[(usize::from(content(folder)[0]) + 13 * number) % self.samples.len()]
    }

    /// Puts a photo into the store. It is a link, so that 20,000 of them take no room.
    pub(super) fn put(&self, key: &str, is_broken: bool) -> io::Result<()> {
        let file = if is_broken { &self.broken } else { &self.shown(key).file };
        link(file, &self.store.join(key))
    }

    /// Puts a photo into the store with bytes of its own, for a worker that really looks at it:
    /// a photo of the same bytes as another one is a duplicate, and is refunded.
    pub(super) fn put_own(&self, key: &str) -> io::Result<()> {
        let mut bytes = fs::read(&self.shown(key).file)?;
        bytes.extend_from_slice(key.as_bytes());
        let path = self.store.join(key);
        fs::create_dir_all(path.parent().unwrap_or(&self.store))?;
        fs::write(path, bytes)
    }

    /// Puts a copy of any file into the store.
    pub(super) fn copy(&self, file: &Path, key: &str) -> io::Result<()> {
        let path = self.store.join(key);
        fs::create_dir_all(path.parent().unwrap_or(&self.store))?;
        fs::copy(file, path).map(|_| ())
    }

    /// What a worker would have found. `same_as`: the key of the photo whose content this one has.
    pub(super) fn verdict(&self, photo: &Reservation, same_as: Option<&str>) -> Verdict {
        let sample = self.shown(same_as.unwrap_or(photo.key()));
        let seen = Some(content(same_as.unwrap_or(photo.key())));
        let found = match photo.operation() {
            Operation::PhotoProcessing => &sample.processing,
            Operation::AiRotation => &sample.rotation,
        };
        match found.clone() {
            Findings::Processing { width, height, turn, mut faces, bibs, lines, .. } => {
                if !photo.face_search() {
                    for (_, embedding) in &mut faces {
                        *embedding = None;
                    }
                }
                let (content, bibs) = (seen, if photo.bib_search() { bibs } else { Vec::new() });
                let found =
                    Findings::Processing { content, width, height, turn, faces, bibs, lines };
                Verdict::Processed(found)
            }
            Findings::Rotation { rotation, .. } => {
                let upright = sample.upright.as_ref().map(|(_, extension, lossless)| {
                    (Key::upright(photo.photo(), extension).to_string(), *lossless)
                });
                let unclear = rotation.abstained;
                let findings = Findings::Rotation { content: seen, rotation, upright };
                if unclear {
                    let detail = "the network, faces and text do not tell which way is up".into();
                    return Verdict::Undecided { findings, detail };
                }
                Verdict::Processed(findings)
            }
            Findings::Nothing => Verdict::Processed(Findings::Nothing),
        }
    }

    /// Puts what a worker makes of a photo into the store: its thumbnail, and its upright copy.
    pub(super) fn develop(&self, photo: PhotoId, key: &str) -> io::Result<()> {
        let sample = self.shown(key);
        link(&sample.thumbnail, &self.store.join(Key::thumbnail(photo).as_str()))?;
        if let Some((copy, extension, _)) = &sample.upright {
            link(copy, &self.store.join(Key::upright(photo, extension).as_str()))?;
        }
        Ok(())
    }
}

/// Looks at a sample for both operations. `None` if it cannot be read: two of them cannot.
async fn look(pool: &Pool, file: &Path) -> anyhow::Result<Option<Sample>> {
    let bytes = fs::read(file)?;
    let slot = pool.slot(OrganisationId(0)).await;
    let mut answers = Vec::new();
    for operation in Operation::ALL {
        let wants = Wants { operation, bibs: true, embeddings: true, thumbnail: true, turn: None };
        match pool.look(&slot, wants, bytes.clone()).await {
            Ok(Answer::Seen(seen)) => answers.push(seen),
            Ok(Answer::Refused(PhotoError::Truncated(_) | PhotoError::UnsupportedFormat(_))) => {
                return Ok(None);
            }
            other => bail!("{} could not be looked at: {other:?}", file.display()),
        }
    }
    drop(slot);
    let beside = |extension: &str| file.with_extension(extension);
    let (mut processing, mut rotation) = (Findings::Nothing, Findings::Nothing);
    let (mut upright, small) = (None, beside("thumbnail"));
    for seen in answers {
        match seen {
            Seen::Processing { width, height, turn, faces, lines, thumbnail } => {
                fs::write(&small, &thumbnail.bytes)?;
                let bibs = photogate_jobs::bibs(&lines, &StartList::default());
                processing =
                    Findings::Processing { content: None, width, height, turn, faces, bibs, lines };
            }
            Seen::Rotation { rotation: found, upright: turned, .. } => {
                if let Some(turned) = turned.filter(|_| !found.abstained) {
                    let copy = beside("upright");
                    fs::write(&copy, &turned.bytes)?;
                    upright = Some((copy, turned.extension.name(), turned.lossless));
                }
                rotation = Findings::Rotation { content: None, rotation: found, upright: None };
            }
        }
    }
    let file = file.to_owned();
    Ok(Some(Sample { file, processing, rotation, thumbnail: small, upright }))
}

/// The content of the photo with this key, as if each had bytes of its own.
fn content(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Links a file to another name, whose directory may not be there yet.
fn link(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(name.parent().unwrap_or(name))?;
            fs::hard_link(file, name)
        }
        // Its thumbnail is there from the other operation, or from the first try.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
