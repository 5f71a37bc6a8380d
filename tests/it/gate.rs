//! The claim is the reservation.

use std::{collections::HashMap, sync::Arc};

use photogate::{
    ids::{Operation, OrganisationId},
    queue::{claim, enqueue},
};
use sqlx::Connection;

use crate::support::{App, code_of};

#[tokio::test(flavor = "multi_thread")]
async fn the_last_credit_pays_for_one_photo_and_no_more() {
    let app = Arc::new(App::new().await);
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 50).await;

    let claims = (0..16).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { app.a_worker().await.claim(8).await.len() })
    });
    let claimed: usize = futures::future::join_all(claims)
        .await
        .into_iter()
        .map(|claimed| claimed.expect("no panic"))
        .sum();

    assert_eq!(claimed, 1);
    assert_eq!(app.credits(organisation).await, (0, 1, 0));
}

/// An account is written by its place in the table. If that were ever wrong, nothing may be booked.
#[tokio::test]
async fn a_claim_or_settlement_that_does_not_reach_the_account_books_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let held = hand.claim(1).await;
    let books = "SELECT count(*) FROM ledger";
    let before = app.count(books).await;
    app.owner_runs(
        "CREATE FUNCTION photogate.lose() RETURNS trigger LANGUAGE plpgsql
         AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER lose BEFORE UPDATE ON photogate.account
         FOR EACH ROW EXECUTE FUNCTION photogate.lose()",
    )
    .await;

    let claimed = hand.try_claim(2).await;
    let settle = "SELECT settle($1, ARRAY[$2], '{1}', '{processed}', '{NULL}', '{NULL}')";
    let settled = sqlx::query(settle).bind(hand.me.key()).bind(held[0].job().0);
    let settled = settled.execute(&mut *app.db().await).await.unwrap_err();

    let Err(claim::GateError::Database(claimed)) = claimed else { panic!("{claimed:?}") };
    for error in [&claimed, &settled] {
        assert_eq!(code_of(error).as_deref(), Some("P0004"), "{error}");
    }
    assert_eq!(app.count(books).await, before);
    app.owner_runs("DROP TRIGGER lose ON photogate.account").await;
    hand.succeed_all(held).await;
    hand.succeed_all(hand.claim(9).await).await;
    assert_eq!(app.credits(organisation).await, (6, 0, 3));
}

#[tokio::test]
async fn claim_and_reservation_are_one() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;

    // A worker that dies before its claim is committed has claimed nothing and reserved nothing.
    let mut db = app.db().await;
    let mut tx = db.begin().await.unwrap();
    let seen = claim::claim(&mut tx, hand.me, 3, OrganisationId(0), false).await.unwrap();
    assert_eq!(seen.len(), 3);
    tx.rollback().await.unwrap();
    assert_eq!(app.credits(organisation).await, (5, 0, 0));
    assert_eq!(app.count("SELECT count(*) FROM in_flight").await, 0);

    let claimed = hand.claim(3).await;

    assert_eq!(claimed.len(), 3);
    assert_eq!(app.credits(organisation).await, (2, 3, 0));
    assert_eq!(app.count("SELECT count(*) FROM in_flight").await, 3);
    assert_eq!(app.count("SELECT count(*) FROM ledger WHERE movement = 'reserve'").await, 3);
}

/// Another transaction may hold the queue's lock. A claim that meets it comes back empty, and the
/// worker must not take that for "nothing waits".
#[tokio::test]
async fn a_claim_that_finds_everything_locked_is_told_from_one_that_finds_nothing() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(2).await;
    let hand = app.a_worker().await;
    let mut db = app.db().await;
    assert!(
        !claim::after_empty(&mut db, 9, OrganisationId(0)).await.unwrap().claimable,
        "nothing is queued"
    );
    app.queue(event, "ok", 3).await;

    let mut other = app.another_holds_the_queue_of(event).await;
    assert!(hand.claim(3).await.is_empty());
    assert!(
        claim::after_empty(&mut db, 9, OrganisationId(0)).await.unwrap().claimable,
        "it is only locked"
    );

    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let claimed = hand.claim(3).await;
    assert_eq!(claimed.len(), 2);
    assert!(
        !claim::after_empty(&mut db, 9, OrganisationId(0)).await.unwrap().claimable,
        "the queue is paused for want of credit"
    );
    hand.succeed_all(claimed).await;
}

