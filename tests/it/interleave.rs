//! The pause protocol, every interleaving of it: two or more transactions of the gate, statement by
//! statement, in every order that their locks allow. None strands paid work, lets unpaid work run,
//! or lifts what a person holds.

use std::time::Duration;

use photogate::{
    catalog::events,
    ids::{EventId, Operation, OrganisationId},
    ledger::credits,
    queue::{
        claim::{self, Incarnation},
        enqueue, holds,
    },
};
use sqlx::{PgConnection, Postgres, pool::PoolConnection};

use crate::support::{
    App, Hand,
    steps::{Scheduler, Ways, instrument},
};

/// The functions that are driven in steps. `enqueue`, `retry` and
/// `restore_photos` do nothing that others can see before `append_jobs` and `lock_queue` do.
const GATE: [&str; 20] = [
    "claim",
    "settle",
    "close_reservations",
    "top_up",
    "append_jobs",
    "place_hold",
    "take_hold_away",
    "expire_holds",
    "resume_queues",
    "pause_queues",
    "lock_queue",
    "lock_run",
    "lock_queues_of",
    "undo",
    "delete_event",
    "adopt",
    "retire_worker",
    "hand_back_unknown",
    "heartbeat",
    "set_budget",
];

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Claims one photo: with one credit, to zero.
    Claim,
    TopUp,
    /// Takes what is available.
    Adjust,
    /// A photo in flight fails.
    Refund,
    Enqueue,
    Hold,
    /// Lifts the hold that stood before.
    Lift,
    /// Lifts holds whose time is over. It waits for nobody, so it may leave one to the next call.
    Expire,
    /// Takes a waiting photo out.
    Skip,
    /// Puts back the photo that was skipped before.
    Restore,
    /// Queues the photo again that failed before.
    Retry,
    /// Queues a new photo that goes before all others.
    Urgent,
    /// Takes back the photos of the event's run that wait.
    Cancel,
    /// Puts the event's run before all others.
    First,
    /// Takes back a skip, or a cancelled run, or what was queued last.
    UndoSkip,
    UndoCancel,
    UndoQueue,
    /// Queues the same new photo as every other of its kind.
    EnqueueSame,
    /// Holds both queues of the event, in one transaction.
    HoldBoth,
    Delete,
    /// The event may use one credit, and no more: the photo in flight has it.
    Cap,
    /// The event may use all credits again.
    Uncap,
    /// Keeps one credit for another event of the organisation.
    Floor,
    /// Declares the other worker dead, and takes over its photo.
    Adopt,
    /// The other worker fails the photo that it has, if it still may.
    RefundOfOther,
    /// The other worker hands its photo back.
    Release,
    /// The other worker leaves.
    Retire,
    /// The other worker extends its lease.
    Heartbeat,
}

impl Act {
    /// True if another worker has the photo in flight, and is late.
    fn has_other(self) -> bool {
        matches!(
            self,
            Self::Adopt | Self::RefundOfOther | Self::Release | Self::Retire | Self::Heartbeat
        )
    }
}

/// How the queue stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// One credit, two photos wait, one is in flight.
    Running,
    /// No credit, and a claim has noticed.
    Paused,
    /// As `Running`, and a person holds it.
    Held,
    /// As `Paused`, and a person holds it.
    PausedAndHeld,
    /// One credit, nothing waits.
    Drained,
    /// As `Running`, but the event has used up its budget.
    Capped,
}

/// Where ways are gone: an organisation of their own. All scenes and checks are on one connection,
/// without the questions of a pool in between.
struct Place<'a> {
    /// Whose claims and refunds are interleaved.
    hand: &'a Hand<'a>,
    db: PoolConnection<Postgres>,
    owner: PgConnection,
    organisation: OrganisationId,
    /// Another event of the organisation. Nothing waits in it.
    sibling: EventId,
}

impl<'a> Place<'a> {
    async fn make(app: &App, hand: &'a Hand<'a>) -> Self {
        let (mut db, owner) = (app.db().await, app.as_owner().await);
        let organisation = app.an_organisation_with(0).await;
        let sibling = an_event_of(&mut db, organisation).await;
        Self { hand, db, owner, organisation, sibling }
    }
}

