//! The money, and who may touch it.

use photogate::{
    access::Role,
    database::{self, MigrateError},
    ledger::{
        history,
        reconcile::{self, Scope},
        top_up::TopUpError,
    },
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    App, code_of, program, refused_for_want_of_privilege,
    site::{Site, answered},
    stderr,
};

#[tokio::test]
async fn a_top_up_that_arrives_twice_is_credited_once() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;

    let first = app.top_up_with(organisation, 100, "order-1").await.unwrap();
    let again = app.top_up_with(organisation, 100, "order-1").await.unwrap();

    assert!(first.credited && !again.credited);
    assert_eq!(first.transaction, again.transaction);
    assert_eq!(app.credits(organisation).await, (100, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_that_arrives_ten_times_at_once_is_credited_once() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;

    let tries =
        futures::future::join_all((0..10).map(|_| app.top_up_with(organisation, 7, "order-1")))
            .await;

    let tries: Vec<_> = tries.into_iter().map(|tried| tried.expect("it is answered")).collect();
    assert_eq!(tries.iter().filter(|credited| credited.credited).count(), 1);
    assert!(tries.iter().all(|credited| credited.transaction == tries[0].transaction));
    assert_eq!(app.credits(organisation).await, (7, 0, 0));
}

#[tokio::test]
async fn the_same_key_with_another_amount_is_an_error() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.top_up_with(organisation, 100, "order-1").await.unwrap();

    let refused = app.top_up_with(organisation, 101, "order-1").await;

    assert!(matches!(refused, Err(TopUpError::KeyReused(_))), "{refused:?}");
    assert_eq!(app.credits(organisation).await, (100, 0, 0));
}

#[tokio::test]
async fn an_adjustment_takes_what_is_available_and_no_more() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    let held = hand.claim(4).await;

    assert!(matches!(
        app.top_up_with(organisation, -7, "t-1").await,
        Err(TopUpError::NotEnoughCredits(_))
    ));
    app.top_up_with(organisation, -6, "t-2").await.unwrap();

    assert_eq!(app.credits(organisation).await, (0, 4, 0));
    assert!(app.is_out_of_credit(event).await, "an adjustment to zero pauses too");
    hand.succeed_all(held).await;
}

#[tokio::test]
async fn the_history_adds_up_to_the_balance_at_every_step() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(6).await;
    app.queue(event, "ok", 8).await;
    let hand = app.a_worker().await;
    let adds_up = async |step: &str| {
        let mut db = app.db().await;
        let history = history::history(
            &mut db,
            organisation,
            history::Page { most: 200, ..history::Page::default() },
        )
        .await
        .unwrap();
        let sum: i64 = history.iter().map(|row| row.credits.0).sum();
        drop(db);
        assert_eq!(sum, app.balance(organisation).await.available.0, "{step}");
    };

    adds_up("topped up").await;
    let mut claimed = hand.claim(4).await;
    adds_up("claimed").await;
    hand.fail(claimed.remove(0)).await;
    adds_up("refunded").await;
    hand.succeed_all(claimed).await;
    adds_up("committed").await;
}

#[tokio::test]
async fn the_application_can_write_no_money() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    let mut db = app.db().await;

    for write in [
        "INSERT INTO ledger VALUES (1000000, 0, 'top_up', 1, 99, 5, NULL)",
        "UPDATE ledger SET amount = 100",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "UPDATE account SET available = 100, funded = 100",
        "INSERT INTO top_up VALUES (1000000, 1, 'purchase', 5, 'x', '', 'k')",
        "UPDATE outcome SET state = 'processed'",
        "DELETE FROM in_flight",
        "UPDATE queue SET paused_since = NULL",
        "SELECT close_reservations(0, 1, '{}', '{}', '{}', '{}', '{}')",
        "SELECT resume_queues('{1}', 'top_up')",
    ] {
        refused_for_want_of_privilege(&mut db, write).await;
    }

    assert_eq!(app.credits(organisation).await, (5, 0, 0));
}

