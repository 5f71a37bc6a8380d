//! A clock that jumps forward does not poison the books.

use photogate::{
    access::Caller,
    ids::OrganisationId,
    ledger::reconcile::{self, Scope},
    queue::claim,
};

use crate::support::{App, code_of};

const REFUSED: Option<&str> = Some("PG008");

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_books_nothing_and_when_it_is_right_all_goes_on() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    let books = "SELECT count(*) FROM ledger";
    let before = app.count(books).await;

    app.let_the_clock_jump("2031-01-01").await;
    let claimed = claim::claim(&mut *app.db().await, hand.me, 9, OrganisationId(0), false).await;
    let Err(claim::GateError::Database(error)) = claimed else { panic!("{claimed:?}") };
    assert_eq!(code_of(&error).as_deref(), REFUSED);
    assert!(error.to_string().contains("photogate clock confirm"), "{error}");
    let top_up = app.top_up_with(organisation, 5, "k").await;
    assert!(top_up.unwrap_err().to_string().contains("clock"));
    let mut db = app.db().await;
    let made = photogate::catalog::organisations::create(&mut db, "Club", "UTC").await;
    assert_eq!(code_of(&made.unwrap_err()).as_deref(), REFUSED);
    assert_eq!(app.count("SELECT is_clock_plausible()::int::bigint").await, 0);
    assert_eq!(app.count(books).await, before);

    // Right again.
    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS 'SELECT clock_timestamp()'",
    )
    .await;
    assert!(hand.succeed(photo).await);
    hand.succeed_all(hand.claim(9).await).await;
    assert_eq!(app.credits(organisation).await, (2, 0, 3));
    assert_eq!(app.count("SELECT count(*) FROM month WHERE month > now() + '32 days'").await, 0);
}

#[tokio::test]
async fn a_clock_that_is_right_after_a_long_rest_is_confirmed_by_a_person() {
    let app = App::new().await;
    let (organisation, _) = app.an_event_with(5).await;
    app.let_the_clock_jump("2031-01-01").await;

    let said = app.says(&["clock", "confirm", "--actor", "anna"]);
    assert!(said.contains("2031-01-01"), "{said}");
    // Two people may say it at the same instant.
    app.says(&["clock", "confirm", "--actor", "bert"]);
    app.top_up(organisation, 5).await;

    assert_eq!(app.credits(organisation).await, (10, 0, 0));
    assert_eq!(app.count("SELECT count(*) FROM audit_log WHERE action = 'clock.confirm'").await, 2);
    let stranger = Caller { role: photogate::access::Role::Organiser, ..Caller::trusted("eve") };
    assert!(app.commands().confirm_clock(&stranger).await.is_err());
}

/// Otherwise the first heartbeat after the jump would make the new time look right.
#[tokio::test]
async fn neither_a_heartbeat_nor_a_new_worker_takes_a_clock_that_has_jumped_for_right() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.server_started_at() RETURNS timestamptz LANGUAGE sql
         STABLE AS $$ SELECT now() - interval '1 year' $$;
         UPDATE photogate.functions_applied SET applied_at = now() - interval '1 year';
         UPDATE photogate.worker SET lease_until = now() - interval '40 days'",
    )
    .await;
    let mut db = app.db().await;

    let beat = sqlx::query("SELECT heartbeat($1, '5 s')").bind(hand.me.key());
    assert_eq!(code_of(&beat.execute(&mut *db).await.unwrap_err()).as_deref(), REFUSED);
    let lease = std::time::Duration::from_secs(5);
    let registered = claim::register(&mut db, "new", 1, lease).await;
    assert_eq!(code_of(&registered.unwrap_err()).as_deref(), REFUSED);

    app.commands().confirm_clock(&Caller::trusted("anna")).await.unwrap();
    claim::register(&mut db, "new", 1, lease).await.unwrap();
    let beat = sqlx::query("SELECT heartbeat($1, '5 s')").bind(hand.me.key());
    beat.execute(&mut *db).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_steps_back_raises_no_alarm() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    assert!(hand.succeed(hand.claim_one().await).await);

    // It leaves a few seconds after that, and the clock was put back by a minute in between.
    claim::retire(&mut *app.db().await, hand.me).await.unwrap();
    app.owner_runs("UPDATE photogate.worker SET gone_at = gone_at - interval '1 minute'").await;

    let checks = reconcile::reconcile(&mut *app.db().await, Scope::Full).await.unwrap();
    assert!(checks.iter().all(|check| check.violations == 0), "{checks:?}");
}
