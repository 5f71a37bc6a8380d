//! The timeline of an event: each row is written in the transaction that causes it.

use photogate::{
    access::{Caller, Role},
    catalog::events,
    commands::{NewHold, NewOrder, Undo},
    ids::{EventId, Operation, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace},
    },
    queue::{
        holds, skips,
        timeline::{self, Cause, Entry, Kind, Stop},
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;

use crate::support::{
    App, Hand, code_of, photogate,
    site::{Site, Visitor, answered},
};

async fn of(app: &App, event: EventId) -> Vec<Entry> {
    let mut entries = timeline::list(&mut *app.db().await, event, None, 10_000).await.unwrap();
    entries.reverse();
    entries
}

/// Oldest first.
async fn kinds(app: &App, event: EventId) -> Vec<(Kind, Option<Cause>)> {
    of(app, event).await.into_iter().map(|entry| (entry.kind, entry.cause)).collect()
}

async fn succeed_all(hand: &Hand<'_>, most: usize) {
    for reservation in hand.claim(most).await {
        assert!(hand.succeed(reservation).await);
    }
}

#[tokio::test]
async fn a_run_is_queued_started_and_finished_and_a_top_up_lets_it_go_on() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;

    succeed_all(&hand, 9).await;
    let credited = app.top_up(organisation, 5).await;
    succeed_all(&hand, 9).await;
    assert!(hand.claim(9).await.is_empty());

    let entries = of(&app, event).await;
    let told: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.cause)).collect();
    assert_eq!(
        told,
        [
            (Kind::Queued, None),
            (Kind::Started, None),
            (Kind::Paused, Some(Cause::Spent)),
            (Kind::Resumed, Some(Cause::TopUp)),
            (Kind::Finished, None),
            (Kind::Drained, None),
        ]
    );
    assert_eq!((entries[0].run, entries[0].photos), (run.run, Some(3)));
    assert_eq!(entries[0].actor.as_deref(), Some("pipeline@club.example"));
    assert_eq!((entries[1].run, entries[4].run), (run.run, run.run));
    assert_eq!(entries[4].photos, Some(3));
    // The pause names the reservation of the last credit, and its end the top-up.
    let last = app
        .count(
            "SELECT transaction_id FROM ledger WHERE movement = 'reserve' \
                          ORDER BY entry LIMIT 1 OFFSET 1",
        )
        .await;
    assert_eq!(entries[2].transaction.map(|id| id.0), Some(last));
    assert_eq!(entries[3].transaction.map(|id| id.0), Some(credited.transaction.0));
    assert!(entries.iter().all(|entry| entry.operation == Some(Operation::PhotoProcessing)));
    assert!(entries.is_sorted_by_key(|entry| entry.at));
}

/// A pause and what caused it are one transaction: both, or neither.
#[tokio::test]
async fn a_row_is_in_the_transaction_that_causes_it() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 2).await;
    app.a_worker().await.claim(2).await;

    let together = app
        .count(
            "SELECT count(*) FROM timeline t JOIN queue q USING (event_id, operation)
             JOIN account a ON a.organisation_id = q.organisation_id
             WHERE t.kind = 'paused' AND t.xmin = q.xmin AND a.xmin = q.xmin",
        )
        .await;
    assert_eq!(together, 1);
    let with_the_use = app
        .count(
            "SELECT count(*) FROM timeline t JOIN usage u ON u.run_id = t.reference
             WHERE t.kind = 'started' AND t.xmin = u.xmin",
        )
        .await;
    assert_eq!(with_the_use, 1);
    let with_the_run = app
        .count(
            "SELECT count(*) FROM timeline t JOIN run r ON r.run_id = t.reference
             WHERE t.kind = 'queued' AND t.xmin = r.xmin",
        )
        .await;
    assert_eq!(with_the_run, 1);
}

