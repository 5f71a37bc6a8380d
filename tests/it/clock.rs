//! A clock that jumps forward does not poison the books.

use photogate::{
    access::Caller,
    database,
    ids::OrganisationId,
    ledger::{
        reconcile::{self, Scope},
        statement,
    },
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

/// Found: a clock that was wrong by less than a month, for one movement, moved the rest of the month
/// into the next one.
#[tokio::test]
async fn an_account_that_was_booked_in_the_future_is_put_back_by_a_person() {
    let app = App::new().await;
    app.set_the_clock("2026-10-15T12:00:00Z").await;
    let (organisation, event) = app.an_event_with(50).await;
    let idle = app.an_organisation_with(5).await;
    app.queue(event, "ok", 12).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(2).await).await;
    let early = hand.claim(1).await;

    app.let_the_clock_jump("2026-11-10T12:00:00Z").await;
    app.top_up(organisation, 7).await;
    let mut claimed = hand.claim(3).await;
    assert!(hand.fail(claimed.remove(0)).await);
    app.let_the_clock_jump("2026-10-16T12:00:00Z").await;
    hand.succeed_all(claimed).await;
    assert_eq!(app.count("SELECT count(*) FROM account WHERE day = '2026-11-10'").await, 1);

    let said = app.says(&["clock", "repair", "--today", "2026-10-16", "--actor", "anna"]);
    assert!(said.contains("\n1             7\n"), "{said}");
    assert!(
        !app.says(&["clock", "repair", "--today", "2026-10-16"]).contains('7'),
        "there is nothing more to repair"
    );

    // All of it was in October, and October goes on.
    app.let_the_clock_jump("2026-10-20T12:00:00Z").await;
    hand.succeed_all(early).await;
    app.top_up(organisation, 1).await;
    let in_november = "SELECT count(*) FROM ledger WHERE at >= '2026-11-01'";
    assert_eq!(app.count(in_november).await, 1 + 3 + 1 + 2, "what was sealed stays as it is");
    let statement = async |month: &str| {
        let month = month.parse().unwrap();
        statement::statement(&mut *app.db().await, organisation, month, 99).await.unwrap()
    };
    let october = statement("2026-10-01").await;
    assert_eq!((october.opening.0, october.closing.0), (0, 50 + 7 + 1 - 5));
    assert!(october.lines.iter().all(|line| line.at < october.ends_at));
    // And November begins when it begins.
    app.let_the_clock_jump("2026-11-02T12:00:00Z").await;
    hand.succeed_all(hand.claim(4).await).await;
    let november = statement("2026-11-01").await;
    assert_eq!((november.opening.0, november.closing.0), (53, 49));
    assert!(statement("2026-10-01").await.closed);
    assert_eq!(app.credits(idle).await, (5, 0, 0));
    let whole = "SELECT count(*) FROM audit_log WHERE action = 'clock.repair'";
    assert_eq!(app.count(whole).await, 1);
}

#[tokio::test]
async fn an_account_is_put_back_also_if_nothing_moves_until_the_next_month() {
    let app = App::new().await;
    app.set_the_clock("2026-10-15T12:00:00Z").await;
    let organisation = app.an_organisation_with(5).await;
    app.let_the_clock_jump("2026-11-10T12:00:00Z").await;
    app.top_up(organisation, 7).await;
    let hand = app.a_worker().await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "ok", 1).await;
    let held = hand.claim(1).await;
    app.let_the_clock_jump("2026-10-16T12:00:00Z").await;
    let today = "2026-10-16".parse().unwrap();
    app.commands().repair_clock(&Caller::trusted("anna"), today).await.unwrap();

    app.let_the_clock_jump("2026-11-03T12:00:00Z").await;
    app.top_up(organisation, 1).await;
    hand.succeed_all(held).await;

    // The workers' own check sees where the account was put back.
    let pool = database::connect_worker(&app.config.database_url, 1).await.unwrap();
    let since = reconcile::Since::LastCheck(hand.me);
    let checks = reconcile::full(&mut pool.acquire().await.unwrap(), since, 1).await.unwrap();
    assert!(checks.iter().all(|check| check.violations == 0), "{checks:?}");
    for (month, closing) in [("2026-10-01", 11), ("2026-11-01", 12)] {
        let month = month.parse().unwrap();
        let db = &mut *app.db().await;
        let statement = statement::statement(db, organisation, month, 99).await.unwrap();
        assert_eq!(statement.closing.0, closing);
    }
}

