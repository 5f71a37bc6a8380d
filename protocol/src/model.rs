//! The model, and what holds in each of its states.

#![allow(clippy::struct_excessive_bools, reason = "a process is several things at once")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "as the trait has it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use stateright::{Checker, Expectation, Model, Property};

const JOBS: usize = 2;
const WORKERS: usize = 2;
/// Workers that died with a job before it is quarantined.
const CRASHES_MAX: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Job {
    Waiting,
    /// A person took it out.
    Skipped,
    /// Reserved; `None`: nobody has it, it waits to be adopted.
    InFlight {
        owner: Option<u8>,
        attempt: u8,
        crashes: u8,
    },
    Processed {
        attempt: u8,
    },
    Refunded {
        attempt: u8,
    },
}

/// A worker process. Its memory is its own: it may believe what is not so any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Worker {
    /// Killed: nothing more comes from it.
    dead: bool,
    /// It claims no more, and leaves when its hands are empty.
    stopping: bool,
    left: bool,
    /// It began anew so often: another worker to the books.
    incarnation: u8,
    /// Photos in hand, worked on: (job, attempt).
    hand: Vec<(usize, u8)>,
    /// Done, and given to the settler: (job, attempt, processed).
    batch: Vec<(usize, u8, bool)>,
}

/// What the books say of a worker that is present: one that left or was declared dead is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Present {
    id: u8,
    lease: Lease,
    /// It has just begun, or its heartbeats came back after a gap: it may declare nobody dead yet.
    had_gap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lease {
    Runs,
    /// The worker was away for too long.
    RanOut,
    /// The database was away: the worker extends it as soon as it can.
    Interrupted,
}

/// The database. A failover to a standby that lags puts it back as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Books {
    jobs: [Job; JOBS],
    /// Claims move it, over what they claimed and what they pass over.
    head: usize,
    /// Jobs that are claimed before the head's, in this order.
    first: Vec<usize>,
    /// Those that were claimed before the head came to them.
    taken: [bool; JOBS],
    /// What the event may use at most.
    cap: Option<u8>,
    /// Enqueues move it.
    tail: usize,
    /// A claim has found nothing. An enqueue takes the mark away.
    drained: bool,
    funded: u8,
    available: u8,
    reserved: u8,
    spent: u8,
    paused: bool,
    /// Credit came while somebody else had the queue locked: the next claim ends the pause.
    resume_due: bool,
    /// What stands, and what the queue's row says of it.
    holds: [bool; 2],
    held: bool,
    workers: Vec<Present>,
    /// History, to be checked: the last attempt that anybody was given, how often each job was
    /// completed and refunded, and what went wrong.
    given: [u8; JOBS],
    completions: [u8; JOBS],
    refunds: [u8; JOBS],
    quarantined: [bool; JOBS],
    wrong: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    books: Books,
    /// A standby that got nothing more from here on.
    standby: Option<Box<Books>>,
    /// A failover has lost what was committed.
    lost: bool,
    /// What was settled until then, whatever the books say of it now: (job, attempt).
    settled: Vec<(usize, u8)>,
    workers: [Worker; WORKERS],
    /// Budgets.
    top_ups: u8,
    expiries: u8,
    kills: u8,
    cuts: u8,
    failures: u8,
    locks: u8,
    holds_left: [bool; 2],
    failovers: u8,
    orders: u8,
    caps: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Claim(usize),
    /// It commits, and the answer is lost on the way.
    ClaimUnheard(usize),
    /// What the books say it has and it does not know of goes back.
    HandBackUnknown(usize),
    /// The work on what it has in hand ends.
    Work(usize, usize, bool),
    /// The settler's transaction: everything that has piled up.
    /// True: somebody else has the queue locked.
    Settle(usize, bool),
    /// It commits, and the answer is lost: the batch is settled again.
    SettleUnheard(usize),
    /// The lease runs out while it is away.
    Expire(usize),
    /// The lease of a process that has ended runs out.
    Lapse(u8),
    Heartbeat(usize),
    Kill(usize),
    /// Declares the late dead, and takes up what nobody has.
    Adopt(usize),
    Stop(usize),
    Leave(usize),
    /// One that is gone and lives begins anew.
    BeginAnew(usize),
    /// True: somebody else has the queue locked.
    TopUp(bool),
    /// The last photo comes late.
    Enqueue,
    Hold(usize),
    Lift(usize),
    /// A photo that waits is taken out.
    Skip(usize),
    /// And put back where it stood.
    Restore(usize),
    /// It goes before all others.
    First(usize),
    /// The event's budget. True: somebody else has the queue locked.
    Cap(Option<u8>, bool),
    /// The standby stops to follow.
    StandbyLags,
    /// The database is gone, and its standby takes over.
    Failover,
    /// After a gap, heartbeats have come for long enough.
    BeatsAgain(usize),
}

