//! Both operations in one call: AI rotation first, photo by photo, and no photo is lost.

use std::time::Duration;

use photogate::{
    access::{Caller, Role},
    catalog::{findings::Findings, photos},
    commands::{CommandError, Enqueue, FundingPlan, OnInsufficient, Payloads, Which},
    ids::{EventId, Operation, Operations},
    queue::{
        claim::Reservation,
        follow_ups::{self, Followed},
        skips, why,
    },
    worker::{CRASHES_MAX, verdict::Verdict},
};
use photogate_jobs::{Rotation, Turn};
use serde_json::json;

use crate::{
    photos::{samples, start_worker},
    support::{App, Hand, site::Site},
};

const ROTATION: Operation = Operation::AiRotation;
const PROCESSING: Operation = Operation::PhotoProcessing;

fn anna() -> Caller {
    Caller::trusted("anna@club.example")
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn ask(
    app: &App,
    event: EventId,
    operation: Operations,
    names: &[&str],
    dry_run: bool,
) -> Result<FundingPlan, CommandError> {
    let keys = keys(names);
    let asked = Enqueue {
        operation,
        photos: Which::Keys(&keys),
        payloads: Payloads::default(),
        dry_run,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    app.commands().enqueue(&anna(), event, &asked).await
}

/// Queues photos for both operations.
async fn both(app: &App, event: EventId, names: &[&str]) -> FundingPlan {
    ask(app, event, Operations::Both, names, false).await.unwrap()
}

async fn follow(app: &App, patience: Duration) -> u32 {
    follow_ups::follow(&mut *app.db().await, patience).await.unwrap().photos
}

/// As if others had been awaited for long enough.
async fn follow_now(app: &App) -> u32 {
    follow(app, Duration::ZERO).await
}

const LONG: Duration = Duration::from_secs(3600);

fn undecided() -> Verdict {
    let rotation = Rotation {
        turn: Turn::None,
        confidence: 0.4,
        abstained: true,
        cue: None,
        unmirrored: false,
    };
    let findings = Findings::Rotation { content: None, rotation, upright: None };
    Verdict::Undecided { findings, detail: String::new() }
}

/// What is claimed, by operation.
async fn claim(hand: &Hand<'_>, operation: Operation) -> Vec<Reservation> {
    let claimed = hand.claim(50).await;
    assert!(claimed.iter().all(|one| one.operation() == operation), "{operation} comes first");
    claimed
}

#[tokio::test]
async fn no_photo_is_looked_at_before_its_rotation_has_ended() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    let plan = both(&app, event, &["a", "b"]).await;
    assert_eq!((plan.photos, plan.queued, plan.following, plan.runs.len()), (2, 4, 2, 1));
    let hand = app.a_worker().await;
    let mut rotations = claim(&hand, ROTATION).await;
    assert_eq!(rotations.len(), 2);

    assert_eq!(follow_now(&app).await, 0, "none has ended");
    assert!(hand.claim(9).await.is_empty());
    let first = rotations.remove(0);
    let photo = first.photo();
    hand.succeed(first).await;
    assert_eq!(follow_now(&app).await, 1);
    let processing = claim(&hand, PROCESSING).await;
    assert_eq!(processing.iter().map(Reservation::photo).collect::<Vec<_>>(), [photo]);

    hand.succeed_all(processing).await;
    hand.succeed_all(rotations).await;
    assert_eq!(follow_now(&app).await, 1);
    hand.succeed_all(claim(&hand, PROCESSING).await).await;
    assert_eq!(app.credits(organisation).await, (6, 0, 4));
    assert_eq!(follow_now(&app).await, 0);
}

#[tokio::test]
async fn however_a_rotation_ends_its_photo_is_processed() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    both(&app, event, &["ok", "unsure", "fail", "crash", "skip"]).await;
    let mut db = app.db().await;
    let skipped = photogate::catalog::events::photo(&mut db, event, "skip").await.unwrap().unwrap();
    assert_eq!(skips::skip(&mut db, event, ROTATION, &[skipped], "anna").await.unwrap().photos, 1);
    let hand = app.a_worker().await;
    for reservation in claim(&hand, ROTATION).await {
        let key = reservation.key().to_owned();
        match key.as_str() {
            "ok" => assert!(hand.succeed(reservation).await),
            "unsure" => assert!(hand.give_back(reservation, undecided()).await),
            "fail" => assert!(hand.fail(reservation).await),
            _ => {
                let crashed = Verdict::Crashed { detail: String::new() };
                assert!(hand.give_back(reservation, crashed).await);
            }
        }
    }
    assert_eq!(follow_now(&app).await, 4, "the one that crashed is tried again");
    for _ in 1..CRASHES_MAX {
        for reservation in hand.adopt(5).await {
            let crashed = Verdict::Crashed { detail: String::new() };
            assert!(hand.give_back(reservation, crashed).await);
        }
    }
    assert!(hand.adopt(5).await.is_empty(), "it is quarantined");
    assert_eq!(follow_now(&app).await, 1);

    let processing = claim(&hand, PROCESSING).await;
    assert_eq!(processing.len(), 5, "no photo is lost");
    hand.succeed_all(processing).await;
}