/// An event of its own for each way.
struct Scene {
    /// Whose claims and refunds are interleaved.
    me: Incarnation,
    /// Who has the photo in flight.
    other: Incarnation,
    organisation: OrganisationId,
    event: EventId,
    sibling: EventId,
    holds: Vec<i64>,
    in_flight: (i64, i32),
    number: i64,
}

impl Scene {
    /// In an organisation of which everything that was ever queued is claimed.
    async fn set(place: &mut Place<'_>, (before, acts): (Before, &[Act]), number: i64) -> Self {
        let Place { hand, db, owner, organisation, sibling } = place;
        let (me, organisation, sibling) = (hand.me, *organisation, *sibling);
        let credits = if matches!(before, Before::Paused | Before::PausedAndHeld) { 1 } else { 2 };
        let left = credits::balance(db, organisation).await.unwrap().unwrap().available.0;
        if left != credits {
            runs(db, &top_up(organisation, credits - left, &format!("before-{number}"))).await;
        }
        let event = an_event_of(db, organisation).await;
        let waiting = if before == Before::Drained { 1 } else { 3 };
        queue(db, event, &(1..=waiting).map(|n| n.to_string()).collect::<Vec<_>>()).await;
        if acts.contains(&Act::Retry) {
            let failed = claim(db, me, organisation, 1).await[0].0;
            runs(db, &fails(me, failed, 1)).await;
        }
        if acts.contains(&Act::Restore) || acts.contains(&Act::UndoSkip) {
            runs(db, &Self::skip_of(event)).await;
        }
        if acts.contains(&Act::UndoQueue) {
            queue(db, event, &["late".into()]).await;
        }
        let mut other = me;
        if acts.iter().any(|act| act.has_other()) {
            let (name, lease) = (format!("other-{event}"), Duration::from_secs(3600));
            other = claim::register(db, &name, 1, lease).await.unwrap();
        }
        let taken = claim(db, other, organisation, 1).await;
        assert_eq!(taken.len(), 1);
        let in_flight = (taken[0].0, 1);
        if other.worker != me.worker {
            // It was silent for too long, and the others have been there for long enough to declare
            // it dead.
            let late = format!(
                "UPDATE worker SET lease_until = clock_timestamp() - interval '1 ms' \
                 WHERE worker_id = {}; UPDATE worker SET beats_since = started_at - interval '1 minute' \
                 WHERE beats_since > started_at - interval '1 minute'",
                other.worker
            );
            runs(owner, &late).await;
        }
        if acts.contains(&Act::UndoCancel) {
            runs(db, &on_run(event, "cancel_run")).await;
        }
        let mut standing = Vec::new();
        if matches!(before, Before::Held | Before::PausedAndHeld) {
            let held = holds::hold(db, event, Operation::PhotoProcessing, "ops", "", None).await;
            standing.push(held.unwrap().hold.0);
            if acts.contains(&Act::Expire) {
                let over = "UPDATE hold SET until = now() - interval '1 minute' WHERE hold_id = $1";
                sqlx::query(over).bind(standing[0]).execute(owner).await.unwrap();
            }
        }
        if before == Before::Capped {
            runs(db, &set_budget(event, "1", 0)).await;
        }
        Self { me, other, organisation, event, sibling, holds: standing, in_flight, number }
    }

    /// What the event may spend of what is available, by what was decided.
    async fn may_spend(&self, db: &mut PgConnection, available: i64) -> i64 {
        let (cap, kept, used) = sqlx::query_as::<_, (Option<i64>, i64, i64)>(
            "SELECT (SELECT cap FROM budget WHERE event_id = $1), \
             coalesce((SELECT floor FROM budget WHERE event_id = $2), 0), \
             (SELECT count(*) FROM in_flight f JOIN queue q USING (queue_id) WHERE q.event_id = $1)",
        )
        .bind(self.event.0)
        .bind(self.sibling.0)
        .fetch_one(db)
        .await
        .unwrap();
        (available - kept).min(cap.map_or(i64::MAX, |cap| cap - used)).max(0)
    }

    fn skip_of(event: EventId) -> String {
        format!(
            "SELECT skip_photos({event}, 'photo_processing', (SELECT array_agg(photo_id) \
             FROM photo WHERE event_id = {event} AND key = 'rehearsal/ok/3'), 'anna')"
        )
    }

