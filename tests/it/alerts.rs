//! Alerts: raised once when it begins to hold, cleared once when it is well over.

use std::time::Duration;

use photogate::{
    access::{Caller, Role},
    changes::{
        Type,
        alerts::{self, Kind},
        feed,
    },
    commands::NewAlert,
    ids::{AlertId, OrganisationId},
};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::Executor;

use crate::support::{App, Hand, site::Site};

async fn add(app: &App, organisation: OrganisationId, kind: Kind, threshold: i64) -> AlertId {
    let new = NewAlert { kind, threshold: Decimal::from(threshold) };
    let caller = Caller::trusted("anna");
    app.commands().add_alert(&caller, organisation, &new).await.unwrap().value.id
}

/// What was said of alerts, oldest first.
async fn told(app: &App, organisation: OrganisationId) -> Vec<(Type, Value)> {
    let db = &mut *app.db().await;
    feed::number(db, organisation).await.unwrap();
    let types = [Type::AlertRaised, Type::AlertCleared];
    let found = feed::list(db, organisation, 0, &types, 1000).await.unwrap();
    found.into_iter().map(|(_, change)| (change.kind, change.data)).collect()
}

async fn kinds(app: &App, organisation: OrganisationId) -> Vec<Type> {
    told(app, organisation).await.into_iter().map(|(kind, _)| kind).collect()
}

async fn judge(app: &App) -> i32 {
    alerts::judge(&mut *app.db().await, Duration::ZERO).await.unwrap()
}

#[tokio::test]
async fn a_low_balance_is_raised_by_the_claim_that_causes_it_and_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(20).await;
    let alert = add(&app, organisation, Kind::LowBalance, 10).await;
    app.queue(event, "ok", 40).await;
    let hand = app.a_worker().await;
    assert_eq!(hand.claim(10).await.len(), 10);
    assert_eq!(told(&app, organisation).await, [], "ten are left, as many as it may have");

    let held = hand.claim_one().await;
    let raised = told(&app, organisation).await;
    let data = json!({
        "alert": alert, "kind": "low_balance", "threshold": 10.00, "measured": 9, "credits_missing": 20,
    });
    assert_eq!(raised, [(Type::AlertRaised, data)]);
    // Around the threshold nothing more is said.
    hand.fail(held).await;
    app.top_up(organisation, 1).await;
    hand.claim(2).await;
    assert_eq!(kinds(&app, organisation).await.len(), 1);
    app.top_up(organisation, 3).await;
    assert_eq!(kinds(&app, organisation).await, [Type::AlertRaised, Type::AlertCleared]);
    hand.claim(3).await;
    assert_eq!(kinds(&app, organisation).await.len(), 3, "and again");
}

#[tokio::test]
async fn a_movement_that_is_rolled_back_raises_nothing_and_thresholds_are_judged_apart() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(20).await;
    for threshold in [5, 10, 15] {
        add(&app, organisation, Kind::LowBalance, threshold).await;
    }
    app.queue(event, "ok", 40).await;
    let hand = app.a_worker().await;
    let mut db = app.db().await;
    db.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT claim($1, 12, 0, false)")
        .bind(hand.me.key())
        .execute(&mut *db)
        .await
        .unwrap();
    db.execute("ROLLBACK").await.unwrap();
    assert_eq!(told(&app, organisation).await, []);

    hand.claim(12).await;
    assert_eq!(kinds(&app, organisation).await, [Type::AlertRaised; 2], "below fifteen and ten");
    hand.claim(8).await;
    assert_eq!(kinds(&app, organisation).await, [Type::AlertRaised; 3]);
    app.top_up(organisation, 12).await;
    let cleared = &kinds(&app, organisation).await[3..];
    assert_eq!(cleared, [Type::AlertCleared; 2], "twelve are a fifth above five and ten");
}

/// Many movements at the same time: each crossing is said once, and in turn.
#[tokio::test(flavor = "multi_thread")]
async fn claims_and_top_ups_at_the_same_time_raise_and_clear_in_turn() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(12).await;
    let alert = add(&app, organisation, Kind::LowBalance, 10).await;
    app.queue(event, "ok", 400).await;
    let claim = async || {
        let hand = app.a_worker().await;
        for _ in 0..10 {
            hand.try_claim(3).await.unwrap();
        }
    };
    let top_up = async || {
        for _ in 0..20 {
            app.top_up(organisation, 3).await;
        }
    };
    tokio::join!(claim(), claim(), top_up(), top_up());
    // However it went, it ends with nothing.
    let hand = app.a_worker().await;
    while !hand.try_claim(100).await.unwrap().is_empty() {}
    assert_eq!(app.credits(organisation).await.0, 0);

    let kinds = kinds(&app, organisation).await;
    assert_eq!(kinds.last(), Some(&Type::AlertRaised));
    for pair in kinds.windows(2) {
        assert_ne!(pair[0], pair[1], "{kinds:?}");
    }
    let listed = alerts::list(&mut *app.db().await, None, Some(alert)).await.unwrap().remove(0);
    assert!(listed.raised_at.is_some());
}

