//! The HTTP API: who may what, what is answered, and what may not happen.

use std::collections::BTreeSet;

use photogate::{
    access::{Caller, Role},
    catalog::organisations,
    changes::alerts::Kind,
    commands::{Bulk, BulkAct, NewAlert, NewSchedule, NewWebhook, Payloads, Which},
    ids::{EventId, Operation, OrganisationId},
    serve,
};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::{
    photos::{samples, work_on},
    support::{
        App, place,
        site::{Site, answered},
    },
};

/// An organisation with a little of everything.
struct Stage {
    organisation: OrganisationId,
    event: EventId,
    photo: String,
    run: i64,
}

async fn a_stage(app: &App) -> Stage {
    let organisation = app.an_organisation_with(1000).await;
    organisations::set_photos_under(&mut *app.db().await, organisation, "rehearsal/")
        .await
        .unwrap();
    let event = app.an_event_of(organisation).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(2).await;
    let photo = held[0].photo().to_string();
    assert!(hand.fail(held.pop().unwrap()).await);
    assert!(hand.succeed(held.pop().unwrap()).await);
    Stage { organisation, event, photo, run: run.run.unwrap().0 }
}

const ALL: &[Role] = &Role::ALL;
const READERS: &[Role] = &[Role::Organiser, Role::Operator, Role::Finance, Role::Staff];
const CHECKERS: &[Role] = &[Role::Operator, Role::Finance, Role::Staff];
const HOLDERS: &[Role] = &[Role::Operator, Role::Staff];
const RETRIERS: &[Role] = &[Role::Organiser, Role::Operator, Role::Staff];
const OWNERS: &[Role] = &[Role::Organiser, Role::Staff];
const MAKERS: &[Role] = &[Role::Pipeline, Role::Organiser, Role::Staff];
const STAFF: &[Role] = &[Role::Staff];
const MONEY: &[Role] = &[Role::Finance, Role::Staff];

