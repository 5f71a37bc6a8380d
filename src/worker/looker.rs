//! The work on photos: fetches a photo, has it looked at in a sandbox child, and turns the answer
//! into a verdict. This happens outside of any transaction. See [`crate::sandbox`].

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use photogate_jobs::{BYTES_MAX, PhotoError, StartList, Turn};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{
        corrections,
        findings::{Content, Findings},
        key::Key,
        photo_store::{PhotoStore, StoreError},
    },
    config::Config,
    database,
    ids::{EventId, Operation, OrganisationId, PhotoId},
    queue::claim::Reservation,
    sandbox::{Answer, Pool, PoolError, Seen, Trouble, Wants},
    worker::{
        start_lists::StartLists,
        verdict::Verdict,
        work::{NotReady, Work},
    },
};

/// Fetches photos and has them looked at. The pool's slots limit how many at the same time.
#[derive(Debug)]
pub struct Looker {
    store: PhotoStore,
    pool: Pool,
    database: PgPool,
    start_lists: StartLists,
    retries_max: u32,
    retry_base: Duration,
    refusals: Mutex<Refusals>,
}

/// Photos that the store refused since it last gave one, although it works.
#[derive(Debug, Default)]
struct Refusals {
    photos: usize,
    organisations: BTreeSet<OrganisationId>,
}

/// So many refused photos of more than one organisation in a row are no trouble of the photos: a
/// permission may be missing, or a part of the store.
const REFUSALS_MAX: usize = 50;