/// A budget pauses and resumes, too, and is told with its figures.
#[tokio::test]
async fn a_budget_says_what_it_did() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 2).await;
    let set = async |cap: Option<i64>, floor: i64| {
        sqlx::query("SELECT set_budget($1, $2, $3, 'anna@club.example')")
            .bind(event.0)
            .bind(cap)
            .bind(floor)
            .execute(&mut *app.db().await)
            .await
            .unwrap();
    };

    set(Some(1), 0).await;
    set(Some(4), 1).await;
    succeed_all(&hand, 9).await;
    set(None, 0).await;

    let entries = of(&app, event).await;
    let told: Vec<_> = entries[2..].iter().map(|one| (one.kind, one.cause)).collect();
    let budget = (Kind::Budget, None);
    let resumed = (Kind::Resumed, Some(Cause::Budget));
    assert_eq!(
        told,
        [
            budget,
            (Kind::Paused, Some(Cause::Budget)),
            budget,
            resumed,
            (Kind::Paused, Some(Cause::Spent)),
            budget,
            resumed,
        ]
    );
    let figures: Vec<_> = entries
        .iter()
        .filter(|one| one.kind == Kind::Budget)
        .map(|one| (one.cap, one.floor, one.operation, one.actor.as_deref()))
        .collect();
    let anna = Some("anna@club.example");
    let wanted = [(Some(1), 0), (Some(4), 1), (None, 0)];
    assert_eq!(figures, wanted.map(|(cap, floor)| (cap, Some(floor), None, anna)));
    assert_eq!(entries[3].budget_change, entries[2].budget_change);
    assert_eq!(entries[8].budget_change, entries[7].budget_change);
    assert_eq!(entries[4].to_string(), "budget: at most 4 credits, 1 are kept");
    assert_eq!(entries[7].to_string(), "the budget was taken away");
}

impl App {
    async fn decide_order(&self, organisation: OrganisationId, order: Order, events: &[EventId]) {
        let (anna, new) = (Caller::trusted("anna"), NewOrder { order, events: events.to_vec() });
        self.commands().set_spend_order(&anna, organisation, &new, false).await.unwrap();
    }

    async fn decide_pace(
        &self,
        organisation: OrganisationId,
        event: Option<EventId>,
        pace: Pace,
        weight: Option<i32>,
    ) {
        let (commands, ops) = (self.commands(), Caller::trusted("ops"));
        match event {
            Some(event) => commands.set_event_pace(&ops, event, pace).await.unwrap(),
            None => commands
                .set_organisation_pace(&ops, organisation, Some(pace), weight)
                .await
                .unwrap(),
        };
    }

    async fn decide_class(&self, event: EventId, class: Class) {
        let db = &mut *self.db().await;
        spending::set_class(db, event, class, "anna").await.unwrap();
    }
}

#[tokio::test]
async fn a_decision_is_told_to_each_event_that_it_concerns_and_only_if_it_changes_something() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let other = app.an_event_of(organisation).await;
    let (_, stranger) = app.an_event_with(9).await;
    let hours = |text| chrono::NaiveTime::parse_from_str(text, "%H:%M").ok();
    let (quick, none) = (
        Pace {
            in_flight_max: Some(8),
            photos_per_minute: Some(600),
            quiet_from: hours("22:00"),
            quiet_to: hours("06:00"),
        },
        Pace::default(),
    );

    // Each of them twice: the second time it changes nothing.
    for _ in 0..2 {
        app.decide_class(event, Class::Urgent).await;
    }
    for _ in 0..2 {
        app.decide_order(organisation, Order::FinishFirst, &[other, event]).await;
    }
    for event in [Some(event), None] {
        for _ in 0..2 {
            app.decide_pace(organisation, event, quick, Some(3)).await;
        }
    }
    let late = app.an_event_of(organisation).await;
    for event in [Some(event), None] {
        for _ in 0..2 {
            app.decide_pace(organisation, event, none, Some(3)).await;
        }
    }
    app.decide_order(organisation, Order::FinishFirst, &[event]).await;

    let told = async |event: EventId| {
        let entries = of(&app, event).await;
        assert!(entries.iter().all(|one| one.operation.is_none() && one.cause.is_none()));
        let told = entries.iter().map(|one| {
            let actor = one.actor.clone().unwrap();
            assert_eq!(
                one.to_string().contains(" of all events") || one.kind == Kind::Weight,
                one.of_all_events,
                "{one}"
            );
            format!("{actor}: {one}")
        });
        told.collect::<Vec<_>>()
    };
    let pace = "8 in progress, 600 a minute, quiet from 22:00 to 06:00";
    let turns = format!(
        "anna: order of all events: one event after the other; first events {other}, {event}"
    );
    let all = [
        "anna: class: urgent".to_owned(),
        turns.clone(),
        format!("ops: pace: {pace}"),
        format!("ops: pace of all events together: {pace}"),
        "ops: weight of the organisation: 3".to_owned(),
        "ops: pace: no limit".to_owned(),
        "ops: pace of all events together: no limit".to_owned(),
        format!("anna: order of all events: one event after the other; first events {event}"),
    ];
    assert_eq!(told(event).await, all);
    let of_all = [1, 3, 4, 6, 7].map(|n: usize| all[n].clone());
    assert_eq!(told(other).await, of_all);
    assert_eq!(told(late).await, of_all[3..], "it was made when the others had been decided");
    assert!(told(stranger).await.is_empty());
    // (The class was set without the command.)
    let audited = app
        .count("SELECT count(*) FROM audit_log WHERE action IN ('organisation.order', 'event.pace', 'organisation.pace')")
        .await;
    assert_eq!(audited, 6, "nor is it an audit entry");
}

