//! Automatic top-ups: an organisation that runs low buys credits, once, up to what it has decided.

use futures::future::join_all;
use photogate::{
    access::Role,
    catalog::organisations,
    database,
    ids::OrganisationId,
    ledger::{
        auto_top_up::{self, Bought, State},
        credits::Credits,
    },
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{
    App, code_of,
    site::{Site, Visitor, answered},
};

const PURCHASES: &str = "SELECT count(*) FROM top_up WHERE actor = 'auto top-up'";

fn settings(below: i64, credits: i64, monthly_max: i64) -> Value {
    json!({ "below": below, "credits": credits, "monthly_max": monthly_max })
}

fn set_limit(app: &App, organisation: OrganisationId, limit: &str) {
    app.says(&["organisations", "limit", &organisation.to_string(), limit]);
}

/// Switched on by the command line.
fn switch_on(app: &App, organisation: OrganisationId, numbers: [&str; 3]) {
    let [below, credits, most] = numbers;
    let id = organisation.to_string();
    let arguments = ["credits", "auto-top-up", &id, "--below", below, "--credits", credits];
    app.says(&[&arguments[..], &["--monthly-max", most]].concat());
}

async fn look(app: &App, organisation: OrganisationId) -> Bought {
    auto_top_up::buy(&mut *app.db().await, organisation).await.unwrap()
}

async fn due(app: &App) -> Vec<OrganisationId> {
    let (mut found, mut last) = (Vec::new(), OrganisationId(0));
    while let Some(next) = auto_top_up::next_due(&mut *app.db().await, last).await.unwrap() {
        found.push(next);
        last = next;
    }
    found
}

/// The state, and the reason.
async fn standing(app: &App, organisation: OrganisationId) -> (State, Option<Value>) {
    let found = auto_top_up::read(&mut *app.db().await, organisation).await.unwrap().unwrap();
    (found.state, found.reason.map(|reason| json!(reason)))
}

async fn audited(app: &App) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', actor, action) FROM audit_log
         WHERE action LIKE 'auto_top_up%' OR actor = 'auto top-up' ORDER BY entry_id",
    )
    .fetch_all(&mut *app.db().await)
    .await
    .unwrap()
}

/// A minute has passed since it could not buy.
async fn a_minute_later(app: &App) {
    app.owner_runs("UPDATE auto_top_up SET tried_at = tried_at - interval '2 minutes'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_its_limit_a_worker_buys_and_photos_that_wait_go_on() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 5).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/organisations/{organisation}/auto-top-up");
    let set = site.ask(Method::PUT, &path, &token).json(&settings(1, 10, 50));
    let (status, on) = answered(set).await;
    assert_eq!((status.as_u16(), &on["state"], &on["reason"]), (200, &json!("on"), &Value::Null));

    // With the login of a worker.
    let worker = app.start_process();
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (7, 0, 5));
    assert_eq!(app.count(PURCHASES).await, 1);
    let booked = "SELECT count(*) FROM top_up WHERE actor = 'auto top-up' AND kind = 'purchase' \
                  AND amount = 10 AND price_per_credit = 0.05 AND currency = 'EUR'";
    assert_eq!(app.count(booked).await, 1);
    let (_, on) = site.get(&path, &token).await;
    assert_eq!((&on["state"], &on["bought_this_month"]), (&json!("on"), &json!(10)));
    assert_eq!(audited(&app).await[1..], ["auto top-up credits.top_up"]);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_look_at_the_same_time_buy_once() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    switch_on(&app, organisation, ["5", "10", "100"]);
    // All have found it to be due, and wait for the account.
    let mut owner = app.as_owner().await;
    let mut busy = owner.begin().await.unwrap();
    sqlx::query("SELECT FROM account FOR UPDATE").execute(&mut *busy).await.unwrap();
    let looks = join_all((0..8).map(|_| look(&app, organisation)));

    let (looks, ()) = tokio::join!(looks, async {
        app.until_somebody_waits_for_a_lock().await;
        busy.rollback().await.unwrap();
    });

    assert_eq!(looks.iter().filter(|look| look.bought).count(), 1, "{looks:?}");
    assert_eq!(app.credits(organisation).await, (11, 0, 0));
    assert_eq!(app.count(PURCHASES).await, 1);
}

