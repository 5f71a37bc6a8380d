//! An organisation decides which photos its credits go to, and the claim keeps to it.

use crate::support::App;
use chrono::{TimeDelta, Utc};
use photogate::{
    access::{Caller, Role},
    commands::{Enqueue, NewOrder, OnInsufficient, Payloads, Which},
    ids::{EventId, Operation, Operations, OrganisationId},
    ledger::{
        credits::Credits,
        spending::{self, Budget, Class, Order, Pace, Spending},
    },
    queue::{claim, enqueue::Priority, status::State, why},
};

impl App {
    async fn set_budget(&self, event: EventId, cap: Option<i64>, floor: i64) {
        let budget = Budget { cap: cap.map(Credits), floor: Credits(floor) };
        self.commands().set_budget(&Caller::trusted("anna"), event, budget, None).await.unwrap();
    }

    async fn set_order(&self, organisation: OrganisationId, order: Order, events: &[EventId]) {
        let new = NewOrder { order, events: events.to_vec() };
        self.commands()
            .set_spend_order(&Caller::trusted("anna"), organisation, &new, false)
            .await
            .unwrap();
    }

    async fn spending(&self, organisation: OrganisationId) -> Spending {
        spending::read(&mut *self.db().await, organisation, None).await.unwrap().unwrap()
    }

    async fn state(&self, event: EventId) -> State {
        self.processing(event).await.state
    }
}

#[tokio::test]
async fn an_event_never_uses_more_than_its_cap_and_goes_on_when_it_may() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    let other = app.an_event_of(organisation).await;
    app.set_budget(event, Some(2), 0).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;

    let mut claimed = hand.claim(8).await;

    assert_eq!((claimed.len(), hand.claim(8).await.len()), (2, 0), "two are all it may use");
    assert_eq!(app.state(event).await, State::Budget);
    let paused_with = app
        .count(
            "SELECT count(*) FROM account a JOIN queue q USING (organisation_id) \
             WHERE q.paused_since IS NOT NULL AND a.xmin = q.xmin",
        )
        .await;
    assert_eq!(paused_with, 1, "the claim that spent the last of it paused it");
    let why = why::event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert_eq!(why.chain[0].code, "budget");
    assert!(why.action.unwrap().starts_with("raise the budget of"));
    app.queue(other, "ok", 1).await;
    assert_eq!(hand.claim(8).await.len(), 1, "another event is not concerned");

    // A refund gives back, and a commit does not.
    assert!(hand.fail(claimed.pop().unwrap()).await);
    assert_eq!(hand.claim(8).await.len(), 1);
    hand.succeed_all(claimed).await;
    assert!(hand.claim(8).await.is_empty());
    app.top_up(organisation, 5).await;
    assert_eq!(app.state(event).await, State::Budget, "a top-up does not help");
    app.set_budget(event, Some(3), 0).await;
    assert_eq!(app.state(event).await, State::Running);
    assert_eq!(hand.claim(8).await.len(), 1);
    app.set_budget(event, None, 0).await;
    assert_eq!(hand.claim(8).await.len(), 1, "the rest: five photos, and one was refunded");
}

#[tokio::test]
async fn a_floor_keeps_credits_for_its_event_and_the_others_wait_for_a_top_up() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let kept = app.an_event_of(organisation).await;
    app.set_budget(kept, None, 3).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;

    assert_eq!(hand.claim(8).await.len(), 2, "three of five are not its own");

    let queue = app.processing(event).await;
    assert_eq!((queue.state, queue.available, queue.funded), (State::NoCredits, 3, 0));
    let why = why::event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert!(why.chain[0].says.contains("keeps its 3 credits for other events"), "{why:?}");
    app.queue(kept, "ok", 4).await;
    assert_eq!(hand.claim(8).await.len(), 3, "they are there when they are needed");
    assert_eq!(app.state(kept).await, State::NoCredits);
    app.top_up(organisation, 1).await;
    let queues = [app.state(event).await, app.state(kept).await];
    assert_eq!(queues, [State::Running; 2], "the floor is used up: all share what comes");
    assert_eq!(hand.claim(8).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_claims_at_once_leave_a_floor_alone() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(100).await;
    let kept = app.an_event_of(organisation).await;
    app.set_budget(kept, None, 60).await;
    app.set_budget(event, Some(30), 0).await;
    app.queue(event, "ok", 100).await;
    let mut workers = Vec::new();
    for _ in 0..16 {
        workers.push(app.a_worker().await.me);
    }

    let mut tasks = tokio::task::JoinSet::new();
    for me in workers {
        let pool = app.pool.clone();
        tasks.spawn(async move {
            let mut claimed = 0;
            for _ in 0..20 {
                let mut db = pool.acquire().await.unwrap();
                let all = OrganisationId(0);
                claimed += claim::claim(&mut db, me, 3, all, false).await.unwrap().len();
            }
            claimed
        });
    }
    let claimed: usize = tasks.join_all().await.into_iter().sum();

    assert_eq!(claimed, 30, "the cap, and not one more");
    assert_eq!(app.credits(organisation).await, (70, 30, 0));
    app.set_budget(event, None, 0).await;
    let hand = app.a_worker().await;
    assert_eq!(hand.claim(64).await.len(), 10, "what no floor keeps");
}