/// Every endpoint: who may, what is sent, and what comes of it. `{…}` is filled from the stage;
/// what is `new` is made anew.
#[expect(clippy::too_many_lines, reason = "a table")]
fn endpoints() -> Vec<(&'static str, &'static str, &'static [Role], Value, u16)> {
    let none = || Value::Null;
    let nobody = json!({ "operation": "photo_processing", "photos": [] });
    vec![
        ("GET", "/v1/events", ALL, none(), 200),
        (
            "POST",
            "/v1/events",
            MAKERS,
            json!({ "name": "Gala", "organisation": "{organisation}" }),
            201,
        ),
        ("GET", "/v1/events/{event}", ALL, none(), 200),
        ("PATCH", "/v1/events/{event}", OWNERS, json!({ "name": "Marathon" }), 200),
        ("DELETE", "/v1/events/{new event}", OWNERS, none(), 204),
        ("PUT", "/v1/events/{event}/start-list", MAKERS, json!("12\n13\n"), 200),
        ("GET", "/v1/events/{event}/finder", OWNERS, none(), 200),
        ("PUT", "/v1/events/{event}/finder", OWNERS, json!({ "access": "link" }), 200),
        ("GET", "/v1/events/{event}/erasures", OWNERS, none(), 200),
        ("POST", "/v1/events/{event}/erasures", OWNERS, json!({ "bib": "99" }), 201),
        ("GET", "/v1/events/{event}/files/{file}", MAKERS, none(), 404),
        ("PUT", "/v1/events/{event}/files/{file}", MAKERS, json!("no photo"), 422),
        ("GET", "/v1/events/{event}/live", ALL, none(), 200),
        ("GET", "/v1/events/{event}/photos", ALL, none(), 200),
        ("GET", "/v1/events/{event}/search/bib?number=12", ALL, none(), 200),
        ("POST", "/v1/events/{event}/search/selfie", OWNERS, json!("no photo"), 409),
        (
            "POST",
            "/v1/events/{event}/runs",
            MAKERS,
            json!({ "operation": "ai_rotation", "all": true, "dry_run": true }),
            200,
        ),
        (
            "POST",
            "/v1/events/{event}/holds",
            HOLDERS,
            json!({ "operation": "ai_rotation", "note": "?" }),
            201,
        ),
        (
            "POST",
            "/v1/events/{event}/retry",
            RETRIERS,
            json!({ "operation": "photo_processing", "dry_run": true }),
            200,
        ),
        ("POST", "/v1/events/{event}/skip", RETRIERS, nobody.clone(), 200),
        ("POST", "/v1/events/{event}/restore", RETRIERS, nobody, 200),
        ("GET", "/v1/events/{event}/quality", ALL, none(), 200),
        ("GET", "/v1/events/{event}/timeline", READERS, none(), 200),
        (
            "POST",
            "/v1/events/{event}/schedules",
            MAKERS,
            json!({ "operation": "ai_rotation", "all": true, "not_before": "{soon}" }),
            201,
        ),
        ("GET", "/v1/schedules", ALL, none(), 200),
        ("PATCH", "/v1/schedules/{new schedule}", RETRIERS, json!({ "not_before": "{soon}" }), 200),
        ("DELETE", "/v1/schedules/{new schedule}", RETRIERS, none(), 200),
        ("PUT", "/v1/events/{event}/budget", OWNERS, json!({ "cap": 9, "floor": 1 }), 200),
        ("DELETE", "/v1/events/{event}/budget", OWNERS, none(), 200),
        (
            "PUT",
            "/v1/events/{event}/pace",
            &[Role::Organiser, Role::Operator, Role::Staff],
            json!({ "in_flight_max": 9, "quiet_from": "22:00:00", "quiet_to": "06:00:00" }),
            200,
        ),
        ("GET", "/v1/events/{event}/why", ALL, none(), 200),
        ("DELETE", "/v1/holds/{new hold}", HOLDERS, none(), 204),
        ("GET", "/v1/runs/{run}", ALL, none(), 200),
        ("GET", "/v1/runs/{run}/photos", ALL, none(), 200),
        ("POST", "/v1/runs/{run}/cancel", RETRIERS, none(), 200),
        ("POST", "/v1/runs/{run}/first", RETRIERS, none(), 200),
        ("GET", "/v1/events/{event}/undo", ALL, none(), 200),
        ("POST", "/v1/undo", HOLDERS, json!({ "undo": ["{new undo}"] }), 200),
        ("GET", "/v1/photos/{photo}", ALL, none(), 200),
        ("GET", "/v1/photos/{photo}/why", ALL, none(), 200),
        ("GET", "/v1/photos/{photo}/receipt", READERS, none(), 200),
        ("PUT", "/v1/photos/{photo}/bibs", OWNERS, json!({ "numbers": ["12"] }), 200),
        ("DELETE", "/v1/photos/{photo}/bibs/correction", OWNERS, none(), 204),
        ("PUT", "/v1/photos/{photo}/turn", OWNERS, json!({ "turn": 90 }), 409),
        ("DELETE", "/v1/photos/{photo}/turn/correction", OWNERS, none(), 204),
        ("GET", "/v1/organisations", STAFF, none(), 200),
        (
            "POST",
            "/v1/organisations",
            STAFF,
            json!({ "name": "Club", "time_zone": "UTC", "photos_under": "club/" }),
            201,
        ),
        ("GET", "/v1/organisations/{organisation}", ALL, none(), 200),
        ("PATCH", "/v1/organisations/{organisation}", STAFF, json!({ "price": "0.05 EUR" }), 200),
        ("GET", "/v1/organisations/{organisation}/live", ALL, none(), 200),
        ("GET", "/v1/organisations/{organisation}/why", ALL, none(), 200),
        ("GET", "/v1/organisations/{organisation}/credits", ALL, none(), 200),
        ("GET", "/v1/organisations/{organisation}/spending", READERS, none(), 200),
        (
            "PUT",
            "/v1/organisations/{organisation}/pace",
            &[Role::Operator, Role::Staff],
            json!({ "pace": { "photos_per_minute": 90_000 } }),
            200,
        ),
        (
            "PUT",
            "/v1/organisations/{organisation}/spending/order?dry_run=true",
            OWNERS,
            json!({ "order": "finish_first", "events": [] }),
            200,
        ),
        ("GET", "/v1/organisations/{organisation}/auto-top-up", READERS, none(), 200),
        (
            "PUT",
            "/v1/organisations/{organisation}/auto-top-up",
            OWNERS,
            json!({ "below": 1, "credits": 1, "monthly_max": 5, "price": "0.05 EUR" }),
            200,
        ),
        ("DELETE", "/v1/organisations/{organisation}/auto-top-up", OWNERS, none(), 200),
        (
            "POST",
            "/v1/organisations/{organisation}/purchases",
            OWNERS,
            json!({ "credits": 1 }),
            201,
        ),
        (
            "GET",
            "/v1/purchase-requests",
            &[Role::Organiser, Role::Finance, Role::Staff],
            none(),
            200,
        ),
        (
            "GET",
            "/v1/payments?open=true",
            &[Role::Organiser, Role::Finance, Role::Staff],
            none(),
            200,
        ),
        ("POST", "/v1/payments/{new payment}/settle", STAFF, json!({ "note": "paid back" }), 200),
        ("POST", "/v1/purchase-requests/{new request}/approve", STAFF, none(), 200),
        ("POST", "/v1/purchase-requests/{new request}/refuse", OWNERS, none(), 200),
        (
            "POST",
            "/v1/organisations/{organisation}/grants",
            STAFF,
            json!({ "credits": 1, "note": "trial" }),
            201,
        ),
        (
            "POST",
            "/v1/organisations/{organisation}/adjustments",
            STAFF,
            json!({ "credits": -1 }),
            201,
        ),
        ("GET", "/v1/organisations/{organisation}/history", READERS, none(), 200),
        ("GET", "/v1/organisations/{organisation}/months", READERS, none(), 200),
        ("GET", "/v1/organisations/{organisation}/days?first=2026-11-01", READERS, none(), 200),
        ("GET", "/v1/organisations/{organisation}/statements/{month}", READERS, none(), 200),
        ("GET", "/v1/organisations/{organisation}/statements/{month}/csv", READERS, none(), 200),
        ("GET", "/v1/organisations/{organisation}/statements/{month}/pdf", READERS, none(), 200),
        ("GET", "/v1/months/{month}", MONEY, none(), 200),
        ("GET", "/v1/months/{month}/csv", MONEY, none(), 200),
        ("GET", "/v1/queues", READERS, none(), 200),
        ("GET", "/v1/queues/totals", READERS, none(), 200),
        (
            "POST",
            "/v1/queues/bulk",
            HOLDERS,
            json!({ "queues": ["{new queue}"], "act": "hold", "note": "bad camera clock" }),
            200,
        ),
        ("POST", "/v1/queues/bulk/{new bulk}/undo", HOLDERS, none(), 200),
        ("GET", "/v1/failures", READERS, none(), 200),
        ("GET", "/v1/workers", HOLDERS, none(), 200),
        ("GET", "/v1/refunds", READERS, none(), 200),
        ("GET", "/v1/refunds/photos", READERS, none(), 200),
        ("GET", "/v1/reconciliations", CHECKERS, none(), 200),
        ("POST", "/v1/reconciliations", CHECKERS, none(), 200),
        ("GET", "/v1/changes?organisation={organisation}", ALL, none(), 200),
        ("PUT", "/v1/organisations/{organisation}/feed", OWNERS, json!({ "photos": true }), 204),
        ("GET", "/v1/alerts", READERS, none(), 200),
        (
            "POST",
            "/v1/organisations/{organisation}/alerts",
            RETRIERS,
            json!({ "kind": "low_balance", "threshold": "{new number}" }),
            201,
        ),
        ("DELETE", "/v1/alerts/{new alert}", RETRIERS, none(), 204),
        ("GET", "/v1/mailboxes", OWNERS, none(), 200),
        (
            "PUT",
            "/v1/people/{new person}/mailbox",
            OWNERS,
            json!({ "topics": ["events", "credits"] }),
            200,
        ),
        ("GET", "/v1/webhooks", RETRIERS, none(), 200),
        (
            "POST",
            "/v1/organisations/{organisation}/webhooks",
            OWNERS,
            json!({ "url": "https://example.com/{new webhook}", "types": ["run.finished"] }),
            201,
        ),
        ("PATCH", "/v1/webhooks/{new webhook}", OWNERS, json!({ "enabled": false }), 200),
        ("DELETE", "/v1/webhooks/{new webhook}", OWNERS, none(), 204),
        ("POST", "/v1/webhooks/{new webhook}/ping", OWNERS, none(), 202),
        ("POST", "/v1/webhooks/{new webhook}/rotate", OWNERS, none(), 200),
        ("POST", "/v1/webhooks/{new webhook}/replay", OWNERS, json!({ "from": 1 }), 200),
        ("GET", "/v1/webhooks/{new webhook}/deliveries", RETRIERS, none(), 200),
        ("GET", "/v1/tokens", OWNERS, none(), 200),
        (
            "POST",
            "/v1/tokens",
            OWNERS,
            json!({ "name": "one more", "role": "pipeline", "organisation": "{organisation}" }),
            201,
        ),
        ("DELETE", "/v1/tokens/{new token}", OWNERS, none(), 204),
        (
            "POST",
            "/v1/people",
            OWNERS,
            json!({
                "email": "{new address}",
                "role": "finance",
                "organisation": "{organisation}",
            }),
            201,
        ),
        ("GET", "/v1/people", OWNERS, none(), 200),
        ("PATCH", "/v1/people/{new person}", OWNERS, json!({ "disabled": true }), 200),
        ("POST", "/v1/people/{new person}/password-link", STAFF, none(), 201),
        ("DELETE", "/v1/people/{new protected person}/second-factor", STAFF, none(), 204),
        ("GET", "/v1/invitations", OWNERS, none(), 200),
        ("DELETE", "/v1/invitations/{new invitation}", OWNERS, none(), 204),
        ("GET", "/v1/audit-log", READERS, none(), 200),
    ]
}

