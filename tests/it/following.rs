//! Follow-ups, every interleaving of them: `follow()` beside another transaction of the gate,
//! statement by statement, in every order that their locks allow. No photo is lost or queued twice
//! for photo processing, and none before its AI rotation has ended.

use std::time::Duration;

use photogate::{
    catalog::events,
    ids::{EventId, OrganisationId},
    queue::{
        claim::{self, Reservation},
        enqueue::{self, Priority},
        follow_ups,
    },
};
use sqlx::PgConnection;

use crate::{
    interleave::{runs, unless_refused},
    support::{
        App, Hand,
        steps::{Scheduler, Ways, instrument},
    },
};

/// The functions that are driven in steps. Others do nothing by themselves that another session
/// could meet: `append_jobs` works under the lock of the tail, and a queue that is drained is locked
/// by nobody who has not locked its tail.
const GATE: [&str; 7] = [
    "follow",
    "enqueue",
    "claim",
    "close_reservations",
    "lock_queue",
    "delete_event",
    "enqueue_both",
];

/// Statements that change places with any statement of the other session, beside those of `steps`:
/// accounts are locked by claims and settlements alone, which do not meet here, nobody changes
/// photos or whose turn it is, and an event is deleted under the locks of its tails and queues.
const ALONE: [&str; 14] = [
    "SELECT leased_worker(p_key)",
    "INTO v_next, v_due",
    "INTO v_organisation, v_row",
    "SELECT q.* INTO v_first",
    "SELECT q.* INTO v_then",
    "array_agg(p.photo_id ORDER BY u.n), array_agg(u.payload",
    "SELECT array_agg(u.photo_id ORDER BY n)",
    "INTO v_available, v_ahead",
    "RETURN QUERY VALUES",
    "SELECT a.* INTO v_account",
    "PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE",
    "DELETE FROM follow_up WHERE queue_id IN",
    "UPDATE queue SET held = true WHERE event_id = p_event",
    "PERFORM note_erasure(",
];

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Queues the photos whose AI Rotation has ended for Photo Processing.
    Follow,
    /// Claims everything that can be claimed.
    Claim,
    /// The AI Rotation that is in flight is done.
    Settle,
    /// Takes the photo out whose AI Rotation waits. Then nothing waits in that queue.
    Skip,
    /// Puts back the photo whose AI Rotation was skipped before.
    Restore,
    /// Queues all photos, and a new one, for Photo Processing alone.
    Enqueue,
    /// Queues all photos, and a new one, for both operations.
    EnqueueBoth,
    Delete,
}

/// The photos of an event, by what has become of their AI Rotation.
const ENDED: &str = "rehearsal/ok/ended";
const IN_FLIGHT: &str = "rehearsal/ok/in-flight";
const WAITS: &str = "rehearsal/ok/waits";

/// An event of its own for each way.
struct Scene<'a> {
    hand: &'a Hand<'a>,
    organisation: OrganisationId,
    event: EventId,
    in_flight: i64,
}

impl<'a> Scene<'a> {
    async fn set(
        db: &mut PgConnection,
        hand: &'a Hand<'a>,
        organisation: OrganisationId,
        acts: [Act; 2],
    ) -> Self {
        let event =
            events::create(db, organisation, "Marathon", true, false, "anna").await.unwrap();
        let mut scene = Self { hand, organisation, event, in_flight: 0 };
        let mut keys = vec![ENDED, IN_FLIGHT, WAITS];
        if acts.contains(&Act::Restore) {
            // It waits behind the one that was skipped, so that no claim has passed that one.
            keys.push("rehearsal/ok/behind");
        }
        let keys: Vec<_> = keys.into_iter().map(str::to_owned).collect();
        let jobs = enqueue::jobs(&keys).unwrap();
        follow_ups::enqueue_both(db, event, &jobs, "anna", Priority::Normal).await.unwrap();
        for reservation in scene.claims(db, 2).await {
            if reservation.key() == ENDED {
                scene.settles(db, &format!("job_id = {}", reservation.job())).await;
            } else {
                scene.in_flight = reservation.job().0;
            }
        }
        if acts.contains(&Act::Restore) {
            runs(db, &scene.call(Act::Skip)).await;
        }
        scene
    }

    /// A first claim may only find and mark a queue that is empty.
    async fn claims(&self, db: &mut PgConnection, most: usize) -> Vec<Reservation> {
        let me = self.hand.me;
        let claimed = claim::claim(db, me, most, OrganisationId(0), false).await.unwrap();
        if !claimed.is_empty() {
            return claimed;
        }
        claim::claim(db, me, most, OrganisationId(0), false).await.unwrap()
    }