/// Found: while a repair put months together, a run was counted in both, and was said to be finished.
#[tokio::test]
async fn a_run_is_not_over_because_its_months_are_put_together() {
    let app = App::new().await;
    app.set_the_clock("2026-09-15T12:00:00Z").await;
    let (_, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 6).await;
    let hand = app.a_worker().await;
    let ended = async || app.count("SELECT count(*) FROM timeline WHERE kind = 'finished'").await;
    hand.succeed_all(hand.claim(1).await).await;
    app.let_the_clock_jump("2026-10-15T12:00:00Z").await;
    hand.succeed_all(hand.claim(1).await).await;
    app.let_the_clock_jump("2026-11-10T12:00:00Z").await;
    hand.succeed_all(hand.claim(2).await).await;
    app.let_the_clock_jump("2026-10-16T12:00:00Z").await;

    let today = "2026-10-16".parse().unwrap();
    app.commands().repair_clock(&Caller::trusted("anna"), today).await.unwrap();

    assert_eq!(ended().await, 0, "two of its photos wait");
    hand.succeed_all(hand.claim(2).await).await;
    assert_eq!(ended().await, 1);
}

/// Found: after a jump, no worker that had lived through it declared others dead.
#[tokio::test]
async fn a_worker_that_lived_through_a_jump_declares_the_dead_dead() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    app.owner_runs("UPDATE worker SET beats_since = now() + interval '20 days'").await;

    let beat = sqlx::query("SELECT heartbeat($1, '5 min')").bind(hand.me.key());
    beat.execute(&mut *app.db().await).await.unwrap();

    assert_eq!(app.count("SELECT count(*) FROM worker WHERE beats_since > now()").await, 0);
}

/// A slow clock makes every account look as if it were of the future, and each month as if it had not
/// begun.
#[tokio::test]
async fn a_repair_under_a_clock_that_is_slow_is_refused_and_changes_nothing() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    app.let_the_clock_jump("2020-01-01").await;
    let months = app.count("SELECT count(*) FROM month WHERE month > '2026-01-01'").await;

    let today = chrono::Utc::now().date_naive();
    let refused = app.commands().repair_clock(&Caller::trusted("anna"), today).await;

    assert!(refused.unwrap_err().to_string().contains("set it right first"));
    assert_eq!(app.count("SELECT count(*) FROM month WHERE month > '2026-01-01'").await, months);
    assert_eq!(app.count("SELECT count(*) FROM clock_repair").await, 0);
    assert_eq!(app.credits(organisation).await, (5, 0, 0));
}

/// Found: a second repair that had waited for the first one put a right account back.
#[tokio::test]
async fn a_repair_that_waits_for_another_changes_nothing_that_is_right() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    app.owner_runs("UPDATE account SET moved_at = now() + interval '2 days'").await;
    let mut first = app.as_owner().await;
    sqlx::raw_sql("BEGIN; SELECT repair_account(1, 'anna', now()::date)")
        .execute(&mut first)
        .await
        .unwrap();
    let pool = app.pool.clone();
    let second = tokio::spawn(async move {
        sqlx::query_scalar::<_, i64>("SELECT repair_account(1, 'bert', now()::date)")
            .fetch_one(&pool)
            .await
    });
    app.until_somebody_waits_for_a_lock().await;
    let top_up = "SELECT top_up(1, 'admin_grant', 3, 'anna', '', 'meanwhile'); COMMIT";
    sqlx::raw_sql(top_up).execute(&mut first).await.unwrap();

    assert_eq!(second.await.unwrap().unwrap(), 0);
    assert_eq!(app.count("SELECT count(*) FROM clock_repair").await, 1);
    assert_eq!(app.credits(organisation).await, (8, 0, 0));
}

#[tokio::test]
async fn a_month_that_has_begun_is_never_taken_back() {
    let app = App::new().await;
    app.an_organisation_with(5).await;
    let mut owner = app.as_owner().await;

    let refused = sqlx::raw_sql("DELETE FROM month").execute(&mut owner).await.unwrap_err();

    assert_eq!(code_of(&refused).as_deref(), Some("PG005"));
}