#[derive(Debug, Clone, Copy)]
struct Gate {
    top_ups: u8,
    expiries: u8,
    kills: u8,
    cuts: u8,
    failures: u8,
    /// How often somebody else has the queue locked when credit comes.
    locks: u8,
    /// Photos that are queued later than the others.
    late_photos: usize,
    holds: bool,
    failovers: u8,
    /// How often a person takes a photo out, puts it back, or lets it go first.
    orders: u8,
    /// How often the event's budget changes.
    caps: u8,
}

impl Books {
    fn worker(&self, id: u8) -> Option<&Present> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    fn has_lease(&self, id: u8) -> bool {
        self.worker(id).is_some_and(|worker| worker.lease == Lease::Runs)
    }

    fn is_late(&self, id: u8) -> bool {
        self.worker(id).is_some_and(|worker| worker.lease != Lease::Runs)
    }

    fn register(&mut self, id: u8) {
        self.workers.push(Present { id, lease: Lease::Runs, had_gap: true });
        self.workers.sort_unstable();
    }

    /// Revives a lease that nobody took away.
    fn beat(&mut self, id: u8) {
        for worker in self.workers.iter_mut().filter(|worker| worker.id == id) {
            worker.had_gap |= worker.lease != Lease::Runs;
            worker.lease = Lease::Runs;
        }
    }

    fn run_out(&mut self, id: u8) {
        for worker in self.workers.iter_mut().filter(|worker| worker.id == id) {
            worker.lease = Lease::RanOut;
        }
    }

    fn beats_again(&mut self, id: u8) {
        for worker in self.workers.iter_mut().filter(|worker| worker.id == id) {
            worker.had_gap = false;
        }
    }

    /// What a worker has.
    fn in_hand(&self, id: u8) -> Vec<(usize, u8)> {
        (0..JOBS)
            .filter_map(|job| match self.jobs[job] {
                Job::InFlight { owner: Some(owner), attempt, .. } if owner == id => {
                    Some((job, attempt))
                }
                Job::Waiting
                | Job::Skipped
                | Job::InFlight { .. }
                | Job::Processed { .. }
                | Job::Refunded { .. } => None,
            })
            .collect()
    }

    /// What the event can use: credits, within its budget.
    fn spendable(&self) -> u8 {
        let left = |cap: u8| cap.saturating_sub(self.reserved + self.spent);
        self.available.min(self.cap.map_or(u8::MAX, left))
    }

    fn waits(&self, job: usize) -> bool {
        job < self.tail && self.jobs[job] == Job::Waiting
    }

    fn has_its_place(&self, job: usize) -> bool {
        let goes_first = self.first.contains(&job);
        self.head <= self.tail
            && match self.jobs[job] {
                Job::Waiting => job >= self.head || goes_first,
                Job::Skipped => !goes_first,
                Job::InFlight { .. } | Job::Processed { .. } | Job::Refunded { .. } => {
                    !goes_first && (job < self.head || self.taken[job])
                }
            }
    }

    /// Takes the next photo: one that goes first, or the one whose turn it is.
    fn take(&mut self) -> Option<usize> {
        let job = if self.first.is_empty() {
            self.hop();
            if self.head == self.tail {
                return None;
            }
            self.head += 1;
            self.head - 1
        } else {
            let job = self.first.remove(0);
            self.taken[job] = job >= self.head;
            job
        };
        if !self.waits(job) {
            self.wrong("claimed twice, or what was taken out");
        }
        self.hop();
        Some(job)
    }

    /// The head passes over what is not claimed in its turn.
    fn hop(&mut self) {
        let head = self.head;
        let passed = |job: &usize| {
            self.taken[*job] || self.jobs[*job] == Job::Skipped || self.first.contains(job)
        };
        self.head += (head..self.tail).take_while(passed).count();
    }

