//! Who waits for whom: an organisation that keeps its own queues locked holds up nobody else, and
//! what it missed meanwhile is made up for.

use photogate::{
    access::Caller,
    commands::NewHold,
    ids::{EventId, Operation, OrganisationId},
    queue::{
        claim::{self, Reservation},
        enqueue, holds, skips,
    },
};
use sqlx::PgConnection;

use crate::support::{App, Hand, code_of};

/// Begins a transaction that enqueues one more photo, and leaves it open.
async fn an_open_enqueue(app: &App, event: EventId, key: &str) -> PgConnection {
    let mut db = app.as_owner().await;
    sqlx::raw_sql("SET search_path = photogate; BEGIN").execute(&mut db).await.unwrap();
    let jobs = enqueue::jobs(&[key.to_owned()]).unwrap();
    let operation = Operation::PhotoProcessing;
    enqueue::enqueue(&mut db, event, operation, &jobs, "anna").await.unwrap();
    db
}

async fn end(mut transaction: PgConnection, how: &'static str) {
    sqlx::raw_sql(how).execute(&mut transaction).await.unwrap();
}

/// Settles a failed photo, and gives up as soon as it has to wait for a lock.
async fn refund_without_waiting(app: &App, hand: &Hand<'_>, photos: &[Reservation]) {
    let mut db = app.db().await;
    sqlx::raw_sql("SET lock_timeout = '500 ms'").execute(&mut *db).await.unwrap();
    let jobs: Vec<_> = photos.iter().map(|photo| photo.job().0).collect();
    sqlx::query(
        "SELECT settle($1, $2, array_fill(1, ARRAY[$3]),
                       array_fill('failed'::outcome_state, ARRAY[$3]),
                       array_fill('corrupt'::text, ARRAY[$3]), array_fill(''::text, ARRAY[$3]))",
    )
    .bind(hand.me.key())
    .bind(&jobs)
    .bind(i32::try_from(jobs.len()).unwrap())
    .execute(&mut *db)
    .await
    .expect("it waits for nobody");
    sqlx::raw_sql("RESET lock_timeout").execute(&mut *db).await.unwrap();
}

#[tokio::test]
async fn an_open_enqueue_does_not_keep_claims_from_what_waits_already() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;

    let open = an_open_enqueue(&app, event, "late").await;
    let first = hand.claim(9).await;
    assert_eq!(first.len(), 5);
    assert!(hand.claim(9).await.is_empty());
    assert!(
        claim::after_empty(&mut *app.db().await, 9, OrganisationId(0)).await.unwrap().claimable,
        "the worker asks again soon: the enqueue will not wake it"
    );
    end(open, "COMMIT").await;
    let second = hand.claim(9).await;

    assert_eq!(second.len(), 1);
    assert!(hand.claim(9).await.is_empty());
    assert_eq!(app.count("SELECT count(*) FROM queue WHERE NOT drained").await, 0);
    hand.succeed_all(first.into_iter().chain(second)).await;
}

#[tokio::test]
async fn an_enqueue_that_is_rolled_back_leaves_the_queue_drained_by_the_next_claim() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;

    let open = an_open_enqueue(&app, event, "late").await;
    let claimed = hand.claim(9).await;
    assert!(hand.claim(9).await.is_empty());
    end(open, "ROLLBACK").await;
    assert_eq!(app.count("SELECT count(*) FROM queue WHERE NOT drained").await, 1);
    assert!(hand.claim(9).await.is_empty());

    assert_eq!(app.count("SELECT count(*) FROM queue WHERE NOT drained").await, 0);
    assert!(
        !claim::after_empty(&mut *app.db().await, 9, OrganisationId(0)).await.unwrap().claimable
    );
    hand.succeed_all(claimed).await;
}