    /// The photo that failed before, or that was skipped.
    fn photo(&self, number: usize) -> String {
        format!(
            "(SELECT array_agg(photo_id) FROM photo WHERE event_id = {} \
             AND key = 'rehearsal/ok/{number}')",
            self.event
        )
    }

    fn call(&self, act: Act, nth: usize) -> String {
        let Self { organisation, event, number, .. } = self;
        let (me, after) = (self.me.key(), organisation.0 - 1);
        let (other, (job, attempt)) = (self.other.key(), self.in_flight);
        match act {
            Act::Claim => format!("SELECT count(*) FROM claim('{me}', 1, {after}, false)"),
            Act::TopUp => format!(
                "SELECT top_up({organisation}, 'admin_grant', 5, 'anna', '', 'way-{number}-{nth}')"
            ),
            // Refused when somebody was faster: then it changes nothing.
            Act::Adjust => unless_refused(&format!(
                "top_up({organisation}, 'adjustment', -1, 'anna', '', 'way-{number}-{nth}')"
            )),
            Act::Refund => fails(self.me, job, attempt),
            Act::RefundOfOther => {
                unless_refused(&fails(self.other, job, attempt)["SELECT ".len()..])
            }
            Act::Release => unless_refused(&format!(
                "turnstile(), release('{other}', ARRAY[{job}], ARRAY[{attempt}], \
                 '{{handed_back}}', '{{NULL}}', '{{0}}')"
            )),
            Act::Adopt => format!("SELECT count(*) FROM adopt('{me}', 8, 8, 3::smallint)"),
            Act::Retire => format!("SELECT retire_worker('{other}')"),
            Act::Heartbeat => format!("SELECT heartbeat('{other}', '5 min')"),
            Act::Enqueue => unless_refused(&format!(
                "enqueue({event}, 'photo_processing', '{{rehearsal/ok/new-{nth}}}', \
                 ARRAY[gen_random_uuid()], 'anna')"
            )),
            Act::EnqueueSame => unless_refused(&format!(
                "enqueue({event}, 'photo_processing', '{{rehearsal/ok/same}}', \
                 ARRAY[gen_random_uuid()], 'anna')"
            )),
            Act::Retry => unless_refused(&format!(
                "retry({event}, 'photo_processing', {}, 'anna')",
                self.photo(1)
            )),
            Act::Restore => unless_refused(&format!(
                "restore_photos({event}, 'photo_processing', {}, 'anna')",
                self.photo(3)
            )),
            Act::Urgent => unless_refused(&format!(
                "enqueue({event}, 'photo_processing', '{{rehearsal/ok/urgent-{nth}}}', \
                 ARRAY[gen_random_uuid()], 'anna', p_urgent => true)"
            )),
            Act::Cancel => unless_refused(&on_run(*event, "cancel_run")["SELECT ".len()..]),
            Act::First => unless_refused(&on_run(*event, "put_run_first")["SELECT ".len()..]),
            Act::UndoSkip | Act::UndoCancel | Act::UndoQueue => unless_refused(&format!(
                "undo((SELECT max(undo_id) FROM undo WHERE event_id = {event}), 'anna', '1 hour')"
            )),
            Act::HoldBoth => format!(
                "SELECT hold_queue({event}, 'photo_processing', 'anna', '', NULL), \
                 hold_queue({event}, 'ai_rotation', 'anna', '', NULL)"
            ),
            Act::Delete => format!("SELECT delete_event({event}, 'anna')"),
            Act::Cap => unless_refused(&set_budget(*event, "1", 0)["SELECT ".len()..]),
            Act::Uncap => unless_refused(&set_budget(*event, "NULL", 0)["SELECT ".len()..]),
            Act::Floor => set_budget(self.sibling, "NULL", 1),
            Act::Hold => {
                format!("SELECT hold_queue({event}, 'photo_processing', 'anna', '', NULL)")
            }
            Act::Lift => {
                format!("SELECT lift_hold({}, 'ops')", self.holds.first().copied().unwrap_or(0))
            }
            Act::Expire => "SELECT expire_holds()".into(),
            Act::Skip => Self::skip_of(*event),
        }
    }