#[tokio::test]
async fn a_cap_below_what_is_used_stops_and_floors_that_nothing_pays_for_are_told() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    let claimed = hand.claim(3).await;

    app.set_budget(event, Some(1), 0).await;

    let found = &app.spending(organisation).await.events[0];
    assert_eq!((found.used, found.cap_left), (Credits(3), Some(Credits(-2))));
    assert_eq!((found.waiting, found.will_finish), (2, 0));
    hand.fail_all(claimed).await;
    assert_eq!(hand.claim(8).await.len(), 1, "all three came back: one may be used");

    let kept = app.an_event_of(organisation).await;
    app.set_budget(kept, None, 9).await;
    let found = app.spending(organisation).await;
    assert_eq!((found.kept, found.underfunded), (Credits(9), Credits(5)));
    app.top_up(organisation, 5).await;
    assert_eq!(app.spending(organisation).await.underfunded, Credits(0));
}

#[tokio::test]
async fn a_deleted_event_keeps_no_credits() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    let kept = app.an_event_of(organisation).await;
    app.set_budget(kept, None, 2).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    assert!(hand.claim(8).await.is_empty());

    app.commands().delete_event(&Caller::trusted("anna"), kept).await.unwrap();

    assert_eq!(app.state(event).await, State::Running);
    assert_eq!(hand.claim(8).await.len(), 2);
}

#[tokio::test]
async fn finish_first_finishes_one_event_after_the_other_in_the_chosen_order() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(20).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        let event = app.an_event_of(organisation).await;
        app.queue(event, "ok", 4).await;
        events.push(event);
    }
    app.set_order(organisation, Order::FinishFirst, &[events[2], events[0]]).await;
    let hand = app.a_worker().await;

    let mut batches = Vec::new();
    for _ in 0..4 {
        let mut batch: Vec<_> = hand.claim(3).await.iter().map(claim::Reservation::event).collect();
        batch.sort_unstable();
        batches.push(batch);
    }

    let [second, third, first] = events[..] else { panic!("three events") };
    assert_eq!(
        batches,
        [vec![first; 3], vec![second, second, first], vec![second, second, third], vec![third; 3]],
    );
}

#[tokio::test]
async fn priority_is_strict_and_after_an_hour_of_waiting_a_class_is_one_better() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(50).await;
    let [background, normal, urgent] = [
        app.an_event_of(organisation).await,
        app.an_event_of(organisation).await,
        app.an_event_of(organisation).await,
    ];
    for (event, class) in [(background, Class::Background), (urgent, Class::Urgent)] {
        spending::set_class(&mut *app.db().await, event, class, "anna").await.unwrap();
    }
    for event in [background, normal, urgent] {
        app.queue(event, "ok", 4).await;
    }
    app.set_order(organisation, Order::Priority, &[]).await;
    let hand = app.a_worker().await;
    let next = async |most| {
        let mut events: Vec<_> = hand.claim(most).await.iter().map(|one| one.event()).collect();
        events.sort_unstable();
        events
    };

    assert_eq!(next(3).await, [urgent; 3]);
    // The batch has room for more than the urgent ones.
    assert_eq!(next(2).await, [normal, urgent]);

    app.tamper(
        "UPDATE queue SET filled_at = filled_at - interval '61 minutes' \
         WHERE event_id = (SELECT min(event_id) FROM event)",
    )
    .await;
    assert_eq!(next(2).await, [background, normal], "it has waited for an hour: both are normal");
    assert_eq!(next(2).await, [normal; 2], "now it was claimed from, and waits anew");
    assert_eq!(next(8).await, [background; 3]);
}

