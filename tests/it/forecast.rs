//! What is told before is what then happens: `will_finish` of the page and of the funding plan, in
//! 1,000 random histories.
//!
//! The promise: nothing changes (no top-up, no refund, no other decision, hold or skip); no event
//! is slower than another, by a pace or because its photos follow their AI rotation; and nobody
//! waits for an hour. Then, together, the events of an organisation get exactly what was told. So
//! does each event under `finish_first`, and each class under `priority`. Events that share (`fair`,
//! and within a class) get it within what the shares of a claim leave: see [`is_about`]. With paces
//! and with photos that follow, what they get together is still exact.

use std::collections::BTreeMap;

use futures::{StreamExt, future::join_all, stream};
use photogate::{
    access::Caller,
    commands::{Enqueue, OnInsufficient, Payloads, Which},
    ids::{EventId, JobId, Operation, Operations, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace},
    },
    queue::{
        claim::Reservation,
        enqueue::{self, Priority},
        follow_ups, skips,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{App, Hand};

const HISTORIES: u64 = 1_000;
/// So many organisations spend at the same time: more than one claim takes.
const AT_ONCE: u64 = 25;

/// What one event has, before anything is told of it.
#[derive(Debug, Clone)]
struct Event {
    /// Photos that were claimed before.
    before: usize,
    /// Photos that wait: processing, rotation, and both.
    waiting: [usize; 3],
    held: [bool; 2],
    skipped: bool,
    budget: Option<(Option<i64>, i64)>,
    class: Class,
    in_flight_max: Option<i32>,
}

#[derive(Debug, Clone)]
struct History {
    available: i64,
    order: Order,
    turns: Vec<usize>,
    weight: i32,
    events: Vec<Event>,
    /// The last call: of which event, for what, and how many photos.
    last: (usize, Operations, usize),
}

impl History {
    fn random(random: &mut StdRng) -> Self {
        // Some are of each kind that the promise leaves out.
        let (paced, follows) = (random.random_bool(0.1), random.random_bool(0.1));
        let photos = if random.random_bool(0.2) { 40 } else { 10 };
        let event = |random: &mut StdRng| {
            let floor = if random.random_bool(0.5) { random.random_range(0..6) } else { 0 };
            let cap = random.random_bool(0.4).then(|| random.random_range(floor..floor + 15));
            let both = if follows { random.random_range(0..4) } else { 0 };
            let rotates = random.random_bool(0.5);
            Event {
                before: random.random_range(0..4),
                waiting: [
                    random.random_range(0..photos),
                    if rotates { random.random_range(0..photos) } else { 0 },
                    both,
                ],
                held: [random.random_bool(0.1), random.random_bool(0.1)],
                skipped: random.random_bool(0.2),
                budget: random.random_bool(0.5).then_some((cap, floor)),
                class: Class::ALL[random.random_range(0..3)],
                in_flight_max: paced.then(|| random.random_range(1..3)),
            }
        };
        let events: Vec<_> = (0..random.random_range(1..5)).map(|_| event(random)).collect();
        let waiting: usize = events.iter().flat_map(|event| event.waiting).sum();
        let turns = (0..events.len()).filter(|_| random.random_bool(0.5)).rev().collect();
        let operation = match random.random_range(0..if follows { 3 } else { 2 }) {
            0 => Operations::PhotoProcessing,
            1 => Operations::AiRotation,
            _ => Operations::Both,
        };
        Self {
            available: random.random_range(0..=i64::try_from(waiting).unwrap()),
            order: Order::ALL[random.random_range(0..3)],
            turns,
            weight: if random.random_bool(0.2) { random.random_range(1..4) } else { 1 },
            last: (random.random_range(0..events.len()), operation, random.random_range(1..8)),
            events,
        }
    }

    fn follows(&self) -> bool {
        self.last.1 == Operations::Both || self.events.iter().any(|event| event.waiting[2] > 0)
    }

    /// Whether an event may be slower than another.
    fn is_uneven(&self) -> bool {
        self.follows() || self.events.iter().any(|event| event.in_flight_max.is_some())
    }
}

/// What was told of a history.
struct Told {
    history: History,
    organisation: OrganisationId,
    events: Vec<EventId>,
    will_finish: BTreeMap<EventId, i64>,
    /// Of the last call: how many finish, and its jobs.
    last: (u64, Vec<JobId>),
}

fn keys(name: &str, photos: usize) -> Vec<String> {
    (0..photos).map(|n| format!("rehearsal/{name}/{n}")).collect()
}

impl App {
    async fn prepare(&self, history: &History) -> (OrganisationId, Vec<EventId>) {
        let before: usize = history.events.iter().map(|event| event.before).sum();
        let organisation = self.an_organisation_with(i64::try_from(before).unwrap()).await;
        let mut events = Vec::new();
        for event in &history.events {
            let id = self.an_event_of(organisation).await;
            if event.before > 0 {
                let keys = keys("before", event.before);
                self.queue_keys(id, Operation::PhotoProcessing, &keys).await;
            }
            events.push(id);
        }
        (organisation, events)
    }

    /// Decides everything, queues the photos, and reads what is told of them.
    async fn tell(
        &self,
        history: History,
        organisation: OrganisationId,
        events: Vec<EventId>,
    ) -> Told {
        if history.available > 0 {
            self.top_up(organisation, history.available).await;
        }
        let mut db = self.db().await;
        for (event, id) in history.events.iter().zip(&events) {
            for (at, operation) in Operation::ALL.into_iter().enumerate() {
                if event.waiting[at] > 0 {
                    self.queue_keys(*id, operation, &keys("one", event.waiting[at])).await;
                }
            }
            if event.waiting[2] > 0 {
                let both = enqueue::jobs(&keys("both", event.waiting[2])).unwrap();
                follow_ups::enqueue_both(&mut db, *id, &both, "anna", Priority::Normal)
                    .await
                    .unwrap();
            }
            if event.skipped {
                let photos: Vec<_> = sqlx::query_scalar(
                    "SELECT j.photo_id FROM job j JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id)
                     WHERE q.event_id = $1 AND q.operation = 'photo_processing' AND j.position > h.head
                     ORDER BY j.position % 2, j.position LIMIT 2",
                )
                .bind(id.0)
                .fetch_all(&mut *db)
                .await
                .unwrap();
                let operation = Operation::PhotoProcessing;
                skips::skip(&mut db, *id, operation, &photos, "anna").await.unwrap();
            }
            if let Some((cap, floor)) = event.budget {
                let budget = Budget { cap: cap.map(Credits), floor: Credits(floor) };
                spending::set_budget(&mut db, *id, budget, "anna").await.unwrap();
            }
            if event.class != Class::Normal {
                spending::set_class(&mut db, *id, event.class, "anna").await.unwrap();
            }
            if event.in_flight_max.is_some() {
                let pace = Pace { in_flight_max: event.in_flight_max, ..Pace::default() };
                spending::set_pace(&mut db, organisation, Some(*id), pace, "anna").await.unwrap();
            }
            for (held, operation) in event.held.iter().zip(Operation::ALL) {
                if *held {
                    sqlx::query("SELECT hold_queue($1, $2, 'anna', '', NULL)")
                        .bind(id.0)
                        .bind(operation)
                        .execute(&mut *db)
                        .await
                        .unwrap();
                }
            }
        }
        let turns: Vec<_> = history.turns.iter().map(|turn| events[*turn]).collect();
        spending::set_order(&mut db, organisation, history.order, &turns, "anna").await.unwrap();
        if history.weight != 1 {
            spending::set_weight(&mut db, organisation, history.weight, "anna").await.unwrap();
        }
        drop(db);

        let (event, operation, photos) = history.last;
        let keys = keys("last", photos);
        let call = async |dry_run: bool| {
            let asked = Enqueue {
                operation,
                photos: Which::Keys(&keys),
                payloads: Payloads::new(),
                dry_run,
                on_insufficient: OnInsufficient::Wait,
                priority: Priority::Normal,
            };
            let caller = Caller::trusted("anna");
            self.commands().enqueue(&caller, events[event], &asked).await.unwrap()
        };
        let (planned, done) = (call(true).await, call(false).await);
        assert_eq!(planned.will_finish, done.will_finish, "as planned: {history:?}");
        let mut db = self.db().await;
        let jobs = sqlx::query_scalar("SELECT job_id FROM job WHERE run_id = ANY ($1)")
            .bind(done.new_runs.iter().map(|run| run.0).collect::<Vec<_>>())
            .fetch_all(&mut *db)
            .await
            .unwrap();
        let spending = spending::read(&mut db, organisation, None).await.unwrap().unwrap();
        let will_finish = spending.events.iter().map(|event| (event.event, event.will_finish));
        let last = (done.will_finish, jobs.into_iter().map(JobId).collect());
        Told { will_finish: will_finish.collect(), organisation, events, last, history }
    }
}

/// What happened to an organisation: the photos of each event and of the last call that were
/// claimed, and the largest number of one claim.
#[derive(Debug, Default)]
struct Happened {
    events: BTreeMap<EventId, i64>,
    jobs: Vec<JobId>,
    share: i64,
}

/// Claims and settles until nothing is left, or only what waits for a hold or for credits.
async fn spend(
    hand: &Hand<'_>,
    app: &App,
    random: &mut StdRng,
    mut in_progress: Vec<Reservation>,
) -> BTreeMap<OrganisationId, Happened> {
    let mut happened: BTreeMap<_, Happened> = BTreeMap::new();
    loop {
        let claimed = hand.claim(random.random_range(8..40)).await;
        if claimed.is_empty() && !in_progress.is_empty() {
            settle(hand, std::mem::take(&mut in_progress)).await;
            continue;
        }
        if claimed.is_empty() {
            let patience = std::time::Duration::ZERO;
            let followed = follow_ups::follow(&mut *app.db().await, patience).await.unwrap();
            if followed.photos == 0 {
                return happened;
            }
            continue;
        }
        let mut shares: BTreeMap<_, i64> = BTreeMap::new();
        for one in &claimed {
            let of = happened.entry(one.organisation()).or_default();
            *of.events.entry(one.event()).or_default() += 1;
            of.jobs.push(one.job());
            *shares.entry(one.organisation()).or_default() += 1;
        }
        for (organisation, share) in shares {
            let of = happened.entry(organisation).or_default();
            of.share = of.share.max(share);
        }
        settle(hand, claimed).await;
    }
}

async fn settle(hand: &Hand<'_>, claimed: Vec<Reservation>) {
    let settled = join_all(claimed.into_iter().map(|one| hand.succeed(one))).await;
    assert!(settled.into_iter().all(|settled| settled));
}

/// Events that share get the same, within two shares of a claim (and what is less than a photo for
/// each queue): each claim gives every queue an equal share, but what is less than one for each goes
/// to the first of them, and small queues end within a claim.
fn is_about([told, happened]: [i64; 2], share: i64) -> bool {
    (told - happened).abs() <= 2 * share + 2
}

/// The first thing that was told otherwise.
fn compare(told: &Told, happened: &Happened) -> Result<(), String> {
    let history = &told.history;
    let check = |is_right: bool, what: &str, counts: [i64; 2]| match (is_right, counts) {
        (true, _) => Ok(()),
        (false, [told, finished]) => {
            Err(format!("{what}: told {told}, and {finished} finished; {happened:?} {history:?}"))
        }
    };
    let (mut ranks, mut all): (BTreeMap<i64, [i64; 2]>, _) = (BTreeMap::new(), [0, 0]);
    for (event, id) in history.events.iter().zip(&told.events) {
        let counts = [&told.will_finish, &happened.events].map(|of| *of.get(id).unwrap_or(&0));
        let rank = match history.order {
            Order::Fair => 0,
            Order::Priority => event.class as i64,
            Order::FinishFirst => id.0,
        };
        let of_rank = ranks.entry(rank).or_default();
        *of_rank = [of_rank[0] + counts[0], of_rank[1] + counts[1]];
        all = [all[0] + counts[0], all[1] + counts[1]];
        let is_right = history.is_uneven() || is_about(counts, happened.share);
        check(is_right, &format!("event {id}"), counts)?;
    }
    check(all[0] == all[1], "all together", all)?;
    if history.is_uneven() {
        return Ok(());
    }
    for (rank, counts) in ranks {
        check(counts[0] == counts[1], &format!("rank {rank}"), counts)?;
    }
    let (will_finish, jobs) = &told.last;
    let finished = jobs.iter().filter(|job| happened.jobs.contains(job)).count();
    let counts = [i64::try_from(*will_finish).unwrap(), i64::try_from(finished).unwrap()];
    check(is_about(counts, happened.share), "the last call", counts)?;
    // The event comes alone, and only one of its queues has photos.
    let event = &history.events[history.last.0];
    let other = usize::from(history.last.1 == Operations::PhotoProcessing);
    let is_alone = history.order == Order::FinishFirst && event.waiting[other] == 0;
    check(!is_alone || counts[0] == counts[1], "the last call, alone", counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_before_is_what_then_happens_in_a_thousand_histories() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    let (mut finished, mut short, mut wrong) = (0, 0, Vec::new());
    for group in 0..HISTORIES / AT_ONCE {
        let seed = rand::random();
        println!("group {group} is made of the seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let histories: Vec<_> = (0..AT_ONCE).map(|_| History::random(&mut random)).collect();
        let prepared: Vec<_> = stream::iter(&histories)
            .map(|history| app.prepare(history))
            .buffered(3)
            .collect()
            .await;
        // Before: a third is paid for, a third was refunded, and a third is in progress.
        let mut in_progress = Vec::new();
        loop {
            let claimed = hand.claim(64).await;
            if claimed.is_empty() {
                break;
            }
            let (mut paid_for, mut refunded) = (Vec::new(), Vec::new());
            for (n, one) in claimed.into_iter().enumerate() {
                [&mut paid_for, &mut refunded, &mut in_progress][n % 3].push(one);
            }
            settle(&hand, paid_for).await;
            join_all(refunded.into_iter().map(|one| hand.fail(one))).await;
        }
        let told: Vec<_> = stream::iter(histories.into_iter().zip(prepared))
            .map(|(history, (organisation, events))| app.tell(history, organisation, events))
            .buffered(3)
            .collect()
            .await;

        let mut happened = spend(&hand, &app, &mut random, in_progress).await;

        for told in &told {
            let happened = happened.remove(&told.organisation).unwrap_or_default();
            wrong.extend(compare(told, &happened).err());
            finished += happened.jobs.len();
            let waited: i64 = told.will_finish.values().sum();
            short += usize::from(waited > 0 && happened.jobs.len() < 10);
        }
        assert!(happened.is_empty(), "group {group}: somebody else spends");
    }
    let some = wrong[..wrong.len().min(30)].join("\n");
    assert!(wrong.is_empty(), "{} histories: {some}", wrong.len());
    assert!(
        finished > 5_000 && short > 50,
        "{finished} photos; {short} histories with few credits"
    );
}
