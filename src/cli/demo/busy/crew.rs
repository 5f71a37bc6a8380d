//! Workers of the past: they claim and settle as all workers do, and say what the lens has found.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{lens::Lens, past::Past};
use crate::{
    ids::OrganisationId,
    ledger::reconcile::Scope,
    notify::wake::Wake,
    queue::claim::{self, Reservation},
    worker::{
        CRASHES_MAX,
        in_hand::InHand,
        reconciler,
        settle::{Settler, Settling},
        verdict::Verdict,
    },
};

/// Photos in a claim, as of workers with many slots.
const AT_ONCE: usize = 150;
/// How long a photo takes in the past, in milliseconds.
const PHOTO: i32 = 210;
const LEASE: Duration = Duration::from_secs(3600);

/// What may happen to the photos of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Luck {
    /// A few fail, for various reasons.
    Usual,
    /// A card was broken: a third fails.
    Bad,
    /// Nothing fails.
    Good,
}

impl Luck {
    /// Whether the file of a photo is broken in the store.
    pub(super) fn breaks(self, key: &str) -> bool {
        matches!(fate(key, self), Fate::Fails("truncated", _))
    }
}

/// What becomes of a photo, apart from its findings.
enum Fate {
    Sees,
    Fails(&'static str, &'static str),
    SameAs(String),
    /// Its file comes a moment later.
    Late,
    /// It crashes whoever looks at it.
    Crashes,
}

/// A number from 0 to 999 for a photo, the same every time.
fn lot(key: &str) -> u32 {
    key.bytes().fold(7, |lot: u32, byte| lot.wrapping_mul(131).wrapping_add(byte.into())) % 1000
}

fn fate(key: &str, luck: Luck) -> Fate {
    const TRUNCATED: Fate =
        Fate::Fails("truncated", "the file ends too early: 38362 bytes of a larger photo");
    match (luck, lot(key)) {
        (Luck::Good, _) => Fate::Sees,
        (Luck::Bad, ..330) | (_, ..4) => TRUNCATED,
        (_, 4..7) => Fate::Fails("unsupported_format", "this is no JPEG, PNG, WebP, GIF or TIFF"),
        (_, 7..9) => Fate::Fails("photo_missing", "the store has no photo with this key"),
        (_, 9..10) => Fate::Fails("too_many_pixels", "27000 × 14000 pixels are too many"),
        (_, 10..11) => Fate::Fails("corrupt", "the photo cannot be decoded: bad Huffman code"),
        (_, 11..12) => Fate::Crashes,
        (_, 12..18) => Fate::Late,
        // The photographer has uploaded the photo before it twice.
        (_, 18..26) => before(key).map_or(Fate::Sees, Fate::SameAs),
        _ => Fate::Sees,
    }
}

/// The key of the photo before this one: `IMG_0123.jpg` after `IMG_0122.jpg`.
fn before(key: &str) -> Option<String> {
    let (start, number) = key.strip_suffix(".jpg")?.rsplit_once('_')?;
    let number = number.parse::<u32>().ok()?.checked_sub(1).filter(|number| *number > 0)?;
    Some(format!("{start}_{number:04}.jpg"))
}

/// A shift of workers: one incarnation in the books.
pub(super) struct Crew<'a> {
    past: &'a mut Past,
    lens: &'a Lens,
    luck: Luck,
    me: claim::Incarnation,
    settler: Settler,
    settling: tokio::task::JoinHandle<Result<(), claim::GateError>>,
}

impl<'a> Crew<'a> {
    pub(super) async fn begin(
        past: &'a mut Past,
        lens: &'a Lens,
        luck: Luck,
    ) -> anyhow::Result<Self> {
        let name = format!("worker-{}", past.now().format("%Y-%m-%d-%H%M"));
        let me = claim::register(&mut *past.pool.acquire().await?, &name, AT_ONCE, LEASE).await?;
        let books = Settling {
            pool: past.pool.clone(),
            me,
            lease: LEASE,
            now: CancellationToken::new(),
            trouble: Arc::default(),
            in_hand: InHand::default(),
        };
        let (settler, settling) = Settler::start(books, Wake::silent(), Arc::default());
        Ok(Self { past, lens, luck, me, settler, settling })
    }

    /// Works until nothing can be claimed, or on this many photos. Returns how many there were.
    pub(super) async fn work(&mut self, most: usize) -> anyhow::Result<usize> {
        let mut done = 0;
        while done < most {
            let n = AT_ONCE.min(most - done);
            let mut db = self.past.pool.acquire().await?;
            let claimed = claim::claim(&mut db, self.me, n, OrganisationId(0), true).await?;
            drop(db);
            if claimed.is_empty() {
                break;
            }
            done += claimed.len();
            self.settle(claimed).await?;
        }
        self.take_up().await?;
        Ok(done)
    }

    /// What was tried once, and is to be tried again.
    async fn take_up(&mut self) -> anyhow::Result<()> {
        loop {
            self.past.pass(TimeDelta::minutes(2)).await?;
            let mut db = self.past.pool.acquire().await?;
            let again = claim::adopt(&mut db, self.me, AT_ONCE, AT_ONCE, CRASHES_MAX).await?;
            drop(db);
            if again.is_empty() {
                return Ok(());
            }
            self.settle(again).await?;
        }
    }

    async fn settle(&mut self, photos: Vec<Reservation>) -> anyhow::Result<()> {
        let n = i32::try_from(photos.len()).unwrap_or(i32::MAX);
        self.past.pass(TimeDelta::milliseconds(i64::from(n * PHOTO))).await?;
        let settled = photos.into_iter().map(|photo| {
            let verdict = self.verdict(&photo);
            self.settler.settle(photo, verdict)
        });
        futures::future::join_all(settled).await;
        Ok(())
    }

    fn verdict(&self, photo: &Reservation) -> Verdict {
        let key = photo.key();
        let (seen, same_as) = match fate(key, self.luck) {
            Fate::Fails(reason, detail) => {
                return Verdict::Failed { reason, detail: detail.into() };
            }
            Fate::Crashes => {
                return Verdict::Crashed {
                    detail: "its sandbox child ended with signal: 9".into(),
                };
            }
            Fate::Late if photo.retries() == 0 => {
                return Verdict::Retry {
                    reason: "photo_missing",
                    detail: format!("there is no photo {key} in the store"),
                    after: Duration::from_secs(20),
                    outage: false,
                };
            }
            Fate::SameAs(other) => (self.lens.verdict(photo, Some(&other)), Some(other)),
            Fate::Sees | Fate::Late => (self.lens.verdict(photo, None), None),
        };
        // A file that is missing is a picture that is missing on a page, and nothing else.
        if let Err(error) = self.lens.develop(photo.photo(), same_as.as_deref().unwrap_or(key)) {
            tracing::warn!(%error, key, "the thumbnail of a photo could not be linked");
        }
        seen
    }

    /// Checks the books, as workers do once a day, and leaves.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        reconciler::check(&self.past.pool, self.me, Scope::Full).await?;
        drop(self.settler);
        self.settling.await??;
        claim::retire(&mut *self.past.pool.acquire().await?, self.me).await?;
        Ok(())
    }
}