#[tokio::test]
async fn a_photo_that_waits_is_not_queued_by_another_call_and_one_that_was_turned_is_at_once() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    app.queue_keys(event, ROTATION, &keys(&["turned"])).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    app.queue_keys(event, ROTATION, &keys(&["queued"])).await;

    let dry = ask(&app, event, Operations::Both, &["turned", "queued", "new"], true).await.unwrap();
    let done = both(&app, event, &["turned", "queued", "new"]).await;
    assert_eq!(
        (done.queued, done.following, done.skipped.already_processed, done.skipped.already_queued),
        (4, 2, 1, 1)
    );
    let mut told = done.clone();
    // A dry run creates no run.
    told.runs.retain(|run| !done.new_runs.contains(run));
    (told.new_runs, told.undo, told.dry_run) = (Vec::new(), Vec::new(), true);
    assert_eq!(dry, told, "the plan says what is done");

    let dry = ask(&app, event, Operations::Both, &["turned", "queued", "new"], true).await.unwrap();
    let again = both(&app, event, &["turned", "queued", "new"]).await;
    assert_eq!((again.queued, again.following, again.skipped.already_queued), (0, 0, 5));
    assert_eq!(dry.skipped, again.skipped);
    let other = app.queue_keys(event, PROCESSING, &keys(&["new"])).await;
    assert_eq!((other.queued, other.skipped.already_queued), (0, 1), "its rotation comes first");
    assert_eq!(app.processing(event).await.following, 2);
}

#[tokio::test]
async fn ready_photos_wait_for_others_but_not_for_long() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    both(&app, event, &["a", "b"]).await;
    let hand = app.a_worker().await;
    let mut rotations = claim(&hand, ROTATION).await;
    hand.succeed(rotations.remove(0)).await;

    assert_eq!(follow(&app, LONG).await, 0, "another is awaited: they become one run");
    hand.succeed(rotations.remove(0)).await;
    assert_eq!(follow(&app, LONG).await, 2, "none is awaited any more");
    assert_eq!(app.count("SELECT count(*) FROM run WHERE queued = 2").await, 2);

    both(&app, event, &["c", "d"]).await;
    let mut rotations = claim_rotations(&hand).await;
    hand.succeed(rotations.remove(0)).await;
    assert_eq!(follow(&app, LONG).await, 0);
    app.owner_runs("UPDATE photogate.outcome SET settled_at = settled_at - interval '2 hours'")
        .await;
    assert_eq!(follow(&app, LONG).await, 1, "it has waited for long enough");
    hand.succeed_all(rotations).await;
}

async fn claim_rotations(hand: &Hand<'_>) -> Vec<Reservation> {
    let (rotations, others): (Vec<_>, Vec<_>) =
        hand.claim(50).await.into_iter().partition(|one| one.operation() == ROTATION);
    hand.succeed_all(others).await;
    rotations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_do_it_at_once_queue_each_photo_once() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(500).await;
    let names: Vec<String> = (0..120).map(|n| n.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    both(&app, event, &names).await;
    let hand = app.a_worker().await;

    let settle = async {
        for _ in 0..6 {
            hand.succeed_all(claim_rotations(&hand).await.into_iter().take(50)).await;
        }
    };
    let follows = (0..6).map(async |_| {
        for _ in 0..20 {
            follow_now(&app).await;
        }
    });
    futures::future::join(settle, futures::future::join_all(follows)).await;
    while follow_now(&app).await > 0 {}

    let photos = "SELECT count(*) FROM job JOIN queue q USING (queue_id) \
                  WHERE q.operation = 'photo_processing'";
    assert_eq!(app.count(photos).await, 120);
    assert_eq!(app.count("SELECT count(*) FROM follow_up").await, 0);
}

#[tokio::test]
async fn a_queue_that_somebody_has_locked_is_passed_over() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    both(&app, event, &["a"]).await;
    let hand = app.a_worker().await;
    hand.succeed_all(claim(&hand, ROTATION).await).await;
    let mut other = app.as_owner().await;
    sqlx::raw_sql("BEGIN; SELECT FROM photogate.queue_tail FOR NO KEY UPDATE")
        .execute(&mut other)
        .await
        .unwrap();

    assert_eq!(follow_now(&app).await, 0, "nobody waits");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(follow_now(&app).await, 1);
}