    /// The worker is done with these of its photos.
    async fn settles(&self, db: &mut PgConnection, which: &str) {
        let (me, worker) = (self.hand.me.key(), self.hand.me.worker);
        let settle = format!(
            "SELECT settle('{me}', array_agg(job_id), array_agg(attempt), \
             array_agg('processed'::outcome_state), array_agg(NULL::text), array_agg('x'::text)) \
             FROM in_flight WHERE worker_id = {worker} AND {which} HAVING count(*) > 0"
        );
        runs(db, &settle).await;
    }

    fn call(&self, act: Act) -> String {
        let Self { event, in_flight, .. } = self;
        let (me, after) = (self.hand.me.key(), self.organisation.0 - 1);
        let photos = format!(
            "(SELECT array_agg(photo_id) FROM photo WHERE event_id = {event} AND key = '{WAITS}')"
        );
        let all = format!(
            "'{{{ENDED},{IN_FLIGHT},{WAITS},rehearsal/ok/new}}', ARRAY[gen_random_uuid(), \
             gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], 'anna'"
        );
        match act {
            Act::Follow => "SELECT follow(100, '0')".into(),
            Act::Claim => format!("SELECT count(*) FROM claim('{me}', 64, {after}, false)"),
            Act::Settle => format!(
                "SELECT settle('{me}', ARRAY[{in_flight}], '{{1}}', '{{processed}}', '{{NULL}}', \
                 '{{x}}')"
            ),
            Act::Skip => format!("SELECT skip_photos({event}, 'ai_rotation', {photos}, 'anna')"),
            Act::Restore => {
                format!("SELECT restore_photos({event}, 'ai_rotation', {photos}, 'anna')")
            }
            Act::Enqueue => unless_refused(&format!("enqueue({event}, 'photo_processing', {all})")),
            Act::EnqueueBoth => format!("SELECT enqueue_both({event}, {all})"),
            Act::Delete => format!("SELECT delete_event({event}, 'anna')"),
        }
    }

    /// Each photo's key, how often it was queued for Photo Processing, and how often it follows.
    async fn counts(&self, db: &mut PgConnection) -> Vec<(String, i64, i64)> {
        let of_photos = "SELECT p.key, (SELECT count(*) FROM job j JOIN queue q USING (queue_id) \
                         WHERE j.photo_id = p.photo_id AND q.operation = 'photo_processing'), \
                         (SELECT count(*) FROM follow_up f WHERE f.photo_id = p.photo_id) \
                         FROM photo p WHERE p.event_id = $1";
        sqlx::query_as(of_photos).bind(self.event.0).fetch_all(db).await.unwrap()
    }

    /// What must be true whatever the order was.
    async fn check(&self, db: &mut PgConnection, way: &str) {
        let deleted = events::find(db, self.event).await.unwrap().is_none();
        for (key, queued, following) in self.counts(db).await {
            let right =
                if deleted { queued <= 1 && following == 0 } else { queued + following == 1 };
            assert!(right, "{way}: {key} is queued {queued} times, and follows {following} times");
        }

        // And in the end, everything is done.
        loop {
            self.settles(db, "true").await;
            while follow_ups::follow(db, Duration::ZERO).await.unwrap().photos > 0 {}
            if self.claims(db, 64).await.is_empty() {
                break;
            }
        }
        for (key, queued, following) in self.counts(db).await {
            assert!(deleted || queued == 1, "{way}: {key} was queued {queued} times in the end");
            assert_eq!(following, 0, "{way}: {key} follows for ever");
        }
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM job j JOIN queue q USING (queue_id) \
             WHERE NOT q.held AND NOT EXISTS (SELECT FROM outcome o WHERE o.job_id = j.job_id) \
             AND stretch_kind_at(j.queue_id, j.position) IS DISTINCT FROM 'skipped'",
        )
        .fetch_one(db)
        .await
        .unwrap();
        assert_eq!(open, 0, "{way}: some are not done");
    }
}

