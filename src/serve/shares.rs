//! Everybody's share of the service: nobody takes so much of it that others have to wait.
//!
//! An organisation has a rate, a number of requests that are answered at once, and a smaller number
//! of heavy ones. Each of its people and tokens has half of that, so that one program does not take
//! it all. What is above the rate is refused at once; what is above the number waits a little.
//!
//! A request is counted before the database is asked whose its token or session is: for its caller,
//! if the token was valid before, and otherwise for the address that it comes from. So whoever
//! guesses tokens does not keep out others with the same address.

use std::{
    cell::RefCell,
    collections::HashMap,
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
    time::{Instant, timeout_at},
};

use super::{client_address::network, problem::Problem};
use crate::{access::Caller, config::Config, ids::OrganisationId};

/// The time for which a request waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Heavy requests take longer, so they also wait longer for each other. It is longer than a body
/// may take to come.
const HEAVY_WAIT_MAX: Duration = Duration::from_secs(15);
/// How many requests may wait, for each that is answered.
const WAITING: usize = 4;
/// Heavy requests at once, of all organisations. They read or write many rows, and small requests
/// must not wait for them.
const HEAVY_AT_ONCE: usize = 6;
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

/// Gives the places of this request back. For one that only waits for something to happen, and is
/// counted otherwise.
pub(super) fn give_back() {
    let _ = TAKEN.try_with(|taken| taken.borrow_mut().clear());
}

/// Takes the places of this request over, for an answer that is sent piece by piece. They are free
/// when what holds them is gone: whoever reads slowly waits for nobody but themselves.
pub(super) fn keep() -> Vec<OwnedSemaphorePermit> {
    TAKEN.try_with(RefCell::take).unwrap_or_default()
}

/// The shares of everybody.
#[derive(Debug)]
pub(super) struct Shares {
    organisations: Share<OrganisationId>,
    /// People and tokens, by their name in the audit log.
    callers: Share<String>,
    /// Tokens and sessions that are not known, by their hash.
    secrets: Rate<[u8; 32]>,
    addresses: Rate<IpAddr>,
    /// Whose the tokens and sessions are that were valid, by their hash.
    known: Mutex<HashMap<[u8; 32], Whose>>,
    heavy: Arc<Semaphore>,
}

/// Who is counted: a person or token, and the organisation.
type Whose = (String, Option<OrganisationId>);

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
        self.addresses.count(&network(address))
    }

    /// Counts a request with this token or session, before the database is asked whose it is. If it
    /// is known, it counts for its caller, and the answer is true; otherwise for its address.
    pub(super) fn may_ask(&self, secret: &str, address: IpAddr) -> Result<bool, Problem> {
        let hash = Sha256::digest(secret).into();
        let whose = self.known().get(&hash).cloned();
        if let Some(whose) = whose {
            return self.count(&whose).map(|()| true);
        }
        self.may_come(address)?;
        self.secrets.count(&hash).map(|()| false)
    }

    /// The database says whose the token or session is. `None`: it is not valid. `is_counted`: the
    /// request counts for its caller already.
    pub(super) fn is_of(
        &self,
        secret: &str,
        caller: Option<&Caller>,
        is_counted: bool,
    ) -> Result<(), Problem> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let Some(caller) = caller else {
            self.known().remove(&hash);
            return Ok(());
        };
        let whose = (caller.actor.clone(), caller.organisation);
        if is_counted {
            return Ok(());
        }
        {
            let mut known = self.known();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(hash, whose.clone());
        }
        self.count(&whose)
    }

    fn count(&self, (actor, organisation): &Whose) -> Result<(), Problem> {
        self.callers.rate.count(actor)?;
        organisation.as_ref().map_or(Ok(()), |one| self.organisations.rate.count(one))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Whose>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request of this caller, and keeps its places until it is answered.
    pub(super) async fn take_turn(&self, caller: &Caller, is_heavy: bool) -> Result<(), Problem> {
        // An extractor may ask twice for one request.
        if TAKEN.try_with(|taken| !taken.borrow().is_empty()).unwrap_or(false) {
            return Ok(());
        }
        let mut shares = vec![self.callers.places(&caller.actor)];
        shares.extend(caller.organisation.as_ref().map(|one| self.organisations.places(one)));
        // First what does not wait: whoever waits has a place of the service, so only so many may.
        let mut taken = Vec::new();
        for share in &shares {
            taken.push(share.present.clone().try_acquire_owned().map_err(|_| busy(WAIT_MAX))?);
        }
        let most = if is_heavy { HEAVY_WAIT_MAX } else { WAIT_MAX };
        let until = Instant::now() + most;
        if is_heavy {
            // A heavy one that waits for others does not keep a place from light ones.
            for share in &shares {
                taken.push(place(&share.heavy, until).await?);
            }
            taken.push(place(&self.heavy, until).await?);
        }
        for share in &shares {
            taken.push(place(&share.answered, until).await?);
        }
        // Health checks and tests answer outside of a turn.
        let _ = TAKEN.try_with(|held| held.borrow_mut().extend(taken));
        Ok(())
    }
}

pub(super) fn busy(wait: Duration) -> Problem {
    let detail = "too many requests are being answered: send fewer at the same time";
    Problem::too_many(detail, wait)
}

/// Takes a place, and waits for it until then if all are taken.
pub(super) async fn place(
    places: &Arc<Semaphore>,
    until: Instant,
) -> Result<OwnedSemaphorePermit, Problem> {
    let taken = timeout_at(until, places.clone().acquire_owned()).await;
    taken.ok().and_then(Result::ok).ok_or_else(|| busy(WAIT_MAX))
}

/// How many requests a second everybody of a kind may send.
#[derive(Debug)]
pub(super) struct Rate<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: Hash + Eq + Clone> Rate<K> {
    /// So many a second, and after a rest twice as many.
    fn new(most: u32) -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self::of(Quota::per_second(number(most)).allow_burst(number(most.saturating_mul(2))))
    }

    pub(super) fn of(quota: Quota) -> Self {
        Self(RateLimiter::keyed(quota))
    }

    /// Counts one request. The error says when to come again.
    pub(super) fn count(&self, who: &K) -> Result<(), Problem> {
        if self.0.len() > KNOWN_MAX {
            self.0.retain_recent();
        }
        self.0.check_key(who).map_err(|until| {
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
}