#[tokio::test]
async fn the_ledger_refuses_even_its_owner() {
    let app = App::new().await;
    app.an_organisation_with(5).await;
    let mut owner = app.as_owner().await;

    for write in [
        "UPDATE photogate.ledger SET amount = 100",
        "DELETE FROM photogate.ledger",
        "TRUNCATE photogate.ledger",
        "DELETE FROM photogate.top_up",
    ] {
        let refused = sqlx::query(write).execute(&mut owner).await.expect_err(write);
        assert_eq!(code_of(&refused).as_deref(), Some("PG005"), "{write}: {refused}");
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;

    database::migrate(&app.owner).await.unwrap();

    assert_eq!(app.credits(organisation).await, (5, 0, 0));
}

#[tokio::test]
async fn a_login_made_for_workers_does_a_workers_work_and_mints_nothing() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    for password in ["pass'word", "another"] {
        let password = Some(password);
        database::make_login(&app.owner, "photogate_test_worker", password, "photogate_worker")
            .await
            .unwrap();
    }
    let url = app.owner.replace("user=postgres", "user=photogate_test_worker");

    let pool = database::connect_worker(&url, 1).await.unwrap();
    let refused = database::migrate(&url).await;
    let Err(MigrateError::Roles(refused) | MigrateError::Unreachable(refused)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code_of(&refused).as_deref(), Some("42501"), "{refused}");

    let mut db = pool.acquire().await.unwrap();
    sqlx::query("SELECT register_worker('w', 1, '5 s')").execute(&mut *db).await.unwrap();
    for minting in [
        "SELECT top_up(1, 'free_credits', 1000, 'x', '', 'k')",
        "SELECT enqueue(1, 'photo_processing', '{}', '{}', 'x')",
        "UPDATE account SET available = available + 1, funded = funded + 1",
        // An embedding is biometric, and a finding belongs to whoever paid for it.
        "SELECT embedding FROM face",
        "SELECT number FROM bib",
        "DELETE FROM looked_at",
        "DELETE FROM rotation",
        "INSERT INTO bib VALUES (gen_random_uuid(), '1', 0, 0, 1, 1, 1)",
    ] {
        refused_for_want_of_privilege(&mut db, minting).await;
    }
    for role in ["postgres", "photogate_owner", "photogate_app"] {
        refused_for_want_of_privilege(&mut db, &format!("SET ROLE {role}")).await;
    }
    assert_eq!(app.credits(organisation).await, (5, 0, 0));
}

#[tokio::test]
async fn a_login_made_for_the_service_serves_and_changes_no_books_past_the_gate() {
    let mut app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let mut migrate = program(&app.config);
    migrate.args(["migrate", "--service-login", "test_service"]);
    let refused = migrate.output().unwrap();
    assert!(!refused.status.success(), "without a password");
    assert!(stderr(&refused).contains("set PHOTOGATE_SERVICE_PASSWORD"), "{}", stderr(&refused));
    migrate.env("PHOTOGATE_SERVICE_PASSWORD", "pass'word");
    let made = migrate.output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let url = app.owner.replace("user=postgres", "user=test_service");

    app.pool = database::connect(&url, 4).await.unwrap();
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let queue = json!({ "operation": "photo_processing", "keys": ["rehearsal/ok/1"] });
    let (queued, _) = site.post(&format!("/v1/events/{event}/runs"), &staff, queue).await;
    assert_eq!(queued, 202);
    let path = format!("/v1/organisations/{organisation}/grants");
    let grant = site.ask(Method::POST, &path, &staff).header("Idempotency-Key", "one");
    assert_eq!(answered(grant.json(&json!({ "credits": 3 }))).await.0, 201);
    assert_eq!(site.get(&format!("/v1/events/{event}/why"), &staff).await.0, 200);

    for change in [
        "UPDATE account SET available = 1000",
        "INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount) \
         VALUES (1, 0, 'top_up', 1, 9, 9)",
        "DELETE FROM top_up",
        "UPDATE outcome SET state = 'processed'",
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "SET ROLE photogate_owner",
        "SET ROLE postgres",
    ] {
        refused_for_want_of_privilege(&mut *app.db().await, change).await;
    }
}

#[tokio::test]
async fn a_right_to_a_single_column_of_the_books_breaks_an_invariant() {
    let mut app = App::new().await;
    app.audited = false;
    let broken = async || {
        let checks = reconcile::reconcile(&mut *app.db().await, Scope::Full).await.unwrap();
        let check = checks.into_iter().find(|check| check.invariant == "ledger_is_append_only");
        check.unwrap().violations
    };
    assert_eq!(broken().await, 0);

    app.owner_runs("GRANT UPDATE (available) ON photogate.account TO photogate_worker").await;

    // The application may do what a worker may.
    assert_eq!(broken().await, 2);
}