    /// One photo, and with it a credit.
    fn claim(&mut self, me: u8) -> Option<(usize, u8)> {
        if self.resume_due {
            (self.resume_due, self.paused) = (false, false);
        }
        if self.spendable() == 0 {
            // Photos came to a queue that was drained when the credit ran out, or somebody else had
            // it locked when its budget was lowered.
            self.paused = true;
            return None;
        }
        let Some(job) = self.take() else {
            self.drained = true;
            return None;
        };
        self.jobs[job] = Job::InFlight { owner: Some(me), attempt: 1, crashes: 0 };
        (self.available, self.reserved) = (self.available - 1, self.reserved + 1);
        self.give(job, 1);
        if self.spendable() == 0 && !self.drained {
            self.paused = true;
        }
        Some((job, 1))
    }

    /// After people changed what waits.
    fn keep_queue(&mut self) {
        self.drained = !(0..self.tail).any(|job| self.waits(job));
        if self.drained {
            self.head = self.tail;
        }
    }

    fn set_cap(&mut self, cap: Option<u8>, locked: bool) {
        self.cap = cap;
        if self.spendable() > 0 {
            self.resume(locked);
        } else if !locked {
            self.paused |= !self.drained;
            self.resume_due = false;
        }
    }

    /// An attempt is given out once, and each is higher than the one before.
    fn give(&mut self, job: usize, attempt: u8) {
        if attempt <= self.given[job] {
            self.wrong("an attempt is given twice");
        }
        self.given[job] = attempt;
    }

    /// The fence: only what is still in flight for this worker and attempt.
    fn settle(&mut self, me: u8, batch: &[(usize, u8, bool)], locked: bool) {
        for (job, attempt, processed) in batch.iter().copied() {
            if self.in_hand(me).contains(&(job, attempt)) {
                self.close(job, attempt, processed, locked);
            }
        }
    }

    fn close(&mut self, job: usize, attempt: u8, processed: bool, locked: bool) {
        self.reserved -= 1;
        if processed {
            self.spent += 1;
            self.completions[job] += 1;
            self.jobs[job] = Job::Processed { attempt };
        } else {
            self.available += 1;
            self.refunds[job] += 1;
            self.jobs[job] = Job::Refunded { attempt };
            // A refund is credit too.
            self.resume(locked);
        }
    }

    /// Credit has come. It waits for nobody who has the queue locked.
    fn resume(&mut self, locked: bool) {
        if self.spendable() == 0 {
            // The event has used up its budget.
        } else if locked {
            self.resume_due |= self.paused;
        } else {
            (self.paused, self.resume_due) = (false, false);
        }
    }

    /// A worker is gone, for good.
    fn end(&mut self, id: u8, crashed: bool) {
        for (job, _) in self.in_hand(id) {
            if let Job::InFlight { owner, crashes, .. } = &mut self.jobs[job] {
                (*owner, *crashes) = (None, *crashes + u8::from(crashed));
            }
        }
        self.workers.retain(|worker| worker.id != id);
    }

    /// Declares the late dead, and takes up what nobody has.
    fn adopt(&mut self, me: u8) -> Vec<(usize, u8)> {
        let is_steady = self.worker(me).is_some_and(|worker| !worker.had_gap);
        for other in self.workers.clone() {
            if is_steady && other.id != me && other.lease != Lease::Runs {
                if other.lease == Lease::Interrupted {
                    self.wrong("a failover is taken for the death of a worker");
                }
                self.end(other.id, true);
            }
        }
        let mut adopted = Vec::new();
        for job in 0..JOBS {
            if let Job::InFlight { owner: None, attempt, crashes } = self.jobs[job] {
                if crashes >= CRASHES_MAX {
                    self.close(job, attempt, false, false);
                    self.quarantined[job] = true;
                } else {
                    let attempt = attempt + 1;
                    self.jobs[job] = Job::InFlight { owner: Some(me), attempt, crashes };
                    self.give(job, attempt);
                    adopted.push((job, attempt));
                }
            }
        }
        adopted
    }

    fn wrong(&mut self, what: &'static str) {
        self.wrong.get_or_insert(what);
    }
}

impl State {
    fn lives(&self, worker: usize) -> bool {
        let worker = &self.workers[worker];
        !worker.dead && !worker.left
    }

    /// As the books call it.
    fn id(&self, worker: usize) -> u8 {
        u8::try_from(worker).unwrap() + 2 * self.workers[worker].incarnation
    }

    /// Whether the books do not know it, or not any more.
    fn is_gone(&self, worker: usize) -> bool {
        self.books.worker(self.id(worker)).is_none()
    }

    /// Whether a process that lives has this number.
    fn is_of_the_living(&self, id: u8) -> bool {
        (0..WORKERS).any(|worker| self.lives(worker) && self.id(worker) == id)
    }