/// Whatever is decided in whatever order, the last row of each kind says what counts now, and it was
/// written in the transaction that made it count.
#[tokio::test]
async fn in_random_histories_what_was_told_last_is_what_counts() {
    use rand::{Rng, SeedableRng};
    let app = App::new().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(68);
    let mut events = Vec::new();
    for _ in 0..2 {
        let (organisation, event) = app.an_event_with(9).await;
        events.push((organisation, event));
        events.push((organisation, app.an_event_of(organisation).await));
    }
    for step in 0..150 {
        let (organisation, event) = events[random.random_range(0..events.len())];
        let pace = Pace {
            in_flight_max: random.random_bool(0.5).then(|| random.random_range(1..3)),
            photos_per_minute: random.random_bool(0.5).then(|| random.random_range(1..3)),
            ..Pace::default()
        };
        match random.random_range(0..4) {
            0 => app.decide_class(event, Class::ALL[random.random_range(0..3)]).await,
            1 => {
                let order = Order::ALL[random.random_range(0..3)];
                let turns = if random.random_bool(0.5) { vec![event] } else { Vec::new() };
                app.decide_order(organisation, order, &turns).await;
            }
            2 => app.decide_pace(organisation, Some(event), pace, None).await,
            _ => {
                let weight = random.random_bool(0.5).then(|| random.random_range(1..3));
                app.decide_pace(organisation, None, pace, weight).await;
            }
        }
        let wrong = app
            .count(
                r#"WITH last AS (
                     SELECT DISTINCT ON (organisation_id, event_id, kind) *, xmin AS tx FROM timeline
                     ORDER BY organisation_id, event_id, kind, entry_id DESC),
                 counts AS (
                     SELECT organisation_id, event_id, 'class'::timeline_kind AS kind, xmin AS tx,
                            jsonb_build_object('class', class) AS decided FROM event
                     UNION ALL
                     SELECT o.organisation_id, NULL, 'weight', s.xmin,
                            jsonb_build_object('weight', coalesce(s.weight, 1))
                     FROM organisation o LEFT JOIN steering s USING (organisation_id)
                     UNION ALL
                     SELECT o.organisation_id, NULL, 'order', s.xmin, jsonb_build_object(
                         'order', coalesce(s.spend_order, 'fair'),
                         'events', ARRAY(SELECT e.event_id FROM event e
                                         WHERE e.organisation_id = o.organisation_id AND e.turn IS NOT NULL
                                         ORDER BY e.turn))
                     FROM organisation o LEFT JOIN steering s USING (organisation_id)
                     UNION ALL
                     SELECT organisation_id, e.event_id, 'pace', p.xmin, jsonb_build_object('pace',
                         jsonb_build_object('in_flight_max', p.in_flight_max,
                             'photos_per_minute', p.per_minute,
                             'quiet_from', p.quiet_from, 'quiet_to', p.quiet_to))
                     FROM (SELECT organisation_id, event_id FROM event
                           UNION ALL SELECT organisation_id, NULL FROM organisation) e
                     LEFT JOIN pace p USING (organisation_id)
                     WHERE p.organisation_id IS NULL OR p.event_id IS NOT DISTINCT FROM e.event_id)
                 SELECT count(*) FROM counts c LEFT JOIN last l
                     ON l.organisation_id = c.organisation_id AND l.kind = c.kind
                        AND l.event_id IS NOT DISTINCT FROM c.event_id
                 WHERE l.decided IS NOT NULL AND l.decided <> c.decided
                    OR l.kind = 'pace' AND c.tx IS NOT NULL AND l.tx <> c.tx
                    OR l.decided IS NULL AND c.decided NOT IN (
                        '{"class": "normal"}', '{"weight": 1}',
                        '{"order": "fair", "events": []}',
                        '{"pace": {"in_flight_max": null, "photos_per_minute": null,
                           "quiet_from": null, "quiet_to": null}}')"#,
            )
            .await;
        assert_eq!(wrong, 0, "after step {step}");
        let repeated = app
            .count(
                "SELECT count(*) FROM (
                     SELECT decided = lag(decided) OVER (
                         PARTITION BY organisation_id, event_id, kind ORDER BY entry_id) AS again
                     FROM timeline) s WHERE again",
            )
            .await;
        assert_eq!(repeated, 0, "after step {step}: told twice");
    }
    for kind in ["class", "pace", "order", "weight"] {
        let told: i64 = sqlx::query_scalar("SELECT count(*) FROM timeline WHERE kind::text = $1")
            .bind(kind)
            .fetch_one(&mut *app.db().await)
            .await
            .unwrap();
        assert!(told > 5, "{kind}: {told}");
    }
}