/// Found by review: after a pause, a hold or quiet hours all classes were the same, just when credits
/// were scarce.
#[tokio::test]
async fn classes_do_not_age_while_their_queues_cannot_run() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let [background, urgent] =
        [app.an_event_of(organisation).await, app.an_event_of(organisation).await];
    for (event, class) in [(background, Class::Background), (urgent, Class::Urgent)] {
        spending::set_class(&mut *app.db().await, event, class, "anna").await.unwrap();
        app.queue(event, "ok", 9).await;
    }
    app.set_order(organisation, Order::Priority, &[]).await;
    let hand = app.a_worker().await;
    let next = async || hand.claim(2).await.iter().map(|one| one.event()).collect::<Vec<_>>();
    let old = "UPDATE queue SET filled_at = filled_at - interval '3 hours'";
    assert_eq!(next().await, [urgent], "the last credit");

    app.tamper(old).await;
    app.top_up(organisation, 2).await;
    assert_eq!(next().await, [urgent; 2], "paused for three hours");

    app.top_up(organisation, 6).await;
    let hold = app.hold(background, "ops").await;
    app.tamper(old).await;
    photogate::queue::holds::lift(&mut *app.db().await, hold, "ops").await.unwrap();
    assert_eq!(next().await, [urgent; 2], "held for three hours");

    app.tamper(old).await;
    app.tamper("UPDATE queue_head SET claimed_at = claimed_at - interval '3 hours'").await;
    sqlx::query(
        "SELECT set_pace($1, NULL, NULL, NULL, t.now - interval '3 hours', \
                         t.now - interval '1 minute', 'anna')
         FROM (SELECT (clock_timestamp() AT TIME ZONE 'Europe/Berlin')::time AS now) t",
    )
    .bind(organisation.0)
    .execute(&mut *app.db().await)
    .await
    .unwrap();
    assert_eq!(next().await, [urgent; 2], "quiet for three hours");
    app.tamper("DELETE FROM pace").await;
    assert_eq!(next().await, [background, urgent], "now all of them have waited");
}

/// Found: what one queue of a class did not want went to the next class, although another queue of
/// the class wanted it.
#[tokio::test]
async fn the_rest_of_a_share_stays_in_its_class() {
    let app = App::new().await;
    let (organisation, background) = app.an_event_with(50).await;
    let urgent = app.an_event_of(organisation).await;
    for (event, class) in [(background, Class::Background), (urgent, Class::Urgent)] {
        spending::set_class(&mut *app.db().await, event, class, "anna").await.unwrap();
        app.queue(event, "ok", 9).await;
    }
    app.queue_keys(urgent, Operation::AiRotation, &["rehearsal/ok/1".into()]).await;
    app.set_order(organisation, Order::Priority, &[]).await;
    let hand = app.a_worker().await;
    let next = async || {
        let mut events: Vec<_> = hand.claim(6).await.iter().map(|one| one.event()).collect();
        events.sort_unstable();
        events
    };

    assert_eq!(next().await, [urgent; 6]);
    assert_eq!(next().await, [background, background, urgent, urgent, urgent, urgent]);
}

#[tokio::test]
async fn a_plan_knows_holds_and_a_call_that_wants_credits_does_not_mind_them() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 2).await;
    app.hold(event, "ops").await;
    let commands = app.commands();
    let call = async |photos: usize, operation: Operations, dry_run: bool| {
        let keys: Vec<_> = (0..photos).map(|n| format!("rehearsal/new/{n}")).collect();
        let asked = Enqueue {
            operation,
            photos: Which::Keys(&keys),
            payloads: Payloads::new(),
            dry_run,
            on_insufficient: OnInsufficient::Reject,
            priority: Priority::Normal,
        };
        commands.enqueue(&Caller::trusted("anna"), event, &asked).await
    };
    let processing = Operations::PhotoProcessing;

    // The queue of photo processing is held, that of AI rotation is not.
    for dry_run in [true, false] {
        assert_eq!(call(3, processing, dry_run).await.unwrap().will_finish, 0);
        assert_eq!(call(2, Operations::AiRotation, true).await.unwrap().will_finish, 2);
    }
    assert!(call(4, processing, false).await.is_err(), "there are five credits, and five wait");
    app.top_up(organisation, 20).await;
    let both = call(4, Operations::Both, true).await.unwrap();
    assert_eq!((both.queued, both.will_finish), (5, 4), "one is new; all four are turned");
    let rotated = call(4, Operations::AiRotation, false).await.unwrap();
    assert_eq!((rotated.queued, rotated.will_finish), (4, 4));
}

