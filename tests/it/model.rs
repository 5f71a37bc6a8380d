//! The gate against a plain model of it: random sequences of everything that can be asked of it,
//! and after each step every balance, every job's state and every pause are compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use photogate::ids::{EventId, OrganisationId};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use sqlx::{Executor, PgConnection, Row};
use uuid::Uuid;

use crate::support::{App, code_of};

const CRASHES_MAX: i16 = 3;
/// Photos of an event.
const PHOTOS: usize = 5;
/// Workers, at a time.
const WORKERS: usize = 2;
/// Queues: the first three are of one organisation, the last is of another.
const OWNER: [usize; 4] = [0, 0, 0, 1];
/// The event of each queue, and the organisation of each event.
const EVENT: [usize; 4] = [0, 0, 1, 2];
const OWNER_OF_EVENT: [usize; 3] = [0, 0, 1];
/// The queues of the first event.
const PROCESSING: usize = 0;
const ROTATION: usize = 1;

#[derive(Debug, Clone)]
enum Ask {
    Enqueue {
        queue: usize,
        photos: Vec<usize>,
        urgent: bool,
    },
    /// Both operations of the first event, AI Rotation first.
    EnqueueBoth {
        photos: Vec<usize>,
        urgent: bool,
    },
    /// What has had its AI Rotation is queued for Photo Processing.
    Follow,
    Retry {
        queue: usize,
        photos: Vec<usize>,
        /// Those that are undecided, too.
        undecided: bool,
    },
    Skip {
        queue: usize,
        photos: Vec<usize>,
    },
    Restore {
        queue: usize,
        photos: Vec<usize>,
    },
    /// A run of those that were queued is taken out of its queue.
    Cancel {
        which: usize,
    },
    /// A run is claimed before all others of its queue.
    First {
        which: usize,
    },
    /// What a person did is taken back.
    Undo {
        which: usize,
    },
    Claim {
        worker: usize,
        most: i32,
    },
    Adopt {
        worker: usize,
        most: i32,
        suspects: i32,
    },
    /// Settles a photo that this worker has, or once had.
    Settle {
        worker: usize,
        which: usize,
        says: Says,
    },
    /// Gives one back.
    Release {
        worker: usize,
        which: usize,
        end: End,
    },
    /// What waits for its time is due.
    TimePasses,
    /// A worker falls silent. Another takes its place; what it had is found by whoever adopts.
    LeaseRunsOut {
        worker: usize,
    },
    Leave {
        worker: usize,
    },
    TopUp {
        organisation: usize,
        amount: i64,
        key: usize,
    },
    Hold {
        queue: usize,
    },
    Lift {
        which: usize,
    },
    Budget {
        event: usize,
        cap: Option<i64>,
        floor: i64,
    },
    Order {
        organisation: usize,
        order: Order,
        turns: Vec<usize>,
    },
    Class {
        event: usize,
        class: usize,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Fair,
    Priority,
    FinishFirst,
}

impl Order {
    fn code(self) -> &'static str {
        match self {
            Self::Fair => "fair",
            Self::Priority => "priority",
            Self::FinishFirst => "finish_first",
        }
    }
}

const CLASSES: [&str; 3] = ["urgent", "normal", "background"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    HandedBack,
    Retry,
    Crash,
}

/// What a worker says of a photo that it has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The photo has this content, if it is known.
    Processed(Option<u8>),
    Undecided,
    Failed,
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        3 => proptest::option::of(0..3u8).prop_map(Says::Processed),
        1 => Just(Says::Undecided),
        1 => Just(Says::Failed),
    ]
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::HandedBack), Just(End::Retry), Just(End::Crash)]
}

fn asks() -> impl Strategy<Value = Ask> {
    let photos = || vec(0..PHOTOS, 1..4);
    prop_oneof![
        4 => (0..4usize, photos(), any::<bool>())
            .prop_map(|(queue, photos, urgent)| Ask::Enqueue { queue, photos, urgent }),
        3 => (photos(), any::<bool>())
            .prop_map(|(photos, urgent)| Ask::EnqueueBoth { photos, urgent }),
        3 => Just(Ask::Follow),
        2 => (0..4usize, photos(), any::<bool>())
            .prop_map(|(queue, photos, undecided)| Ask::Retry { queue, photos, undecided }),
        2 => (0..4usize, photos()).prop_map(|(queue, photos)| Ask::Skip { queue, photos }),
        2 => (0..4usize, photos()).prop_map(|(queue, photos)| Ask::Restore { queue, photos }),
        2 => (0..6usize).prop_map(|which| Ask::Cancel { which }),
        2 => (0..6usize).prop_map(|which| Ask::First { which }),
        4 => (0..4usize).prop_map(|which| Ask::Undo { which }),
        8 => (0..WORKERS, 1..5i32).prop_map(|(worker, most)| Ask::Claim { worker, most }),
        5 => (0..WORKERS, 1..4i32, 0..2i32)
            .prop_map(|(worker, most, suspects)| Ask::Adopt { worker, most, suspects }),
        8 => (0..WORKERS, 0..8usize, says())
            .prop_map(|(worker, which, says)| Ask::Settle { worker, which, says }),
        4 => (0..WORKERS, 0..8usize, ends())
            .prop_map(|(worker, which, end)| Ask::Release { worker, which, end }),
        1 => Just(Ask::TimePasses),
        2 => (0..WORKERS).prop_map(|worker| Ask::LeaseRunsOut { worker }),
        1 => (0..WORKERS).prop_map(|worker| Ask::Leave { worker }),
        4 => (0..2usize, -3..6i64, 0..12usize)
            .prop_map(|(organisation, amount, key)| Ask::TopUp { organisation, amount, key }),
        2 => (0..4usize).prop_map(|queue| Ask::Hold { queue }),
        3 => (0..4usize).prop_map(|which| Ask::Lift { which }),
        3 => (0..3usize, proptest::option::of(0..7i64), 0..5i64)
            .prop_map(|(event, cap, floor)| Ask::Budget { event, cap, floor }),
        1 => (0..2usize, orders(), Just(vec![0, 1]).prop_shuffle(), 0..3usize).prop_map(
            |(organisation, order, mut turns, named)| {
                turns.truncate(named);
                Ask::Order { organisation, order, turns }
            }
        ),
        1 => (0..3usize, 0..3usize).prop_map(|(event, class)| Ask::Class { event, class }),
    ]
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Fair), Just(Order::Priority), Just(Order::FinishFirst)]
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Skipped,
    InFlight {
        owner: Option<i64>,
        attempt: i32,
        crashes: i16,
        retries: i16,
        due: bool,
    },
    Processed,
    Undecided,
    Duplicate,
    Failed,
    Quarantined,
    /// It was queued, and that was taken back.
    Undone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    photo: usize,
    retry: i16,
    state: State,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Account {
    funded: i64,
    available: i64,
    reserved: i64,
    spent: i64,
}

/// A queue as a plain list; its pause, and who holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Queue {
    jobs: Vec<Job>,
    paused: bool,
    holds: i64,
    /// A claim has found it empty.
    drained: bool,
}

/// What goes first in a queue: by place, the lowest first; and the act that put it there, if it was one.
type First = BTreeMap<usize, (i64, Option<usize>)>;

impl Queue {
    fn waits(&self, at: usize) -> bool {
        self.jobs[at].state == State::Waiting
    }

