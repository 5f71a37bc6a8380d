//! When credits run out everything pauses, and goes on by itself.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use photogate::{
    ids::{HoldId, Operation, OrganisationId},
    queue::{claim, holds, status::State},
};

use crate::support::App;

#[tokio::test]
async fn zero_pauses_all_events_of_the_organisation_in_the_transaction_that_spends_the_last_credit()
{
    let app = App::new().await;
    let organisation = app.an_organisation_with(3).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        let event = app.an_event_of(organisation).await;
        app.queue(event, "ok", 10).await;
        events.push(event);
    }
    let other = app.an_organisation_with(10).await;
    let unconcerned = app.an_event_of(other).await;
    app.queue(unconcerned, "ok", 10).await;
    let hand = app.a_worker().await;

    while app.balance(organisation).await.available.0 > 0 {
        hand.claim(2).await;
    }

    for event in events {
        assert!(app.is_out_of_credit(event).await);
    }
    assert!(!app.processing(unconcerned).await.is_stopped());
    let paused_with = app
        .count("SELECT count(DISTINCT xmin::text) FROM queue WHERE paused_since IS NOT NULL")
        .await;
    let spent_with = app
        .count(
            "SELECT count(*) FROM account a JOIN queue q USING (organisation_id) \
             WHERE q.paused_since IS NOT NULL AND a.xmin = q.xmin",
        )
        .await;
    assert_eq!(
        (paused_with, spent_with),
        (1, 3),
        "one transaction spent the last credit and paused all three"
    );
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    assert_eq!(hand.claim(4).await.len(), 1);

    assert!(hand.claim(4).await.is_empty());
    app.queue(event, "more", 5).await;
    assert!(hand.claim(4).await.is_empty(), "an enqueue does not lift the pause");

    assert_eq!(app.processing(event).await.waiting, 9);
}

#[tokio::test]
async fn a_top_up_resumes_by_itself_and_redis_makes_it_prompt() {
    let mut app = App::new().await;
    // Nobody polls within the patience of this test: it is the bell that wakes the worker.
    app.config.poll_milliseconds = 600_000;
    goes_on_after_a_top_up(app).await;
}

#[tokio::test]
async fn a_top_up_resumes_by_itself_without_redis() {
    let app = App::new().await.without_redis();
    goes_on_after_a_top_up(app).await;
}

async fn goes_on_after_a_top_up(app: App) {
    let (organisation, event) = app.an_event_with(4).await;
    app.queue(event, "ok", 10).await;
    let worker = app.start_worker();
    app.until("the credits are used up", async || app.credits(organisation).await == (0, 0, 4))
        .await;
    assert!(app.is_out_of_credit(event).await);

    let credited = app.top_up(organisation, 20).await;

    assert!(credited.resumed);
    app.until_done(event).await;
    assert_eq!(app.credits(organisation).await, (14, 0, 10));
    worker.drain().await;
}

#[tokio::test]
async fn a_refund_resumes_too() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let last = hand.claim_one().await;
    assert!(app.is_out_of_credit(event).await);

    assert!(hand.fail(last).await);

    assert_eq!(hand.claim(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_racing_the_claim_that_drains_strands_nothing() {
    let app = Arc::new(App::new().await);
    for _ in 0..150 {
        let (organisation, event) = app.an_event_with(1).await;
        app.queue(event, "ok", 2).await;
        let hand = app.a_worker().await;

        let (first, _) = tokio::join!(hand.claim(1), app.top_up(organisation, 5));

        let second = hand.claim(2).await;
        assert_eq!(first.len() + second.len(), 2, "paid work is stranded");
        hand.succeed_all(first.into_iter().chain(second)).await;
    }
}

/// The race as it was found: the top-up reads the queue before it waits for the account, the claim
/// pauses it meanwhile. Each order of the two, driven by hand.
#[tokio::test]
async fn neither_order_of_top_up_and_draining_claim_strands_a_paid_queue() {
    for claim_first in [true, false] {
        let app = Arc::new(App::new().await);
        let (organisation, event) = app.an_event_with(1).await;
        app.queue(event, "ok", 2).await;
        let hand = app.a_worker().await;

        // The first holds the account's lock, the second waits for it; then the first commits.
        let mut first = app.pool.begin().await.unwrap();
        if claim_first {
            let claimed = claim::claim(&mut first, hand.me, 1, OrganisationId(0), false);
            let claimed = claimed.await.unwrap();
            assert_eq!(claimed.len(), 1);
            let second = tokio::spawn({
                let app = app.clone();
                async move { app.top_up(organisation, 5).await }
            });
            app.until_somebody_waits_for_a_lock().await;
            first.commit().await.unwrap();
            assert!(second.await.unwrap().resumed);
        } else {
            sqlx::query("SELECT * FROM top_up($1, 'purchase', 5, 'anna', '', 'race')")
                .bind(organisation.0)
                .execute(&mut *first)
                .await
                .unwrap();
            let (claimed, ()) = tokio::join!(hand.claim(1), async {
                app.until_somebody_waits_for_a_lock().await;
                first.commit().await.unwrap();
            });
            assert_eq!(claimed.len(), 1);
        }

        assert_eq!(
            hand.claim(2).await.len(),
            1,
            "available credit, waiting photo, and nothing is claimed"
        );
    }
}

#[tokio::test]
async fn a_queue_held_by_a_person_stays_held_after_a_top_up() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    assert_eq!(hand.claim(1).await.len(), 1);
    app.hold(event, "ops@example.org").await;

    app.top_up(organisation, 10).await;

    assert!(hand.claim(4).await.is_empty());
    let queue = app.processing(event).await;
    assert_eq!((queue.state, queue.owner.as_deref()), (State::Held, Some("ops@example.org")));
}

#[tokio::test]
async fn lifting_one_hold_never_lifts_another() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let (anna, ben) = (app.hold(event, "anna").await, app.hold(event, "ben").await);
    let hand = app.a_worker().await;
    let lift = async |hold: HoldId| holds::lift(&mut *app.db().await, hold, "anna").await.unwrap();

    let first = lift(anna).await;
    assert!(first.lifted && !first.woke);
    assert!(hand.claim(1).await.is_empty());
    assert!(!lift(anna).await.lifted, "it was lifted before");

    assert!(lift(ben).await.woke);
    assert_eq!(hand.claim(1).await.len(), 1);
}

#[tokio::test]
async fn a_hold_ends_by_itself_when_its_time_is_over() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let until = Utc::now() + TimeDelta::hours(1);
    holds::hold(&mut *app.db().await, event, Operation::PhotoProcessing, "ops", "", Some(until))
        .await
        .unwrap();
    app.queue(event, "ok", 3).await;
    assert!(app.a_worker().await.claim(1).await.is_empty(), "it holds");
    let worker = app.start_worker();

    app.owner_runs("UPDATE hold SET until = now()").await;

    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (2, 0, 3));
    worker.drain().await;
}