#[tokio::test]
async fn a_preview_changes_nothing_and_says_what_then_happens() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(3).await;
    let events = [app.an_event_of(organisation).await, app.an_event_of(organisation).await];
    for event in events {
        app.queue(event, "ok", 4).await;
    }
    let finishes = |spending: &Spending| -> Vec<i64> {
        spending.events.iter().map(|event| event.will_finish).collect()
    };
    assert_eq!(finishes(&app.spending(organisation).await), [2, 1]);

    let new = NewOrder { order: Order::FinishFirst, events: vec![events[1]] };
    let caller = Caller::trusted("anna");
    let preview = app.commands().set_spend_order(&caller, organisation, &new, true).await.unwrap();

    assert_eq!(finishes(&preview), [0, 3]);
    assert_eq!(app.spending(organisation).await.order, Order::Fair);
    app.commands().set_spend_order(&caller, organisation, &new, false).await.unwrap();
    let hand = app.a_worker().await;
    assert_eq!(
        hand.claim(8).await.iter().map(|one| one.event()).collect::<Vec<_>>(),
        [events[1]; 3]
    );
}

#[tokio::test]
async fn nobody_steers_another_organisation() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    let (stranger, theirs) = app.an_event_with(1).await;
    let caller = Caller {
        role: Role::Organiser,
        organisation: Some(organisation),
        ..Caller::trusted("anna@club.example")
    };
    let budget = Budget { cap: Some(Credits(0)), floor: Credits(0) };
    let commands = app.commands();

    let refused = commands.set_budget(&caller, theirs, budget, None).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    let order = NewOrder { order: Order::FinishFirst, events: vec![] };
    assert!(commands.set_spend_order(&caller, stranger, &order, false).await.is_err());
    let order = NewOrder { order: Order::FinishFirst, events: vec![theirs] };
    let refused = commands.set_spend_order(&caller, organisation, &order, false).await;
    assert!(refused.unwrap_err().to_string().contains(&format!("has no event {theirs}")));
    assert!(commands.set_budget(&caller, event, budget, None).await.is_ok());
}

impl App {
    async fn set_pace(&self, event: EventId, pace: Pace) {
        self.commands().set_event_pace(&Caller::trusted("anna"), event, pace).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_photos_are_in_flight_than_an_event_and_an_organisation_may_have() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    let other = app.an_event_of(organisation).await;
    app.queue(event, "ok", 9).await;
    app.queue_keys(event, Operation::AiRotation, &["a".into(), "b".into(), "c".into()]).await;
    app.queue(other, "ok", 9).await;
    app.set_pace(event, Pace { in_flight_max: Some(3), ..Pace::default() }).await;
    let of_all = Pace { in_flight_max: Some(7), ..Pace::default() };
    let staff = Caller::trusted("staff");
    app.commands().set_organisation_pace(&staff, organisation, Some(of_all), None).await.unwrap();
    let hand = app.a_worker().await;

    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(hand.claim(5).await);
    }

    let of_event = claimed.iter().filter(|one| one.event() == event).count();
    assert_eq!((claimed.len(), of_event), (7, 3), "both operations count together");
    let why = why::event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert_eq!(why.chain[0].code, "pace");
    assert!(why.chain[0].says.contains("as many photos are in progress"), "{why:?}");
    assert!(hand.succeed(claimed.pop().unwrap()).await);
    assert_eq!(hand.claim(5).await.len(), 1, "one is done, another may begin");
}