/// Goes every way; returns how many there were.
async fn every_way(app: &App, scheduler: &mut Scheduler, hand: &Hand<'_>, acts: [Act; 2]) -> usize {
    let mut ways = Ways::default();
    let mut gone = 0;
    // All scenes and checks on one connection, without the questions of a pool in between.
    let mut db = app.db().await;
    let organisation = app.an_organisation_with(100_000).await;
    loop {
        let scene = Scene::set(&mut db, hand, organisation, acts).await;
        scheduler.run(&acts.map(|act| scene.call(act)), &mut ways).await;
        scene.check(&mut db, &format!("{acts:?}, {ways:?}")).await;
        gone += 1;
        if !ways.next() {
            eprintln!("{acts:?}: {gone} interleavings");
            return gone;
        }
    }
}

/// A photo that is queued for Photo Processing before its AI Rotation has ended is refused, by what
/// is committed at that moment.
async fn an_app_that_refuses_what_comes_too_early() -> App {
    let app = App::new().await;
    app.owner_runs(
        "CREATE FUNCTION photogate.refuse_early() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = photogate, pg_temp AS $$
         BEGIN
             IF EXISTS (
                 SELECT FROM queue q JOIN queue r USING (event_id) JOIN queue_head h ON h.queue_id = r.queue_id
                 CROSS JOIN LATERAL latest_job(NEW.photo_id, r.queue_id) j
                 WHERE q.queue_id = NEW.queue_id AND q.operation = 'photo_processing'
                     AND r.operation = 'ai_rotation'
                     AND (coalesce(stretch_kind_at(r.queue_id, j.position) = 'first', j.position > h.head)
                         OR EXISTS (SELECT FROM in_flight f WHERE f.job_id = j.job_id)))
             THEN RAISE EXCEPTION 'its AI Rotation has not ended'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse_early BEFORE INSERT ON photogate.job FOR EACH ROW
         EXECUTE FUNCTION photogate.refuse_early()",
    )
    .await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interleaving_loses_a_photo_that_follows_or_queues_it_early_or_twice() {
    use Act::{Claim, Delete, Enqueue, EnqueueBoth, Follow, Restore, Settle, Skip};
    let app = an_app_that_refuses_what_comes_too_early().await;
    instrument(&app.owner, &GATE, &ALONE).await;
    // Connections know of the database's settings from when they begin.
    let app = app.reconnected().await;
    let mut scheduler = Scheduler::new(&app.owner).await;
    let pairs = [
        [Follow, Follow],
        [Follow, Claim],
        [Follow, Settle],
        [Follow, Skip],
        [Follow, Restore],
        [Follow, Enqueue],
        [Follow, EnqueueBoth],
        [Follow, Delete],
        [EnqueueBoth, EnqueueBoth],
        [EnqueueBoth, Claim],
        [EnqueueBoth, Settle],
        [EnqueueBoth, Skip],
    ];
    let mut ways = 0;
    for pair in pairs {
        let hand = app.a_worker().await;
        ways += every_way(&app, &mut scheduler, &hand, pair).await;
    }
    assert!(ways > pairs.len(), "{ways} interleavings");
    eprintln!("follow-ups: {ways} interleavings");
}

/// A race, put in: the scheduler must find it, or it would find nothing.
#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "its AI Rotation has not ended")]
async fn a_follow_that_reads_what_is_in_flight_before_the_head_is_found() {
    let mut app = an_app_that_refuses_what_comes_too_early().await;
    app.audited = false;
    let real: String = sqlx::query_scalar(
        "SELECT pg_get_functiondef('photogate.follow(integer, interval)'::regprocedure)",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    let mut wrong = real;
    for (right, other) in [
        ("v_after bigint;", "v_after bigint; v_flying bigint[];"),
        (
            "SELECT head INTO v_head",
            "SELECT array_agg(job_id) INTO v_flying FROM in_flight;\nSELECT head INTO v_head",
        ),
        (
            "SELECT r_row FROM reached_follow_ups(v_after, v_head, p_n) WHERE r_has_ended",
            "SELECT r_row FROM reached_follow_ups(v_after, v_head, p_n) r \
             JOIN follow_up f ON f.ctid = r.r_row WHERE (f.after_job = ANY (v_flying)) IS NOT TRUE",
        ),
    ] {
        assert!(wrong.contains(right), "follow() has another text: {right}");
        wrong = wrong.replace(right, other);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(wrong)).execute(&mut app.as_owner().await).await.unwrap();
    instrument(&app.owner, &GATE, &ALONE).await;
    let mut scheduler = Scheduler::new(&app.owner).await;
    let hand = app.a_worker().await;

    every_way(&app, &mut scheduler, &hand, [Act::Follow, Act::Claim]).await;
}