/// The event's own entries and those of all events are one list, also in pages.
#[tokio::test]
async fn pages_of_a_timeline_leave_out_nothing_and_repeat_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    for n in 0..12 {
        if n % 3 == 0 {
            app.decide_class(event, Class::ALL[n / 3 % 2]).await;
        } else {
            app.decide_order(organisation, Order::ALL[n % 3], &[]).await;
        }
    }
    let whole = timeline::list(&mut *app.db().await, event, None, 100).await.unwrap();
    assert_eq!(whole.len(), 12);
    assert!(whole.is_sorted_by(|one, next| one.id > next.id));

    for most in 1..=13_usize {
        let (mut paged, mut below) = (Vec::new(), None);
        loop {
            let rows = i64::try_from(most).unwrap();
            let page = timeline::list(&mut *app.db().await, event, below, rows).await.unwrap();
            assert!(page.len() <= most);
            let Some(last) = page.last() else { break };
            below = Some(last.id);
            paged.extend(page);
        }
        assert_eq!(paged, whole, "in pages of {most}");
    }
}

/// The form of the page sets both: what is refused changes neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_and_a_class_are_one_decision() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let site = Site::of(&app).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let path = format!("/events/{event}/budget");
    let fields = [("cap", "4"), ("floor", "1"), ("class", "urgent")];

    assert_eq!(anna.post(&site, &path, &fields).await, 303);

    let together =
        app.count("SELECT count(*) FROM event e JOIN budget_change b ON b.xmin = e.xmin").await;
    assert_eq!(together, 1, "one transaction");
    let told: Vec<_> = of(&app, event).await.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["budget: at most 4 credits, 1 are kept", "class: urgent"]);
    let audited = async || {
        app.count("SELECT count(*) FROM audit_log WHERE action IN ('event.budget', 'event.change')")
            .await
    };
    assert_eq!(audited().await, 2);
    assert_eq!(anna.post(&site, &path, &fields).await, 303);
    assert_eq!((of(&app, event).await.len(), audited().await), (2, 2), "the second time: nothing");

    // As many events have a class as may.
    app.tamper(
        "INSERT INTO event (organisation_id, name, class)
         SELECT organisation_id, 'Race', 'urgent' FROM organisation, generate_series(1, 500)",
    )
    .await;
    app.decide_class(event, Class::Normal).await;
    let budget = Budget { cap: None, floor: Credits(2) };
    let caller = Caller::trusted("anna");
    let refused = app.commands().set_budget(&caller, event, budget, Some(Class::Urgent)).await;
    assert!(refused.unwrap_err().to_string().contains("not normal"));
    assert_eq!(app.count("SELECT cap FROM budget").await, 4, "the budget is the old one");
    app.commands().set_budget(&caller, event, budget, None).await.unwrap();
}

/// What the hot path pays: nothing.
#[tokio::test]
async fn a_claim_and_a_settlement_that_begin_and_end_nothing_write_no_row() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(100).await;
    app.queue(event, "ok", 50).await;
    let hand = app.a_worker().await;
    let mut first = hand.claim(10).await;
    let before = of(&app, event).await.len();

    for _ in 0..3 {
        let next = hand.claim(10).await;
        for reservation in first.drain(..) {
            assert!(hand.succeed(reservation).await);
        }
        first = next;
    }
    // Nor do those after which no photo is in flight, as long as some wait.
    for reservation in first.drain(..) {
        assert!(hand.fail(reservation).await);
    }

    assert_eq!(of(&app, event).await.len(), before);
    assert_eq!(app.processing(event).await.waiting, 10);
}