    fn waiting(&self, first: &First) -> Vec<usize> {
        let mut waiting: Vec<_> = (0..self.jobs.len()).filter(|at| self.waits(*at)).collect();
        waiting.sort_by_key(|at| {
            (!first.contains_key(at), first.get(at).map(|(place, _)| *place), *at)
        });
        waiting
    }

    /// Claims look at it.
    fn is_runnable(&self) -> bool {
        !self.drained && !self.paused && self.holds == 0
    }

    fn is_empty(&self) -> bool {
        !self.jobs.iter().any(|job| job.state == State::Waiting)
    }

    fn runs(&self) -> bool {
        self.is_runnable() && !self.is_empty()
    }

    /// The latest job of a photo that was not taken back.
    fn latest(&self, photo: usize) -> Option<usize> {
        let of = |job: &Job| job.photo == photo && job.state != State::Undone;
        (0..self.jobs.len()).rev().find(|at| of(&self.jobs[*at]))
    }
}

/// What a person did, with what it takes to take it back.
#[derive(Debug, Clone)]
enum Act {
    /// Photos of these jobs were queued, and these are to follow.
    Queue {
        jobs: Vec<(usize, Vec<usize>)>,
        follows: Vec<(usize, usize)>,
    },
    /// What had its place in front before, and what would have followed.
    Skip {
        queue: usize,
        jobs: Vec<usize>,
        first: First,
        follows: Vec<(usize, usize, bool)>,
    },
    Cancel {
        queue: usize,
        jobs: Vec<usize>,
        first: First,
        follows: Vec<(usize, usize, bool)>,
    },
    Restore {
        queue: usize,
        jobs: Vec<usize>,
        /// The acts that had skipped them.
        by: Vec<usize>,
    },
    First {
        queue: usize,
        jobs: Vec<usize>,
        first: First,
    },
    Hold(usize),
    Lift(usize),
}

/// What the gate must do.
#[derive(Debug, Clone)]
struct Model {
    accounts: [Account; 2],
    queues: [Queue; 4],
    first: [First; 4],
    /// The acts by which jobs were skipped last.
    skipped_by: [BTreeMap<usize, usize>; 4],
    /// Runs, as the gate has them: the queue and the jobs.
    runs: Vec<(usize, Vec<usize>)>,
    /// What a person did, and whether it was taken back.
    acts: Vec<(Act, bool)>,
    /// Of each event: the cap and the floor.
    budgets: [(Option<i64>, i64); 3],
    orders: [Order; 2],
    classes: [usize; 3],
    turns: [Option<usize>; 3],
    top_ups: BTreeMap<(usize, usize), i64>,
    /// Holds that were placed: the queue, and whether it stands.
    holds: Vec<(usize, bool)>,
    /// Photos that wait for a job of AI Rotation (the second queue) to end.
    /// They are urgent, if their call was.
    follows: Vec<(usize, usize, bool)>,
    /// The contents that were paid for, of each queue.
    paid: BTreeSet<(usize, u8)>,
    /// Workers whose lease ran out, and who were not found yet.
    silent: Vec<i64>,
}

impl Model {
    /// Returns the jobs.
    fn append(
        &mut self,
        queue: usize,
        photos: &[usize],
        urgent: bool,
        take: impl Fn(&Queue, Option<usize>) -> bool,
    ) -> Vec<usize> {
        let mut seen = Vec::new();
        for photo in photos {
            let latest = self.queues[queue].latest(*photo);
            if seen.contains(photo) || !take(&self.queues[queue], latest) {
                continue;
            }
            seen.push(*photo);
        }
        for photo in &seen {
            let retry = self.queues[queue]
                .latest(*photo)
                .map_or(0, |at| self.queues[queue].jobs[at].retry + 1);
            self.queues[queue].jobs.push(Job { photo: *photo, retry, state: State::Waiting });
        }
        self.queues[queue].drained &= seen.is_empty();
        let end = self.queues[queue].jobs.len();
        let jobs: Vec<_> = (end - seen.len()..end).collect();
        if urgent {
            let place = self.places(queue).max().unwrap_or(0).max(0) + 1;
            self.first[queue].extend(jobs.iter().map(|at| (*at, (place, None))));
        }
        if !jobs.is_empty() {
            self.runs.push((queue, jobs.clone()));
        }
        jobs
    }

    /// The places of those that go first and wait.
    fn places(&self, queue: usize) -> impl Iterator<Item = i64> {
        let waits = move |at: &usize| self.queues[queue].waits(*at);
        self.first[queue].iter().filter(move |(at, _)| waits(at)).map(|(_, (place, _))| *place)
    }

    fn waits_for_rotation(&self, queue: usize, photo: usize) -> bool {
        queue == PROCESSING && self.follows.iter().any(|(follows, _, _)| *follows == photo)
    }

    /// Queues new photos. What waits for its AI Rotation is queued already.
    fn append_new(&mut self, queue: usize, photos: &[usize], urgent: bool) -> Vec<usize> {
        let photos: Vec<_> = photos
            .iter()
            .copied()
            .filter(|photo| !self.waits_for_rotation(queue, *photo))
            .collect();
        self.append(queue, &photos, urgent, |_, latest| latest.is_none())
    }

    fn enqueue(&mut self, queue: usize, photos: &[usize], urgent: bool) -> usize {
        let jobs = self.append_new(queue, photos, urgent);
        let queued = jobs.len();
        if queued > 0 {
            let act = Act::Queue { jobs: vec![(queue, jobs)], follows: Vec::new() };
            self.acts.push((act, false));
        }
        queued
    }

    fn enqueue_both(&mut self, photos: &[usize], urgent: bool) -> usize {
        let rotated = self.append_new(ROTATION, photos, urgent);
        let mut follows = Vec::new();
        for photo in photos {
            let at = self.queues[ROTATION].latest(*photo).unwrap();
            let is_open = matches!(
                self.queues[ROTATION].jobs[at].state,
                State::Waiting | State::InFlight { .. }
            );
            if is_open
                && self.queues[PROCESSING].latest(*photo).is_none()
                && !self.waits_for_rotation(PROCESSING, *photo)
            {
                self.follows.push((*photo, at, urgent));
                follows.push((*photo, at));
            }
        }
        let processed = self.append_new(PROCESSING, photos, urgent);
        let queued = rotated.len() + follows.len() + processed.len();
        if queued > 0 {
            let jobs = vec![(ROTATION, rotated), (PROCESSING, processed)];
            self.acts.push((Act::Queue { jobs, follows }, false));
        }
        queued
    }

    fn follow(&mut self) {
        let rotation = &self.queues[ROTATION];
        let has_ended =
            |at: usize| !matches!(rotation.jobs[at].state, State::Waiting | State::InFlight { .. });
        let (mut ready, open): (Vec<_>, Vec<_>) =
            self.follows.iter().partition(|(_, at, _)| has_ended(*at));
        self.follows = open;
        ready.sort_unstable_by_key(|(_, at, _)| *at);
        let Some((_, _, first)) = ready.first().copied() else { return };
        // Urgent ones are a run of their own.
        for urgent in [first, !first] {
            let photos: Vec<_> = ready
                .iter()
                .filter(|(_, _, other)| *other == urgent)
                .map(|(photo, _, _)| *photo)
                .collect();
            if !photos.is_empty() {
                self.append(PROCESSING, &photos, urgent, |_, latest| latest.is_none());
            }
        }
    }

