//! The photo is looked at. Outside of any transaction, and outside of this process: see [`crate::sandbox`].

use std::{path::Path, sync::Arc, time::Duration};

use photogate_jobs::{BYTES_MAX, PhotoError, StartList};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{
        findings::Findings,
        photo_store::{Key, PhotoStore, StoreError},
        start_list::StartLists,
    },
    config::Config,
    ids::EventId,
    queue::claim::Reservation,
    sandbox::{Answer, Pool, PoolError, Seen, Trouble, Wants},
    worker::{rehearsal, settle::Verdict},
};

/// What is done with a claimed photo.
#[derive(Debug)]
pub enum Work {
    /// The real thing.
    Photos(Box<Looker>),
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

/// Fetches photos and has them looked at, as many at once as the pool has slots.
#[derive(Debug)]
pub struct Looker {
    store: PhotoStore,
    pool: Pool,
    start_lists: StartLists,
    retries_max: u32,
    retry_base: Duration,
}

/// The store does not answer, or not with a photo.
pub(crate) const STORE_UNAVAILABLE: &str = "store_unavailable";

/// No process to look at photos could be started: a matter of this machine.
pub(crate) const POOL_UNAVAILABLE: &str = "pool_unavailable";

/// What is down is tried so much more often than a photo that is missing: with the defaults for a quarter of an hour.
const PATIENCE: u32 = 4;

/// Retries wait for at most this long.
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Looker {
    /// Starts a child process for each slot; `program` is photogate itself.
    ///
    /// # Errors
    /// When they do not start, or cannot load the models.
    pub async fn open(
        program: &Path,
        config: &Config,
        store: PhotoStore,
        database: PgPool,
    ) -> Result<Self, PoolError> {
        Ok(Self {
            store,
            pool: Pool::open(program, config).await?,
            start_lists: StartLists::new(database),
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
            slot = self.pool.slot() => slot,
        };
        let wants = Wants {
            operation: reservation.operation(),
            bibs: reservation.bib_search(),
            embeddings: reservation.face_search(),
            thumbnail: true,
        };
        let answer = self.pool.look(&slot, wants, bytes).await;
        drop(slot);
        match answer {
            Ok(Answer::Seen(seen)) => self.keep(reservation, seen, drain).await,
            Ok(Answer::Refused(error)) => {
                Verdict::Failed { reason: error.code(), detail: error.to_string() }
            }
            Ok(Answer::Panicked(detail)) | Err(Trouble::Crashed(detail)) => {
                Verdict::Crashed { detail }
            }
            Err(Trouble::NoChild(error)) => {
                tracing::error!(%error, "photos cannot be looked at");
                self.again(reservation, POOL_UNAVAILABLE, error.to_string())
            }
        }
    }

    /// What was seen becomes findings. The small picture, and the upright one, are written before the findings are settled
    /// that lead people to them.
    async fn keep(
        &self,
        reservation: &Reservation,
        mut seen: Seen,
        drain: &CancellationToken,
    ) -> Verdict {
        let (Seen::Processing { thumbnail, .. } | Seen::Rotation { thumbnail, .. }) = &mut seen;
        let small = std::mem::take(&mut thumbnail.bytes);
        if let Err(error) = self.store.put(&Key::thumbnail(reservation.photo()), small).await {
            return self.store_trouble(reservation, error);
        }
        match seen {
            Seen::Processing { width, height, faces, lines, .. } => {
                if !reservation.bib_search() {
                    let bibs = Vec::new();
                    return Verdict::Processed(Findings::Processing { width, height, faces, bibs });
                }
                let Some(list) = self.start_list(reservation.event(), drain).await else {
                    return Verdict::HandedBack;
                };
                let bibs = photogate_jobs::bibs(&lines, &list);
                Verdict::Processed(Findings::Processing { width, height, faces, bibs })
            }
            Seen::Rotation { rotation, upright: None, .. } => {
                Verdict::Processed(Findings::Rotation { rotation, upright: None })
            }
            Seen::Rotation { rotation, upright: Some(turned), .. } => {
                let key = Key::upright(reservation.photo(), turned.extension.name());
                if let Err(error) = self.store.put(&key, turned.bytes).await {
                    return self.store_trouble(reservation, error);
                }
                let upright = Some((key.to_string(), turned.lossless));
                Verdict::Processed(Findings::Rotation { rotation, upright })
            }
        }
    }

    /// Waits for the database: without it nothing can be settled, and what was seen need not be seen again.
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
        self.again(reservation, reason, detail)
    }

    fn again(&self, reservation: &Reservation, reason: &'static str, detail: String) -> Verdict {
        // A photo that is missing soon stays missing; a store comes back, and so do the models.
        let most =
            if reason == "photo_missing" { self.retries_max } else { PATIENCE * self.retries_max };
        if reservation.retries() >= most {
            return Verdict::Failed { reason, detail };
        }
        let after =
            self.retry_base.saturating_mul(1 << reservation.retries().min(16)).min(RETRY_MAX);
        // Jitter: photos that failed together need not come back together.
        Verdict::Retry { reason, detail, after: after.mul_f64(rand::random_range(0.75..1.25)) }
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