#[tokio::test]
async fn a_refund_an_adjustment_and_a_hold_say_what_they_did() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 9).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;
    app.top_up(organisation, -1).await;
    let failed = claimed.remove(0);
    let job = failed.job();
    hand.fail(failed).await;
    let hold = app.hold(event, "ops@photogate.example").await;
    holds::lift(&mut *app.db().await, hold, "ops@photogate.example").await.unwrap();
    let until = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let new = NewHold { operation: Some(Operation::PhotoProcessing), note: String::new(), until };
    let staff = Caller::trusted("staff@photogate.example");
    let short = app.commands().hold(&staff, event, &new).await.unwrap().holds[0];
    app.owner_runs("UPDATE photogate.hold SET until = now() - interval '1 s' WHERE until > now()")
        .await;
    sqlx::query("SELECT expire_holds()").execute(&mut *app.db().await).await.unwrap();
    events::flag_deleted(&mut *app.db().await, event, "anna@club.example").await.unwrap();

    let entries = of(&app, event).await;
    let own: Vec<_> =
        entries.iter().filter(|one| one.operation == Some(Operation::PhotoProcessing)).collect();
    let told: Vec<_> = own[2..].iter().map(|one| (one.kind, one.cause, one.hold)).collect();
    let last = own.last().unwrap().hold;
    assert_eq!(
        told,
        [
            (Kind::Paused, Some(Cause::Adjustment), None),
            (Kind::Resumed, Some(Cause::Refund), None),
            (Kind::Held, None, Some(hold)),
            (Kind::Lifted, None, Some(hold)),
            (Kind::Resumed, Some(Cause::Lift), Some(hold)),
            (Kind::Held, None, Some(short)),
            (Kind::Lifted, Some(Cause::Expiry), Some(short)),
            (Kind::Resumed, Some(Cause::Expiry), Some(short)),
            (Kind::Deleted, None, last),
        ]
    );
    let actors: Vec<_> = own[2..].iter().map(|one| one.actor.as_deref()).collect();
    let (ops, anna) = (Some("ops@photogate.example"), Some("anna@club.example"));
    let staff = Some("staff@photogate.example");
    assert_eq!(actors, [None, None, ops, ops, None, staff, None, None, anna]);
    assert_eq!(own[3].transaction, Some(job), "the photo whose credit came back");
    // Its other queue was held for good, too.
    assert_eq!(entries.iter().filter(|one| one.kind == Kind::Deleted).count(), 2);
    let (kept, sentence) = (entries.len(), own[3].to_string());
    assert_eq!(sentence, format!("goes on: a credit came back (transaction {job})"));
    assert_eq!(app.count("SELECT count(*) FROM timeline").await, i64::try_from(kept).unwrap());
}

/// A top-up that meets a queue which somebody has locked leaves it to a later claim.
#[tokio::test]
async fn a_queue_that_is_resumed_later_says_what_made_it_due() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    hand.claim(5).await;
    assert!(app.is_out_of_credit(event).await);
    let lock = app.another_holds_the_queue_of(event).await;
    let due = app.top_up(organisation, 1).await;
    let late = app.top_up(organisation, 1).await;
    assert_ne!(due.transaction, late.transaction);
    assert_eq!(kinds(&app, event).await.last(), Some(&(Kind::Paused, Some(Cause::Spent))));
    drop(lock);
    app.until("the lock is gone", async || {
        app.count("SELECT count(*) FROM (SELECT FROM queue FOR UPDATE SKIP LOCKED) s").await == 2
    })
    .await;

    assert_eq!(hand.claim(1).await.len(), 1);

    let last = of(&app, event).await.pop().unwrap();
    assert_eq!((last.kind, last.cause), (Kind::Resumed, Some(Cause::TopUp)));
    assert_eq!(last.transaction.map(|id| id.0), Some(due.transaction.0), "the first one");
    assert_eq!(app.count("SELECT count(*) FROM resume_cause").await, 0);
}