    /// What has its place in front loses it, and is told.
    fn take_places(&mut self, queue: usize, jobs: &[usize]) -> First {
        jobs.iter().filter_map(|at| Some((*at, self.first[queue].remove(at)?))).collect()
    }

    fn skip_jobs(&mut self, queue: usize, jobs: Vec<usize>, follows: Vec<(usize, usize, bool)>) {
        if jobs.is_empty() {
            return;
        }
        for at in &jobs {
            self.queues[queue].jobs[*at].state = State::Skipped;
        }
        self.queues[queue].drained |= self.queues[queue].is_empty();
        let first = self.take_places(queue, &jobs);
        let act = self.acts.len();
        self.skipped_by[queue].extend(jobs.iter().map(|at| (*at, act)));
        self.acts.push((Act::Skip { queue, jobs, first, follows }, false));
    }

    fn skip(&mut self, queue: usize, photos: &[usize]) {
        let list = &self.queues[queue];
        let chosen = |at: &usize| list.waits(*at) && photos.contains(&list.jobs[*at].photo);
        let jobs: Vec<_> = (0..list.jobs.len()).filter(chosen).collect();
        // They go on as soon as anybody looks, and then the skip cannot be taken back.
        let waits_for = |at: &usize| queue == ROTATION && jobs.contains(at);
        let follows = self.follows.iter().filter(|(_, at, _)| waits_for(at)).copied().collect();
        self.skip_jobs(queue, jobs, follows);
    }

    fn wait_again(&mut self, queue: usize, jobs: &[usize]) {
        for at in jobs {
            self.queues[queue].jobs[*at].state = State::Waiting;
        }
        self.queues[queue].drained = false;
    }

    fn restore(&mut self, queue: usize, photos: &[usize]) {
        let list = &self.queues[queue];
        let skipped = |at: &usize| {
            list.jobs[*at].state == State::Skipped && photos.contains(&list.jobs[*at].photo)
        };
        let jobs: Vec<_> = (0..list.jobs.len()).filter(skipped).collect();
        if !jobs.is_empty() {
            self.wait_again(queue, &jobs);
            let by = jobs.iter().map(|at| self.skipped_by[queue][at]).collect();
            self.acts.push((Act::Restore { queue, jobs, by }, false));
        }
    }

    fn waiting_of_run(&self, which: usize) -> (usize, Vec<usize>) {
        let (queue, jobs) = &self.runs[which];
        (*queue, jobs.iter().copied().filter(|at| self.queues[*queue].waits(*at)).collect())
    }

    fn cancel(&mut self, which: usize) -> usize {
        let (queue, jobs) = self.waiting_of_run(which);
        let cancelled = jobs.len();
        let taken = |at: usize| queue == ROTATION && jobs.contains(&at);
        let (gone, left) = self.follows.iter().partition(|(_, at, _)| taken(*at));
        self.follows = left;
        self.skip_jobs(queue, jobs, gone);
        if let Some((act, _)) = self.acts.last_mut().filter(|_| cancelled > 0)
            && let Act::Skip { queue, jobs, first, follows } = act.clone()
        {
            *act = Act::Cancel { queue, jobs, first, follows };
        }
        cancelled
    }

    fn put_first(&mut self, which: usize) -> usize {
        let (queue, jobs) = self.waiting_of_run(which);
        let moved = jobs.len();
        if moved > 0 {
            let place = self.places(queue).min().unwrap_or(0).min(0) - 1;
            let first = self.take_places(queue, &jobs);
            let act = self.acts.len();
            self.first[queue].extend(jobs.iter().map(|at| (*at, (place, Some(act)))));
            self.acts.push((Act::First { queue, jobs, first }, false));
        }
        moved
    }

    /// False if it cannot be taken back any more.
    fn undo(&mut self, which: usize) -> bool {
        if self.acts[which].1 || !self.take_back(which, &self.acts[which].0.clone()) {
            return false;
        }
        self.acts[which].1 = true;
        true
    }

    fn take_back(&mut self, which: usize, act: &Act) -> bool {
        let all = |queue: usize, jobs: &[usize], state: &State| {
            jobs.iter().all(|at| self.queues[queue].jobs[*at].state == *state)
        };
        match act {
            Act::Queue { jobs, follows } => {
                let followed =
                    |(photo, _): &(usize, usize)| self.queues[PROCESSING].latest(*photo).is_some();
                // What another call has let follow them would be lost.
                let of_others = |(photo, at, _): &(usize, usize, bool)| {
                    jobs.iter().any(|(queue, jobs)| *queue == ROTATION && jobs.contains(at))
                        && !follows.contains(&(*photo, *at))
                };
                if !jobs.iter().all(|(queue, jobs)| all(*queue, jobs, &State::Waiting))
                    || follows.iter().any(followed)
                    || self.follows.iter().any(of_others)
                {
                    return false;
                }
                for (queue, jobs) in jobs {
                    for at in jobs {
                        self.queues[*queue].jobs[*at] =
                            Job { photo: usize::MAX, retry: 0, state: State::Undone };
                    }
                    self.queues[*queue].drained |=
                        !jobs.is_empty() && self.queues[*queue].is_empty();
                    self.follows.retain(|(_, at, _)| *queue != ROTATION || !jobs.contains(at));
                }
                self.follows.retain(|(photo, at, _)| !follows.contains(&(*photo, *at)));
            }
            Act::Skip { queue, jobs, first, follows }
            | Act::Cancel { queue, jobs, first, follows } => {
                let is_cancel = matches!(act, Act::Cancel { .. });
                let ours = jobs.iter().all(|at| self.skipped_by[*queue].get(at) == Some(&which));
                let follows_on =
                    follows.iter().all(|(photo, ..)| self.waits_for_rotation(PROCESSING, *photo));
                if !all(*queue, jobs, &State::Skipped) || !ours || !is_cancel && !follows_on {
                    return false;
                }
                self.wait_again(*queue, jobs);
                self.first[*queue].extend(first);
                for follow in follows.iter().filter(|_| is_cancel) {
                    if !self.waits_for_rotation(PROCESSING, follow.0) {
                        self.follows.push(*follow);
                    }
                }
            }
            Act::Restore { queue, jobs, by } => {
                if !all(*queue, jobs, &State::Waiting) {
                    return false;
                }
                for (at, by) in jobs.iter().zip(by) {
                    self.queues[*queue].jobs[*at].state = State::Skipped;
                    self.skipped_by[*queue].insert(*at, *by);
                }
                self.take_places(*queue, jobs);
                self.queues[*queue].drained |= self.queues[*queue].is_empty();
            }
            Act::First { queue, jobs, first } => {
                let ours = |at: &usize| {
                    self.queues[*queue].waits(*at)
                        && self.first[*queue].get(at).is_some_and(|(_, by)| *by == Some(which))
                };
                let jobs: Vec<_> = jobs.iter().copied().filter(ours).collect();
                if jobs.is_empty() {
                    return false;
                }
                self.take_places(*queue, &jobs);
                let first = first.iter().filter(|(at, _)| jobs.contains(at));
                self.first[*queue].extend(first.map(|(at, place)| (*at, *place)));
            }
            Act::Hold(hold) => {
                let (queue, stands) = &mut self.holds[*hold];
                if !*stands {
                    return false;
                }
                *stands = false;
                self.queues[*queue].holds -= 1;
            }
            Act::Lift(hold) => {
                let (queue, _) = self.holds[*hold];
                self.holds.push((queue, true));
                self.queues[queue].holds += 1;
            }
        }
        true
    }

