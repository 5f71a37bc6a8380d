//! Sending twice is safe.

use photogate::{
    ids::{EventId, Operation},
    ledger::credits::Credits,
    queue::{
        enqueue::{self, EnqueueError, Skipped},
        failures::{self, Filter},
    },
};

use crate::support::App;

#[tokio::test]
async fn a_second_enqueue_costs_nothing_and_says_so() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;
    hand.succeed(claimed.remove(0)).await;
    hand.fail(claimed.remove(0)).await;

    let again = app.queue(event, "ok", 3).await;

    assert_eq!(again.queued, 0);
    assert_eq!(
        again.skipped,
        Skipped {
            repeated: 0,
            already_queued: 1,
            already_processed: 1,
            undecided_before: 0,
            failed_before: 1,
            skipped_before: 0
        }
    );
    assert_eq!(app.credits(organisation).await, (9, 0, 1));
}

#[tokio::test]
async fn ten_thousand_photos_go_in_one_call_and_the_shortfall_is_told() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(400).await;

    let run = app.queue(event, "ok", 10_000).await;

    assert_eq!((run.queued, run.available, run.shortfall), (10_000, Credits(400), Credits(9_600)));
    assert_eq!(app.processing(event).await.waiting, 10_000);
}

#[tokio::test]
async fn a_key_twice_in_one_call_is_one_photo() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;

    let keys = ["a.jpg", "b.jpg", "a.jpg"].map(String::from);
    let run = app.queue_keys(event, Operation::PhotoProcessing, &keys).await;

    assert_eq!((run.queued, run.skipped.repeated), (2, 1));
}

#[tokio::test]
async fn the_two_operations_of_a_photo_are_paid_for_apart() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    let keys = ["rehearsal/ok/a".to_owned()];
    for operation in Operation::ALL {
        assert_eq!(app.queue_keys(event, operation, &keys).await.queued, 1);
    }
    let hand = app.a_worker().await;

    hand.succeed_all(hand.claim(8).await).await;

    assert_eq!(app.credits(organisation).await, (8, 0, 2));
    assert_eq!(app.count("SELECT count(*) FROM photo").await, 1);
}

#[tokio::test]
async fn a_bad_call_is_refused_whole() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    let mut db = app.db().await;

    let bad = ["fine.jpg", "../../etc/passwd"].map(String::from);
    let refused = enqueue::jobs(&bad);
    assert!(matches!(refused, Err(EnqueueError::Key { number: 2, .. })), "{refused:?}");
    let many = enqueue::jobs(&vec!["x".to_owned(); enqueue::PHOTOS_MAX + 1]).unwrap();
    assert!(matches!(
        enqueue::enqueue(&mut db, event, Operation::AiRotation, &many, "x").await,
        Err(EnqueueError::TooMany(_))
    ));
    let nowhere = EventId(987_654);
    assert!(matches!(
        enqueue::enqueue(&mut db, nowhere, Operation::AiRotation, &many[..1], "x").await,
        Err(EnqueueError::NoEvent(_))
    ));

    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM photo").await, 0);
}

#[tokio::test]
async fn a_retry_asked_for_by_a_person_reserves_anew() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(1).await).await;
    let mut db = app.db().await;
    let failed = failures::list(&mut db, event, Filter::default(), 10).await.unwrap();
    assert_eq!(
        failed.iter().map(|failure| failure.reason.as_str()).collect::<Vec<_>>(),
        ["corrupt"]
    );
    let photos: Vec<_> = failed.iter().map(|failure| failure.photo).collect();

    let retried = app.retry(event, &photos).await;
    let again = app.retry(event, &photos).await;

    assert_eq!((retried.queued, again.queued, again.skipped), (1, 0, 1));
    assert!(failures::list(&mut db, event, Filter::default(), 10).await.unwrap().is_empty());
    hand.succeed_all(hand.claim(4).await).await;
    assert_eq!(app.credits(organisation).await, (1, 0, 1));
    let third = app.retry(event, &photos).await;
    assert_eq!(third.queued, 0, "what was processed is never charged again");
}
