//! Everybody's share of the service: nobody takes so much of it that others have to wait.
//!
//! An organisation has a rate, a number of requests that are answered at once, and a smaller number
//! of heavy ones. Each of its people and tokens has half of that, so that one program does not take
//! it all. What is above the rate is refused at once; what is above the number waits a little.
//!
//! Before the database is asked whose a token or session is, its own rate is looked at, and, if it was
//! never valid here, the rate of the address that it comes from. So whoever guesses tokens does not
//! keep out others with the same address.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{client_address::network, problem::Problem};
use crate::{access::Caller, config::Config, ids::OrganisationId};

/// The time for which a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Heavy requests take longer, so they also wait longer for each other.
const HEAVY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How many requests may wait, for each that is answered.
const WAITING: usize = 8;
/// Heavy requests at once, of all organisations. They read or write many rows, and small requests
/// must not wait for them.
const HEAVY_AT_ONCE: usize = 4;
/// Number of keys above which those are forgotten that need not be known.
const KNOWN_MAX: usize = 10_000;

tokio::task_local! {
    /// The places that the current request has taken. They are free when it is answered.
    static TAKEN: RefCell<Vec<OwnedSemaphorePermit>>;
}

/// Answers a request. The places that it takes are free again when the answer is ready.
pub(super) async fn in_turn<T>(answering: impl Future<Output = T>) -> T {
    TAKEN.scope(RefCell::default(), answering).await
}

/// The shares of everybody.
#[derive(Debug)]
pub(super) struct Shares {
    organisations: Share<OrganisationId>,
    /// People and tokens, by their name in the audit log.
    callers: Share<String>,
    /// Tokens and sessions, by their hash.
    secrets: Rate<[u8; 32]>,
    addresses: Rate<IpAddr>,
    /// Tokens and sessions that were valid, by their hash.
    known: Mutex<HashSet<[u8; 32]>>,
    heavy: Arc<Semaphore>,
}

impl Shares {
    pub(super) fn new(config: &Config) -> Self {
        let rate = config.requests_per_second;
        Self {
            organisations: Share::new(rate, config.requests_at_once),
            callers: Share::new(rate.div_ceil(2), config.requests_at_once.div_ceil(2)),
            secrets: Rate::new(rate),
            addresses: Rate::new(config.requests_per_second_of_address),
            known: Mutex::default(),
            heavy: Arc::new(Semaphore::new(HEAVY_AT_ONCE)),
        }
    }

    /// Counts a request from this address.
    pub(super) fn may_come(&self, address: IpAddr) -> Result<(), Problem> {
        self.addresses.count(network(address))
    }

    /// Whether the database may be asked who has this token or session.
    pub(super) fn may_ask(&self, secret: &str, address: IpAddr) -> Result<(), Problem> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        if !self.known().contains(&hash) {
            self.may_come(address)?;
        }
        self.secrets.count(hash)
    }

    /// The token or session was valid.
    pub(super) fn is_known(&self, secret: &str) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(Sha256::digest(secret).into());
    }

    fn known(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request of this caller, and keeps its places until it is answered.
    pub(super) async fn take_turn(&self, caller: &Caller, is_heavy: bool) -> Result<(), Problem> {
        // An extractor may ask twice for one request.
        if TAKEN.try_with(|taken| !taken.borrow().is_empty()).unwrap_or(false) {
            return Ok(());
        }
        let mut taken = vec![self.callers.take(&caller.actor, is_heavy).await?];
        if let Some(organisation) = &caller.organisation {
            taken.push(self.organisations.take(organisation, is_heavy).await?);
        }
        if is_heavy {
            taken.push(vec![place(&self.heavy, HEAVY_WAIT_MAX).await?]);
        }
        // Health checks and tests answer outside of a turn.
        let _ = TAKEN.try_with(|held| held.borrow_mut().extend(taken.into_iter().flatten()));
        Ok(())
    }
}

/// Takes a place, and waits for it if all are taken.
pub(super) async fn place(
    places: &Arc<Semaphore>,
    most: Duration,
) -> Result<OwnedSemaphorePermit, Problem> {
    let taken = timeout(most, places.clone().acquire_owned()).await.ok().and_then(Result::ok);
    taken.ok_or_else(|| {
        let detail = "too many requests are being answered: send fewer at the same time";
        Problem::too_many(detail, most)
    })
}

/// How many requests a second everybody of a kind may send.
#[derive(Debug)]
struct Rate<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone> Rate<K> {
    /// So many a second, and after a rest twice as many.
    fn new(most: u32) -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(number(most)).allow_burst(number(most.saturating_mul(2)));
        Self(RateLimiter::keyed(quota))
    }

    /// Counts one request. The error says when to come again.
    fn count(&self, who: K) -> Result<(), Problem> {
        if self.0.len() > KNOWN_MAX {
            self.0.retain_recent();
        }
        self.0.check_key(&who).map_err(|until| {
            let detail = "you send more requests than your share: send fewer in a second";
            Problem::too_many(detail, until.wait_time_from(self.0.clock().now()))
        })
    }
}

/// The share of everybody of a kind.
#[derive(Debug)]
struct Share<K: Hash + Eq + Clone> {
    rate: Rate<K>,
    at_once: usize,
    /// There are not more than organisations, people and tokens in the database.
    places: Mutex<HashMap<K, Places>>,
}

/// The places of one organisation, or of one person or token.
#[derive(Debug, Clone)]
struct Places {
    /// Those that are answered, and those that wait.
    present: Arc<Semaphore>,
    answered: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
}

impl<K: Hash + Eq + Clone> Share<K> {
    fn new(rate: u32, at_once: usize) -> Self {
        Self { rate: Rate::new(rate), at_once, places: Mutex::default() }
    }

    fn places(&self, who: &K) -> Places {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Places {
            present: Arc::new(Semaphore::new(self.at_once * (1 + WAITING))),
            answered: Arc::new(Semaphore::new(self.at_once)),
            heavy: Arc::new(Semaphore::new(self.at_once.div_ceil(4))),
        };
        places.entry(who.clone()).or_insert_with(begin).clone()
    }

    async fn take(&self, who: &K, is_heavy: bool) -> Result<Vec<OwnedSemaphorePermit>, Problem> {
        self.rate.count(who.clone())?;
        let places = self.places(who);
        // Who waits has a place of the service, too.
        let mut taken = vec![place(&places.present, Duration::ZERO).await?];
        if is_heavy {
            // A heavy one that waits for others does not keep a place from light ones.
            taken.push(place(&places.heavy, HEAVY_WAIT_MAX).await?);
        }
        taken.push(place(&places.answered, WAIT_MAX).await?);
        Ok(taken)
    }
}