/// Not only the lock says so: the same number of a purchase is the same idempotency key.
#[tokio::test]
async fn the_same_purchase_again_adds_nothing() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    switch_on(&app, organisation, ["50", "10", "100"]);
    assert!(look(&app, organisation).await.bought);

    app.owner_runs("UPDATE auto_top_up SET purchases = 0").await;
    let again = look(&app, organisation).await;

    assert!(!again.bought, "{again:?}");
    assert_eq!(app.credits(organisation).await, (11, 0, 0));
    assert!(look(&app, organisation).await.bought, "and the next one is another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_right_after_the_commit_has_bought_once_and_photos_go_on() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 3).await;
    let worker = app.start_worker();
    app.until_out_of_credit(event).await;
    worker.drain().await;
    switch_on(&app, organisation, ["5", "10", "100"]);
    // It has committed, and wakes nobody any more.
    assert_eq!(look(&app, organisation).await, Bought { bought: true, resumed: true });
    assert_eq!(due(&app).await, []);

    let next = app.start_worker();
    app.until_done(event).await;
    next.drain().await;

    assert_eq!(app.credits(organisation).await, (7, 0, 3));
    assert_eq!(app.count(PURCHASES).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_ceiling_one_purchase_waits_for_approval_and_no_second_one_is_asked_for() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    set_limit(&app, organisation, "5");
    switch_on(&app, organisation, ["5", "10", "100"]);
    assert_eq!(look(&app, organisation).await, Bought { bought: true, resumed: false });

    assert_eq!(due(&app).await, []);
    let looks = join_all((0..4).map(|_| look(&app, organisation))).await;

    assert!(looks.iter().all(|look| !look.bought), "{looks:?}");
    assert_eq!(app.credits(organisation).await, (0, 0, 0));
    assert_eq!(standing(&app, organisation).await, (State::Waits, Some(json!("approval"))));
    let second =
        "INSERT INTO purchase_request (organisation_id, credits, price_per_credit, currency,
                      actor, idempotency_key, expires_at)
                  SELECT organisation_id, credits, price_per_credit, currency, actor, 'another',
                      expires_at FROM purchase_request";
    let refused = sqlx::query(second).execute(&mut app.as_owner().await).await.unwrap_err();
    assert_eq!(code_of(&refused).as_deref(), Some("23505"), "whoever asks: {refused}");
    let told = app.says(&["credits", "auto-top-up", "1"]);
    assert!(told.contains("until staff approve it"), "{told}");

    app.says(&["purchases", "approve", "1"]);
    assert_eq!(app.credits(organisation).await, (10, 0, 0));
    assert_eq!(standing(&app, organisation).await, (State::On, None));
    assert_eq!(audited(&app).await[1..], ["auto top-up purchase.ask"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_after_a_refusal_or_an_expiry_and_says_so_until_a_person_switches_it_on_again() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Finance, Some(organisation)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    set_limit(&app, organisation, "0");
    for (round, why) in ["refused", "expired"].into_iter().enumerate() {
        switch_on(&app, organisation, ["5", "10", "100"]);
        assert!(look(&app, organisation).await.bought);
        if why == "refused" {
            app.says(&["purchases", "refuse", "1"]);
        } else {
            app.owner_runs("UPDATE purchase_request SET expires_at = now()").await;
            let worker = app.start_worker();
            let over = "SELECT count(*) FROM purchase_request WHERE state = 'expired'";
            app.until("it has expired", async || app.count(over).await == 1).await;
            worker.drain().await;
        }

        assert_eq!(due(&app).await, []);
        assert!(!look(&app, organisation).await.bought);
        let path = format!("/v1/organisations/{organisation}/auto-top-up");
        let (_, told) = site.get(&path, &token).await;
        assert_eq!((&told["state"], &told["reason"]), (&json!("stopped"), &json!(why)));
        let says = "Switch it on again to go on.";
        assert!(told["says"].as_str().unwrap().contains(says), "{told}");
        assert!(!told["stopped_at"].is_null());
        assert!(anna.text(&site, "/credits").await.contains(says));
        assert!(app.says(&["credits", "auto-top-up", "1"]).contains(says));
        let stops = audited(&app).await;
        let stops = stops.iter().filter(|entry| *entry == "auto top-up auto_top_up.stop").count();
        assert_eq!(stops, round + 1);
    }
    assert_eq!(app.credits(organisation).await, (0, 0, 0));
}

#[tokio::test]
async fn without_a_price_it_waits_at_a_higher_one_it_stops_and_at_a_lower_one_it_buys() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    switch_on(&app, organisation, ["1000", "10", "100"]);
    let set = async |price: Option<&str>| {
        let price = price.map(|price| price.parse().unwrap());
        let db = &mut *app.db().await;
        organisations::set_price(db, organisation, price.as_ref()).await.unwrap();
    };

    set(None).await;
    assert!(!look(&app, organisation).await.bought);
    assert_eq!(standing(&app, organisation).await, (State::Waits, Some(json!("no_price"))));
    assert_eq!(due(&app).await, [], "it is looked at again after a minute");
    a_minute_later(&app).await;
    assert!(!look(&app, organisation).await.bought);
    assert_eq!(audited(&app).await[1..], ["auto top-up auto_top_up.wait"], "once");

    set(Some("0.04 EUR")).await;
    a_minute_later(&app).await;
    assert_eq!(due(&app).await, [organisation]);
    assert!(look(&app, organisation).await.bought);

    for dearer in ["0.06 EUR", "0.05 USD"] {
        set(Some(dearer)).await;
        assert!(!look(&app, organisation).await.bought, "nobody has agreed to {dearer}");
        let stopped = (State::Stopped, Some(json!("price_changed")));
        assert_eq!(standing(&app, organisation).await, stopped);
        switch_on(&app, organisation, ["1000", "10", "100"]);
        assert!(look(&app, organisation).await.bought);
    }
    assert_eq!(app.credits(organisation).await, (30, 0, 0));
}

#[tokio::test]
async fn what_does_not_reach_the_limit_is_bought_again_up_to_the_most_of_a_month() {
    let app = App::new().await;
    app.set_the_clock("2026-10-31T22:00:00Z").await;
    let organisation = app.an_organisation_with(0).await;
    // What people buy is not counted.
    app.top_up(organisation, 40).await;
    switch_on(&app, organisation, ["1000", "10", "35"]);

    for n in 1..=3 {
        assert_eq!(due(&app).await, [organisation]);
        assert!(look(&app, organisation).await.bought, "purchase {n}");
    }
    assert!(!look(&app, organisation).await.bought, "40 would be above 35");

    assert_eq!(standing(&app, organisation).await, (State::Waits, Some(json!("month_used_up"))));
    assert_eq!(app.credits(organisation).await, (70, 0, 0));
    // In Berlin, November begins at 23:00 UTC.
    app.let_the_clock_jump("2026-10-31T22:59:59Z").await;
    a_minute_later(&app).await;
    assert!(!look(&app, organisation).await.bought);
    app.let_the_clock_jump("2026-10-31T23:00:00Z").await;
    a_minute_later(&app).await;
    assert!(look(&app, organisation).await.bought, "another month");
    assert_eq!(standing(&app, organisation).await, (State::On, None));
}

#[tokio::test]
async fn a_clock_that_jumps_over_the_end_of_a_month_and_back_does_not_buy_twice_the_most() {
    let app = App::new().await;
    app.set_the_clock("2026-10-20T12:00:00Z").await;
    let organisation = app.an_organisation_with(0).await;
    switch_on(&app, organisation, ["1000", "10", "10"]);
    assert!(look(&app, organisation).await.bought);

    app.let_the_clock_jump("2026-11-10T12:00:00Z").await;
    assert!(look(&app, organisation).await.bought, "it is November");
    assert!(!look(&app, organisation).await.bought);
    app.let_the_clock_jump("2026-10-20T13:00:00Z").await;
    a_minute_later(&app).await;
    assert!(!look(&app, organisation).await.bought, "that of November counts for October, too");

    app.says(&["clock", "repair", "--today", "2026-10-20", "--actor", "anna"]);
    a_minute_later(&app).await;
    assert!(!look(&app, organisation).await.bought);
    assert_eq!(app.credits(organisation).await, (20, 0, 0));
}

#[tokio::test]
async fn a_clock_that_is_implausible_buys_nothing_and_it_tries_again() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    switch_on(&app, organisation, ["5", "10", "100"]);
    app.let_the_clock_jump("2031-01-01").await;

    let refused = auto_top_up::buy(&mut *app.db().await, organisation).await.unwrap_err();
    assert_eq!(code_of(&refused).as_deref(), Some("PG008"));
    auto_top_up::put_off(&mut *app.db().await, organisation).await.unwrap();
    assert_eq!(standing(&app, organisation).await, (State::Waits, Some(json!("trouble"))));
    assert_eq!(due(&app).await, []);

    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.clock() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS 'SELECT clock_timestamp()'",
    )
    .await;
    assert_eq!(due(&app).await, [organisation], "although it was tried in 2031");
    assert!(look(&app, organisation).await.bought);
    assert_eq!(standing(&app, organisation).await, (State::On, None));
}