/// Runs as a worker that has registered, and that knows the number of every other worker.
#[tokio::test]
async fn a_worker_cannot_act_for_another_worker() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 2).await;
    let (hand, stranger) = (app.a_worker().await, app.a_worker().await);
    let held = hand.claim(2).await;
    let jobs: Vec<_> = held.iter().map(|one| one.job().0).collect();
    let mut db = app.db().await;
    let check: i64 = sqlx::query_scalar("SELECT begin_reconciliation($1, 'full', '1 s')")
        .bind(hand.me.key())
        .fetch_one(&mut *db)
        .await
        .unwrap();

    let settle = "SELECT cardinality(r_settled) FROM settle($1, $2, '{1,1}', \
                  '{failed,failed}', '{corrupt,corrupt}', '{x,x}')";
    for (key, settled) in [(stranger.me.key(), Some(0)), (uuid::Uuid::nil(), None)] {
        let answer = sqlx::query_scalar::<_, i32>(settle).bind(key).bind(&jobs);
        assert_eq!(answer.fetch_one(&mut *db).await.ok(), settled);
        for call in [
            "SELECT release($1, $2, '{1,1}', '{crash,crash}', '{x,x}', '{0,0}')",
            "SELECT retire_worker($1), $2::bigint[]",
            "SELECT drain_worker($1), $2::bigint[]",
        ] {
            sqlx::query(call).bind(key).bind(&jobs).execute(&mut *db).await.unwrap();
        }
        let end = "SELECT end_reconciliation($1, $2, 0, NULL)";
        sqlx::query(end).bind(key).bind(check).execute(&mut *db).await.unwrap();
    }

    assert_eq!(app.count("SELECT count(*) FROM reconciliation WHERE ended_at IS NULL").await, 1);
    assert_eq!(app.credits(organisation).await, (8, 2, 0));
    hand.succeed_all(held).await;
    assert_eq!(app.credits(organisation).await, (8, 0, 2));
}

#[tokio::test]
async fn findings_are_written_only_by_the_settlement_of_their_photo() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 2).await;
    let (hand, stranger) = (app.a_worker().await, app.a_worker().await);
    let held = hand.claim(2).await;
    let jobs: Vec<_> = held.iter().map(|one| one.job().0).collect();
    let found = |job: i64| {
        serde_json::json!([{ "job": job, "width": 9, "height": 9, "looked_turn": 0, "faces": [], "bibs": [],
            "lines": [] }])
    };
    let write = async |db: &mut sqlx::PgConnection, key: uuid::Uuid, job: i64| {
        let written = sqlx::query("SELECT write_findings($1, $2)").bind(key).bind(found(job));
        written.execute(db).await.unwrap();
    };

    // Not settled yet; then settled, but not in this transaction.
    write(&mut *app.db().await, hand.me.key(), jobs[0]).await;
    let mut held = held.into_iter();
    assert!(hand.succeed(held.next().unwrap()).await);
    write(&mut *app.db().await, hand.me.key(), jobs[0]).await;
    // Settled in this transaction, by somebody else.
    let mut db = app.db().await;
    let mut tx = sqlx::Connection::begin(&mut *db).await.unwrap();
    sqlx::query("SELECT settle($1, ARRAY[$2], '{1}', '{processed}', '{NULL}', '{NULL}')")
        .bind(hand.me.key())
        .bind(jobs[1])
        .execute(&mut *tx)
        .await
        .unwrap();
    write(&mut tx, stranger.me.key(), jobs[1]).await;
    let before: i64 =
        sqlx::query_scalar("SELECT count(*) FROM looked_at").fetch_one(&mut *tx).await.unwrap();
    write(&mut tx, hand.me.key(), jobs[1]).await;
    tx.commit().await.unwrap();

    assert_eq!((before, app.count("SELECT count(*) FROM looked_at").await), (0, 1));
    // What another operation found stays as it is.
    app.queue_keys(event, photogate::ids::Operation::AiRotation, &["rehearsal/ok/1".into()]).await;
    let turned = hand.claim_one().await.job().0;
    let mut tx = sqlx::Connection::begin(&mut *db).await.unwrap();
    sqlx::query("SELECT settle($1, ARRAY[$2], '{1}', '{processed}', '{NULL}', '{NULL}')")
        .bind(hand.me.key())
        .bind(turned)
        .execute(&mut *tx)
        .await
        .unwrap();
    write(&mut tx, hand.me.key(), turned).await;
    tx.commit().await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM looked_at").await, 1);
}

#[tokio::test]
async fn a_lease_of_a_hundred_years_is_refused() {
    let app = App::new().await;
    let mut db = app.db().await;
    for lease in ["100 years", "25 hours", "0"] {
        let register = format!("SELECT register_worker('w {lease}', 1, '{lease}')");
        let refused = sqlx::query(sqlx::AssertSqlSafe(register)).execute(&mut *db).await;
        assert_eq!(code_of(&refused.unwrap_err()).as_deref(), Some("PG006"), "{lease}");
    }
}