/// A run ends once, however its photos end.
#[tokio::test]
async fn a_run_ends_when_its_last_photos_are_skipped_and_again_if_they_are_put_back() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 1).await;
    let ids: Vec<photogate::ids::PhotoId> =
        sqlx::query_scalar("SELECT photo_id FROM photo ORDER BY key")
            .fetch_all(&mut *app.db().await)
            .await
            .unwrap();
    let finished = async || {
        let entries = of(&app, event).await;
        let ends = entries.iter().filter(|one| one.kind == Kind::Finished);
        ends.map(|one| (one.run.unwrap(), one.photos.unwrap())).collect::<Vec<_>>()
    };
    let processing = Operation::PhotoProcessing;

    skips::skip(&mut *app.db().await, event, processing, &ids[1..2], "anna").await.unwrap();
    assert_eq!(finished().await, [], "one waits");
    skips::skip(&mut *app.db().await, event, processing, &ids[2..], "anna").await.unwrap();
    assert_eq!(finished().await, [(run.run.unwrap(), 1)]);
    skips::restore(&mut *app.db().await, event, processing, &ids[1..2], "anna").await.unwrap();
    succeed_all(&hand, 9).await;

    let runs: Vec<_> = finished().await.into_iter().map(|(run, _)| run).collect();
    assert_eq!(runs.len(), 2, "{:?}", of(&app, event).await);
    // A run of which nothing was ever claimed has not started, and so does not end.
    let (_, another) = app.an_event_with(9).await;
    app.queue(another, "ok", 1).await;
    let photo = app.photo_of(another).await;
    skips::skip(&mut *app.db().await, another, processing, &[photo], "anna").await.unwrap();
    let kinds: Vec<_> = kinds(&app, another).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Queued, Kind::Drained]);
}

/// Also by the way back: photos that were put back are skipped again.
#[tokio::test]
async fn a_run_ends_when_undo_skips_its_last_photos_again() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let run = app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let processing = Operation::PhotoProcessing;
    let photos: Vec<photogate::ids::PhotoId> =
        sqlx::query_scalar("SELECT photo_id FROM job ORDER BY position")
            .fetch_all(&mut *app.db().await)
            .await
            .unwrap();
    let last = &photos[1..];
    skips::skip(&mut *app.db().await, event, processing, last, "anna").await.unwrap();
    let restored =
        skips::restore(&mut *app.db().await, event, processing, last, "anna").await.unwrap();
    succeed_all(&hand, 1).await;

    let asked = Undo { undo: vec![restored.undo.unwrap()] };
    app.commands().undo(&Caller::trusted("anna"), &asked).await.unwrap();

    let last = of(&app, event).await.pop().unwrap();
    assert_eq!((last.kind, last.run, last.photos), (Kind::Finished, run.run, Some(1)));
}

/// Whichever of the two commits first.
#[tokio::test]
async fn a_run_ends_whose_last_photos_are_settled_and_skipped_at_the_same_instant() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let run = app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let reservation = hand.claim_one().await;
    let last: photogate::ids::PhotoId =
        sqlx::query_scalar("SELECT photo_id FROM job WHERE position = 2")
            .fetch_one(&mut *app.db().await)
            .await
            .unwrap();
    let mut skipping = app.db().await;
    skipping.execute("BEGIN").await.unwrap();
    skips::skip(&mut skipping, event, Operation::PhotoProcessing, &[last], "anna").await.unwrap();

    let (settled, ()) = tokio::join!(hand.succeed(reservation), async {
        app.until_somebody_waits_for_a_lock().await;
        skipping.execute("COMMIT").await.unwrap();
    });

    assert!(settled);
    let last = of(&app, event).await.pop().unwrap();
    assert_eq!((last.kind, last.run, last.photos), (Kind::Finished, run.run, Some(1)));
}

/// A month that begins while a run is at work begins no run, and ends none.
#[tokio::test]
async fn a_run_over_the_end_of_a_month_starts_once_and_ends_once() {
    let app = App::new().await;
    app.set_the_clock("2030-01-31 22:59:59Z").await;
    let (_, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    let mut first = hand.claim(2).await;
    app.set_the_clock("2030-01-31 23:00:01Z").await;
    let second = hand.claim(2).await;
    for reservation in second {
        hand.succeed(reservation).await;
    }
    assert_eq!(
        kinds(&app, event).await.iter().filter(|(kind, _)| *kind == Kind::Finished).count(),
        0,
        "two are in flight since January"
    );
    for reservation in first.drain(..) {
        hand.succeed(reservation).await;
    }

    assert_eq!(app.count("SELECT count(*) FROM usage").await, 2, "two days");
    let kinds: Vec<_> = kinds(&app, event).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Queued, Kind::Started, Kind::Finished]);
}