/// Found: an open enqueue of one organisation delayed the settlement of another for as long as it
/// stayed open.
#[tokio::test]
async fn a_refund_waits_for_no_queue_and_a_later_claim_resumes_it() {
    let app = App::new().await;
    let (slow, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let (other, elsewhere) = app.an_event_with(1).await;
    app.queue(elsewhere, "ok", 2).await;
    let hand = app.a_worker().await;
    let claimed = hand.claim(9).await;
    assert_eq!(claimed.len(), 2, "both organisations have spent their credit");

    // It locks the queue, if that is drained.
    app.owner_runs("UPDATE photogate.queue SET drained = true WHERE queue_id = 1").await;
    let open = an_open_enqueue(&app, event, "late").await;
    refund_without_waiting(&app, &hand, &claimed).await;

    assert_eq!(app.credits(slow).await, (1, 0, 0));
    let again = hand.claim(9).await;
    assert_eq!(again.len(), 1, "the other organisation goes on");
    assert_eq!(again[0].organisation(), other);
    end(open, "COMMIT").await;
    let late = hand.claim(9).await;
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].key(), "late");
    hand.succeed_all(again.into_iter().chain(late)).await;
}

#[tokio::test]
async fn a_paused_queue_that_is_locked_while_credit_comes_is_resumed_by_a_later_claim() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let claimed = hand.claim(9).await;
    assert!(app.is_out_of_credit(event).await);

    let other = app.another_holds_the_queue_of(event).await;
    let credited = app.top_up(organisation, 5).await;
    assert!(credited.resumed, "the workers are woken: they try again until it is free");
    assert!(hand.claim(9).await.is_empty());
    assert!(
        claim::after_empty(&mut *app.db().await, 9, OrganisationId(0)).await.unwrap().claimable
    );
    end(other, "ROLLBACK").await;
    let rest = hand.claim(9).await;

    assert_eq!(rest.len(), 2);
    assert_eq!(app.count("SELECT count(*) FROM account WHERE resume_due").await, 0);
    hand.succeed_all(claimed.into_iter().chain(rest)).await;
}

#[tokio::test]
async fn a_claim_that_spends_the_last_credit_pauses_what_is_free_and_waits_for_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    let locked = app.an_event_of(organisation).await;
    app.queue(event, "ok", 2).await;
    app.queue(locked, "ok", 2).await;
    let hand = app.a_worker().await;

    let other = app.another_holds_the_queue_of(locked).await;
    let claimed = hand.claim(1).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(app.count("SELECT count(*) FROM queue WHERE paused_since IS NOT NULL").await, 1);
    end(other, "ROLLBACK").await;
    assert!(hand.claim(1).await.is_empty());

    assert_eq!(app.count("SELECT count(*) FROM queue WHERE paused_since IS NOT NULL").await, 2);
    assert!(
        !claim::after_empty(&mut *app.db().await, 9, OrganisationId(0)).await.unwrap().claimable
    );
    hand.succeed_all(claimed).await;
}

/// Found: two who lock both queues of an event, and a claim that drains them, could wait for each
/// other. A claim has one queue when it meets the other, so it must not wait.
#[tokio::test]
async fn a_claim_with_one_queue_of_an_event_does_not_wait_for_the_other() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    for operation in Operation::ALL {
        app.queue_keys(event, operation, &["a".into(), "b".into()]).await;
    }
    let hand = app.a_worker().await;
    let mut other = app.as_owner().await;
    let lock =
        "BEGIN; SELECT FROM photogate.queue WHERE operation = 'ai_rotation' FOR NO KEY UPDATE";
    sqlx::raw_sql(lock).execute(&mut other).await.unwrap();

    let mut db = app.db().await;
    sqlx::raw_sql("SET lock_timeout = '500 ms'").execute(&mut *db).await.unwrap();
    let claimed = claim::claim(&mut db, hand.me, 1, OrganisationId(0), false).await.unwrap();

    assert_eq!(claimed.len(), 1);
    sqlx::raw_sql("RESET lock_timeout").execute(&mut *db).await.unwrap();
    end(other, "ROLLBACK").await;
    hand.succeed_all(claimed).await;
}