    /// What must be true whatever the order was.
    async fn check(&self, db: &mut PgConnection, way: &str) {
        let (available, reserved, waiting, drained, paused, held, holds, due) =
            state(db, self.event).await;
        assert_eq!(held, holds > 0, "{way}: held exactly while a hold stands");
        let spendable = self.may_spend(db, available).await;
        assert!(!paused || spendable == 0 || due, "{way}: paused with {available} credits");
        assert!(!drained || waiting == 0, "{way}: drained although {waiting} wait");
        let in_flight: i64 =
            sqlx::query_scalar("SELECT count(*) FROM in_flight WHERE organisation_id = $1")
                .bind(self.organisation.0)
                .fetch_one(&mut *db)
                .await
                .unwrap();
        assert_eq!(reserved, in_flight, "{way}: what runs is paid for");

        // What a worker gets now is exactly what may run.
        let claimed = claim(db, self.me, self.organisation, 64).await;
        let may_run = if holds > 0 { 0 } else { spendable.min(waiting) };
        assert_eq!(
            i64::try_from(claimed.len()).unwrap(),
            may_run,
            "{way}: {available} available, {waiting} wait, {holds} holds, paused {paused}"
        );
        runs(db, &set_budget(self.sibling, "NULL", 0)).await;
        if events::find(db, self.event).await.unwrap().is_none() {
            // A hold that an expiry has passed over is not left to the expiry of the next way: its
            // ways would be others.
            runs(db, "SELECT expire_holds()").await;
            return;
        }
        runs(db, &set_budget(self.event, "NULL", 0)).await;
        // And with the holds lifted and credit, everything that waits.
        for hold in holds::standing(db, self.event, None).await.unwrap() {
            holds::lift(db, hold, "ops").await.unwrap();
        }
        runs(db, &top_up(self.organisation, 10, &format!("after-{}", self.number))).await;
        let rest = claim(db, self.me, self.organisation, 64).await;
        assert_eq!(
            i64::try_from(claimed.len() + rest.len()).unwrap(),
            waiting,
            "{way}: everything runs in the end"
        );
        // The claim that finds nothing more marks the queue.
        assert!(claim(db, self.me, self.organisation, 64).await.is_empty());
        let (.., drained, paused, _, _, due) = state(db, self.event).await;
        assert!(drained && !paused && !due, "{way}: drained {drained}, paused {paused}, due {due}");
        // Nobody has what is not known to be in hand: it can be adopted, once, by the living.
        sqlx::query("SELECT adopt($1, 100, 100, 9::smallint)")
            .bind(self.me.key())
            .execute(&mut *db)
            .await
            .unwrap();
        let lost: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM in_flight f JOIN worker w USING (worker_id) \
             WHERE w.gone_at IS NOT NULL",
        )
        .fetch_one(db)
        .await
        .unwrap();
        assert_eq!(lost, 0, "{way}: a worker that is gone has photos");
    }
}

/// Available and reserved credits; how many photos of the event wait; whether its queue is drained,
/// paused and held, and by how many holds; whether queues are still to be resumed.
async fn state(
    db: &mut PgConnection,
    event: EventId,
) -> (i64, i64, i64, bool, bool, bool, i64, bool) {
    sqlx::query_as(
        "SELECT a.available, a.reserved, t.tail - h.head - h.not_waiting, q.drained, \
         q.paused_since IS NOT NULL, q.held, (SELECT count(*) FROM hold h \
         WHERE h.queue_id = q.queue_id AND h.lifted_at IS NULL), a.resume_due \
         FROM queue q JOIN account a USING (organisation_id) \
         JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id) \
         WHERE q.event_id = $1 AND q.operation = 'photo_processing'",
    )
    .bind(event.0)
    .fetch_one(db)
    .await
    .unwrap()
}

/// Runs what is not asked a second time: nothing is prepared for it.
pub async fn runs(db: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(db).await.unwrap();
}

/// A photo in flight fails.
fn fails(whose: Incarnation, job: i64, attempt: i32) -> String {
    format!(
        "SELECT settle('{}', ARRAY[{job}], ARRAY[{attempt}], '{{failed}}', '{{corrupt}}', '{{x}}')",
        whose.key()
    )
}

async fn an_event_of(db: &mut PgConnection, organisation: OrganisationId) -> EventId {
    events::create(db, organisation, "Marathon", true, false, "anna").await.unwrap()
}