/// What concerns all organisations is not for who belongs to one.
const OF_ALL: &[&str] = &["/v1/reconciliations", "/v1/workers"];

async fn with_alerts_and_webhooks(app: &App, stage: &Stage, mut text: String) -> String {
    if text.contains("{new number}") || text.contains("{new alert}") {
        // An organisation has at most twenty.
        app.owner_runs("DELETE FROM photogate.alert").await;
        let new = NewAlert { kind: Kind::Failures, threshold: 9.into() };
        let (commands, caller) = (app.commands(), Caller::trusted("anna"));
        let made = commands.add_alert(&caller, stage.organisation, &new).await.unwrap();
        text = text.replace("{new number}", "5").replace("{new alert}", &made.value.id.to_string());
    }
    if text.contains("{new webhook}") {
        // An organisation has at most ten.
        app.owner_runs("DELETE FROM photogate.webhook").await;
        let new = NewWebhook { url: "https://example.com/hook".into(), types: None };
        let (commands, caller) = (app.commands(), Caller::trusted("anna"));
        let made = commands.add_webhook(&caller, stage.organisation, &new).await.unwrap();
        text = text.replace("{new webhook}", &made.webhook.id.to_string());
    }
    text
}

async fn with_queues(app: &App, stage: &Stage, mut text: String) -> String {
    if text.contains("{new queue}") || text.contains("{new bulk}") {
        let event = app.an_event_of(stage.organisation).await;
        let queues = vec![app.processing(event).await.id];
        text = text.replace("\"{new queue}\"", &queues[0].to_string());
        if text.contains("{new bulk}") {
            let act = BulkAct::Hold { note: String::new(), until: None };
            let (commands, caller) = (app.commands(), Caller::trusted("anna"));
            let done = commands.bulk(&caller, &Bulk { queues, act }).await.unwrap();
            text = text.replace("{new bulk}", &done.undo.unwrap().to_string());
        }
    }
    text
}