#[tokio::test]
async fn nothing_is_queued_for_an_event_while_it_is_deleted() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let mut deleting = app.as_owner().await;
    sqlx::raw_sql("SET search_path = photogate; BEGIN").execute(&mut deleting).await.unwrap();
    sqlx::query("SELECT delete_event($1, 'anna')")
        .bind(event.0)
        .execute(&mut deleting)
        .await
        .unwrap();

    let jobs = enqueue::jobs(&["late".into()]).unwrap();
    let mut db = app.db().await;
    let operation = Operation::PhotoProcessing;
    let (queued, ()) =
        tokio::join!(enqueue::enqueue(&mut db, event, operation, &jobs, "anna"), async {
            app.until_somebody_waits_for_a_lock().await;
            end(deleting, "COMMIT").await;
        });

    assert!(matches!(queued, Err(enqueue::EnqueueError::NoEvent(_))), "{queued:?}");
    assert_eq!(app.count("SELECT count(*) FROM job").await, 1);
}

#[tokio::test]
async fn people_who_skip_and_restore_wait_for_an_open_enqueue_and_see_it() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 1).await;
    let photos = [app.photo_of(event).await];
    let operation = Operation::PhotoProcessing;

    let open = an_open_enqueue(&app, event, "late").await;
    let mut db = app.db().await;
    let (skipped, ()) =
        tokio::join!(skips::skip(&mut db, event, operation, &photos, "anna"), async {
            app.until_somebody_waits_for_a_lock().await;
            end(open, "COMMIT").await;
        });
    assert_eq!(skipped.unwrap().photos, 1);
    assert_eq!(app.count("SELECT count(*) FROM queue WHERE NOT drained").await, 1);

    let hand = app.a_worker().await;
    let claimed = hand.claim(9).await;
    assert_eq!(claimed.len(), 1);
    let restored = skips::restore(&mut db, event, operation, &photos, "anna").await.unwrap();
    assert_eq!(restored.photos, 1);
    let again = hand.claim(9).await;
    assert_eq!(again.len(), 1);
    hand.succeed_all(claimed.into_iter().chain(again)).await;
}

#[tokio::test]
async fn a_hold_that_is_open_in_two_orders_cannot_deadlock() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    let hold = async |first: Operation, second: Operation| {
        let mut db = app.as_owner().await;
        sqlx::raw_sql("SET search_path = photogate; BEGIN").execute(&mut db).await.unwrap();
        for operation in [first, second] {
            holds::hold(&mut db, event, operation, "ops", "", None).await?;
        }
        end(db, "COMMIT").await;
        sqlx::Result::Ok(())
    };
    let [one, other] = Operation::ALL;

    let both = tokio::join!(hold(one, other), hold(one, other));

    for done in [both.0, both.1] {
        assert!(done.is_ok(), "{:?}", done.map_err(|error| code_of(&error)));
    }
    assert_eq!(app.count("SELECT count(*) FROM hold").await, 4);
}

/// PostgreSQL ends the transaction of the one who waits for longer. Nothing of it is left, so the
/// command runs again.
#[tokio::test]
async fn a_person_does_not_see_a_deadlock() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    let lock = |operation: &str| {
        let lock = "SELECT FROM photogate.queue WHERE operation = ";
        sqlx::AssertSqlSafe(format!("{lock}'{operation}' FOR NO KEY UPDATE"))
    };
    let mut other = app.as_owner().await;
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql(lock("ai_rotation")).execute(&mut other).await.unwrap();

    let (caller, commands) = (Caller::trusted("ops"), app.commands());
    let both = NewHold { operation: None, note: String::new(), until: None };
    let (held, ()) = tokio::join!(commands.hold(&caller, event, &both), async {
        app.until_somebody_waits_for_a_lock().await;
        sqlx::raw_sql(lock("photo_processing")).execute(&mut other).await.unwrap();
        end(other, "COMMIT").await;
    });

    assert_eq!(held.unwrap().holds.len(), 2);
    assert_eq!(app.count("SELECT count(*) FROM hold").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM audit_log WHERE action = 'queue.hold'").await, 1);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    app.until("PostgreSQL has counted it", async || app.count(deadlocks).await == 1).await;
}