#[tokio::test]
async fn what_workers_measure_is_raised_and_cleared_too() {
    let mut app = App::new().await;
    // It moves links of the chain to an earlier time.
    app.audited = false;
    let (organisation, event) = app.an_event_with(100).await;
    for (kind, threshold) in
        [(Kind::TimeToZero, 2), (Kind::Failures, 10), (Kind::FloorShort, 0), (Kind::HoldEnds, 30)]
    {
        add(&app, organisation, kind, threshold).await;
    }
    assert_eq!(judge(&app).await, 0);
    app.queue(event, "ok", 60).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(60).await;
    hand.fail_all(claimed.drain(..3)).await;
    hand.succeed_all(claimed.drain(..)).await;
    assert_eq!(judge(&app).await, 0, "the rate of a moment is none, three of sixty are few");

    // Half an hour later: 57 in half an hour, and 43 left, are 22 minutes.
    app.tamper("UPDATE photogate.link SET at = at - interval '30 minutes'").await;
    app.queue(event, "bad", 20).await;
    let failing = hand.claim(20).await;
    hand.fail_all(failing).await;
    let other = app.an_event_of(organisation).await;
    sqlx::query("SELECT set_budget($1, NULL, 500, 'anna')")
        .bind(other.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    app.hold(other, "ops").await;
    app.tamper("UPDATE photogate.hold SET until = clock_timestamp() + interval '20 minutes'").await;
    assert_eq!(judge(&app).await, 4);
    assert_eq!(judge(&app).await, 0);
    let told_now = told(&app, organisation).await;
    let of = |kind: &str| {
        told_now.iter().find(|(_, data)| data["kind"] == kind).map(|(_, data)| &data["measured"])
    };
    assert_eq!(of("failures"), Some(&json!(28.8)), "23 of 80");
    assert_eq!(of("floor_short"), Some(&json!(457)));
    let hours = of("time_to_zero").unwrap().as_f64().unwrap();
    assert!((0.3..0.5).contains(&hours), "{hours}");

    app.top_up(organisation, 1000).await;
    app.owner_runs("UPDATE photogate.hold SET until = until + interval '1 day'").await;
    assert_eq!(judge(&app).await, 3, "failures are of the whole day");
    assert_eq!(kinds(&app, organisation).await[4..], [Type::AlertCleared; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_judges_alerts_and_two_say_each_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.hold(event, "ops").await;
    app.tamper("UPDATE photogate.hold SET until = clock_timestamp() + interval '20 minutes'").await;
    let removed = add(&app, organisation, Kind::HoldEnds, 10).await;
    app.owner_runs("UPDATE photogate.alert SET threshold = 30, judged_at = '2026-01-01'").await;
    let (one, other) = (app.start_worker(), app.start_worker());
    app.until("it is raised", async || kinds(&app, organisation).await.len() == 1).await;
    one.drain().await;
    other.drain().await;
    assert_eq!(kinds(&app, organisation).await, [Type::AlertRaised]);
    app.commands().remove_alert(&Caller::trusted("anna"), removed).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM alert WHERE organisation_id > 0").await, 0);
}

#[tokio::test]
async fn alerts_are_limited_and_of_one_organisation() {
    let app = App::new().await;
    let (mine, theirs) = (app.an_organisation_with(1).await, app.an_organisation_with(1).await);
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(mine)).await;
    let path = format!("/v1/organisations/{mine}/alerts");
    let new = |threshold: &str| json!({ "kind": "failures", "threshold": threshold });
    for n in 0..20 {
        assert_eq!(site.post(&path, &token, new(&n.to_string())).await.0, 201);
    }
    assert_eq!(site.post(&path, &token, new("7")).await.0, 200, "it is there");
    let (status, problem) = site.post(&path, &token, new("20")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("limit_reached")));
    for wrong in ["-1", "1000000001", "0.001", "much"] {
        assert_eq!(site.post(&path, &token, new(wrong)).await.0, 422, "{wrong}");
    }
    let (_, listed) = site.get("/v1/alerts", &token).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 20);
    let other = add(&app, theirs, Kind::LowBalance, 5).await;
    let status = site.ask(reqwest::Method::DELETE, &format!("/v1/alerts/{other}"), &token);
    assert_eq!(crate::support::site::answered(status).await.0, 404);
    let foreign = format!("/v1/organisations/{theirs}/alerts");
    assert_eq!(site.post(&foreign, &token, new("1")).await.0, 404);
}

async fn told_to_staff(app: &App) -> Vec<(Type, Value)> {
    let db = &mut *app.db().await;
    feed::number(db, OrganisationId::STAFF).await.unwrap();
    let found = feed::list(db, OrganisationId::STAFF, 0, &Type::ALL, 1000).await.unwrap();
    found.into_iter().map(|(_, change)| (change.kind, change.data)).collect()
}