    /// The credits that an event has reserved or spent.
    fn used(&self, event: usize) -> i64 {
        let uses = |job: &&Job| matches!(job.state, State::InFlight { .. } | State::Processed);
        let of = |queue: usize| self.queues[queue].jobs.iter().filter(uses).count();
        let used: usize = (0..4).filter(|queue| EVENT[*queue] == event).map(of).sum();
        i64::try_from(used).unwrap()
    }

    fn cap_left(&self, event: usize) -> i64 {
        self.budgets[event].0.map_or(i64::MAX / 2, |cap| cap - self.used(event))
    }

    fn floor_left(&self, event: usize) -> i64 {
        (self.budgets[event].1 - self.used(event)).max(0)
    }

    /// What no floor keeps of the credits that are available.
    fn free(&self, organisation: usize) -> i64 {
        let events = (0..3).filter(|event| OWNER_OF_EVENT[*event] == organisation);
        let kept: i64 = events.map(|event| self.floor_left(event)).sum();
        (self.accounts[organisation].available - kept).max(0)
    }

    fn spendable(&self, event: usize) -> i64 {
        let organisation = OWNER_OF_EVENT[event];
        (self.floor_left(event) + self.free(organisation))
            .min(self.cap_left(event))
            .min(self.accounts[organisation].available)
            .max(0)
    }

    fn is_steered(&self, organisation: usize) -> bool {
        self.orders[organisation] != Order::Fair
            || (0..3).any(|event| {
                OWNER_OF_EVENT[event] == organisation && self.budgets[event] != (None, 0)
            })
    }

    /// Whose turn it is: the lowest comes first.
    fn rank(&self, queue: usize) -> (usize, usize) {
        let event = EVENT[queue];
        match self.orders[OWNER[queue]] {
            Order::Fair => (0, 0),
            Order::Priority => (self.classes[event], 0),
            Order::FinishFirst => (self.turns[event].unwrap_or(usize::MAX), event),
        }
    }

    /// Photos of a claim in an organisation that has decided how its credits are spent. `cursor`:
    /// the queue that was claimed from last.
    fn steered_claim(&self, organisation: usize, quota: i64, cursor: usize) -> Vec<(usize, usize)> {
        let mut queues: Vec<_> = (0..4)
            .filter(|queue| OWNER[*queue] == organisation && self.queues[*queue].runs())
            .filter(|queue| self.spendable(EVENT[*queue]) > 0)
            .collect();
        queues.sort_by_key(|queue| (self.rank(*queue), *queue < cursor, *queue));
        let (mut left, mut free) = (quota, self.free(organisation));
        let mut takes = [0_i64; 4];
        for rank in queues.chunk_by(|one, other| self.rank(*one) == self.rank(*other)) {
            // Equal shares, and then what is left.
            let shares = (1..=rank.len()).rev().chain(vec![1; rank.len()]);
            for (queue, sharers) in rank.iter().chain(rank).zip(shares) {
                let event = EVENT[*queue];
                let before: i64 =
                    (0..4).filter(|other| EVENT[*other] == event).map(|other| takes[other]).sum();
                let kept = (self.floor_left(event) - before).max(0);
                let waiting =
                    i64::try_from(self.queues[*queue].waiting(&self.first[*queue]).len()).unwrap();
                let sharers = i64::try_from(sharers).unwrap();
                let take = ((left + sharers - 1) / sharers)
                    .min(waiting - takes[*queue])
                    .min(self.cap_left(event) - before)
                    .min(kept + free)
                    .max(0);
                free -= (take - kept).max(0);
                left -= take;
                takes[*queue] += take;
            }
        }
        let mut claimed: Vec<(usize, usize)> = Vec::new();
        for (queue, take) in takes.iter().enumerate() {
            let waiting = self.queues[queue].waiting(&self.first[queue]);
            for at in waiting.iter().take(usize::try_from(*take).unwrap()) {
                claimed.push((queue, *at));
            }
        }
        claimed.sort_unstable();
        claimed
    }

    /// Shares over organisations, then over their queues.
    fn claim(&self, most: i32, cursors: [usize; 2]) -> Vec<(usize, usize)> {
        let most = i64::from(most);
        let mut organisations: Vec<_> = (0..2)
            .filter(|organisation| {
                (0..4)
                    .any(|queue| OWNER[queue] == *organisation && self.queues[queue].is_runnable())
            })
            .collect();
        organisations.truncate(usize::try_from(most).unwrap());
        organisations.retain(|organisation| {
            (0..4).any(|queue| {
                OWNER[queue] == *organisation
                    && self.queues[queue].runs()
                    && self.spendable(EVENT[queue]) > 0
            })
        });
        let shares = i64::try_from(organisations.len()).unwrap();
        let mut claimed = Vec::new();
        for (nth, organisation) in organisations.iter().enumerate() {
            let share = most / shares + i64::from(i64::try_from(nth).unwrap() < most % shares);
            let quota = share.min(self.accounts[*organisation].available);
            if self.is_steered(*organisation) {
                claimed.extend(self.steered_claim(*organisation, quota, cursors[*organisation]));
                continue;
            }
            let cursor = cursors[*organisation];
            let mut running: Vec<_> = (0..4)
                .filter(|queue| OWNER[*queue] == *organisation && self.queues[*queue].runs())
                .collect();
            running.sort_by_key(|queue| (*queue < cursor, *queue));
            // At most as many queues as credits. Shares are rounded up, and cut in turn.
            running.truncate(usize::try_from(quota).unwrap());
            let queues = i64::try_from(running.len()).unwrap();
            let mut left = quota;
            for queue in running {
                let waiting = self.queues[queue].waiting(&self.first[queue]);
                let want = ((quota + queues - 1) / queues)
                    .min(left)
                    .min(i64::try_from(waiting.len()).unwrap());
                left -= want;
                for at in waiting.iter().take(usize::try_from(want).unwrap()) {
                    claimed.push((queue, *at));
                }
            }
        }
        claimed.sort_unstable();
        claimed
    }

    /// Books what was claimed; then, of each organisation whose turn it was, what would run and has
    /// nothing to spend is paused.
    fn take(&mut self, worker: i64, claimed: &[(usize, usize)], turns: &[usize]) {
        let looked_at: Vec<_> = (0..4)
            .filter(|queue| turns.contains(&OWNER[*queue]) && self.queues[*queue].is_runnable())
            .filter(|queue| self.spendable(EVENT[*queue]) > 0)
            .collect();
        for queue in looked_at {
            self.queues[queue].drained = self.queues[queue].is_empty();
        }
        for (queue, at) in claimed {
            self.queues[*queue].jobs[*at].state = State::InFlight {
                owner: Some(worker),
                attempt: 1,
                crashes: 0,
                retries: 0,
                due: true,
            };
            let account = &mut self.accounts[OWNER[*queue]];
            (account.available, account.reserved) = (account.available - 1, account.reserved + 1);
        }
        for organisation in turns {
            self.pause(*organisation);
        }
    }

