//! What visitors of finders may take: strangers without an account, of whom only the network is
//! known. Many of them come at once when an event is over, and some of them are programs.
//!
//! A network has rates. An event has places, so that its visitors wait for each other, and neither
//! for those of another event nor in the way of people with an account: all visitors together have
//! fewer places than the service has connections to the database, and children.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{extract::ConnectInfo, http::HeaderMap};
use governor::Quota;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Service, client_address,
    problem::Problem,
    shares::{self, Rate},
    uploads::places,
};
use crate::{
    catalog::finders::{self, Key, Opened},
    config::Config,
    ids::EventId,
};

const fn number(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

/// Requests of a network: a page with its pictures. A whole club may share one address.
const REQUESTS: Quota = Quota::per_second(number(50)).allow_burst(number(600));
/// Searches by a bib number of a network: enough for people, and too few to copy an event by
/// counting.
const NUMBERS: Quota = Quota::per_second(number(1)).allow_burst(number(30));
/// Selfies of a network, and of an event. Each looks at a photo and is a line of the audit log,
/// which must not drown in them.
const SELFIES: Quota = Quota::per_minute(number(6)).allow_burst(number(8));
const SELFIES_OF_EVENT: Quota = Quota::per_minute(number(30)).allow_burst(number(30));

/// Requests at once of a network: a few browsers that load pictures.
const OF_A_NETWORK: usize = 64;
/// Short questions to the database at once, before it is known of which event they are, or for a
/// picture. The service has 20 connections.
const DOORS: usize = 4;
/// Searches and pages at once of an event, and of all.
const LOOKS_OF_EVENT: usize = 3;
const LOOKS: usize = 6;
/// Pictures at once of an event, and of all. They come from the store.
const PICTURES_OF_EVENT: usize = 16;
const PICTURES: usize = 48;
/// Selfies of an event that come or wait for their turn, and of all events: each may have 16 MiB.
const WAITING_OF_EVENT: usize = 6;
const WAITING: usize = 16;
/// How long a request waits for its turn, and a selfie.
const WAIT_MAX: Duration = Duration::from_secs(5);
const SELFIE_WAIT_MAX: Duration = Duration::from_secs(12);

/// The places of a visit, until it is answered.
pub(super) type Taken = Vec<OwnedSemaphorePermit>;

/// What a visitor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// The page.
    Page,
    /// A search by a bib number.
    Number,
    /// A thumbnail.
    Picture,
    /// A search by a selfie.
    Selfie,
}

/// The places of events, of one kind.
type OfEvents = Mutex<HashMap<EventId, Arc<Semaphore>>>;

/// The rates and places of all visitors.
#[derive(Debug)]
pub(super) struct Visitors {
    requests: Rate<IpAddr>,
    numbers: Rate<IpAddr>,
    selfies: Rate<IpAddr>,
    selfies_of_event: Rate<EventId>,
    networks: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    doors: Arc<Semaphore>,
    looks: (OfEvents, Arc<Semaphore>),
    pictures: (OfEvents, Arc<Semaphore>),
    waiting: (OfEvents, Arc<Semaphore>),
    eyes: (OfEvents, Arc<Semaphore>),
}

impl Visitors {
    pub(super) fn new(config: &Config) -> Self {
        let of = |most: usize| (OfEvents::default(), Arc::new(Semaphore::new(most)));
        Self {
            requests: Rate::of(REQUESTS),
            numbers: Rate::of(NUMBERS),
            selfies: Rate::of(SELFIES),
            selfies_of_event: Rate::of(SELFIES_OF_EVENT),
            networks: Mutex::default(),
            doors: Arc::new(Semaphore::new(DOORS)),
            looks: of(LOOKS),
            pictures: of(PICTURES),
            waiting: of(WAITING),
            // People with an account keep half of the children.
            eyes: of((config.slots() / 2).max(1)),
        }
    }

    /// A place for a short question to the database.
    pub(super) async fn door(&self) -> Result<OwnedSemaphorePermit, Problem> {
        shares::place(&self.doors, Instant::now() + WAIT_MAX).await
    }

    /// A place for a selfie's turn to be looked at, of which an event has one.
    pub(super) async fn take_eyes(&self, event: EventId) -> Result<Taken, Problem> {
        self.selfies_of_event.count(&event)?;
        turn(&self.eyes, event, 1, SELFIE_WAIT_MAX).await
    }
}

/// Waits for a place: first among the visitors of the event, so that the visitors of all events wait
/// for the places of all with no more than these.
async fn turn(
    (events, all): &(OfEvents, Arc<Semaphore>),
    event: EventId,
    most: usize,
    wait: Duration,
) -> Result<Taken, Problem> {
    let until = Instant::now() + wait;
    let of_event = shares::place(&places(events, &event, most), until).await?;
    Ok(vec![of_event, shares::place(all, until).await?])
}

/// Takes a place only if one is free.
fn at_once(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    places.clone().try_acquire_owned().map_err(|_| shares::busy(WAIT_MAX))
}

/// Who comes from a network that has not asked for too much. What the visitor sends is read now: a
/// slow line takes a place of its network, and none of an event.
#[derive(Debug)]
pub(super) struct Arrived {
    wants: Wants,
    place: OwnedSemaphorePermit,
}

/// Counts a request.
pub(super) fn arrive(
    service: &Service,
    peer: ConnectInfo<SocketAddr>,
    headers: &HeaderMap,
    wants: Wants,
) -> Result<Arrived, Problem> {
    let visitors = &service.visitors;
    let network = client_address::network(client_address::address(service, headers, peer));
    visitors.requests.count(&network)?;
    match wants {
        Wants::Page | Wants::Picture => {}
        Wants::Number => visitors.numbers.count(&network)?,
        Wants::Selfie => visitors.selfies.count(&network)?,
    }
    let place = at_once(&places(&visitors.networks, &network, OF_A_NETWORK))?;
    Ok(Arrived { wants, place })
}

/// A visitor who is let in.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) key: Key,
    pub(super) open: Opened,
    /// They are free when this is dropped.
    _places: Taken,
}

impl Arrived {
    /// Opens the finder that the address names, and waits for the turn.
    pub(super) async fn enter(self, service: &Service, text: &str) -> Result<Visit, Problem> {
        let visitors = &service.visitors;
        let key = Key::read(text).ok_or_else(nothing)?;
        let open = {
            let _door = visitors.door().await?;
            finders::open(&mut *service.database.acquire().await?, &key).await?
        };
        let open = open.ok_or_else(nothing)?;
        let event = open.event;
        let mut taken = match self.wants {
            Wants::Page | Wants::Number => {
                turn(&visitors.looks, event, LOOKS_OF_EVENT, WAIT_MAX).await?
            }
            Wants::Picture => turn(&visitors.pictures, event, PICTURES_OF_EVENT, WAIT_MAX).await?,
            // Its body comes next, which is large: it is looked at in a turn of its own.
            Wants::Selfie => {
                let (events, all) = &visitors.waiting;
                vec![at_once(&places(events, &event, WAITING_OF_EVENT))?, at_once(all)?]
            }
        };
        taken.push(self.place);
        Ok(Visit { key, open, _places: taken })
    }
}

/// Nothing is there, for whatever reason: the answer is always the same.
pub(super) fn nothing() -> Problem {
    Problem::not_found("page at this address")
}