/// The worker polls once in ten minutes, and nobody wakes it: only asking again at once finds the
/// photo.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_locked_out_asks_again_at_once() {
    let mut app = App::new().await.without_redis();
    app.config.poll_milliseconds = 600_000;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let mut other = app.another_holds_the_queue_of(event).await;

    let worker = app.start_worker();
    app.until("the worker has claimed, and found the queue locked", async || {
        // A worker asks this only after a claim that came back empty.
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND pid <> pg_backend_pid() AND query LIKE '%AS \"claimable%'";
        app.count(asked).await > 0
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();

    app.until_done(event).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_claim_is_shared_fairly_and_never_larger_than_asked() {
    let app = App::new().await;
    let mut organisations = Vec::new();
    for _ in 0..5 {
        let (organisation, event) = app.an_event_with(100).await;
        app.queue(event, "ok", 40).await;
        organisations.push(organisation);
    }
    let hand = app.a_worker().await;

    let claimed = hand.claim(12).await;

    let mut shares: HashMap<_, usize> = HashMap::new();
    for reservation in &claimed {
        *shares.entry(reservation.organisation()).or_default() += 1;
    }
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_unstable();
    assert_eq!(shares, [2, 2, 2, 3, 3]);
    assert_eq!(hand.claim(3).await.len(), 3);
}

#[tokio::test]
async fn an_organisation_with_a_large_backlog_does_not_keep_a_small_one_waiting() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1000).await;
    app.queue(event, "ok", 900).await;
    let (small, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 2).await;

    let claimed = app.a_worker().await.claim(4).await;

    assert_eq!(claimed.iter().filter(|reservation| reservation.organisation() == small).count(), 2);
}

#[tokio::test]
async fn the_events_of_an_organisation_take_turns() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1000).await;
    let mut events = Vec::new();
    for _ in 0..6 {
        let event = app.an_event_of(organisation).await;
        app.queue(event, "ok", 50).await;
        events.push(event);
    }
    let hand = app.a_worker().await;

    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.extend(hand.claim(1).await.iter().map(|reservation| reservation.event()));
    }

    seen.sort_unstable();
    assert_eq!(seen, events);
}

#[tokio::test]
async fn every_photo_is_claimed_once_by_many_workers_at_once() {
    let app = Arc::new(App::new().await);
    let organisation = app.an_organisation_with(2000).await;
    for _ in 0..4 {
        let event = app.an_event_of(organisation).await;
        app.queue(event, "ok", 250).await;
    }

    let workers = (0..8).map(|_| {
        let app = app.clone();
        tokio::spawn(async move {
            let hand = app.a_worker().await;
            let mut jobs = Vec::new();
            // An empty claim may only mean that everything was locked by the others: ask again.
            while app
                .count(
                    "SELECT sum(tail - head)::bigint FROM queue_head JOIN queue_tail USING (queue_id)",
                )
                .await
                > 0
            {
                for reservation in hand.claim(16).await {
                    jobs.push(reservation.job());
                    assert!(hand.succeed(reservation).await);
                }
            }
            jobs
        })
    });
    let mut jobs: Vec<_> = futures::future::join_all(workers)
        .await
        .into_iter()
        .flat_map(|jobs| jobs.expect("no panic"))
        .collect();

    assert_eq!(jobs.len(), 1000);
    jobs.sort_unstable();
    jobs.dedup();
    assert_eq!(jobs.len(), 1000);
    assert_eq!(app.credits(organisation).await, (1000, 0, 1000));
}

/// A claim that met an enqueue moved the offset over photos that its snapshot did not have yet.
#[tokio::test(flavor = "multi_thread")]
async fn photos_that_are_queued_while_their_queue_is_claimed_are_not_skipped() {
    const UPLOADS: usize = 6;
    const PHOTOS: usize = 400;
    let app = Arc::new(App::new().await);
    let (_, event) = app.an_event_with(5000).await;
    let uploads = (0..UPLOADS).map(|upload| {
        let app = app.clone();
        tokio::spawn(async move {
            let mut db = app.db().await;
            for photo in 0..PHOTOS {
                let key = enqueue::jobs(&[format!("rehearsal/ok/{upload}/{photo}")]).unwrap();
                enqueue::enqueue(&mut db, event, Operation::PhotoProcessing, &key, "pipeline")
                    .await
                    .unwrap();
            }
        })
    });
    let mut uploads = Box::pin(futures::future::join_all(uploads));
    let hand = app.a_worker().await;
    let mut db = app.db().await;

    let mut claimed = 0;
    let mut uploaded = false;
    loop {
        let batch = claim::claim(&mut db, hand.me, 64, OrganisationId(0), false).await.unwrap();
        claimed += batch.len();
        if uploaded && batch.is_empty() {
            break;
        }
        uploaded = uploaded || futures::poll!(&mut uploads).is_ready();
    }

    assert_eq!(claimed, UPLOADS * PHOTOS);
}