async fn filled(app: &App, stage: &Stage, text: &str) -> String {
    let mut text = text
        .replace("{organisation}", &stage.organisation.to_string())
        .replace("{event}", &stage.event.to_string())
        .replace("{photo}", &stage.photo)
        .replace("{run}", &stage.run.to_string())
        .replace("{file}", "a.jpg")
        .replace("{month}", &chrono::Utc::now().format("%Y-%m").to_string())
        .replace("{new address}", &format!("{}@club.example", uuid::Uuid::now_v7()));
    if text.contains("{new event}") {
        let event = app.an_event_of(stage.organisation).await;
        text = text.replace("{new event}", &event.to_string());
    }
    if text.contains("{soon}") {
        let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
        text = text.replace("{soon}", &soon.to_rfc3339());
    }
    if text.contains("{new schedule}") {
        let new = NewSchedule {
            operation: Operation::AiRotation.into(),
            photos: Which::All,
            payloads: Payloads::default(),
            not_before: chrono::Utc::now() + chrono::TimeDelta::hours(1),
            priority: photogate::queue::enqueue::Priority::Normal,
        };
        let made = app.commands().schedule(&Caller::trusted("anna"), stage.event, &new).await;
        text = text.replace("{new schedule}", &made.unwrap().id.to_string());
    }
    if text.contains("{new undo}") {
        app.hold(stage.event, "ops").await;
        let undo = app.count("SELECT max(undo_id) FROM undo").await;
        text = text.replace("\"{new undo}\"", &undo.to_string());
    }
    text = with_queues(app, stage, text).await;
    text = with_alerts_and_webhooks(app, stage, text).await;
    if text.contains("{new hold}") {
        text = text.replace("{new hold}", &app.hold(stage.event, "ops").await.to_string());
    }
    if text.contains("{new request}") {
        // Only ten may wait.
        app.owner_runs("DELETE FROM photogate.purchase_request WHERE state = 'pending'").await;
        let newest = "SELECT coalesce(max(request_id), 0) FROM purchase_request";
        let key = format!("request-{}", app.count(newest).await);
        sqlx::query("SELECT purchase($1, 20000, 'anna@club.example', '', $2)")
            .bind(stage.organisation.0)
            .bind(key)
            .execute(&mut *app.db().await)
            .await
            .unwrap();
        text = text.replace("{new request}", &app.count(newest).await.to_string());
    }
    if text.contains("{new payment}") {
        app.owner_runs(
            "INSERT INTO payment (provider, reference, purchase, amount, currency, kept)
             VALUES ('stripe', gen_random_uuid(), 'photogate-99', 50, 'EUR', 'unknown_purchase')",
        )
        .await;
        let newest = app.count("SELECT max(payment_id) FROM payment").await;
        text = text.replace("{new payment}", &newest.to_string());
    }
    if text.contains("{new person}") {
        let address = format!("{}@club.example", uuid::Uuid::now_v7());
        app.a_person(&address, Role::Finance, Some(stage.organisation)).await;
        let newest = app.count("SELECT max(person_id) FROM person").await;
        text = text.replace("{new person}", &newest.to_string());
    }
    if text.contains("{new protected person}") {
        let address = format!("{}@club.example", uuid::Uuid::now_v7());
        app.a_person(&address, Role::Finance, Some(stage.organisation)).await;
        app.owner_runs(
            "INSERT INTO second_factor (person_id, secret)
             SELECT max(person_id), decode(repeat('00', 20), 'hex') FROM person",
        )
        .await;
        let newest = app.count("SELECT max(person_id) FROM person").await;
        text = text.replace("{new protected person}", &newest.to_string());
    }
    if text.contains("{new invitation}") {
        let email = format!("{}@club.example", uuid::Uuid::now_v7());
        let organisation = stage.organisation.to_string();
        let add = ["people", "add", &email, "--role", "finance", "--organisation", &organisation];
        app.says(&add);
        let newest = app.count("SELECT max(invitation_id) FROM invitation").await;
        text = text.replace("{new invitation}", &newest.to_string());
    }
    if text.contains("{new token}") {
        app.a_token(Role::Pipeline, Some(stage.organisation)).await;
        let newest = app.count("SELECT max(token_id) FROM token").await;
        text = text.replace("{new token}", &newest.to_string());
    }
    text
}

