//! The credit is earned or given back, once.

use std::time::Duration;

use photogate::{
    catalog::findings::Findings,
    queue::claim::{self, GateError},
    worker::verdict::Verdict,
};
use photogate_jobs::Bib;

use crate::support::{App, code_of};

#[tokio::test]
async fn a_failed_photo_costs_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;

    assert!(hand.fail(claimed.remove(0)).await);
    assert!(hand.succeed(claimed.remove(0)).await);

    assert_eq!(app.credits(organisation).await, (1, 0, 1));
    assert_eq!(
        app.count("SELECT count(*) FROM outcome WHERE state = 'failed' AND reason = 'corrupt'")
            .await,
        1
    );
}

#[tokio::test]
async fn a_late_worker_is_refused_and_pays_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 1).await;
    let late = app.a_worker().await;
    let held = late.claim_one().await;
    app.let_the_lease_run_out(late.me.worker).await;
    let other = app.a_worker().await;

    let mut adopted = other.adopt_from_the_dead(4).await;
    assert_eq!(adopted.len(), 1);
    assert!(!late.succeed(held).await, "the photo has another owner");
    assert!(matches!(late.try_claim(1).await, Err(GateError::LeaseLost)));
    assert_eq!(app.credits(organisation).await, (2, 1, 0));

    assert!(other.fail(adopted.remove(0)).await);
    assert_eq!(app.credits(organisation).await, (3, 0, 0));
}

#[tokio::test]
async fn a_settle_under_a_lease_that_ran_out_changes_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 1).await;
    let late = app.a_worker().await;
    let held = late.claim_one().await;
    app.let_the_lease_run_out(late.me.worker).await;

    let refused = sqlx::query(
        "SELECT settle($1, ARRAY[$2], ARRAY[1], ARRAY['processed']::outcome_state[], ARRAY[NULL], \
         ARRAY[NULL])",
    )
    .bind(late.me.key())
    .bind(held.job().0)
    .execute(&app.pool)
    .await;

    let refused = refused.expect_err("the lease is over");
    assert_eq!(code_of(&refused).as_deref(), Some("PG001"), "{refused}");
    assert_eq!(app.credits(organisation).await, (2, 1, 0));

    // Nobody took the lease away, so the worker may say that it lives, and then it is its own to
    // settle.
    assert!(late.succeed(held).await);
    assert_eq!(app.credits(organisation).await, (2, 0, 1));
}

#[tokio::test]
async fn a_settle_that_arrives_twice_changes_nothing_the_second_time() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let claimed = hand.claim_one().await;
    let settle = async || {
        let settled: Vec<i64> = sqlx::query_scalar(
            "SELECT r_settled FROM settle($1, ARRAY[$2], ARRAY[1], \
             ARRAY['failed']::outcome_state[], ARRAY['corrupt'], ARRAY[NULL])",
        )
        .bind(hand.me.key())
        .bind(claimed.job().0)
        .fetch_one(&app.pool)
        .await
        .unwrap();
        settled.len()
    };

    assert_eq!(settle().await, 1);
    assert_eq!(settle().await, 0);

    assert_eq!(app.credits(organisation).await, (3, 0, 0));
}

#[tokio::test]
async fn a_job_that_is_given_back_keeps_its_reservation_and_gets_a_new_fence() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    assert!(hand.put_off(hand.claim_one().await, Duration::ZERO).await);
    assert_eq!(app.credits(organisation).await, (0, 1, 0));

    let mut adopted = hand.adopt(1).await;

    assert_eq!(adopted.iter().map(|reservation| reservation.retries()).collect::<Vec<_>>(), [1]);
    assert!(!adopted[0].is_suspect());
    assert!(hand.succeed(adopted.remove(0)).await);
    assert_eq!(app.credits(organisation).await, (0, 0, 1));
}

#[tokio::test]
async fn a_retry_waits_for_its_time() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    assert!(hand.put_off(hand.claim_one().await, Duration::from_secs(3600)).await);

    assert!(hand.adopt(4).await.is_empty());
    assert!(hand.claim(4).await.is_empty(), "a retry does not come back through the queue");
}

#[tokio::test]
async fn three_crashes_of_a_photo_end_in_quarantine_and_refund() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(1).await;
    for crash in 1..=3 {
        assert_eq!(held.len(), 1, "crash {crash}");
        hand.give_back(held.remove(0), Verdict::Crashed { detail: "as the test wants it".into() })
            .await;
        held = hand.adopt(1).await;
    }

    assert!(held.is_empty());
    assert_eq!(app.credits(organisation).await, (1, 0, 0));
    assert_eq!(
        app.count(
            "SELECT count(*) FROM outcome WHERE state = 'quarantined' AND reason = 'crashed'"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn what_the_gate_gave_and_the_worker_never_heard_of_is_handed_back() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(4).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    let known = hand.claim_one().await;
    let _lost_on_its_way = hand.claim(3).await;

    let known = [known.job().0];
    let photos = claim::hand_back_unknown(&mut *app.db().await, hand.me, &known).await.unwrap();

    assert_eq!(photos, 3);
    let adopted = hand.adopt(8).await;
    assert_eq!(adopted.len(), 3);
    assert!(adopted.iter().all(|reservation| !reservation.is_suspect()), "nobody crashed");
}

#[tokio::test]
async fn a_verdict_that_the_database_refuses_is_refunded_and_the_others_are_settled() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    let bib = |number: &str| Bib {
        number: number.into(),
        score: 0.9,
        settled_by: photogate_jobs::SettledBy::Reading,
        was: None,
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
    };
    let found = |number| Findings::Processing {
        content: None,
        width: 10,
        height: 10,
        turn: photogate_jobs::Turn::None,
        faces: Vec::new(),
        bibs: vec![bib(number)],
        lines: Vec::new(),
    };

    let settles = hand.claim(5).await.into_iter().enumerate().map(|(at, reservation)| {
        let number = if at == 2 { "not a number" } else { "12" };
        hand.give_back(reservation, Verdict::Processed(found(number)))
    });
    let settled = futures::future::join_all(settles).await;

    assert!(settled.into_iter().all(|ours| ours));
    assert_eq!(app.credits(organisation).await, (1, 0, 4));
    assert_eq!(
        app.count(
            "SELECT count(*) FROM outcome WHERE state = 'failed' AND reason = 'verdict_refused'"
        )
        .await,
        1
    );
    assert_eq!(app.count("SELECT count(*) FROM bib").await, 4, "no findings of what was refunded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_quotes_the_file_keeps_nobody_from_being_settled() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    let detail = format!("bad marker \0\u{1b}[31m{}", "x".repeat(10_000));

    assert!(hand.give_back(photo, Verdict::Failed { reason: "corrupt", detail }).await);

    assert_eq!(app.credits(organisation).await, (10, 0, 0));
    assert_eq!(
        app.count("SELECT count(*) FROM outcome WHERE detail LIKE 'bad marker   [31mxxx%'").await,
        1
    );
}