impl Refusals {
    /// Counts a photo. Whether photos of everybody are refused, as far as it is known.
    fn is_of_all(&mut self, organisation: OrganisationId) -> bool {
        self.photos += 1;
        self.organisations.insert(organisation);
        self.photos >= REFUSALS_MAX && self.organisations.len() > 1
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The reason for a retry if the store has no photo with this key. It may still be uploaded.
const PHOTO_MISSING: &str = "photo_missing";

/// The reason for a retry if the store does not work.
const STORE_UNAVAILABLE: &str = "store_unavailable";

/// The reason for a failure or a retry if the store works, but not for the files of this photo.
const STORE_REFUSED: &str = "store_refused";

/// The reason for a retry if no sandbox child could be started. This is a problem of the machine,
/// not of the photo.
const SANDBOX_UNAVAILABLE: &str = "sandbox_unavailable";

/// How many times more retries there are if the store or the pool is down than if a photo is
/// missing. With the default settings, they last a quarter of an hour.
const OUTAGE_FACTOR: u32 = 4;

/// The longest wait before a retry (before jitter).
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Work for Looker {
    // The photos that are claimed ahead are fetched while others have the slots.
    const WAITS_FOR_ITS_SLOT: bool = true;

    /// A photo that waits for a slot when the worker drains is handed back.
    async fn perform(&self, reservation: &Reservation, drain: &CancellationToken) -> Verdict {
        self.look(reservation, drain).await
    }

    /// More photos do not help if it is their size that takes so long.
    fn idle_slots(&self) -> usize {
        if self.store.has_room() { self.pool.idle_slots() } else { 0 }
    }

    /// Asks the store and the sandbox.
    async fn is_ready(&self) -> Result<(), NotReady> {
        let not = |reason| move |detail| NotReady { reason, detail };
        self.store.probe(Instant::now()).await.map_err(not(STORE_UNAVAILABLE))?;
        let children = self.pool.is_ready().await;
        children.map_err(|error| error.to_string()).map_err(not(SANDBOX_UNAVAILABLE))
    }
}

impl Looker {
    /// Starts a sandbox child for each slot. `program` is the path of photogate itself.
    ///
    /// # Errors
    /// When a child does not start, or cannot load the models.
    pub async fn open(
        program: &Path,
        config: &Config,
        store: PhotoStore,
        database: PgPool,
    ) -> Result<Self, PoolError> {
        Ok(Self {
            store,
            pool: Pool::open(program, config).await?,
            start_lists: StartLists::new(database.clone()),
            database,
            retries_max: config.retries_max,
            retry_base: Duration::from_millis(config.retry_base_milliseconds),
            refusals: Mutex::default(),
        })
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, reservation: &Reservation, drain: &CancellationToken) -> Verdict {
        let key = match Key::parse(reservation.key()) {
            Ok(key) => key,
            Err(error) => return Verdict::Failed { reason: "bad_key", detail: error.to_string() },
        };
        let bytes = match self.store.get(&key, BYTES_MAX).await {
            Ok(bytes) => {
                self.refusals().clear();
                bytes
            }
            Err(error) => return self.store_trouble(reservation, error).await,
        };
        // Faces and numbers are looked for on the upright photo. AI rotation asks the models, also
        // where a person has said the turn: what they find is kept beside it.
        let turn = match reservation.operation() {
            Operation::AiRotation => None,
            Operation::PhotoProcessing => match self.known_turn(reservation.photo(), drain).await {
                Some(turn) => turn,
                None => return Verdict::HandedBack,
            },
        };
        let content = bytes.sha256().await;
        let slot = tokio::select! {
            biased;
            () = drain.cancelled() => return Verdict::HandedBack,
            slot = self.pool.slot(reservation.organisation()) => slot,
        };
        let wants = Wants {
            operation: reservation.operation(),
            bibs: reservation.bib_search(),
            embeddings: reservation.face_search(),
            thumbnail: true,
            turn,
        };
        let answer = self.pool.look(&slot, wants, bytes).await;
        drop(slot);
        match answer {
            Ok(Answer::Seen(seen)) => self.keep(reservation, content, seen, drain).await,
            Ok(Answer::Refused(error)) => {
                Verdict::Failed { reason: error.code(), detail: error.to_string() }
            }
            Ok(Answer::Panicked(detail)) | Err(Trouble::Crashed(detail)) => {
                Verdict::Crashed { detail }
            }
            Err(Trouble::NoChild(error)) => {
                tracing::error!(%error, "no sandbox child could be started to look at photos");
                self.down(reservation, SANDBOX_UNAVAILABLE, error.to_string())
            }
        }
    }

    /// Turns a child's answer into findings. The thumbnail and the upright copy are written to the
    /// store here, before the findings are settled, so that people never find a link to a missing
    /// file.
    async fn keep(
        &self,
        reservation: &Reservation,
        content: Option<Content>,
        mut seen: Seen,
        drain: &CancellationToken,
    ) -> Verdict {
        let (Seen::Processing { thumbnail, .. } | Seen::Rotation { thumbnail, .. }) = &mut seen;
        let small = std::mem::take(&mut thumbnail.bytes);
        if let Err(error) = self.store.put(&Key::thumbnail(reservation.photo()), small).await {
            return self.store_trouble(reservation, error).await;
        }
        match seen {
            Seen::Processing { width, height, turn, faces, lines, .. } => {
                let mut bibs = Vec::new();
                if reservation.bib_search() {
                    let Some(list) = self.start_list(reservation.event(), drain).await else {
                        return Verdict::HandedBack;
                    };
                    bibs = photogate_jobs::bibs(&lines, &list);
                }
                Verdict::Processed(Findings::Processing {
                    content,
                    width,
                    height,
                    turn,
                    faces,
                    bibs,
                    lines,
                })
            }
            // The customer pays for an answer. "It is upright" is one.
            Seen::Rotation { rotation, .. } if rotation.abstained => {
                let detail = "the network, faces and text do not tell which way is up".into();
                let findings = Findings::Rotation { content, rotation, upright: None };
                Verdict::Undecided { findings, detail }
            }
            Seen::Rotation { rotation, upright: None, .. } => {
                Verdict::Processed(Findings::Rotation { content, rotation, upright: None })
            }
            Seen::Rotation { rotation, upright: Some(turned), .. } => {
                let key = Key::upright(reservation.photo(), turned.extension.name());
                if let Err(error) = self.store.put(&key, turned.bytes).await {
                    return self.store_trouble(reservation, error).await;
                }
                let upright = Some((key.to_string(), turned.lossless));
                Verdict::Processed(Findings::Rotation { content, rotation, upright })
            }
        }
    }

    /// Reads the event's start list, and waits until the database answers. `None` if the worker
    /// drains first. Waiting is right here: without the database the photo could not be settled
    /// anyway, and it need not be looked at again.
    async fn start_list(
        &self,
        event: EventId,
        drain: &CancellationToken,
    ) -> Option<Arc<StartList>> {
        loop {
            match self.start_lists.of(event).await {
                Ok(list) => return Some(list),
                Err(error) => tracing::warn!(%event, %error, "a start list could not be read yet"),
            }
            drain.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
        }
    }

    /// Reads the turn that the photo is known to need. It waits as [`Self::start_list`] does.
    async fn known_turn(&self, photo: PhotoId, drain: &CancellationToken) -> Option<Option<Turn>> {
        loop {
            let asked = corrections::known_turn(&self.database, photo);
            let asked = database::in_time(database::PATIENCE, asked);
            match drain.run_until_cancelled(asked).await? {
                Ok(turn) => return Some(turn),
                Err(error) => tracing::warn!(%photo, %error, "a turn could not be read yet"),
            }
            drain.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
        }
    }

    /// The verdict for an error of the store. A missing photo may still be uploaded, and a store
    /// that is down comes back, so both get automatic retries. Whether it is down is asked: one
    /// photo whose file cannot be read must not stop the work on all others.
    async fn store_trouble(&self, reservation: &Reservation, error: StoreError) -> Verdict {
        let detail = error.to_string();
        match &error {
            StoreError::TooLarge { bytes, .. } => {
                let error = PhotoError::FileTooLarge(*bytes);
                Verdict::Failed { reason: error.code(), detail: error.to_string() }
            }
            StoreError::Outside(_) => Verdict::Failed { reason: "bad_key", detail },
            // A photo that is still missing after some retries will not come.
            StoreError::Missing(_) => self.again(reservation, PHOTO_MISSING, detail, 1),
            StoreError::Trouble(_) | StoreError::Address { .. } | StoreError::Directory { .. } => {
                if let Err(down) = self.store.probe(Instant::now()).await {
                    return self.down(reservation, STORE_UNAVAILABLE, down);
                }
                if error.is_lasting() {
                    return Verdict::Failed { reason: STORE_REFUSED, detail };
                }
                if self.refusals().is_of_all(reservation.organisation()) {
                    return self.down(reservation, STORE_REFUSED, detail);
                }
                self.again(reservation, STORE_REFUSED, detail, OUTAGE_FACTOR)
            }
        }
    }

    /// The verdict if something is down that all photos need. It comes back, so the photo gets more
    /// retries than others.
    fn down(&self, reservation: &Reservation, reason: &'static str, detail: String) -> Verdict {
        let mut verdict = self.again(reservation, reason, detail, OUTAGE_FACTOR);
        if let Verdict::Retry { outage, .. } = &mut verdict {
            *outage = true;
        }
        verdict
    }

    fn again(
        &self,
        reservation: &Reservation,
        reason: &'static str,
        detail: String,
        factor: u32,
    ) -> Verdict {
        if reservation.retries() >= factor * self.retries_max {
            return Verdict::Failed { reason, detail };
        }
        let after =
            self.retry_base.saturating_mul(1 << reservation.retries().min(16)).min(RETRY_MAX);
        // Jitter spreads the retries of photos that failed at the same time.
        let after = after.mul_f64(rand::random_range(0.75..1.25));
        Verdict::Retry { reason, detail, after, outage: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_of_everybody_are_refused_if_there_is_more_than_one_organisation() {
        let mut refusals = Refusals::default();
        let one = OrganisationId(1);
        assert!((0..2 * REFUSALS_MAX).all(|_| !refusals.is_of_all(one)), "its own trouble");
        assert!(refusals.is_of_all(OrganisationId(2)));
        refusals.clear();
        assert!(!refusals.is_of_all(OrganisationId(2)));
    }
}