async fn ask(
    app: &App,
    site: &Site,
    stage: &Stage,
    endpoint: &(&str, &str, &[Role], Value, u16),
    token: Option<&str>,
) -> Response {
    let (method, path, _, body, _) = endpoint;
    let path = filled(app, stage, path).await;
    let mut request = site.client.request(method.parse().unwrap(), site.url(&path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let body = filled(app, stage, &body.to_string()).await;
    // Numbers stand in the table as words.
    let body: Value = serde_json::from_str(&body.replace(
        &format!("\"organisation\":\"{}\"", stage.organisation),
        &format!("\"organisation\":{}", stage.organisation),
    ))
    .unwrap();
    request = match body {
        Value::Null => request,
        Value::String(text) => request.body(text),
        body @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            request.json(&body)
        }
    };
    request = request.header("Idempotency-Key", uuid::Uuid::now_v7().to_string());
    request.send().await.expect("the service answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_lets_in_whom_it_should_and_nobody_else() {
    let app = App::new().await;
    let stage = a_stage(&app).await;
    let elsewhere = app.an_organisation_with(0).await;
    let site = Site::of(&app).await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        if role != Role::Staff {
            tokens.push((role, true, app.a_token(role, Some(stage.organisation)).await));
        }
        if !matches!(role, Role::Pipeline | Role::Organiser) {
            tokens.push((role, false, app.a_token(role, None).await));
        }
    }
    let stranger = app.a_token(Role::Organiser, Some(elsewhere)).await;
    let mut wrong = Vec::new();
    for endpoint in endpoints() {
        let (method, path, allowed, _, ok) = &endpoint;
        let mut expect = async |who: String, token: Option<&str>, wanted: u16| {
            let found = ask(&app, &site, &stage, &endpoint, token).await.status().as_u16();
            if found != wanted {
                wrong.push(format!("{method} {path} by {who}: {found} instead of {wanted}"));
            }
        };
        expect("nobody".into(), None, 401).await;
        expect("somebody unknown".into(), Some("pg_0000"), 401).await;
        for (role, belongs, token) in &tokens {
            let may = allowed.contains(role) && !(*belongs && OF_ALL.contains(path));
            expect(format!("{role}, belongs: {belongs}"), Some(token), if may { *ok } else { 403 })
                .await;
        }
        let names_something = path.contains('{') || path.ends_with("/tokens") && *method == "POST";
        if names_something && allowed.contains(&Role::Organiser) {
            expect("an organiser of another organisation".into(), Some(&stranger), 404).await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_of_endpoints_and_the_document_are_the_same() {
    let document = serde_json::to_value(serve::document()).unwrap();
    let told: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let path = path.replace("{hold}", "{}").replace("{token}", "{}");
            item.as_object()
                .unwrap()
                .keys()
                .map(move |method| (method.to_uppercase(), plain(&path)))
        })
        .collect();
    // What a payment provider sends has no caller: it is signed. `payments.rs` has its tests.
    let signed = ("POST".to_owned(), "/v1/payments/{}".to_owned());
    let tested = endpoints()
        .into_iter()
        .map(|(method, path, ..)| (method.to_owned(), plain(path)))
        .chain([signed])
        .collect();

    assert_eq!(told, tested);
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_has_the_shape_that_is_documented() {
    let app = App::new().await;
    let stage = a_stage(&app).await;
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let document = serde_json::to_value(serve::document()).unwrap();
    let (mut answers, mut wrong) = (serde_json::Map::new(), Vec::new());
    for endpoint in endpoints() {
        let (method, path, _, _, ok) = &endpoint;
        let call = described(&document, method, path);
        let name = call["operationId"].as_str().unwrap();
        let responses = call["responses"].as_object().unwrap();
        let (_, yes) = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap();
        let Some((kind, content)) = yes["content"].as_object().and_then(|all| all.iter().next())
        else {
            continue;
        };
        // The shapes refer to each other within the document.
        let mut schema = content["schema"].clone();
        schema["components"] = document["components"].clone();
        let schema = jsonschema::validator_for(&schema).unwrap();
        if kind == "application/json" && *ok < 300 {
            let answer = ask(&app, &site, &stage, &endpoint, Some(&staff)).await;
            let answer: Value = answer.json().await.unwrap();
            wrong.extend(schema.iter_errors(&answer).map(|error| {
                format!("the answer of {name}: {error} at {}", error.instance_path())
            }));
            answers.insert(name.to_owned(), answer);
        }
    }
    let kept = place("answers.json");
    std::fs::write(&kept, serde_json::to_string_pretty(&answers).unwrap()).unwrap();
    assert!(answers.len() > 30, "only {} answers were looked at", answers.len());
    assert!(wrong.is_empty(), "{wrong:#?}; what was answered is in {}", kept.display());
}

/// What the document says of an endpoint of the table.
fn described<'a>(document: &'a Value, method: &str, path: &str) -> &'a Value {
    let paths = document["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(known, _)| plain(known) == plain(path)).expect(path);
    &item[method.to_lowercase()]
}

/// A path with its parts left out.
fn plain(path: &str) -> String {
    let path = path.split('?').next().unwrap();
    path.split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_the_funding_plan_and_changes_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let path = format!("/v1/events/{event}/runs");
    let keys =
        json!({ "operation": "photo_processing", "keys": ["a.jpg", "b.jpg", "b.jpg", "c.jpg"] });
    let dry = {
        let mut dry = keys.clone();
        dry["dry_run"] = true.into();
        dry
    };

    let (status, plan) = site.post(&path, &token, dry).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&plan["queued"], &plan["needed"], &plan["available"]),
        (&json!(3), &json!(3), &json!(2))
    );
    assert_eq!(
        (&plan["shortfall"], &plan["will_finish"], &plan["runs"]),
        (&json!(1), &json!(2), &json!([]))
    );
    assert_eq!(
        app.count(
            "SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM photo) + (SELECT count(*) \
             FROM audit_log)"
        )
        .await,
        0
    );

    let mut reject = keys.clone();
    reject["on_insufficient"] = "reject".into();
    let (status, no) = site.post(&path, &token, reject).await;
    assert_eq!(
        (status.as_u16(), &no["code"], &no["retryable"]),
        (402, &json!("insufficient_credits"), &json!(false))
    );
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);

    let (status, queued) = site.post(&path, &token, keys.clone()).await;
    assert_eq!(
        (status.as_u16(), &queued["queued"]),
        (202, &json!(3)),
        "at too few credits it is accepted, and waits"
    );
    let (_, again) = site.post(&path, &token, keys).await;
    assert_eq!(
        (&again["queued"], &again["needed"]),
        (&json!(0), &json!(0)),
        "sent twice, it costs nothing"
    );
    let (_, run) = site.get(&format!("/v1/runs/{}", queued["runs"][0]), &token).await;
    assert_eq!((&run["waiting"], &run["processed"]), (&json!(3), &json!(0)));
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'photos.enqueue'").await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_waits_for_nobody_and_is_true() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(2).await;
    assert!(hand.fail(held.pop().unwrap()).await);
    assert!(hand.succeed(held.pop().unwrap()).await);
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Staff, None).await;
    let path = format!("/v1/events/{event}/runs");
    let keys: Vec<_> = [1, 2, 3, 4, 5, 6, 6].map(|n| format!("rehearsal/ok/{n}")).into();
    let run = async |dry_run: bool, on_insufficient: &str| {
        let body = json!({
            "operation": "photo_processing",
            "keys": keys,
            "dry_run": dry_run,
            "on_insufficient": on_insufficient,
        });
        site.post(&path, &token, body).await
    };
    // Somebody has the queue, and the account.
    let mut owner = app.as_owner().await;
    let mut busy = owner.begin().await.unwrap();
    sqlx::query("SELECT FROM photogate.queue, photogate.account FOR UPDATE")
        .execute(&mut *busy)
        .await
        .unwrap();
    let (status, planned) = run(true, "wait").await;
    assert_eq!(status, 200, "{planned}");
    busy.rollback().await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM photo").await, 4, "nothing was written");

    let (status, done) = run(false, "wait").await;
    assert_eq!(status, 202);
    for of in
        ["queued", "skipped", "already_paid", "needed", "available", "shortfall", "will_finish"]
    {
        assert!(!planned[of].is_null() && planned[of] == done[of], "{of}: {planned} and {done}");
    }
    assert_eq!((&done["queued"], &done["shortfall"]), (&json!(2), &json!(2)));
    assert_eq!(run(false, "reject").await.0, 202, "what is queued already costs nothing");
    let more = json!({
        "operation": "photo_processing",
        "keys": ["rehearsal/ok/7"],
        "on_insufficient": "reject",
    });
    assert_eq!(site.post(&path, &token, more).await.0, 402);
    assert_eq!(app.processing(event).await.waiting, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_brings_what_is_new_below_it_and_nothing_of_others() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(10).await;
    let store = samples(&app);
    std::fs::write(store.join("marathon/notes.txt"), "no photo").unwrap();
    let event = app.an_event_of(organisation).await;
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let sync = json!({ "operation": "ai_rotation", "prefix": "marathon/" });
    let path = format!("/v1/events/{event}/runs");
    let photos = std::fs::read_dir(store.join("marathon")).unwrap().count() - 1;

    let (_, run) = site.post(&path, &token, sync.clone()).await;
    assert_eq!(run["queued"], json!(photos));
    let (_, again) = site.post(&path, &token, sync.clone()).await;
    assert_eq!(again["queued"], json!(0));
    let (_, live) =
        site.post(&path, &token, json!({ "operation": "photo_processing", "all": true })).await;
    assert_eq!(live["queued"], json!(photos), "Go Live takes all that the event has");

    let change = site.ask(Method::PATCH, &format!("/v1/organisations/{organisation}"), &staff);
    let (status, _) = answered(change.json(&json!({ "photos_under": "gala/" }))).await;
    assert_eq!(status, 200);
    let (status, no) = site.post(&path, &token, sync).await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/prefix")));
    let (status, no) = site
        .post(
            &path,
            &token,
            json!({ "operation": "ai_rotation", "keys": ["gala/1.jpg", "marathon/1.jpg"] }),
        )
        .await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/keys/1")));
    let change = site.ask(Method::PATCH, &format!("/v1/organisations/{organisation}"), &staff);
    let (status, no) = answered(change.json(&json!({ "photos_under": "gal" }))).await;
    assert_eq!(status, 422, "half a name would be another's too");
    assert!(no["detail"].as_str().unwrap().contains("ends with a slash"), "{no}");
    let other = app.an_organisation_with(0).await;
    let theirs = app.an_event_of(other).await;
    let stranger = app.a_token(Role::Pipeline, Some(other)).await;
    app.owner_runs("UPDATE photogate.organisation SET photos_under = ''").await;
    let all = json!({ "operation": "ai_rotation", "prefix": "" });
    let (status, no) = site.post(&format!("/v1/events/{theirs}/runs"), &stranger, all).await;
    assert_eq!(
        (status.as_u16(), &no["code"]),
        (409, &json!("photos_under_unset")),
        "not the photos of others"
    );
}