    /// Pauses what would run and has nothing to spend.
    fn pause(&mut self, organisation: usize) {
        for queue in (0..4).filter(|queue| OWNER[*queue] == organisation) {
            let is_spent = self.spendable(EVENT[queue]) == 0;
            self.queues[queue].paused |= is_spent && self.queues[queue].is_runnable();
        }
    }

    /// Lets go on what has something to spend again.
    fn resume(&mut self, organisation: usize) {
        for queue in (0..4).filter(|queue| OWNER[*queue] == organisation) {
            let is_spent = self.spendable(EVENT[queue]) == 0;
            self.queues[queue].paused &= is_spent;
        }
    }

    fn close(&mut self, queue: usize, at: usize, state: State) {
        let account = &mut self.accounts[OWNER[queue]];
        account.reserved -= 1;
        let refunded = state != State::Processed;
        if refunded {
            account.available += 1;
        } else {
            account.spent += 1;
        }
        self.queues[queue].jobs[at].state = state;
        if refunded {
            self.resume(OWNER[queue]);
        }
    }

    fn budget(&mut self, event: usize, cap: Option<i64>, floor: i64) -> Result<(), &'static str> {
        if cap.is_some_and(|cap| floor > cap) {
            return Err("23514");
        }
        if self.budgets[event] == (cap, floor) {
            return Ok(());
        }
        self.budgets[event] = (cap, floor);
        self.pause(OWNER_OF_EVENT[event]);
        self.resume(OWNER_OF_EVENT[event]);
        Ok(())
    }

    fn flying(&self, wanted: impl Fn(Option<i64>, i16, bool) -> bool) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (queue, list) in self.queues.iter().enumerate() {
            for (at, job) in list.jobs.iter().enumerate() {
                if let State::InFlight { owner, crashes, due, .. } = job.state
                    && wanted(owner, crashes, due)
                {
                    found.push((queue, at));
                }
            }
        }
        found
    }

    /// What nobody has, or somebody gone had: with one more crash, if its worker was silent.
    fn orphan(&mut self, workers: &[i64], crashed: bool) {
        for (queue, at) in
            self.flying(|owner, _, _| owner.is_some_and(|owner| workers.contains(&owner)))
        {
            if let State::InFlight { owner, crashes, due, .. } =
                &mut self.queues[queue].jobs[at].state
            {
                (*owner, *due) = (None, true);
                *crashes += i16::from(crashed);
            }
        }
    }

    /// The error is the SQLSTATE with which the gate must refuse.
    fn top_up(&mut self, organisation: usize, amount: i64, key: usize) -> Result<(), &'static str> {
        if amount == 0 {
            return Err("23514");
        }
        if let Some(known) = self.top_ups.get(&(organisation, key)) {
            return if *known == amount { Ok(()) } else { Err("PG003") };
        }
        if self.accounts[organisation].available + amount < 0 {
            return Err("PG004");
        }
        self.top_ups.insert((organisation, key), amount);
        let account = &mut self.accounts[organisation];
        (account.funded, account.available) = (account.funded + amount, account.available + amount);
        if amount < 0 {
            self.pause(organisation);
        }
        self.resume(organisation);
        Ok(())
    }
}