/// Whatever happens in whatever order, the rows say how the runs and queues stand. (That they say
/// which are paused is an invariant.)
#[tokio::test]
async fn in_random_histories_each_run_starts_and_ends_as_the_timeline_says() {
    use rand::{Rng, SeedableRng};
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    let hand = app.a_worker().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(16);
    let mut in_hand = Vec::new();
    let mut looked_at = 0;
    for step in 0..300 {
        match random.random_range(0..8) {
            0 => {
                app.queue(event, &format!("ok-{step}"), random.random_range(1..5)).await;
            }
            1 | 2 => in_hand.extend(hand.claim(random.random_range(1..6)).await),
            3 => {
                for _ in 0..random.random_range(0..=in_hand.len()) {
                    let one = in_hand.swap_remove(random.random_range(0..in_hand.len()));
                    if random.random_bool(0.3) {
                        hand.fail(one).await
                    } else {
                        hand.succeed(one).await
                    };
                }
            }
            4 => {
                app.top_up(organisation, random.random_range(1..3)).await;
            }
            5 => {
                let act = if random.random_bool(0.5) { "cancel_run" } else { "put_run_first" };
                sqlx::query(sqlx::AssertSqlSafe(format!(
                    "SELECT {act}(run_id, 'anna') FROM run ORDER BY md5(run_id::text || '{step}') LIMIT 1"
                )))
                .execute(&mut *app.db().await)
                .await
                .unwrap();
            }
            6 => {
                // Refused, where it cannot be taken back any more.
                let _ = sqlx::query("SELECT undo((SELECT max(undo_id) FROM undo WHERE undone_at IS NULL), 'anna', '1 hour')")
                    .execute(&mut *app.db().await)
                    .await;
            }
            _ => {
                let photo: Option<photogate::ids::PhotoId> = sqlx::query_scalar(
                    "SELECT photo_id FROM job ORDER BY md5(position::text || $1::text) LIMIT 1",
                )
                .bind(step)
                .fetch_optional(&mut *app.db().await)
                .await
                .unwrap();
                let operation = Operation::PhotoProcessing;
                let photos: Vec<_> = photo.into_iter().collect();
                let db = &mut *app.db().await;
                if random.random_bool(0.7) {
                    skips::skip(db, event, operation, &photos, "anna").await.unwrap();
                } else {
                    skips::restore(db, event, operation, &photos, "anna").await.unwrap();
                }
            }
        }
        let wrong: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM run r
                 CROSS JOIN LATERAL (
                     SELECT coalesce(sum(claimed), 0) AS claimed,
                            coalesce(sum(committed + refunded), 0) AS settled
                     FROM usage u WHERE u.run_id = r.run_id) u
                 CROSS JOIN LATERAL (
                     SELECT CASE WHEN r.undone_at IS NULL THEN skipped_of_run(r) ELSE r.queued END AS n) s
                 CROSS JOIN LATERAL (
                     SELECT count(*) FILTER (WHERE t.kind = 'started') AS started,
                            max(t.photos) FILTER (WHERE t.kind = 'finished') AS finished,
                            bool_or(t.kind = 'finished' AND t.entry_id > $1) AS just_finished
                     FROM timeline t WHERE t.reference = r.run_id
                         AND t.kind IN ('started', 'finished')) t
                 WHERE t.started <> (u.claimed > 0)::int
                    OR u.settled > 0 AND u.settled + s.n = r.queued
                       AND t.finished IS DISTINCT FROM u.settled
                    OR t.just_finished AND u.settled + s.n < r.queued",
        )
        .bind(looked_at)
        .fetch_one(&mut *app.db().await)
        .await
        .unwrap();
        assert_eq!(wrong, 0, "after step {step}");
        looked_at = app.count("SELECT coalesce(max(entry_id), 0) FROM timeline").await;
    }
    assert!(app.count("SELECT count(*) FROM timeline WHERE kind = 'finished'").await > 10);
    assert!(app.count("SELECT count(*) FROM timeline WHERE kind = 'resumed'").await > 3);
}

#[tokio::test]
async fn nobody_writes_or_changes_a_row_by_hand() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    for statement in
        ["UPDATE timeline SET actor = 'eve'", "DELETE FROM timeline", "TRUNCATE timeline"]
    {
        let refused =
            sqlx::raw_sql(statement).execute(&mut app.as_owner().await).await.unwrap_err();
        assert_eq!(code_of(&refused).as_deref(), Some("PG005"), "{statement}: {refused}");
        crate::support::refused_for_want_of_privilege(&mut *app.db().await, statement).await;
    }
    let insert = "INSERT INTO timeline (organisation_id, event_id, operation, kind)
                  VALUES (1, 1, 'ai_rotation', 'paused')";
    crate::support::refused_for_want_of_privilege(&mut *app.db().await, insert).await;
    assert_eq!(kinds(&app, event).await, [(Kind::Queued, None)]);
}