/// Found: of two that were made at the same time, both were the first.
#[tokio::test(flavor = "multi_thread")]
async fn two_organisations_that_are_made_at_the_same_time_get_a_part_each() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let mut db = app.db().await;
    let mut tx = db.begin().await.unwrap();
    let first = organisations::create(&mut tx, "First", "UTC").await.unwrap();
    assert_eq!(organisations::part_of_store(&mut tx, first).await.unwrap(), "");

    let new = json!({ "name": "Second", "time_zone": "UTC" });
    let mut second = Box::pin(site.post("/v1/organisations", &staff, new));
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut second).await;
    assert!(early.is_err(), "it waits: {early:?}");
    tx.commit().await.unwrap();

    let (status, made) = second.await;
    assert_eq!((status.as_u16(), &made["photos_under"]), (201, &json!("second/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_organisation_gets_a_part_of_the_store_and_stops_nobody() {
    let app = App::new().await;
    let store = samples(&app);
    std::fs::write(store.join("first.jpg"), "a photo").unwrap();
    let site = Site::of(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let create = async |name: &str| {
        let new = json!({ "name": name, "time_zone": "Europe/Berlin" });
        let (status, made) = site.post("/v1/organisations", &staff, new).await;
        assert_eq!(status, 201, "{made}");
        (OrganisationId(made["id"].as_i64().unwrap()), made["photos_under"].clone())
    };
    let (first, under) = create("First Club").await;
    assert_eq!(under, "");
    let event = app.an_event_of(first).await;
    let path = format!("/v1/events/{event}/runs");
    let token = app.a_token(Role::Pipeline, Some(first)).await;
    let (_, under) = create("Marathon").await;
    assert_eq!(under, "marathon/");
    let (_, under) = create("Märathon!").await;
    assert_eq!(under, "m-rathon/");
    let (third, under) = create("marathon").await;
    assert_eq!(under, json!(format!("marathon-{third}/")), "each has its own");
    let (fourth, under) = create("Клуб").await;
    assert_eq!(under, json!(format!("{fourth}/")));

    let keys = |keys: &[&str]| json!({ "operation": "ai_rotation", "keys": keys });
    let (status, run) = site.post(&path, &token, keys(&["first.jpg"])).await;
    assert_eq!((status.as_u16(), &run["queued"]), (202, &json!(1)));
    let (status, no) = site.post(&path, &token, keys(&["x.jpg", "marathon/IMG_0001.jpg"])).await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/keys/1")));
    let sync = json!({ "operation": "photo_processing", "prefix": "" });
    let (status, run) = site.post(&path, &token, sync).await;
    let of_others = app.count("SELECT count(*) FROM photo WHERE key LIKE 'marathon/%'").await;
    assert_eq!(
        (status.as_u16(), of_others),
        (202, 0),
        "a sync leaves out what is of others: {run}"
    );
    assert!(run["queued"].as_i64().unwrap() >= 1);

    // The command line changes it.
    let number = first.to_string();
    let said = app.says(&["organisations", "photos-under", &number, "first/"]);
    assert!(said.contains("below first/"), "{said}");
    let (status, no) = site.post(&path, &token, keys(&["second.jpg"])).await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/keys/0")));
}

#[tokio::test]
async fn two_organisations_do_not_share_a_part_of_the_store() {
    let app = App::new().await;
    let one = app.an_organisation_with(0).await;
    let other = app.an_organisation_with(0).await;
    let set = async |organisation, under| {
        let set = organisations::set_photos_under(&mut *app.db().await, organisation, under).await;
        set.map_err(|error| error.to_string())
    };
    set(one, "club/2026/").await.unwrap();

    for under in ["club/2026/", "club/", "club/2026/marathon/"] {
        let refused = set(other, under).await.unwrap_err();
        assert!(refused.contains("choose another part of the store"), "{refused}");
    }
    for (organisation, under) in [(other, "club/2027/"), (one, "club/2026/"), (one, "")] {
        set(organisation, under).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_and_secrets_are_nowhere() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    let new = json!({ "name": "pipeline", "role": "pipeline" });
    let (status, made) = site.post("/v1/tokens", &organiser, new).await;
    assert_eq!(status, 201);
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(site.get("/v1/events", secret).await.0, 200);

    let revoke = site.ask(Method::DELETE, &format!("/v1/tokens/{}", made["id"]), &organiser);
    assert_eq!(revoke.send().await.unwrap().status(), 204);

    assert_eq!(site.get("/v1/events", secret).await.0, 401);
    let (_, tokens) = site.get("/v1/tokens", &organiser).await;
    assert!(!tokens.to_string().contains(&secret[10..]), "{tokens}");
    let kept: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM token t WHERE strpos(t::text, $1) > 0) \
         + (SELECT count(*) FROM audit_log l WHERE strpos(l::text, $1) > 0)",
    )
    .bind(&secret[10..])
    .fetch_one(&mut app.as_owner().await)
    .await
    .unwrap();
    assert_eq!(kept, 0, "more of the secret than the hint is kept");
    assert_eq!(app.count("SELECT count(*) FROM token").await, 2);
    assert!(app.count("SELECT count(*) FROM audit_log").await > 0);
    let operator = json!({ "name": "more", "role": "operator" });
    assert_eq!(site.post("/v1/tokens", &organiser, operator).await.0, 403);
    // Nor may an organiser end what staff has made for the operators of the organisation.
    let theirs = app.a_token(Role::Operator, Some(organisation)).await;
    let id = app.count("SELECT max(token_id) FROM token").await;
    let revoke = site.ask(Method::DELETE, &format!("/v1/tokens/{id}"), &organiser);
    assert_eq!(revoke.send().await.unwrap().status(), 403);
    assert_eq!(site.get("/v1/events", &theirs).await.0, 200);
    let staff = json!({ "name": "more", "role": "staff" });
    assert_eq!(
        site.post("/v1/tokens", &organiser, staff).await.0,
        403,
        "nobody gives more than they have"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_how_it_may_be_used_and_every_no_says_why() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    for (method, path, body, status, code) in [
        (Method::GET, "/v1/nothing", "", 404, "not_found"),
        (Method::GET, "/v1/events/0", "", 404, "not_found"),
        (Method::GET, "/v1/events/x", "", 404, "not_found"),
        (Method::GET, "/v1/events?limit=1000", "", 422, "invalid"),
        (Method::DELETE, "/v1/events", "", 405, "method_not_allowed"),
        (Method::POST, "/v1/events", "{", 400, "malformed"),
        (Method::POST, "/v1/events", "{\"name\": \"\"}", 422, "invalid"),
        (Method::POST, "/v1/events", "{\"name\": \"a\\u0000b\"}", 422, "invalid"),
        (Method::POST, "/v1/events", "{\"name\": 1}", 422, "invalid"),
    ] {
        let request = site.ask(method.clone(), path, &token).header("x-request-id", "abc-1");
        let answer = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let headers = answer.headers().clone();
        assert_eq!(headers["content-type"], "application/problem+json", "{method} {path}");
        assert_eq!(headers["x-request-id"], "abc-1");
        assert!(headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
        assert_eq!(answer.status(), status, "{method} {path} {body}");
        let no: Value = answer.json().await.unwrap();
        assert_eq!((&no["status"], &no["request_id"]), (&json!(status), &json!("abc-1")));
        assert_eq!(no["code"], code, "{method} {path} {body}: {no}");
    }
    for path in ["/livez", "/readyz", "/docs", "/v1/openapi.json"] {
        assert_eq!(site.get(path, "").await.0, 200, "{path}");
    }
    // Last: whoever is refused in the middle of a body is cut off.
    let huge = "x".repeat(17 << 20);
    let put = site.ask(
        Method::PUT,
        &format!("/v1/events/{}/start-list", app.an_event_of(organisation).await),
        &token,
    );
    assert_eq!(put.body(huge).send().await.unwrap().status(), 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_what_has_to_be_undone_first_and_the_one_thing_to_do() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 3).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Operator, None).await;
    let why = async |path: String| {
        let (_, why) = site.get(&path, &token).await;
        let codes: Vec<_> = why["chain"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| cause["code"].as_str().unwrap().to_owned())
            .collect();
        (codes, why["action"].as_str().map(str::to_owned))
    };
    let of_event = format!("/v1/events/{event}/why");
    let causes = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>();

    assert_eq!(
        why(of_event.clone()).await,
        (causes(&["no_credits", "no_worker"]), Some("top up 3 credits".into()))
    );
    app.hold(event, "ops@photogate.example").await;
    let (codes, action) = why(of_event.clone()).await;
    assert_eq!(codes, causes(&["held", "no_worker"]), "what is held is not said to want credits");
    assert!(action.unwrap().contains("ops@photogate.example"));
    let (_, listed) = site.get(&format!("/v1/events/{event}/photos"), &token).await;
    let photo = listed["items"][2]["id"].as_str().unwrap();
    assert_eq!(listed["items"][2]["processing"], "paused");
    let (codes, _) = why(format!("/v1/photos/{photo}/why")).await;
    assert_eq!(codes, causes(&["held", "no_worker", "in_line"]));
    let said = app.says(&["why", "event", &event.to_string()]);
    assert!(said.contains("Do: ask ops@photogate.example"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_hold_is_not_lifted_by_a_top_up_and_ends_by_itself_when_it_should() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(0).await;
    app.queue(event, "ok", 1).await;
    let site = Site::of(&app).await;
    let operator = app.a_token(Role::Operator, None).await;
    let holds = format!("/v1/events/{event}/holds");
    let (status, held) = site
        .post(
            &holds,
            &operator,
            json!({ "operation": "photo_processing", "note": "bad camera clock" }),
        )
        .await;
    assert_eq!(status, 201);
    let past = json!({ "until": "2020-01-01T00:00:00Z" });
    let (status, no) = site.post(&holds, &operator, past).await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/until")));

    app.top_up(organisation, 5).await;

    let (_, queues) = site.get(&format!("/v1/queues?event={event}&state=held"), &operator).await;
    assert_eq!(
        (&queues["items"][0]["state"], &queues["items"][0]["note"]),
        (&json!("held"), &json!("bad camera clock"))
    );
    let lift = site.ask(Method::DELETE, &format!("/v1/holds/{}", held["holds"][0]), &operator);
    assert_eq!(lift.send().await.unwrap().status(), 204);
    let (_, queues) = site.get(&format!("/v1/queues?event={event}&state=running"), &operator).await;
    assert_eq!(
        (&queues["items"][0]["waiting"], &queues["items"][0]["funded"]),
        (&json!(1), &json!(1))
    );
    let (_, deeds) = site.get("/v1/audit-log", &operator).await;
    let actions: Vec<_> = deeds["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["queue.lift", "queue.hold"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_told_as_it_changes_with_redis_and_without() {
    for redis in [true, false] {
        let app = if redis { App::new().await } else { App::new().await.without_redis() };
        let (organisation, event) = app.an_event_with(1).await;
        app.queue(event, "ok", 1).await;
        let site = Site::of(&app).await;
        let token = app.a_token(Role::Organiser, Some(organisation)).await;
        let mut stream = site
            .ask(Method::GET, &format!("/v1/events/{event}/live"), &token)
            .send()
            .await
            .unwrap();
        let mut heard = String::new();
        let worker = app.start_worker();
        while !heard.contains("\"processed\":1") {
            let part = stream.chunk().await.unwrap().expect("it goes on until something is told");
            heard.push_str(&String::from_utf8_lossy(&part));
        }
        assert!(heard.starts_with("event: standing"), "{heard}");
        site.stop.cancel();
        while stream.chunk().await.is_ok_and(|part| part.is_some()) {}
        worker.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_are_listed_with_state_and_found_by_number() {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(10).await;
    work_on(
        &app,
        event,
        Operation::PhotoProcessing,
        &["marathon/IMG_0001.jpg", "marathon/IMG_0002.jpg"],
    )
    .await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let photos = format!("/v1/events/{event}/photos");

    let (_, all) = site.get(&format!("{photos}?limit=1"), &token).await;
    assert_eq!(all["items"][0]["key"], "marathon/IMG_0001.jpg");
    assert_eq!(all["items"][0]["processing"], "processed");
    let (_, next) = site
        .get(&format!("{photos}?limit=1&after={}", all["next"].as_str().unwrap()), &token)
        .await;
    assert_eq!(
        (&next["items"][0]["key"], &next["next"]),
        (&json!("marathon/IMG_0002.jpg"), &Value::Null)
    );
    let (_, found) = site.get(&format!("{photos}?bib=a207&state=processed"), &token).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["bibs"][0]["number"], "A207");
    assert_eq!(site.get(&format!("{photos}?state=failed"), &token).await.1["items"], json!([]));
}