/// The gate, and how its ids are called in the model.
struct Real {
    owner: PgConnection,
    organisations: [OrganisationId; 2],
    /// The event and operation of each queue, and its number.
    queues: [(EventId, &'static str); 4],
    numbers: [i64; 4],
    events: [EventId; 3],
    workers: [i64; WORKERS],
    /// The keys of all workers there ever were.
    keys: HashMap<i64, Uuid>,
    /// Everything that a worker ever had: (worker, job, attempt).
    had: Vec<(i64, i64, i32)>,
}

impl Real {
    async fn new(app: &App) -> Self {
        let organisations = [app.an_organisation_with(0).await, app.an_organisation_with(0).await];
        let events = [
            app.an_event_of(organisations[0]).await,
            app.an_event_of(organisations[0]).await,
            app.an_event_of(organisations[1]).await,
        ];
        let owner = app.as_owner().await;
        let queues = [
            (events[0], "photo_processing"),
            (events[0], "ai_rotation"),
            (events[1], "photo_processing"),
            (events[2], "photo_processing"),
        ];
        let mut real = Self {
            owner,
            organisations,
            queues,
            numbers: [0; 4],
            events,
            workers: [0; WORKERS],
            keys: HashMap::new(),
            had: Vec::new(),
        };
        // Both operations look at the same photos: they are there from the beginning.
        for event in events {
            let keys: Vec<_> = (0..PHOTOS).map(|photo| format!("'{photo}'")).collect();
            real.sql(format!(
                "INSERT INTO photo SELECT gen_random_uuid(), {event}, key \
                 FROM unnest(ARRAY[{}]) key",
                keys.join(",")
            ))
            .await
            .unwrap();
        }
        for (at, (event, operation)) in queues.iter().enumerate() {
            let number = format!(
                "SELECT queue_id FROM queue WHERE event_id = {event} AND operation = '{operation}'"
            );
            real.numbers[at] = real.sql(number).await.unwrap()[0].get(0);
        }
        for worker in 0..WORKERS {
            real.hire(worker).await;
        }
        real
    }

    /// How many queues of the model each account's cursor has passed.
    async fn cursors(&mut self) -> [usize; 2] {
        let mut passed = [0; 2];
        for (at, organisation) in self.organisations.into_iter().enumerate() {
            let cursor =
                format!("SELECT queue_cursor FROM account WHERE organisation_id = {organisation}");
            let cursor: i64 = self.sql(cursor).await.unwrap()[0].get(0);
            passed[at] = self.numbers.iter().filter(|number| **number <= cursor).count();
        }
        passed
    }

    async fn sql(&mut self, sql: String) -> sqlx::Result<Vec<sqlx::postgres::PgRow>> {
        self.owner.fetch_all(sqlx::AssertSqlSafe(sql)).await
    }

    async fn hire(&mut self, worker: usize) {
        let name = format!("model-{}-{worker}", rand::random::<u64>());
        let register =
            format!("SELECT r_worker, r_key FROM register_worker('{name}', 1, '1 hour')");
        let row = self.sql(register).await.unwrap().remove(0);
        self.workers[worker] = row.get(0);
        self.keys.insert(row.get(0), row.get(1));
        // It has been there for long enough to declare others dead.
        let patient = "UPDATE worker SET beats_since = started_at - interval '1 minute'";
        self.sql(patient.into()).await.unwrap();
    }

    fn photos(&self, queue: usize, photos: &[usize]) -> String {
        let keys: Vec<_> = photos.iter().map(|photo| format!("'{photo}'")).collect();
        format!(
            "(SELECT array_agg(p.photo_id ORDER BY n) FROM unnest(ARRAY[{}]) \
             WITH ORDINALITY k (key, n) JOIN photo p ON p.key = k.key AND p.event_id = {})",
            keys.join(","),
            self.queues[queue].0
        )
    }

    async fn on_photos(&mut self, function: &str, queue: usize, photos: &[usize]) {
        let (event, operation) = self.queues[queue];
        let photos = self.photos(queue, photos);
        self.sql(format!("SELECT {function}({event}, '{operation}', {photos}, 'anna')"))
            .await
            .unwrap();
    }

    /// Everything, as the model calls it.
    async fn state(&mut self) -> (Vec<Account>, Vec<Queue>) {
        let (mut accounts, mut queues) = (Vec::new(), Vec::new());
        for organisation in self.organisations {
            let row = &self
                .sql(format!(
                    "SELECT funded, available, reserved, spent FROM account \
                     WHERE organisation_id = {organisation}"
                ))
                .await
                .unwrap()[0];
            accounts.push(Account {
                funded: row.get(0),
                available: row.get(1),
                reserved: row.get(2),
                spent: row.get(3),
            });
        }
        for (event, operation) in self.queues {
            let row = &self
                .sql(format!(
                    "SELECT q.queue_id, t.tail, q.drained, q.paused_since IS NOT NULL, q.held, \
                     (SELECT count(*) FROM hold h WHERE h.queue_id = q.queue_id \
                     AND lifted_at IS NULL), t.tail - h.head - h.not_waiting
                     FROM queue q JOIN queue_head h USING (queue_id) \
                     JOIN queue_tail t USING (queue_id) WHERE event_id = {event} AND operation = '{operation}'"
                ))
                .await
                .unwrap()[0];
            let (id, tail, drained, paused, held, holds): (i64, i64, bool, bool, bool, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
            let jobs = self
                .sql(format!(
                    "SELECT p.key::int, j.retry, o.state::text, \
                     coalesce(stretch_kind_at(j.queue_id, j.position) = 'skipped', false), \
                     f.worker_id, f.attempt, f.crashes, f.retries, f.due_at <= clock_timestamp(), \
                     j.position
                     FROM job j JOIN photo p USING (photo_id) LEFT JOIN outcome o USING (job_id) \
                         LEFT JOIN in_flight f USING (job_id) WHERE j.queue_id = {id}"
                ))
                .await
                .unwrap();
            let mut list = vec![
                Job { photo: usize::MAX, retry: 0, state: State::Undone };
                usize::try_from(tail).unwrap()
            ];
            for row in &jobs {
                let state = match (
                    row.get::<Option<String>, _>(2).as_deref(),
                    row.get::<Option<i64>, _>(4),
                ) {
                    (Some("processed"), None) => State::Processed,
                    (Some("undecided"), None) => State::Undecided,
                    (Some("duplicate"), None) => State::Duplicate,
                    (Some("failed"), None) => State::Failed,
                    (Some("quarantined"), None) => State::Quarantined,
                    (None, Some(worker)) => State::InFlight {
                        owner: (worker != 0).then_some(worker),
                        attempt: row.get(5),
                        crashes: row.get(6),
                        retries: row.get(7),
                        due: row.get::<Option<bool>, _>(8).unwrap_or(true),
                    },
                    (None, None) if row.get(3) => State::Skipped,
                    (None, None) => State::Waiting,
                    other => panic!("both in flight and done: {other:?}"),
                };
                list[usize::try_from(row.get::<i64, _>(9)).unwrap() - 1] = Job {
                    photo: usize::try_from(row.get::<i32, _>(0)).unwrap(),
                    retry: row.get(1),
                    state,
                };
            }
            let queue = Queue { jobs: list, paused, holds, drained };
            assert_eq!(held, holds > 0);
            let waiting = (0..queue.jobs.len()).filter(|at| queue.waits(*at)).count();
            assert_eq!(
                row.get::<i64, _>(6),
                i64::try_from(waiting).unwrap(),
                "what waits is counted"
            );
            queues.push(queue);
        }
        (accounts, queues)
    }

    /// The number of a run of the model.
    async fn run(&mut self, nth: usize) -> i64 {
        let nth = format!("SELECT run_id FROM run ORDER BY run_id OFFSET {nth} LIMIT 1");
        self.sql(nth).await.unwrap()[0].get(0)
    }

    /// Which (queue, place) a job is.
    async fn place(&mut self, job: i64) -> (usize, usize) {
        let row = &self
            .sql(format!(
                "SELECT q.event_id, q.operation::text, j.position FROM job j \
                 JOIN queue q USING (queue_id) WHERE job_id = {job}"
            ))
            .await
            .unwrap()[0];
        let (event, operation, position): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
        let queue =
            self.queues.iter().position(|(id, name)| id.0 == event && *name == operation).unwrap();
        (queue, usize::try_from(position).unwrap() - 1)
    }
}

#[allow(clippy::too_many_lines, reason = "a list: one arm for what can be asked")]
async fn follow(real: &mut Real, model: &mut Model, ask: &Ask) -> Result<(), TestCaseError> {
    match ask {
        Ask::Enqueue { queue, photos, urgent } => {
            let ((event, operation), keys) = (
                real.queues[*queue],
                photos.iter().map(|photo| format!("'{photo}'")).collect::<Vec<_>>(),
            );
            let ids = vec!["gen_random_uuid()"; keys.len()];
            let row = &real
                .sql(format!(
                    "SELECT r_queued FROM enqueue({event}, '{operation}', ARRAY[{}], ARRAY[{}], \
                     'anna', p_urgent => {urgent})",
                    keys.join(","),
                    ids.join(",")
                ))
                .await
                .unwrap()[0];
            let taken = model.enqueue(*queue, photos, *urgent);
            prop_assert_eq!(usize::try_from(row.get::<i32, _>(0)).unwrap(), taken);
        }
        Ask::EnqueueBoth { photos, urgent } => {
            let keys: Vec<_> = photos.iter().map(|photo| format!("'{photo}'")).collect();
            let row = &real
                .sql(format!(
                    "SELECT sum(r_queued)::int FROM enqueue_both({}, ARRAY[{}], ARRAY[{}], 'anna', \
                     p_urgent => {urgent})",
                    real.queues[PROCESSING].0,
                    keys.join(","),
                    vec!["gen_random_uuid()"; keys.len()].join(",")
                ))
                .await
                .unwrap()[0];
            let taken = model.enqueue_both(photos, *urgent);
            prop_assert_eq!(usize::try_from(row.get::<i32, _>(0)).unwrap(), taken);
        }
        Ask::Follow => {
            real.sql("SELECT follow(100, '0')".into()).await.unwrap();
            model.follow();
        }
        Ask::Retry { queue, photos, undecided } => {
            let ((event, operation), ids) = (real.queues[*queue], real.photos(*queue, photos));
            real.sql(format!("SELECT retry({event}, '{operation}', {ids}, 'anna', {undecided})"))
                .await
                .unwrap();
            let jobs = model.append(*queue, photos, false, |queue, latest| {
                latest.is_some_and(|at| match queue.jobs[at].state {
                    State::Failed | State::Quarantined => true,
                    State::Undecided => *undecided,
                    State::Waiting
                    | State::Skipped
                    | State::InFlight { .. }
                    | State::Processed
                    | State::Duplicate
                    | State::Undone => false,
                })
            });
            if !jobs.is_empty() {
                let act = Act::Queue { jobs: vec![(*queue, jobs)], follows: Vec::new() };
                model.acts.push((act, false));
            }
        }
        Ask::Skip { queue, photos } => {
            real.on_photos("skip_photos", *queue, photos).await;
            model.skip(*queue, photos);
        }
        Ask::Restore { queue, photos } => {
            real.on_photos("restore_photos", *queue, photos).await;
            model.restore(*queue, photos);
        }
        Ask::Cancel { which } => {
            let Some(nth) = model.runs.len().checked_sub(which + 1) else { return Ok(()) };
            let run = real.run(nth).await;
            let row = &real
                .sql(format!("SELECT r_cancelled FROM cancel_run({run}, 'anna')"))
                .await
                .unwrap()[0];
            let cancelled = model.cancel(nth);
            prop_assert_eq!(usize::try_from(row.get::<i64, _>(0)).unwrap(), cancelled);
        }
        Ask::First { which } => {
            let Some(nth) = model.runs.len().checked_sub(which + 1) else { return Ok(()) };
            let run = real.run(nth).await;
            let row = &real
                .sql(format!("SELECT r_moved FROM put_run_first({run}, 'anna')"))
                .await
                .unwrap()[0];
            let moved = model.put_first(nth);
            prop_assert_eq!(usize::try_from(row.get::<i64, _>(0)).unwrap(), moved);
        }
        Ask::Undo { which } => {
            let Some(nth) = model.acts.len().checked_sub(which + 1) else { return Ok(()) };
            let rows = real
                .sql(format!("SELECT undo_id FROM undo ORDER BY undo_id OFFSET {nth} LIMIT 1"))
                .await
                .unwrap();
            let id: i64 = rows[0].get(0);
            let done = real.sql(format!("SELECT undo({id}, 'anna', '1 hour')")).await;
            let refused = done.err().map(|error| code_of(&error).unwrap_or_default());
            let expected = (!model.undo(nth)).then_some("PG010");
            prop_assert_eq!(refused.as_deref(), expected, "{:?}", model.acts[nth]);
        }
        Ask::Claim { worker, most } => claim(real, model, real.workers[*worker], *most).await?,
        Ask::Adopt { worker, most, suspects } => {
            adopt(real, model, real.workers[*worker], *most, *suspects).await?;
        }
        Ask::Settle { worker, which, says } => {
            let Some((owner, job, attempt)) = real.had_by(*worker, *which) else { return Ok(()) };
            let (queue, at) = real.place(job).await;
            let now = matches!(
                model.queues[queue].jobs[at].state,
                State::InFlight { owner: Some(one), attempt: now, .. }
                    if one == owner && now == attempt
            );
            let (state, reason, ended) = match says {
                Says::Processed(Some(content)) if model.paid.contains(&(queue, *content)) => {
                    ("processed", "NULL", State::Duplicate)
                }
                Says::Processed(_) => ("processed", "NULL", State::Processed),
                Says::Undecided => ("undecided", "undecided", State::Undecided),
                Says::Failed => ("failed", "corrupt", State::Failed),
            };
            let content = match says {
                Says::Processed(Some(content)) => format!("sha256('{content}')"),
                Says::Processed(None) | Says::Undecided | Says::Failed => "NULL".into(),
            };
            let rows = real
                .sql(format!(
                    "SELECT cardinality(r_settled) FROM settle('{}', ARRAY[{job}], \
                     ARRAY[{attempt}], '{{{state}}}', '{{{reason}}}', '{{NULL}}', \
                     ARRAY[{content}]::bytea[])",
                    real.keys[&owner]
                ))
                .await
                .unwrap();
            prop_assert_eq!(rows[0].get::<i32, _>(0), i32::from(now), "only who has it settles it");
            if now {
                if let Says::Processed(Some(content)) = says {
                    model.paid.insert((queue, *content));
                }
                model.close(queue, at, ended);
            }
        }
        Ask::Release { worker, which, end } => {
            let Some((owner, job, attempt)) = real.had_by(*worker, *which) else { return Ok(()) };
            let (queue, at) = real.place(job).await;
            let (name, delay) = match end {
                End::HandedBack => ("handed_back", "0"),
                End::Retry => ("retry", "1 hour"),
                End::Crash => ("crash", "0"),
            };
            let rows = real
                .sql(format!(
                    "SELECT * FROM release('{}', ARRAY[{job}], ARRAY[{attempt}], \
                     ARRAY['{name}'], '{{NULL}}', ARRAY['{delay}'::interval])",
                    real.keys[&owner]
                ))
                .await
                .unwrap();
            let mut ours = 0;
            if let State::InFlight { owner: one, attempt: now, crashes, retries, due } =
                &mut model.queues[queue].jobs[at].state
                && *one == Some(owner)
                && *now == attempt
            {
                ours = 1;
                *one = None;
                *due = *end != End::Retry;
                *crashes += i16::from(*end == End::Crash);
                *retries += i16::from(*end == End::Retry);
            }
            prop_assert_eq!(rows.len(), ours, "only who has it gives it back");
        }
        Ask::TimePasses => {
            real.sql("UPDATE in_flight SET due_at = clock_timestamp() WHERE worker_id = 0".into())
                .await
                .unwrap();
            for (queue, at) in model.flying(|owner, _, _| owner.is_none()) {
                if let State::InFlight { due, .. } = &mut model.queues[queue].jobs[at].state {
                    *due = true;
                }
            }
        }
        Ask::LeaseRunsOut { worker } => {
            let silent = real.workers[*worker];
            real.sql(format!(
                "UPDATE worker SET lease_until = clock_timestamp() - interval '1 s' \
                 WHERE worker_id = {silent}"
            ))
            .await
            .unwrap();
            model.silent.push(silent);
            real.hire(*worker).await;
        }
        Ask::Leave { worker } => {
            let leaving = real.workers[*worker];
            real.sql(format!("SELECT retire_worker('{}')", real.keys[&leaving])).await.unwrap();
            model.orphan(&[leaving], false);
            real.hire(*worker).await;
        }
        Ask::TopUp { organisation, amount, key } => {
            let kind = if *amount > 0 { "purchase" } else { "adjustment" };
            let id = real.organisations[*organisation];
            let done = real
                .sql(format!("SELECT top_up({id}, '{kind}', {amount}, 'anna', '', 'key-{key}')"))
                .await;
            let refused = done.err().map(|error| code_of(&error).unwrap_or_default());
            let expected = model.top_up(*organisation, *amount, *key).err();
            prop_assert_eq!(refused.as_deref(), expected);
        }
        Ask::Hold { queue } => {
            let (event, operation) = real.queues[*queue];
            real.sql(format!("SELECT hold_queue({event}, '{operation}', 'ops', '', NULL)"))
                .await
                .unwrap();
            model.acts.push((Act::Hold(model.holds.len()), false));
            model.holds.push((*queue, true));
            model.queues[*queue].holds += 1;
        }
        Ask::Lift { which } => {
            let Some((queue, stands)) = model.holds.get_mut(*which) else { return Ok(()) };
            let row = &real
                .sql(format!("SELECT r_lifted FROM lift_hold({}, 'ops')", which + 1))
                .await
                .unwrap()[0];
            prop_assert_eq!(row.get::<bool, _>(0), *stands, "a hold is lifted once");
            model.queues[*queue].holds -= i64::from(*stands);
            if std::mem::take(stands) {
                model.acts.push((Act::Lift(*which), false));
            }
        }
        Ask::Budget { event, cap, floor } => {
            let id = real.events[*event];
            let cap_sql = cap.map_or("NULL".to_owned(), |cap| cap.to_string());
            let done =
                real.sql(format!("SELECT set_budget({id}, {cap_sql}, {floor}, 'anna')")).await;
            let refused = done.err().map(|error| code_of(&error).unwrap_or_default());
            prop_assert_eq!(refused.as_deref(), model.budget(*event, *cap, *floor).err());
        }
        Ask::Order { organisation, order, turns } => {
            let turns: Vec<_> = turns
                .iter()
                .filter(|event| OWNER_OF_EVENT[**event] == *organisation)
                .copied()
                .collect();
            let ids: Vec<_> = turns.iter().map(|event| real.events[*event].to_string()).collect();
            real.sql(format!(
                "SELECT set_spend_order({}, '{}', ARRAY[{}]::bigint[], 'anna')",
                real.organisations[*organisation],
                order.code(),
                ids.join(",")
            ))
            .await
            .unwrap();
            model.orders[*organisation] = *order;
            for event in (0..3).filter(|event| OWNER_OF_EVENT[*event] == *organisation) {
                model.turns[event] = turns.iter().position(|other| *other == event);
            }
        }
        Ask::Class { event, class } => {
            let (id, name) = (real.events[*event], CLASSES[*class]);
            real.sql(format!("SELECT set_event_class({id}, '{name}', 'anna')")).await.unwrap();
            model.classes[*event] = *class;
        }
    }
    Ok(())
}

async fn claim(
    real: &mut Real,
    model: &mut Model,
    worker: i64,
    most: i32,
) -> Result<(), TestCaseError> {
    let turns: Vec<_> = (0..2)
        .filter(|organisation| {
            (0..4).any(|queue| OWNER[queue] == *organisation && model.queues[queue].is_runnable())
        })
        .take(usize::try_from(most).unwrap())
        .collect();
    let cursors = real.cursors().await;
    let expected = model.claim(most, cursors);
    let rows = real
        .sql(format!(
            "SELECT r_job, r_attempt FROM claim('{}', {most}, 0, false)",
            real.keys[&worker]
        ))
        .await
        .unwrap();
    let mut claimed = Vec::new();
    for row in rows {
        let (job, attempt): (i64, i32) = (row.get(0), row.get(1));
        real.had.push((worker, job, attempt));
        claimed.push(real.place(job).await);
    }
    claimed.sort_unstable();
    prop_assert_eq!(&claimed, &expected);
    model.take(worker, &claimed, &turns);
    Ok(())
}

async fn adopt(
    real: &mut Real,
    model: &mut Model,
    worker: i64,
    most: i32,
    suspects: i32,
) -> Result<(), TestCaseError> {
    let rows = real
        .sql(format!(
            "SELECT r_job, r_attempt FROM adopt('{}', {most}, {suspects}, \
             {CRASHES_MAX}::smallint)",
            real.keys[&worker]
        ))
        .await
        .unwrap();
    let silent = std::mem::take(&mut model.silent);
    model.orphan(&silent, true);
    let (most, suspects) = (usize::try_from(most).unwrap(), usize::try_from(suspects).unwrap());
    let crashed =
        model.flying(|owner, crashes, due| owner.is_none() && due && crashes >= CRASHES_MAX);
    let (_, queues) = real.state().await;
    let mut quarantined = 0;
    for (queue, at) in crashed.iter().copied() {
        if queues[queue].jobs[at].state == State::Quarantined {
            quarantined += 1;
            model.close(queue, at, State::Quarantined);
        }
    }
    prop_assert_eq!(quarantined, crashed.len().min(most), "what crashed too often is quarantined");
    let clean = model.flying(|owner, crashes, due| owner.is_none() && due && crashes < 2);
    let suspect = model.flying(|owner, crashes, due| owner.is_none() && due && crashes == 2);
    let (mut cleans, mut suspected) = (0, 0);
    for row in rows {
        let (job, attempt): (i64, i32) = (row.get(0), row.get(1));
        real.had.push((worker, job, attempt));
        let (queue, at) = real.place(job).await;
        cleans += usize::from(clean.contains(&(queue, at)));
        suspected += usize::from(suspect.contains(&(queue, at)));
        if let State::InFlight { owner, attempt: now, .. } = &mut model.queues[queue].jobs[at].state
        {
            prop_assert_eq!(attempt, *now + 1);
            (*owner, *now) = (Some(worker), attempt);
        }
    }
    prop_assert_eq!(suspected, fair(&suspect, suspects.min(most)));
    prop_assert_eq!(cleans, fair(&clean, most - suspected));
    Ok(())
}

/// How many of these are adopted if at most `most` are: each organisation that has some gets an
/// equal share, rounded up, and nobody gets what another does not use.
fn fair(due: &[(usize, usize)], most: usize) -> usize {
    let each: Vec<_> = (0..2)
        .map(|organisation| due.iter().filter(|(queue, _)| OWNER[*queue] == organisation).count())
        .filter(|n| *n > 0)
        .collect();
    let share = most.div_ceil(each.len().max(1));
    each.iter().map(|n| *n.min(&share)).sum::<usize>().min(most)
}

impl Real {
    /// Something that this worker has, or that it or one before it had.
    fn had_by(&self, worker: usize, which: usize) -> Option<(i64, i64, i32)> {
        let own = self.had.iter().filter(|had| had.0 == self.workers[worker]);
        // Those who are gone have no lease: they are refused before anything else, and that is
        // another test's.
        let others = self
            .had
            .iter()
            .filter(|had| had.0 != self.workers[worker] && self.workers.contains(&had.0));
        own.chain(others).nth(which).copied()
    }
}

async fn compare(asks: Vec<Ask>) -> Result<(), TestCaseError> {
    let app = App::new().await;
    let mut real = Real::new(&app).await;
    let mut model = Model {
        accounts: <[Account; 2]>::default(),
        queues: std::array::from_fn(|_| Queue { drained: true, ..Queue::default() }),
        budgets: [(None, 0); 3],
        orders: [Order::Fair; 2],
        classes: [1; 3],
        turns: [None; 3],
        top_ups: BTreeMap::new(),
        holds: Vec::new(),
        silent: Vec::new(),
        follows: Vec::new(),
        paid: BTreeSet::new(),
        first: <[First; 4]>::default(),
        skipped_by: <[BTreeMap<usize, usize>; 4]>::default(),
        runs: Vec::new(),
        acts: Vec::new(),
    };
    for (step, ask) in asks.iter().enumerate() {
        follow(&mut real, &mut model, ask).await?;
        let (accounts, queues) = real.state().await;
        prop_assert_eq!(&accounts[..], &model.accounts[..], "after step {}, {:?}", step, ask);
        prop_assert_eq!(&queues[..], &model.queues[..], "after step {}, {:?}", step, ask);
        let follows = app.count("SELECT count(*) FROM follow_up").await;
        prop_assert_eq!(usize::try_from(follows).unwrap(), model.follows.len());
        let across = app
            .count(
                "SELECT count(*) FROM stretch s JOIN queue_head h USING (queue_id)
                 WHERE s.from_position <= h.head AND s.to_position > h.head",
            )
            .await;
        prop_assert_eq!(
            across,
            0,
            "a stretch reaches over the head after step {}, {:?}",
            step,
            ask
        );
    }
    Ok(())
}

#[test]
fn the_gate_does_what_a_plain_model_of_it_does() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        rng_seed: RngSeed::Random,
        ..Config::default()
    });
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    let done = runner.run(&vec(asks(), 20..70), |asks| runtime().block_on(compare(asks)));
    if let Err(error) = done {
        panic!("{error}\n{runner}");
    }
}