#[tokio::test]
async fn a_rate_lets_through_what_its_bucket_has_and_no_more() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(500).await;
    let other = app.an_event_of(organisation).await;
    app.queue(event, "ok", 60).await;
    app.queue(other, "ok", 2).await;
    // A minute's tokens come so slowly that the test is over before the next one.
    app.set_pace(event, Pace { photos_per_minute: Some(1), ..Pace::default() }).await;
    let hand = app.a_worker().await;

    let claimed = hand.claim(9).await;

    assert_eq!(claimed.iter().filter(|one| one.event() == event).count(), 1);
    assert_eq!(claimed.len(), 3, "another event is as fast as before");
    assert!(hand.claim(9).await.is_empty());
    assert_eq!(app.processing(event).await.kept_back_by.as_deref(), Some("rate"));
    // Ten minutes pass: no more comes together than ten seconds are worth, or one.
    app.tamper("UPDATE pace SET filled_at = filled_at - interval '10 minutes'").await;
    assert_eq!(hand.claim(9).await.len(), 1);
    // The clock was ahead, and was put back: nobody waits until then.
    app.tamper("UPDATE pace SET filled_at = filled_at + interval '1 year'").await;
    assert_eq!(hand.claim(9).await.len(), 1);
    app.set_pace(event, Pace::default()).await;
    assert_eq!(hand.claim(64).await.len(), 57);
}

#[tokio::test]
async fn nothing_is_claimed_in_quiet_hours_also_over_midnight() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 9).await;
    let hand = app.a_worker().await;
    let around = |before: i64, after: i64| {
        // The organisation's own time.
        let now = Utc::now().with_timezone(&chrono_tz::Europe::Berlin);
        Pace {
            quiet_from: Some((now + TimeDelta::hours(before)).time()),
            quiet_to: Some((now + TimeDelta::hours(after)).time()),
            ..Pace::default()
        }
    };

    // Two of these go over midnight, whatever the time is.
    for quiet in [around(-1, 1), around(-11, 12), around(-22, 1), around(-1, 22)] {
        app.set_pace(event, quiet).await;
        assert!(hand.claim(1).await.is_empty(), "{quiet:?}");
        let queue = app.processing(event).await;
        assert_eq!(queue.kept_back_by.as_deref(), Some("quiet_hours"), "{quiet:?} {queue:?}");
    }
    for loud in [around(1, 2), around(1, 12), around(2, 23), around(-2, -1)] {
        app.set_pace(event, loud).await;
        assert_eq!(hand.claim(1).await.len(), 1, "{loud:?}");
    }
}

#[tokio::test]
async fn a_claim_is_shared_by_weight_and_nobody_gets_nothing() {
    let app = App::new().await;
    let mut events = Vec::new();
    for weight in [1, 5, 2] {
        let (organisation, event) = app.an_event_with(100).await;
        app.queue(event, "ok", 50).await;
        let (staff, weight) = (Caller::trusted("staff"), Some(weight));
        app.commands().set_organisation_pace(&staff, organisation, None, weight).await.unwrap();
        events.push(event);
    }
    let hand = app.a_worker().await;
    let shares = async |most| {
        let claimed = hand.claim(most).await;
        let of = |event| claimed.iter().filter(|one| one.event() == event).count();
        events.iter().map(|event| of(*event)).collect::<Vec<_>>()
    };

    assert_eq!(shares(19).await, [3, 11, 5]);
    assert_eq!(shares(3).await, [1, 1, 1]);
    assert_eq!(shares(2).await.iter().sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_steers_too() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 9).await;
    let (organisation, event) = (organisation.to_string(), event.to_string());

    app.says(&["spending", "budget", &event, "--cap", "4", "--floor", "2"]);
    app.says(&["spending", "class", &event, "urgent"]);
    app.says(&["spending", "order", &organisation, "priority"]);
    let pace = ["--in-flight-max", "3", "--quiet-from", "22:00", "--quiet-to", "06:00"];
    app.says(&[["spending", "pace", "--event", &event].as_slice(), &pace].concat());
    app.says(&["spending", "pace", "--organisation", &organisation, "--weight", "3"]);

    let said = app.says(&["spending", "show", &organisation]);
    assert!(said.starts_with("Order: priority. 5 credits are available, 2 of them kept"), "{said}");
    let row: Vec<_> = said.lines().last().unwrap().split_whitespace().collect();
    let before = [&event, "Marathon", "urgent", "-", "0", "4", "2", "9", "4"];
    let pace = "3 in progress, quiet from 22:00 to 06:00".split(' ');
    assert_eq!(row, before.into_iter().chain(pace).collect::<Vec<_>>());
    assert!(said.contains("Weight beside other organisations: 3."), "{said}");
    let said = app.says(&["spending", "show", &organisation, "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["weight"], &said["events"][0]["pace"]["in_flight_max"]),
        (&3.into(), &3.into())
    );
}