    /// What the books say it has, and it does not know of.
    fn unknown(&self, worker: usize) -> Vec<(usize, u8)> {
        let one = &self.workers[worker];
        let knows = |held: &(usize, u8)| {
            one.hand.contains(held)
                || one.batch.iter().any(|(job, attempt, _)| (*job, *attempt) == *held)
        };
        self.books.in_hand(self.id(worker)).into_iter().filter(|held| !knows(held)).collect()
    }

    fn skip(&mut self, job: usize) {
        self.orders -= 1;
        self.books.jobs[job] = Job::Skipped;
        self.books.first.retain(|first| *first != job);
        self.books.keep_queue();
    }

    fn restore(&mut self, job: usize) {
        self.orders -= 1;
        self.books.jobs[job] = Job::Waiting;
        if job < self.books.head {
            self.books.first.push(job);
        }
        self.books.keep_queue();
    }

    fn put_first(&mut self, job: usize) {
        self.orders -= 1;
        self.books.first.retain(|first| *first != job);
        self.books.first.insert(0, job);
    }

    /// The database was away, and everybody's lease ran out meanwhile.
    fn fail_over(&mut self) {
        if let Some(standby) = self.standby.take() {
            self.lost |= self.books != *standby;
            self.settled = (0..JOBS)
                .filter_map(|job| match self.books.jobs[job] {
                    Job::Processed { attempt } | Job::Refunded { attempt } => Some((job, attempt)),
                    Job::Waiting | Job::Skipped | Job::InFlight { .. } => None,
                })
                .collect();
            self.books = *standby;
        }
        for at in 0..self.books.workers.len() {
            let lives = self.is_of_the_living(self.books.workers[at].id);
            self.books.workers[at].lease = if lives { Lease::Interrupted } else { Lease::RanOut };
        }
    }
}

