//! The photo is looked at. Outside of any transaction, off the async threads.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use photogate_jobs::{BYTES_MAX, Eyes, EyesError, Photo, PhotoError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    findings::Findings,
    gate::Reservation,
    ids::Operation,
    photo_store::{Key, PhotoStore, StoreError},
    rehearsal,
    settle::Verdict,
};

/// What is done with a claimed photo.
#[derive(Debug)]
pub enum Work {
    /// The real thing.
    Photos(Looker),
    /// Nothing real: for benchmarks and drills, and only for photos that say so.
    Rehearsal,
}

impl Work {
    /// Does it. Never fails: trouble is a verdict too. What has not begun when the worker drains is handed back.
    pub async fn on(&self, reservation: &Reservation, drain: &CancellationToken) -> Verdict {
        match self {
            Self::Photos(looker) => looker.look(reservation, drain).await,
            Self::Rehearsal => rehearsal::perform(reservation.key(), reservation.retries()).await,
        }
    }
}

/// Fetches photos and looks at them, as many at once as it has eyes.
#[derive(Debug)]
pub struct Looker {
    store: PhotoStore,
    slots: Arc<Semaphore>,
    /// A set of models for each slot, lent out while it is used.
    eyes: Arc<Mutex<Vec<Eyes>>>,
    retries_max: u32,
    retry_base: Duration,
}

/// The store does not answer, or not with a photo.
pub(crate) const STORE_UNAVAILABLE: &str = "store_unavailable";

/// A store that is down is tried so much more often than a photo that is missing: with the defaults for a quarter of an
/// hour.
const STORE_PATIENCE: u32 = 4;

/// Retries wait for at most this long.
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Looker {
    /// Loads a set of models for each slot.
    ///
    /// # Errors
    /// When they cannot be loaded.
    pub fn open(config: &Config, store: PhotoStore) -> Result<Self, EyesError> {
        let eyes: Vec<_> = (0..config.slots())
            .map(|_| Eyes::open(&config.models_dir))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            store,
            slots: Arc::new(Semaphore::new(eyes.len())),
            eyes: Arc::new(Mutex::new(eyes)),
            retries_max: config.retries_max,
            retry_base: Duration::from_millis(config.retry_base_milliseconds),
        })
    }

    async fn look(&self, reservation: &Reservation, drain: &CancellationToken) -> Verdict {
        let key = match Key::parse(reservation.key()) {
            Ok(key) => key,
            Err(error) => return Verdict::Failed { reason: "bad_key", detail: error.to_string() },
        };
        let bytes = match self.store.get(&key, BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) => return self.store_trouble(reservation, error),
        };
        let slot = tokio::select! {
            biased;
            () = drain.cancelled() => return Verdict::HandedBack,
            slot = self.slots.clone().acquire_owned() => slot,
        };
        let wants = Wants {
            operation: reservation.operation(),
            bibs: reservation.bib_search(),
            embeddings: reservation.face_search(),
        };
        let lent = self.eyes.clone();
        let seen = tokio::task::spawn_blocking(move || {
            // The slot stays taken for as long as the work goes on, even if nobody waits for it any more.
            let _slot = slot;
            let Some(mut eyes) = lent.lock().ok().and_then(|mut eyes| eyes.pop()) else {
                return Ok(None);
            };
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                wants.look(&mut eyes, &bytes)
            }));
            if let Ok(mut lent) = lent.lock() {
                lent.push(eyes);
            }
            seen.map(Some)
        })
        .await;
        match seen {
            Ok(Ok(Some(Ok(seen)))) => self.keep(reservation, seen).await,
            Ok(Ok(Some(Err(error)))) => {
                Verdict::Failed { reason: error.code(), detail: error.to_string() }
            }
            Ok(Err(panic)) => Verdict::Crashed { detail: words(&*panic).to_owned() },
            // The runtime stops, or the eyes are lent out: neither is the photo's fault.
            Ok(Ok(None)) | Err(_) => Verdict::HandedBack,
        }
    }

    /// Writes the upright photo, if there is one, before the findings that name it are settled.
    async fn keep(&self, reservation: &Reservation, seen: Seen) -> Verdict {
        let Some((extension, bytes)) = seen.upright else {
            return Verdict::Processed(seen.findings);
        };
        let key = Key::derived(&format!("upright/{}.{extension}", reservation.photo()));
        match (self.store.put(&key, bytes).await, seen.findings) {
            (Ok(()), Findings::Rotation { rotation, upright }) => {
                let upright = upright.map(|(_, lossless)| (key.to_string(), lossless));
                Verdict::Processed(Findings::Rotation { rotation, upright })
            }
            (Ok(()), findings) => Verdict::Processed(findings),
            (Err(error), _) => self.store_trouble(reservation, error),
        }
    }

    /// A missing photo may be on its way, a store that is down comes back: transient, a few times.
    fn store_trouble(&self, reservation: &Reservation, error: StoreError) -> Verdict {
        let detail = error.to_string();
        let reason = match error {
            StoreError::TooLarge { bytes, .. } => {
                let error = PhotoError::FileTooLarge(bytes);
                return Verdict::Failed { reason: error.code(), detail: error.to_string() };
            }
            StoreError::Outside(_) => return Verdict::Failed { reason: "bad_key", detail },
            StoreError::Missing(_) => "photo_missing",
            StoreError::Trouble(_) | StoreError::Address { .. } => STORE_UNAVAILABLE,
        };
        // A photo that is missing soon stays missing; a store comes back.
        let most = if reason == STORE_UNAVAILABLE {
            STORE_PATIENCE * self.retries_max
        } else {
            self.retries_max
        };
        if reservation.retries() >= most {
            return Verdict::Failed { reason, detail };
        }
        let after =
            self.retry_base.saturating_mul(1 << reservation.retries().min(16)).min(RETRY_MAX);
        // Jitter: photos that failed together need not come back together.
        Verdict::Retry { reason, detail, after: after.mul_f64(rand::random_range(0.75..1.25)) }
    }
}