#[tokio::test]
async fn the_plan_and_the_limit_count_what_comes_later() {
    let mut app = App::new().await;
    app.config.unpaid_photos_max = 1;
    let (_, event) = app.an_event_with(2).await;

    let plan = both(&app, event, &["a"]).await;
    assert_eq!((plan.needed.0, plan.shortfall.0, plan.will_finish), (2, 0, 2));
    let plan = ask(&app, event, Operations::Both, &["b", "c"], true).await.unwrap();
    assert_eq!((plan.needed.0, plan.shortfall.0, plan.will_finish), (4, 4, 0));
    let commands = app.commands().with(photogate::commands::Quotas::from(&app.config));
    let keys = keys(&["b", "c"]);
    let asked = Enqueue {
        operation: Operations::Both,
        photos: Which::Keys(&keys),
        payloads: Payloads::default(),
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    let refused = commands.enqueue(&anna(), event, &asked).await;
    assert!(
        matches!(refused, Err(CommandError::Conflict { code: "limit_reached", .. })),
        "{refused:?}"
    );
    assert_eq!(app.count("SELECT count(*) FROM follow_up").await, 1, "nothing of it is kept");
}

#[tokio::test]
async fn people_see_what_it_waits_for_and_a_deleted_event_leaves_nothing() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    both(&app, event, &["a"]).await;
    let mut db = app.db().await;
    let photo = app.photo_of(event).await;
    let filter = photos::Filter {
        state: Some(photos::State::Pending),
        most: 9,
        ..photos::Filter::default()
    };
    let shown = photos::list(&mut db, event, filter).await.unwrap();
    assert_eq!(shown[0].processing, Some(photos::State::Pending));
    let why = why::photo(&mut db, photo).await.unwrap().unwrap();
    assert!(why.chain.iter().any(|cause| cause.code == "after_rotation"), "{why:?}");

    app.commands().delete_event(&anna(), event).await.unwrap();

    assert_eq!(app.count("SELECT count(*) FROM follow_up").await, 0);
    let late = follow_ups::enqueue_both(
        &mut db,
        event,
        &[],
        "anna",
        photogate::queue::enqueue::Priority::Normal,
    )
    .await;
    assert!(late.is_err(), "nobody would delete what is written now");
    let nothing = Followed { photos: 0, woke: false };
    assert_eq!(follow_ups::follow(&mut db, Duration::ZERO).await.unwrap(), nothing);
}

#[tokio::test]
async fn payloads_come_with_their_photos() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let keys = keys(&["a", "b"]);
    let asked = Enqueue {
        operation: Operations::Both,
        photos: Which::Keys(&keys),
        payloads: [("b".to_owned(), json!("of b"))].into(),
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    app.commands().enqueue(&anna(), event, &asked).await.unwrap();
    let hand = app.a_worker().await;
    hand.succeed_all(claim(&hand, ROTATION).await).await;
    follow_now(&app).await;

    let processing = claim(&hand, PROCESSING).await;
    let told: Vec<(&str, Option<String>)> =
        processing.iter().map(|one| (one.key(), one.payload().unwrap())).collect();
    assert_eq!(told, [("a", None), ("b", Some("of b".into()))]);
    hand.succeed_all(processing).await;
}

#[tokio::test]
async fn the_api_takes_both() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let runs = format!("/v1/events/{event}/runs");

    let (status, plan) =
        site.post(&runs, &token, json!({ "operation": "both", "keys": ["a.jpg"] })).await;

    assert_eq!((status.as_u16(), &plan["queued"], &plan["following"]), (202, &json!(2), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sideways_photo_is_turned_first_and_then_its_number_is_read_as_the_turn_says() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = app.an_event_with(9).await;
    both(&app, event, &["marathon/IMG_0004.jpg", "marathon/IMG_0007.jpg"]).await;

    let worker = start_worker(&app).await;
    app.until_done(event).await;
    worker.drain().await;

    let mut db = app.db().await;
    let filter = photos::Filter { most: 9, ..photos::Filter::default() };
    let shown = photos::list(&mut db, event, filter).await.unwrap();
    let numbers: Vec<_> = shown[0].bibs.0.iter().map(|bib| bib.number.as_str()).collect();
    assert_eq!((numbers, shown[0].turn), (vec!["2750"], Some(270)));
    assert!(store.join(shown[0].upright_key.as_ref().unwrap()).exists());
    assert_eq!(
        app.count("SELECT looked_turn::bigint FROM looked_at ORDER BY 1 DESC LIMIT 1").await,
        270
    );
    // The other one is undecided, and was looked at all the same.
    assert_eq!(shown[1].rotation, Some(photos::State::Undecided));
    assert_eq!(shown[1].processing, Some(photos::State::Processed));
    assert_eq!(app.credits(organisation).await, (6, 0, 3));
    let before = "SELECT count(*) FROM outcome p JOIN queue q USING (queue_id) \
                  JOIN outcome r ON r.photo_id = p.photo_id AND r.queue_id <> p.queue_id \
                  WHERE q.operation = 'photo_processing' AND p.started_at < r.settled_at";
    assert_eq!(app.count(before).await, 0, "none was begun before its rotation was settled");
}