impl Model for Gate {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let books = Books {
            jobs: [Job::Waiting; JOBS],
            head: 0,
            first: Vec::new(),
            taken: [false; JOBS],
            cap: None,
            tail: JOBS - self.late_photos,
            drained: false,
            funded: 1,
            available: 1,
            reserved: 0,
            spent: 0,
            paused: false,
            resume_due: false,
            holds: [false; 2],
            held: false,
            workers: [0, 1].map(|id| Present { id, lease: Lease::Runs, had_gap: false }).to_vec(),
            given: [0; JOBS],
            completions: [0; JOBS],
            refunds: [0; JOBS],
            quarantined: [false; JOBS],
            wrong: None,
        };
        vec![State {
            books,
            standby: None,
            lost: false,
            settled: Vec::new(),
            workers: Default::default(),
            top_ups: self.top_ups,
            expiries: self.expiries,
            kills: self.kills,
            cuts: self.cuts,
            failures: self.failures,
            locks: self.locks,
            holds_left: [self.holds; 2],
            failovers: self.failovers,
            orders: self.orders,
            caps: self.caps,
        }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        let books = &state.books;
        let runs = !books.drained && (!books.paused || books.resume_due) && !books.held;
        let mut living = 0;
        for worker in 0..WORKERS {
            let one = &state.workers[worker];
            let others_left = (0..WORKERS)
                .filter(|other| {
                    *other != worker && state.lives(*other) && !state.workers[*other].stopping
                })
                .count();
            if !state.lives(worker) {
                continue;
            }
            living += 1;
            let me = state.id(worker);
            let is_gone = state.is_gone(worker);
            if books.has_lease(me) && !one.stopping {
                if runs && one.hand.is_empty() {
                    acts.push(Act::Claim(worker));
                    if state.cuts > 0 {
                        acts.push(Act::ClaimUnheard(worker));
                    }
                }
                let orphans =
                    books.jobs.iter().any(|job| matches!(job, Job::InFlight { owner: None, .. }));
                let late =
                    books.workers.iter().any(|other| other.id != me && other.lease != Lease::Runs);
                if orphans || late {
                    acts.push(Act::Adopt(worker));
                }
            }
            if books.has_lease(me) && !state.unknown(worker).is_empty() {
                acts.push(Act::HandBackUnknown(worker));
            }
            for at in 0..one.hand.len() {
                acts.push(Act::Work(worker, at, true));
                if state.failures > 0 {
                    acts.push(Act::Work(worker, at, false));
                }
            }
            if !one.batch.is_empty() {
                acts.push(Act::Settle(worker, false));
                if state.locks > 0 {
                    acts.push(Act::Settle(worker, true));
                }
                if state.cuts > 0 {
                    acts.push(Act::SettleUnheard(worker));
                }
            }
            if books.has_lease(me) && state.expiries > 0 {
                acts.push(Act::Expire(worker));
            }
            if books.is_late(me) {
                acts.push(Act::Heartbeat(worker));
            }
            // After a gap, all who live have time for a heartbeat.
            let all_beat = !books.workers.iter().any(|one| one.lease == Lease::Interrupted);
            if all_beat && books.worker(me).is_some_and(|worker| worker.had_gap) {
                acts.push(Act::BeatsAgain(worker));
            }
            // Somebody must be there to take over: a cluster without workers does nothing, and that
            // is no fault.
            if others_left > 0 {
                if state.kills > 0 {
                    acts.push(Act::Kill(worker));
                }
                if !one.stopping {
                    acts.push(Act::Stop(worker));
                }
            }
            if one.hand.is_empty() && one.batch.is_empty() {
                if one.stopping && (is_gone || state.unknown(worker).is_empty()) {
                    acts.push(Act::Leave(worker));
                } else if is_gone {
                    acts.push(Act::BeginAnew(worker));
                }
            }
        }
        // The kernel's doing: a process that has ended stops to extend its lease.
        for worker in &books.workers {
            if worker.lease != Lease::RanOut && !state.is_of_the_living(worker.id) {
                acts.push(Act::Lapse(worker.id));
            }
        }
        assert!(living > 0);
        misfortunes_and_people(state, acts);
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut next = last.clone();
        match act {
            Act::Claim(worker) => {
                let held = next.books.claim(last.id(worker));
                next.workers[worker].hand.extend(held);
            }
            Act::ClaimUnheard(worker) => {
                next.cuts -= 1;
                next.books.claim(last.id(worker));
            }
            Act::HandBackUnknown(worker) => {
                for (job, _) in last.unknown(worker) {
                    if let Job::InFlight { owner, .. } = &mut next.books.jobs[job] {
                        *owner = None;
                    }
                }
            }
            Act::Work(worker, at, processed) => {
                next.failures -= u8::from(!processed);
                let (job, attempt) = next.workers[worker].hand.remove(at);
                next.workers[worker].batch.push((job, attempt, processed));
            }
            Act::Settle(worker, locked) => {
                next.locks -= u8::from(locked);
                // The lease is checked first; a late worker asks for it again before it gives up.
                next.books.beat(last.id(worker));
                // Whoever is gone is refused for that alone. Here it is not: the fence must hold by
                // itself.
                next.books.settle(last.id(worker), &last.workers[worker].batch, locked);
                next.workers[worker].batch.clear();
                if last.is_gone(worker) {
                    next.workers[worker].hand.clear();
                }
            }
            Act::SettleUnheard(worker) => {
                next.cuts -= 1;
                let me = last.id(worker);
                if last.books.has_lease(me) {
                    next.books.settle(me, &last.workers[worker].batch, false);
                }
            }
            Act::Expire(worker) => {
                next.expiries -= 1;
                next.books.run_out(last.id(worker));
            }
            Act::Lapse(id) => next.books.run_out(id),
            Act::Heartbeat(worker) => next.books.beat(last.id(worker)),
            Act::BeatsAgain(worker) => next.books.beats_again(last.id(worker)),
            Act::Kill(worker) => {
                next.kills -= 1;
                next.workers[worker].dead = true;
                next.workers[worker].hand.clear();
                next.workers[worker].batch.clear();
            }
            Act::Adopt(worker) => {
                let adopted = next.books.adopt(last.id(worker));
                next.workers[worker].hand.extend(adopted);
            }
            Act::BeginAnew(worker) => {
                next.workers[worker].incarnation += 1;
                next.books.register(next.id(worker));
            }
            Act::Stop(worker) => next.workers[worker].stopping = true,
            Act::Leave(worker) => {
                next.books.end(last.id(worker), false);
                next.workers[worker].left = true;
            }
            Act::TopUp(locked) => {
                (next.top_ups, next.locks) = (next.top_ups - 1, next.locks - u8::from(locked));
                next.books.funded += 1;
                next.books.available += 1;
                next.books.resume(locked);
            }
            Act::Enqueue => {
                next.books.tail += 1;
                next.books.drained = false;
            }
            Act::Hold(hold) => {
                next.holds_left[hold] = false;
                next.books.holds[hold] = true;
                next.books.held = true;
            }
            Act::Lift(hold) => {
                next.books.holds[hold] = false;
                next.books.held = next.books.holds.contains(&true);
            }
            Act::Skip(job) => next.skip(job),
            Act::Restore(job) => next.restore(job),
            Act::First(job) => next.put_first(job),
            Act::Cap(cap, locked) => {
                (next.caps, next.locks) = (next.caps - 1, next.locks - u8::from(locked));
                next.books.set_cap(cap, locked);
            }
            Act::StandbyLags => next.standby = Some(Box::new(last.books.clone())),
            Act::Failover => {
                next.failovers -= 1;
                next.fail_over();
            }
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = what_holds();
        properties.extend(what_is_seen());
        properties
    }
}

/// What people do, and what happens to the database.
fn misfortunes_and_people(state: &State, acts: &mut Vec<Act>) {
    if state.top_ups > 0 {
        acts.push(Act::TopUp(false));
        if state.locks > 0 {
            acts.push(Act::TopUp(true));
        }
    }
    if state.books.tail < JOBS {
        acts.push(Act::Enqueue);
    }
    for hold in 0..2 {
        if state.holds_left[hold] {
            acts.push(Act::Hold(hold));
        }
        if state.books.holds[hold] {
            acts.push(Act::Lift(hold));
        }
    }
    if state.orders > 0 {
        for job in 0..state.books.tail {
            match state.books.jobs[job] {
                Job::Waiting => acts.extend([Act::Skip(job), Act::First(job)]),
                Job::Skipped => acts.push(Act::Restore(job)),
                Job::InFlight { .. } | Job::Processed { .. } | Job::Refunded { .. } => {}
            }
        }
    }
    if state.caps > 0 {
        for cap in [None, Some(0), Some(1)] {
            acts.push(Act::Cap(cap, false));
            if state.locks > 0 {
                acts.push(Act::Cap(cap, true));
            }
        }
    }
    if state.failovers > 0 {
        acts.push(Act::Failover);
        if state.standby.is_none() {
            acts.push(Act::StandbyLags);
        }
    }
}

/// What holds in every state, and at the end of every history.
fn what_holds() -> Vec<Property<Gate>> {
    vec![
        Property::always(
            "nothing is claimed or given twice, nor claimed at zero credit",
            |_, state: &State| state.books.wrong.is_none(),
        ),
        Property::always("a queue is held exactly while a hold stands", |_, state: &State| {
            state.books.held == state.books.holds.contains(&true)
        }),
        Property::always(
            "a photo is completed once at most, a refund comes once at most, and never both",
            |_, state: &State| {
                (0..JOBS).all(|job| state.books.completions[job] + state.books.refunds[job] <= 1)
            },
        ),
        Property::always("never by a stale attempt", |_, state: &State| {
            (0..JOBS).all(|job| match state.books.jobs[job] {
                Job::Processed { attempt } | Job::Refunded { attempt } => {
                    attempt == state.books.given[job]
                }
                Job::Waiting | Job::Skipped | Job::InFlight { .. } => true,
            })
        }),
        Property::always(
            "in flight is reserved, and owned by somebody the books know or waiting to be \
             adopted",
            |_, state: &State| {
                let flying: Vec<_> = state
                    .books
                    .jobs
                    .iter()
                    .filter(|job| matches!(job, Job::InFlight { .. }))
                    .collect();
                flying.len() == usize::from(state.books.reserved)
                    && flying.iter().all(|job| match job {
                        Job::InFlight { owner: Some(owner), .. } => {
                            state.books.worker(*owner).is_some()
                        }
                        Job::InFlight { owner: None, .. }
                        | Job::Waiting
                        | Job::Skipped
                        | Job::Processed { .. }
                        | Job::Refunded { .. } => true,
                    })
            },
        ),
        Property::always(
            "what waits has its turn or goes first, what is claimed had its turn or went first",
            |_, state: &State| (0..JOBS).all(|job| state.books.has_its_place(job)),
        ),
        Property::always("funded = available + reserved + spent", |_, state: &State| {
            state.books.funded == state.books.available + state.books.reserved + state.books.spent
        }),
        Property::always(
            "paused means that nothing can be spent, or the next claim ends the pause",
            |_, state: &State| {
                !state.books.paused || state.books.spendable() == 0 || state.books.resume_due
            },
        ),
        Property::always(
            "in a queue that is marked as drained nothing waits",
            |_, state: &State| !state.books.drained || !(0..JOBS).any(|job| state.books.waits(job)),
        ),
        Property::always(
            "what a living worker has in hand and still owns, the books say too",
            |_, state: &State| {
                let knows = |worker: usize| {
                    let known = state.books.in_hand(state.id(worker));
                    state.workers[worker].hand.iter().all(|held| known.contains(held))
                };
                // A failover may have lost the claim.
                state.lost || (0..WORKERS).all(|worker| state.is_gone(worker) || knows(worker))
            },
        ),
        // Of states from which nothing more can happen: see the head of this file.
        Property::always(
            "in the end everything that is paid for is resolved",
            |model: &Gate, state: &State| {
                !is_end(model, state)
                    || (state.books.reserved == 0
                        && (state.books.spendable() == 0
                            || !state.books.jobs.contains(&Job::Waiting)))
            },
        ),
        Property::always(
            "in the end a settler that was stopped has lost nothing",
            |model: &Gate, state: &State| {
                !is_end(model, state)
                    || state
                        .workers
                        .iter()
                        .all(|worker| worker.batch.is_empty() && worker.hand.is_empty())
            },
        ),
    ]
}

/// What is seen in some state. Without it, the model would not look at what it is for.
fn what_is_seen() -> Vec<Property<Gate>> {
    vec![
        Property::sometimes("a photo is quarantined", |_, state: &State| {
            state.books.quarantined.contains(&true)
        }),
        Property::sometimes("a late worker settles what somebody else has", |_, state: &State| {
            (0..WORKERS).any(|worker| {
                let one = &state.workers[worker];
                let somebody_elses = |job: usize| match state.books.jobs[job] {
                    Job::InFlight { owner: Some(owner), .. } => owner != state.id(worker),
                    Job::Waiting
                    | Job::Skipped
                    | Job::InFlight { owner: None, .. }
                    | Job::Processed { .. }
                    | Job::Refunded { .. } => false,
                };
                !one.dead && one.batch.iter().any(|(job, ..)| somebody_elses(*job))
            })
        }),
        Property::sometimes(
            "the queue is paused, and a top-up is still to come",
            |_, state: &State| state.books.paused && state.top_ups > 0,
        ),
        Property::sometimes("credit came, and the queue was locked", |_, state: &State| {
            state.books.resume_due
        }),
        Property::sometimes("photos came to a queue that was drained", |_, state: &State| {
            state.books.head > 0
                && state.books.tail == JOBS
                && state.books.paused
                && state.books.head < state.books.tail
        }),
        Property::sometimes("a photo is worked on, and its claim is lost", |_, state: &State| {
            state.lost
                && (0..WORKERS).any(|worker| {
                    let one = &state.workers[worker];
                    let waits = |(job, _): &(usize, u8)| state.books.jobs[*job] == Job::Waiting;
                    !state.is_gone(worker) && one.hand.iter().any(waits)
                })
        }),
        Property::sometimes("a settlement is lost", |_, state: &State| {
            state.lost
                && (0..WORKERS).any(|worker| {
                    state.settled.iter().any(|held| state.unknown(worker).contains(held))
                })
        }),
        Property::sometimes("a photo that claims had passed is processed", |_, state: &State| {
            state.orders == 0
                && state.books.completions == [1, 1]
                && state.books.given == [1, 1]
                && state.books.taken == [false, true]
        }),
        Property::sometimes(
            "a budget stops photos that credits are there for",
            |_, state: &State| {
                state.books.paused && state.books.available > 0 && !state.books.resume_due
            },
        ),
        Property::sometimes(
            "a budget was used up, and more photos are processed",
            |model: &Gate, state: &State| {
                model.caps > 0
                    && state.caps == 0
                    && state.books.cap != Some(1)
                    && state.books.spent == 2
            },
        ),
        Property::sometimes("what a top-up paid for is processed", |_, state: &State| {
            state.top_ups == 0 && state.books.spent == 2
        }),
    ]
}

fn is_end(model: &Gate, state: &State) -> bool {
    let mut acts = Vec::new();
    model.actions(state, &mut acts);
    acts.into_iter().all(|act| model.next_state(state, act).is_none())
}

/// Visits every state; what must always hold does. Returns how many states there are, and what was
/// seen to happen.
fn visit(gate: Gate) -> (usize, Vec<&'static str>) {
    let properties = gate.properties();
    let checked = gate.checker().threads(2).spawn_bfs().join();
    assert!(checked.is_done());
    let mut seen = Vec::new();
    for property in properties {
        match property.expectation {
            Expectation::Sometimes if checked.discovery(property.name).is_some() => {
                seen.push(property.name);
            }
            Expectation::Sometimes => {}
            Expectation::Always | Expectation::Eventually => {
                checked.assert_no_discovery(property.name);
            }
        }
    }
    eprintln!(
        "{} states, {} transitions, {} steps deep at most",
        checked.unique_state_count(),
        checked.state_count(),
        checked.max_depth()
    );
    (checked.unique_state_count(), seen)
}

#[test]
fn no_history_of_the_protocol_loses_charges_twice_or_strands_a_photo() {
    let (states, seen) = visit(Gate {
        top_ups: 1,
        expiries: 2,
        kills: 1,
        cuts: 1,
        failures: 1,
        locks: 0,
        late_photos: 0,
        holds: false,
        failovers: 0,
        orders: 0,
        caps: 0,
    });

    // The same protocol has the same states: whoever changes one means to change the other.
    assert_eq!(states, 598_829);
    for must in [
        "a photo is quarantined",
        "a late worker settles what somebody else has",
        "the queue is paused, and a top-up is still to come",
        "what a top-up paid for is processed",
    ] {
        assert!(seen.contains(&must), "{must}");
    }
}

#[test]
fn a_lock_that_somebody_holds_while_credit_comes_strands_no_photo() {
    let (states, seen) = visit(Gate {
        top_ups: 1,
        expiries: 1,
        kills: 1,
        cuts: 0,
        failures: 1,
        locks: 2,
        late_photos: 1,
        holds: false,
        failovers: 0,
        orders: 0,
        caps: 0,
    });

    assert_eq!(states, 85_726);
    for must in [
        "credit came, and the queue was locked",
        "photos came to a queue that was drained",
        "what a top-up paid for is processed",
    ] {
        assert!(seen.contains(&must), "{must}");
    }
}

#[test]
fn holds_do_not_touch_each_other_nor_the_pause() {
    let (states, seen) = visit(Gate {
        top_ups: 1,
        expiries: 0,
        kills: 0,
        cuts: 0,
        failures: 1,
        locks: 1,
        late_photos: 1,
        holds: true,
        failovers: 0,
        orders: 0,
        caps: 0,
    });

    let expected = [
        "the queue is paused, and a top-up is still to come",
        "credit came, and the queue was locked",
        "photos came to a queue that was drained",
        "what a top-up paid for is processed",
    ];
    assert_eq!((states, seen), (8_361, expected.to_vec()));
}

#[test]
fn a_failover_is_no_crash_and_what_it_loses_comes_back() {
    let with = |expiries, kills| Gate {
        top_ups: 1,
        expiries,
        kills,
        cuts: 0,
        failures: 1,
        locks: 0,
        late_photos: 0,
        holds: false,
        failovers: 1,
        orders: 0,
        caps: 0,
    };
    let musts = [
        "a photo is worked on, and its claim is lost",
        "a settlement is lost",
        "what a top-up paid for is processed",
    ];
    let counts = [(1, 0), (0, 1)].map(|(expiries, kills)| {
        let (states, seen) = visit(with(expiries, kills));
        assert!(musts.iter().all(|must| seen.contains(must)), "{seen:?}");
        states
    });

    assert_eq!(counts, [2_484_481, 246_683]);
}

/// Photos that are taken out are not claimed, those that are put back are, also behind the head; and
/// none is claimed twice.
#[test]
fn what_people_take_out_put_back_or_let_go_first_is_claimed_once_or_not_at_all() {
    let (states, seen) = visit(Gate {
        top_ups: 1,
        expiries: 1,
        kills: 1,
        cuts: 0,
        failures: 1,
        locks: 1,
        late_photos: 1,
        holds: false,
        failovers: 0,
        orders: 3,
        caps: 0,
    });

    assert_eq!(states, 955_796);
    for must in [
        "a photo that claims had passed is processed",
        "credit came, and the queue was locked",
        "what a top-up paid for is processed",
    ] {
        assert!(seen.contains(&must), "{must}");
    }
}

#[test]
fn a_budget_is_kept_to_and_strands_no_photo() {
    let (states, seen) = visit(Gate {
        top_ups: 1,
        expiries: 0,
        kills: 1,
        cuts: 0,
        failures: 1,
        locks: 2,
        late_photos: 1,
        holds: false,
        failovers: 0,
        orders: 1,
        caps: 2,
    });

    assert_eq!(states, 182_281);
    for must in [
        "a budget stops photos that credits are there for",
        "a budget was used up, and more photos are processed",
        "credit came, and the queue was locked",
    ] {
        assert!(seen.contains(&must), "{must}");
    }
}
