//! Credits that come in over HTTP: once, whatever becomes of the connection, the price or the
//! service.

use photogate::{access::Role, catalog::organisations, ids::OrganisationId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{
    App, Process, a_free_address, program,
    site::{Site, Visitor, answered},
};

async fn buy(
    site: &Site,
    organisation: OrganisationId,
    token: &str,
    key: &str,
    body: Value,
) -> (StatusCode, Value) {
    let path = format!("/v1/organisations/{organisation}/purchases");
    let request = site.ask(Method::POST, &path, token).header("Idempotency-Key", key);
    answered(request.json(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_arrives_twice_is_credited_once_and_wakes_what_waited() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 2).await;
    let worker = app.start_worker();
    app.until_out_of_credit(event).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let buy = async |credits: i64, key: &'static str| {
        buy(&site, organisation, &token, key, json!({ "credits": credits })).await
    };

    let (first, second) = tokio::join!(buy(2, "one"), buy(2, "one"));
    for (status, answer) in [&first, &second] {
        match status.as_u16() {
            200 | 201 => {}
            409 => assert_eq!(
                (&answer["code"], &answer["retryable"]),
                (&json!("in_progress"), &json!(true))
            ),
            other => panic!("{other}: {answer}"),
        }
    }
    assert_eq!(buy(2, "one").await.0, 200, "however it went, it is credited now");
    let (other, no) = buy(3, "one").await;
    assert_eq!((other.as_u16(), &no["code"]), (422, &json!("idempotency_key_reused")));
    let path = format!("/v1/organisations/{organisation}/purchases");
    let without = site.ask(Method::POST, &path, &token).json(&json!({ "credits": 1 }));
    let (status, no) = answered(without).await;
    let pointer = &no["errors"][0]["pointer"];
    assert_eq!((status.as_u16(), pointer), (422, &json!("Idempotency-Key")));

    app.until_done(event).await;
    assert_eq!(app.credits(organisation).await, (0, 0, 2));
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'credits.top_up'").await,
        1
    );
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_being_answered_is_in_progress_until_it_is() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let buy = async |key: &'static str| {
        buy(&site, organisation, &token, key, json!({ "credits": 5 })).await
    };
    // Somebody has the account for a while.
    let mut owner = app.as_owner().await;
    let mut busy = owner.begin().await.unwrap();
    sqlx::query("SELECT FROM photogate.account FOR UPDATE").execute(&mut *busy).await.unwrap();

    let (first, twin) = tokio::join!(buy("one"), async {
        app.until_somebody_waits_for_a_lock().await;
        let twin = buy("one").await;
        busy.rollback().await.unwrap();
        twin
    });
    assert_eq!((twin.0.as_u16(), &twin.1["code"]), (409, &json!("in_progress")));
    assert_eq!(first.0, 201);
    assert_eq!(buy("one").await.0, 200);
    assert_eq!(app.credits(organisation).await, (6, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_a_price_they_were_not_told() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let page = anna.text(&site, "/credits/add?organisation=1&credits=10&once=x").await;
    assert!(page.contains("Buy <strong>10</strong> credits"), "{page}");

    let dearer = "0.09 EUR".parse().unwrap();
    organisations::set_price(&mut *app.db().await, organisation, Some(&dearer)).await.unwrap();

    let form = [("organisation", "1"), ("credits", "10"), ("once", "x"), ("price", "0.05 EUR")];
    assert_eq!(anna.post(&site, "/credits/add", &form).await, 409);
    let told = json!({ "credits": 10, "price": "0.05 EUR" });
    let (status, no) = buy(&site, organisation, &token, "two", told).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("price_changed")));
    assert_eq!(app.credits(organisation).await, (0, 0, 0), "nothing was bought");
    assert_eq!(app.count("SELECT count(*) FROM top_up").await, 0);

    let told = json!({ "credits": 10, "price": "0.0900 EUR" });
    assert_eq!(buy(&site, organisation, &token, "two", told).await.0, 201, "the key is free");
    assert_eq!(app.credits(organisation).await, (10, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_dies_between_the_commit_and_the_answer_has_credited_once() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    // The commit itself waits for us: whoever sent it can die meanwhile.
    let mut owner = app.as_owner().await;
    sqlx::raw_sql(
        "CREATE FUNCTION photogate.test_waits() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER test_waits AFTER INSERT ON photogate.top_up DEFERRABLE \
             INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION photogate.test_waits();
         SELECT pg_advisory_lock(4711)",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let address = a_free_address();
    let mut command = program(&app.config);
    command.args(["serve", "--listen", &address.to_string()]);
    let mut service = Process::start(command);
    app.until_ready(address).await;
    let request = reqwest::Client::new()
        .post(format!("http://{address}/v1/organisations/{organisation}/purchases"))
        .bearer_auth(&token)
        .header("Idempotency-Key", "one")
        .json(&json!({ "credits": 7 }));
    let answer = tokio::spawn(request.send());
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query = 'COMMIT'";
    app.until("the commit was sent", async || app.count(waiting).await == 1).await;

    service.kill();
    assert!(answer.await.unwrap().is_err(), "nobody was told");
    sqlx::raw_sql("SELECT pg_advisory_unlock(4711)").execute(&mut owner).await.unwrap();

    app.until("it is credited", async || app.credits(organisation).await == (7, 0, 0)).await;
    let site = Site::of(&app).await;
    let (status, again) = buy(&site, organisation, &token, "one", json!({ "credits": 7 })).await;
    assert_eq!((status.as_u16(), &again["credited"]), (200, &json!(false)));
    assert_eq!(app.credits(organisation).await, (7, 0, 0));
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'credits.top_up'").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_are_retried_by_two_at_once_are_retried_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(20).await;
    app.queue(event, "ok", 8).await;
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(8).await).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/events/{event}/retry");
    let retry = async || site.post(&path, &token, json!({ "operation": "photo_processing" })).await;

    let (one, other) = tokio::join!(retry(), retry());

    assert_eq!((one.0, other.0), (StatusCode::OK, StatusCode::OK));
    let queued = one.1["queued"].as_i64().unwrap() + other.1["queued"].as_i64().unwrap();
    assert_eq!(queued, 8, "{} and {}", one.1, other.1);
    assert_eq!(app.processing(event).await.waiting, 8);
    assert_eq!(hand.claim(20).await.len(), 8);
    assert_eq!(app.credits(organisation).await, (12, 8, 0));
}