struct Wants {
    operation: Operation,
    bibs: bool,
    embeddings: bool,
}

struct Seen {
    findings: Findings,
    /// Extension and bytes.
    upright: Option<(&'static str, Vec<u8>)>,
}

impl Wants {
    fn look(&self, eyes: &mut Eyes, bytes: &[u8]) -> Result<Seen, PhotoError> {
        let photo = Photo::open(bytes)?;
        let picture = photo.picture()?;
        match self.operation {
            Operation::PhotoProcessing => {
                let mut faces = Vec::new();
                for face in eyes.faces(&picture)? {
                    let embedding =
                        if self.embeddings { eyes.embedding(&picture, &face)? } else { None };
                    faces.push((face, embedding));
                }
                let bibs = if self.bibs {
                    photogate_jobs::bibs(&eyes.lines(&picture)?)
                } else {
                    Vec::new()
                };
                Ok(Seen {
                    findings: Findings::Processing {
                        width: picture.width,
                        height: picture.height,
                        faces,
                        bibs,
                    },
                    upright: None,
                })
            }
            Operation::AiRotation => {
                let rotation = eyes.rotation(&picture)?;
                // Sideways by its tag alone is sideways too: our copy has upright pixels, for viewers that ignore tags.
                let upright =
                    if rotation.abstained || photo.orientation.then(rotation.turn).is_upright() {
                        None
                    } else {
                        Some(photo.upright(rotation.turn)?)
                    };
                let lossless = upright.as_ref().map(|upright| (String::new(), upright.lossless));
                Ok(Seen {
                    findings: Findings::Rotation { rotation, upright: lossless },
                    upright: upright.map(|upright| (upright.format.extension(), upright.bytes)),
                })
            }
        }
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the work panicked")
}