/// A worker checks the books, and finds so many rows that do not agree.
async fn check_books(app: &App, hand: &Hand<'_>, kind: &str, violations: i64) {
    let done: bool = sqlx::query_scalar(
        "WITH begun AS MATERIALIZED (
             SELECT begin_reconciliation($1, $2::text::reconciliation_kind, '0 s') AS id)
         SELECT id > 0 FROM begun CROSS JOIN LATERAL end_reconciliation($1, id, $3, '[]')",
    )
    .bind(hand.me.key())
    .bind(kind)
    .bind(violations)
    .fetch_one(&mut *app.db().await)
    .await
    .unwrap();
    assert!(done);
}

#[tokio::test]
async fn staff_hear_of_books_that_do_not_agree_from_the_check_that_finds_it_and_once() {
    let app = App::new().await;
    let hand = app.a_worker().await;
    check_books(&app, &hand, "full", 0).await;
    assert_eq!(told_to_staff(&app).await, []);
    check_books(&app, &hand, "full", 3).await;
    let data = json!({ "alert": 1, "kind": "books_drift", "threshold": 0.00, "measured": 3 });
    assert_eq!(told_to_staff(&app).await, [(Type::AlertRaised, data)]);
    // A short check does not look at what the full one has found.
    check_books(&app, &hand, "incremental", 0).await;
    check_books(&app, &hand, "full", 5).await;
    assert_eq!(told_to_staff(&app).await.len(), 1, "once");
    check_books(&app, &hand, "full", 0).await;
    let told = told_to_staff(&app).await;
    assert_eq!(told.len(), 2);
    assert_eq!((told[1].0, &told[1].1["measured"]), (Type::AlertCleared, &json!(0)));
}

#[tokio::test]
async fn staff_hear_of_purchases_that_wait_and_are_reminded_after_a_day() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    app.owner_runs("UPDATE photogate.organisation SET purchase_limit = 1").await;
    let ask = "SELECT purchase($1, 9, 'anna', '', 'k')";
    sqlx::query(ask).bind(organisation.0).execute(&mut *app.db().await).await.unwrap();
    let asked = json!({
        "organisation": organisation, "request": 1, "state": "pending", "credits": 9, "actor": "anna",
    });
    assert_eq!(told_to_staff(&app).await, [(Type::PurchaseAsked, asked)]);
    assert_eq!(judge(&app).await, 0, "it does not wait for long yet");

    let later = "UPDATE photogate.purchase_request SET asked_at = asked_at - interval '25 hours'";
    app.owner_runs(later).await;
    assert_eq!(judge(&app).await, 1);
    assert_eq!(judge(&app).await, 0, "once");
    let decide = "SELECT decide_purchase(1, false, 'staff')";
    sqlx::query(decide).execute(&mut *app.db().await).await.unwrap();
    assert_eq!(judge(&app).await, 1);
    let kinds: Vec<_> = told_to_staff(&app).await.into_iter().map(|(kind, _)| kind).collect();
    let expected =
        [Type::PurchaseAsked, Type::AlertRaised, Type::PurchaseDecided, Type::AlertCleared];
    assert_eq!(kinds, expected);
}

/// The feed, webhooks and alerts of the staff are of nobody else.
#[tokio::test]
async fn organisers_neither_see_nor_change_what_is_of_the_staff() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let drift = json!({ "kind": "books_drift", "threshold": "2" });
    let hook = json!({ "url": "https://ops.example/hook" });
    for (path, body) in [("alerts", &drift), ("webhooks", &hook)] {
        let path = format!("/v1/organisations/0/{path}");
        assert_eq!(site.post(&path, &staff, body.clone()).await.0, 201);
        let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
        assert_eq!(site.post(&path, &organiser, body.clone()).await.0, 404);
    }
    let low = json!({ "kind": "low_balance", "threshold": "2" });
    assert_eq!(site.post("/v1/organisations/0/alerts", &staff, low).await.0, 422);
    let own = format!("/v1/organisations/{organisation}/alerts");
    assert_eq!(site.post(&own, &staff, drift).await.0, 422);

    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    for path in ["/v1/alerts", "/v1/webhooks"] {
        let (_, all) = site.get(path, &staff).await;
        assert!(!all["items"].as_array().unwrap().is_empty());
        assert_eq!(site.get(path, &organiser).await.1["items"], json!([]));
        let asked = format!("{path}?organisation=0");
        assert_eq!(site.get(&asked, &organiser).await.0, 404);
    }
    assert_eq!(site.get("/v1/changes?organisation=0", &organiser).await.0, 404);
    assert_eq!(site.get("/v1/changes?organisation=0", &staff).await.0, 200);
    for path in ["/v1/alerts/1", "/v1/webhooks/1"] {
        let answer = site.ask(reqwest::Method::DELETE, path, &organiser);
        assert_eq!(crate::support::site::answered(answer).await.0, 404);
    }
}