#[tokio::test]
async fn a_key_that_a_person_has_used_does_not_stop_it() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    for (key, credits) in [("auto top-up 1", 1), ("auto top-up 2", 10)] {
        app.top_up_with(organisation, credits, key).await.unwrap();
    }
    switch_on(&app, organisation, ["1000", "10", "100"]);

    let mut bought = Vec::new();
    for _ in 0..3 {
        bought.push(look(&app, organisation).await.bought);
    }

    assert_eq!(bought, [false, false, true]);
    assert_eq!(app.credits(organisation).await, (21, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_organisation_that_buys_many_times_or_keeps_its_account_locked() {
    let app = App::new().await;
    let first = app.an_organisation_with(0).await;
    let second = app.an_organisation_with(0).await;
    let third = app.an_organisation_with(0).await;
    for organisation in [first, second, third] {
        switch_on(&app, organisation, ["1000000", "10", "1000000"]);
    }
    assert_eq!(due(&app).await, [first, second, third], "a look passes by each of them once");
    let mut owner = app.as_owner().await;
    let mut busy = owner.begin().await.unwrap();
    let lock = "SELECT FROM account WHERE organisation_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(first.0).execute(&mut *busy).await.unwrap();

    let worker = app.start_worker();
    app.until("the others have bought", async || {
        app.credits(second).await.0 >= 10 && app.credits(third).await.0 >= 10
    })
    .await;

    assert_eq!(app.credits(first).await, (0, 0, 0));
    busy.rollback().await.unwrap();
    app.until("and then the first", async || app.credits(first).await.0 >= 10).await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_buy_sets_it_and_each_change_is_in_the_audit_log() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let elsewhere = app.an_organisation_with(0).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let eve = app.a_token(Role::Organiser, Some(elsewhere)).await;
    let finance = app.a_token(Role::Finance, Some(organisation)).await;
    let path = format!("/v1/organisations/{organisation}/auto-top-up");
    let set = async |token: &str, body: Value| {
        answered(site.ask(Method::PUT, &path, token).json(&body)).await
    };

    assert_eq!(set(&finance, settings(5, 10, 100)).await.0, 403);
    assert_eq!(set(&eve, settings(5, 10, 100)).await.0, 404);
    assert_eq!(site.get(&path, &eve).await.0, 404);
    for (body, pointer) in [
        (settings(0, 10, 100), "/below"),
        (settings(5, 0, 100), "/credits"),
        (settings(5, 10, 9), "/monthly_max"),
        (settings(5, 10, 1_000_000_001), "/monthly_max"),
    ] {
        let (status, no) = set(&token, body).await;
        assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    let mut dearer = settings(5, 10, 100);
    dearer["price"] = "0.04 EUR".into();
    let (status, no) = set(&token, dearer).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("price_changed")));
    assert_eq!(standing(&app, organisation).await.0, State::Off);
    assert_eq!(audited(&app).await, [""; 0]);

    assert_eq!(set(&token, settings(5, 10, 100)).await.0, StatusCode::OK);
    assert_eq!(set(&token, settings(5, 10, 100)).await.0, StatusCode::OK, "the same again");
    assert_eq!(set(&token, settings(5, 20, 100)).await.1["credits"], 20);
    for _ in 0..2 {
        let off = site.ask(Method::DELETE, &path, &token);
        assert_eq!(answered(off).await.1["state"], "off");
    }
    assert!(!look(&app, organisation).await.bought, "it is off");
    let actions = audited(&app).await;
    assert_eq!(actions.len(), 3, "{actions:?}");
    assert!(actions.iter().all(|entry| entry.ends_with("auto_top_up.change")), "{actions:?}");

    organisations::set_price(&mut *app.db().await, organisation, None).await.unwrap();
    let (status, no) = set(&token, settings(5, 10, 100)).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("purchasing_disabled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_switch_it_on_and_off_on_the_page_of_credits() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    app.a_person("ops@club.example", Role::Operator, Some(organisation)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    assert!(anna.text(&site, "/credits").await.contains("It is off"));
    let ask = "/credits/auto-top-up?organisation=1&below=5&credits=10&monthly_max=100";
    let page = anna.text(&site, ask).await;
    assert!(
        page.contains("0.50 EUR") && page.contains("5.00 EUR"),
        "it says what it costs: {page}"
    );
    assert_eq!(standing(&app, organisation).await.0, State::Off, "asked, and not done");
    let numbers =
        [("organisation", "1"), ("below", "5"), ("credits", "10"), ("monthly_max", "100")];
    let mut form = numbers.to_vec();
    assert_eq!(anna.post(&site, "/credits/auto-top-up", &form).await, 422, "no price was seen");
    form.push(("price", "0.05 EUR"));

    assert_eq!(anna.post(&site, "/credits/auto-top-up", &form).await, 303);
    assert!(look(&app, organisation).await.bought);
    let page = anna.text(&site, "/credits").await;
    assert!(page.contains("<strong>10</strong> are bought"), "{page}");

    let operator = Visitor::logged_in(&site, "ops@club.example").await;
    assert!(!operator.text(&site, "/credits").await.contains("/credits/auto-top-up"));
    assert_eq!(operator.get(&site, ask).await, 403);
    let off = [("organisation", "1")];
    assert_eq!(operator.post(&site, "/credits/auto-top-up/off", &off).await, 403);
    assert_eq!(anna.post(&site, "/credits/auto-top-up/off", &off).await, 303);
    assert_eq!(standing(&app, organisation).await.0, State::Off);
}

/// A worker looks every two seconds.
#[tokio::test]
async fn a_look_reads_nothing_of_organisations_that_have_none() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let content = app.an_organisation_with(100).await;
    for organisation in [organisation, content] {
        switch_on(&app, organisation, ["5", "10", "100"]);
    }
    app.owner_runs(
        "INSERT INTO organisation (name) SELECT 'Club' FROM generate_series(1, 3000);
         INSERT INTO account (organisation_id, day, day_ends_at)
         SELECT organisation_id, '2000-01-01', '2000-01-02' FROM organisation
         WHERE organisation_id > 2",
    )
    .await;
    let mut db = app.db().await;
    let mut tx = db.begin().await.unwrap();
    let before = rows_read(&mut tx).await;

    let next = auto_top_up::next_due(&mut tx, OrganisationId(0)).await.unwrap();
    let none = auto_top_up::next_due(&mut tx, organisation).await.unwrap();

    assert_eq!((next, none), (Some(organisation), None));
    let read = rows_read(&mut tx).await - before;
    assert!(read <= 10, "{read} rows were read of two organisations");
    tx.rollback().await.unwrap();
    app.owner_runs("DELETE FROM account WHERE organisation_id > 2").await;
}

async fn rows_read(db: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint
         FROM pg_stat_xact_user_tables
         WHERE relname IN ('account', 'auto_top_up', 'organisation', 'purchase_request')",
    )
    .fetch_one(db)
    .await
    .unwrap()
}

/// A worker cannot top up: it can only do what an organisation has decided.
#[tokio::test]
async fn a_workers_login_buys_only_what_an_organisation_has_decided() {
    let app = App::new().await;
    let decided = app.an_organisation_with(0).await;
    let other = app.an_organisation_with(0).await;
    switch_on(&app, decided, ["5", "10", "100"]);
    let worker = database::connect_worker(&app.owner, 1).await.unwrap();
    let db = &mut *worker.acquire().await.unwrap();

    assert!(auto_top_up::buy(db, decided).await.unwrap().bought);
    assert!(!auto_top_up::buy(db, decided).await.unwrap().bought);
    assert!(!auto_top_up::buy(db, other).await.unwrap().bought);
    assert!(!auto_top_up::buy(db, OrganisationId(99)).await.unwrap().bought);
    let five = Credits(5);
    let itself = auto_top_up::switch_on(db, other, five, five, five, "worker");
    assert_eq!(code_of(&itself.await.unwrap_err()).as_deref(), Some("42501"));
}