async fn queue(db: &mut PgConnection, event: EventId, photos: &[String]) {
    let keys: Vec<_> = photos.iter().map(|photo| format!("rehearsal/ok/{photo}")).collect();
    let jobs = enqueue::jobs(&keys).unwrap();
    enqueue::enqueue(db, event, Operation::PhotoProcessing, &jobs, "anna").await.unwrap();
}

/// Of any sign.
fn top_up(organisation: OrganisationId, credits: i64, key: &str) -> String {
    let kind = if credits > 0 { "purchase" } else { "adjustment" };
    format!("SELECT top_up({organisation}, '{kind}', {credits}, 'anna', '', '{key}')")
}

/// A call for the first run of an event.
fn on_run(event: EventId, function: &str) -> String {
    format!("SELECT {function}((SELECT min(run_id) FROM run WHERE event_id = {event}), 'anna')")
}

fn set_budget(event: EventId, cap: &str, floor: i64) -> String {
    format!("SELECT set_budget({event}, {cap}, {floor}, 'anna')")
}

/// A call that may be refused: then it changes nothing.
pub fn unless_refused(call: &str) -> String {
    format!(
        "DO $$ BEGIN PERFORM {call}; \
         EXCEPTION WHEN SQLSTATE 'PG001' OR SQLSTATE 'PG002' OR SQLSTATE 'PG004' \
         OR SQLSTATE 'PG010' THEN NULL; END $$"
    )
}

async fn claim(
    db: &mut PgConnection,
    me: Incarnation,
    organisation: OrganisationId,
    most: usize,
) -> Vec<(i64, OrganisationId)> {
    let after = OrganisationId(organisation.0 - 1);
    let claimed = claim::claim(db, me, most, after, false).await.unwrap();
    claimed
        .iter()
        .map(|one| (one.job().0, one.organisation()))
        .filter(|(_, whose)| *whose == organisation)
        .collect()
}

/// Goes every way; returns how many there were.
async fn every_way(
    app: &App,
    scheduler: &mut Scheduler,
    hand: &Hand<'_>,
    before: Before,
    acts: &[Act],
) -> usize {
    let mut ways = Ways::default();
    let mut gone = 0;
    let mut place = Place::make(app, hand).await;
    loop {
        let scene = Scene::set(&mut place, (before, acts), gone).await;
        let calls: Vec<_> =
            acts.iter().enumerate().map(|(nth, act)| scene.call(*act, nth)).collect();
        scheduler.run(&calls, &mut ways).await;
        scene.check(&mut place.db, &format!("{before:?}, {acts:?}, {ways:?}")).await;
        gone += 1;
        if !ways.next() {
            return usize::try_from(gone).unwrap();
        }
    }
}

/// Among workers whose leases are good, the check of a lease has no effect on others.
const LEASE_CHECK: [&str; 1] = ["SELECT leased_worker(p_key)"];

async fn an_app_in_steps() -> (App, Scheduler) {
    an_app_in_steps_but(&LEASE_CHECK).await
}