#[tokio::test]
async fn the_picture_shows_when_the_queue_was_stopped_also_before_its_first_entry() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 1).await;
    app.hold(event, "ops").await;
    app.queue(event, "more", 1).await;
    app.top_up(organisation, 1).await;
    let entries = timeline::list(&mut *app.db().await, event, None, 100).await.unwrap();
    let now = chrono::Utc::now();
    let lanes = async |entries: &[Entry]| {
        timeline::lanes(&mut *app.db().await, event, entries, now).await.unwrap()
    };

    let whole = lanes(&entries).await;
    assert_eq!(whole.len(), 1, "nothing has happened to AI Rotation");
    let bands: Vec<_> = whole[0].bands.iter().map(|band| band.stop).collect();
    assert_eq!(bands, [Stop::Held, Stop::Paused]);
    let at = |kind: Kind| entries.iter().find(|one| one.kind == kind).unwrap().at;
    assert_eq!(
        (whole[0].bands[1].from, whole[0].bands[1].to),
        (at(Kind::Paused), at(Kind::Resumed))
    );
    assert_eq!(whole[0].bands[0].to, now, "the hold stands");
    assert_eq!(whole[0].marks.len(), 4, "the top-up is one");

    // The newest two entries alone: it was paused when the second run was queued.
    let page = &entries[..2];
    assert_eq!((page[0].kind, page[1].kind), (Kind::Resumed, Kind::Queued));
    let late = lanes(page).await;
    assert_eq!((late[0].bands[1].from, late[0].bands[1].to), (page[1].at, page[0].at));
    assert_eq!(late[0].bands[0].from, page[1].at, "it begins with the picture");
    assert!(lanes(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn api_page_and_command_line_tell_the_same() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 2).await;
    app.top_up(organisation, 1).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/events/{event}/timeline");

    let (status, whole) = answered(site.ask(Method::GET, &path, &token)).await;
    assert_eq!(status, 200);
    let told: Vec<_> = whole["items"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(told, ["resumed", "paused", "started", "queued"]);
    assert_eq!(whole["items"][0]["cause"], "top_up");
    assert_eq!(whole["next"], Value::Null);
    // In pages.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}?limit=3{after}");
        let (_, page) = answered(site.ask(Method::GET, &path, &token)).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(json!(paged), whole["items"]);

    let output = app.says(&["events", "timeline", &event.to_string(), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), whole["items"]);
    let csv = app.says(&["events", "timeline", &event.to_string(), "--csv"]);
    let rows: Vec<_> = csv.lines().collect();
    assert!(rows[0].starts_with("id,at,operation,kind,actor,"), "{csv}");
    assert!(rows[1].contains(",resumed,,goes on: top-up (transaction"), "{csv}");
    assert_eq!(rows.len(), 5);
    // The columns are the fields of the API, and the words; the page's file is the same.
    let mut columns: Vec<_> = rows[0].split(',').filter(|name| *name != "what_happened").collect();
    columns.sort_unstable();
    let fields: Vec<_> = whole["items"][0].as_object().unwrap().keys().collect();
    assert_eq!(columns, fields);
    app.a_person("fin@club.example", Role::Finance, Some(organisation)).await;
    let fin = Visitor::logged_in(&site, "fin@club.example").await;
    let page = format!("/events/{event}/timeline");
    let file = fin.text(&site, &format!("{page}?format=csv")).await;
    assert_eq!(file.trim_start_matches('\u{feff}').lines().collect::<Vec<_>>(), rows);
    assert!(fin.text(&site, &page).await.contains("goes on: top-up (transaction"));

    // A decision on all events of the organisation.
    app.decide_order(organisation, Order::FinishFirst, &[event]).await;
    let (_, newest) = answered(site.ask(Method::GET, &format!("{path}?limit=1"), &token)).await;
    let newest = &newest["items"][0];
    assert_eq!((&newest["kind"], &newest["of_all_events"]), (&json!("order"), &json!(true)));
    let decided = json!({
        "order": "finish_first", "events": [event], "class": null, "pace": null, "weight": null,
    });
    assert_eq!((&newest["decided"], &newest["operation"]), (&decided, &Value::Null));
    let says = format!("order of all events: one event after the other; first events {event}");
    let csv = app.says(&["events", "timeline", &event.to_string(), "--csv"]);
    assert!(csv.lines().nth(1).unwrap().contains(&says), "{csv}");
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let page = anna.text(&site, &format!("/events/{event}/timeline")).await;
    assert!(page.contains(&says), "{page}");
    let missing = photogate(&app.config, &["events", "timeline", "99"]);
    assert_eq!(missing.status.code(), Some(4));
}