async fn an_app_in_steps_but(alone: &[&str]) -> (App, Scheduler) {
    // Nobody is woken here.
    let app = App::new().await.without_redis();
    instrument(&app.owner, &GATE, alone).await;
    // Connections know of the database's settings from when they begin.
    let app = app.reconnected().await;
    let scheduler = Scheduler::new(&app.owner).await;
    (app, scheduler)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_of_two_strands_paid_work_or_lets_unpaid_work_run() {
    use Act::{
        Adjust, Claim, Delete, Enqueue, EnqueueSame, Hold, HoldBoth, Lift, Refund, Restore, Retry,
        Skip, TopUp,
    };
    use Before::{Drained, Held, Paused, PausedAndHeld, Running};
    let (app, mut scheduler) = an_app_in_steps().await;
    let pairs: [(Act, Act, &[Before]); 41] = [
        (Claim, Claim, &[Running]),
        (Claim, TopUp, &[Running, Paused]),
        (Claim, Adjust, &[Running]),
        (Claim, Refund, &[Running, Paused]),
        (Claim, Enqueue, &[Running, Drained]),
        (Claim, Hold, &[Running]),
        (Claim, Lift, &[Held]),
        (Claim, Skip, &[Running]),
        (Enqueue, Skip, &[Running]),
        (Skip, Skip, &[Running]),
        (TopUp, TopUp, &[Paused]),
        (TopUp, Adjust, &[Running, Paused]),
        (TopUp, Refund, &[Paused]),
        (TopUp, Enqueue, &[Paused]),
        (TopUp, Hold, &[Paused]),
        (TopUp, Lift, &[PausedAndHeld]),
        (Adjust, Refund, &[Running]),
        (Adjust, Enqueue, &[Drained]),
        (Adjust, Lift, &[Held]),
        (Refund, Enqueue, &[Paused]),
        (Refund, Hold, &[Paused]),
        (Refund, Lift, &[PausedAndHeld]),
        (Enqueue, Enqueue, &[Drained]),
        (Enqueue, Hold, &[Drained]),
        (Hold, Lift, &[Held]),
        (Lift, Lift, &[Held]),
        (Claim, HoldBoth, &[Running]),
        (Claim, Delete, &[Running]),
        (Claim, Restore, &[Running]),
        (Claim, Retry, &[Running]),
        (EnqueueSame, EnqueueSame, &[Running, Drained]),
        (Enqueue, Delete, &[Running, Drained]),
        (Enqueue, Restore, &[Running]),
        (Enqueue, Retry, &[Running]),
        (Retry, Retry, &[Running]),
        (Restore, Restore, &[Running]),
        (Restore, Skip, &[Running]),
        (Hold, Delete, &[Running]),
        (HoldBoth, Delete, &[Running]),
        (HoldBoth, HoldBoth, &[Running]),
        (Refund, Delete, &[Paused]),
    ];
    let (mut ways, mut combinations) = (0, 0);
    for (one, other, befores) in pairs {
        for before in befores {
            let hand = app.a_worker().await;
            let of_pair = every_way(&app, &mut scheduler, &hand, *before, &[one, other]).await;
            eprintln!("{one:?} and {other:?}, {before:?}: {of_pair} interleavings");
            ways += of_pair;
            combinations += 1;
        }
    }
    assert!(ways > combinations, "{ways} interleavings of {combinations} pairs");
    eprintln!("{combinations} pairs, {ways} interleavings");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_of_a_draining_claim_a_top_up_and_a_refund_strands_paid_work() {
    let (app, mut scheduler) = an_app_in_steps().await;
    let hand = app.a_worker().await;

    let ways = every_way(
        &app,
        &mut scheduler,
        &hand,
        Before::Paused,
        &[Act::Claim, Act::TopUp, Act::Refund],
    )
    .await;

    assert!(ways > 2, "{ways} interleavings of three");
    eprintln!("three at once: {ways} interleavings");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_with_a_budget_lets_an_event_spend_more_or_strands_paid_work() {
    use Act::{Cap, Claim, Delete, Enqueue, Floor, Hold, Refund, TopUp, Uncap};
    use Before::{Capped, Drained, Paused, Running};
    let (app, mut scheduler) = an_app_in_steps().await;
    let pairs = [
        (Cap, Claim, Running),
        (Cap, Refund, Paused),
        (Cap, Enqueue, Drained),
        (Cap, Delete, Running),
        (Uncap, Claim, Capped),
        (Uncap, TopUp, Capped),
        (Uncap, Refund, Capped),
        (Uncap, Hold, Capped),
        (Refund, Claim, Capped),
        (Floor, Claim, Running),
        (Floor, TopUp, Paused),
    ];
    let mut ways = 0;
    for (one, other, before) in pairs {
        let hand = app.a_worker().await;
        ways += every_way(&app, &mut scheduler, &hand, before, &[one, other]).await;
    }
    assert!(ways > pairs.len(), "{ways} interleavings");
    eprintln!("budgets: {ways} interleavings");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_with_what_people_do_to_runs_loses_a_photo_or_claims_it_twice() {
    use Act::{
        Cancel, Claim, Delete, Enqueue, First, Refund, Restore, Skip, UndoCancel, UndoQueue,
        UndoSkip, Urgent,
    };
    let (app, mut scheduler) = an_app_in_steps().await;
    let pairs = [
        (Cancel, Claim),
        (Cancel, Refund),
        (Cancel, Enqueue),
        (Cancel, Cancel),
        (Cancel, Delete),
        (First, Claim),
        (First, Cancel),
        (Urgent, Claim),
        (Urgent, Enqueue),
        (Urgent, Skip),
        (UndoSkip, Claim),
        (UndoSkip, Restore),
        (UndoSkip, UndoSkip),
        (UndoCancel, Claim),
        (UndoCancel, Delete),
        (UndoQueue, Claim),
        (UndoQueue, Enqueue),
        (UndoQueue, UndoQueue),
    ];
    let mut ways = 0;
    for (one, other) in pairs {
        let hand = app.a_worker().await;
        let of_pair = every_way(&app, &mut scheduler, &hand, Before::Running, &[one, other]).await;
        eprintln!("{one:?} and {other:?}: {of_pair} interleavings");
        ways += of_pair;
    }
    assert!(ways > pairs.len(), "{ways} interleavings");
    eprintln!("runs: {ways} interleavings");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_with_a_hold_that_ends_lets_a_held_queue_run_or_strands_it() {
    use Act::{Claim, Delete, Expire, Hold, Lift, TopUp};
    let (app, mut scheduler) = an_app_in_steps().await;
    let mut ways = 0;
    for (act, before) in [
        (Claim, Before::Held),
        (Lift, Before::Held),
        (Hold, Before::Held),
        (Expire, Before::Held),
        (TopUp, Before::PausedAndHeld),
        (Delete, Before::Held),
    ] {
        let hand = app.a_worker().await;
        ways += every_way(&app, &mut scheduler, &hand, before, &[Expire, act]).await;
    }
    assert!(ways > 6, "{ways} interleavings");
    eprintln!("holds that end: {ways} interleavings");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_with_a_late_worker_loses_a_photo_or_pays_twice() {
    use Act::{Adopt, Claim, Heartbeat, RefundOfOther, Release, Retire, TopUp};
    let (app, mut scheduler) = an_app_in_steps_but(&[]).await;
    let acts = [RefundOfOther, Release, Retire, Heartbeat, Claim, TopUp];
    let mut ways = 0;
    for act in acts {
        let hand = app.a_worker().await;
        ways += every_way(&app, &mut scheduler, &hand, Before::Running, &[Adopt, act]).await;
    }
    for (one, other) in [(Retire, RefundOfOther), (Retire, Release), (Heartbeat, RefundOfOther)] {
        let hand = app.a_worker().await;
        ways += every_way(&app, &mut scheduler, &hand, Before::Running, &[one, other]).await;
    }
    assert!(ways > acts.len(), "{ways} interleavings");
    eprintln!("late workers: {ways} interleavings");
}

/// The race as it was found, put back: the scheduler must find it, or it would find nothing.
#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "paused with 5 credits")]
async fn the_race_that_was_found_is_found_again_when_the_resume_reads_an_old_snapshot() {
    let mut app = App::new().await;
    app.audited = false;
    // The queues to resume are read before the account is locked, as one statement would.
    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.top_up(p_organisation bigint, \
         p_kind photogate.top_up_kind, p_amount bigint, p_actor text, p_note text, p_key text,
             OUT r_transaction bigint, OUT r_credited boolean, OUT r_available bigint, \
                 OUT r_resumed boolean)
         LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
         DECLARE v_paused bigint[]; v_entry bigint;
         BEGIN
             r_credited := true; r_resumed := false;
             SELECT array_agg(queue_id) INTO v_paused FROM queue \
                 WHERE organisation_id = p_organisation AND paused_since IS NOT NULL;
             UPDATE account SET funded = funded + p_amount, available = available + p_amount, \
                 entries = entries + 1
             WHERE organisation_id = p_organisation RETURNING entries, available INTO v_entry, \
                 r_available;
             INSERT INTO top_up (transaction_id, organisation_id, kind, amount, actor, note, \
                 idempotency_key)
             VALUES (nextval('transaction_id'), p_organisation, p_kind, p_amount, p_actor, p_note, \
                 p_key) RETURNING transaction_id INTO r_transaction;
             INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount) \
                 VALUES (r_transaction, 0, 'top_up', p_organisation, v_entry, p_amount);
             UPDATE queue SET paused_since = NULL WHERE queue_id = ANY (v_paused);
         END $$",
    )
    .await;
    instrument(&app.owner, &GATE, &LEASE_CHECK).await;
    let mut scheduler = Scheduler::new(&app.owner).await;
    let hand = app.a_worker().await;

    every_way(&app, &mut scheduler, &hand, Before::Running, &[Act::Claim, Act::TopUp]).await;
}
