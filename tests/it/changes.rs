//! The feed: a client reads each change once, in its order, and waits for the next one.

use std::time::Duration;

use photogate::{
    access::{Caller, Role},
    changes::{Type, alerts::Kind, feed},
    commands::{NewAlert, NewWebhook, Undo},
    ids::OrganisationId,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    App, photogate,
    site::{Site, answered},
};

async fn read(site: &Site, token: &str, query: &str) -> Value {
    let (status, answer) = site.get(&format!("/v1/changes?{query}"), token).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn kinds(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

async fn an_organiser(app: &App, organisation: OrganisationId) -> String {
    app.a_token(Role::Organiser, Some(organisation)).await
}

#[tokio::test]
async fn pages_of_every_size_are_the_whole_feed() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    for n in 0..5 {
        app.queue(event, &format!("ok-{n}"), 1).await;
        app.top_up(organisation, 1).await;
    }
    let site = Site::of(&app).await;
    let token = an_organiser(&app, organisation).await;
    let whole = read(&site, &token, "").await;
    assert_eq!(kinds(&whole).len(), 11);
    for limit in 1..=12 {
        let (mut found, mut after) = (Vec::new(), "0".to_owned());
        loop {
            let page = read(&site, &token, &format!("after={after}&limit={limit}")).await;
            let items = page["items"].as_array().unwrap();
            found.extend(items.iter().cloned());
            if items.is_empty() {
                break;
            }
            after = page["next"].as_str().unwrap().to_owned();
        }
        assert_eq!(json!(found), whole["items"], "{limit}");
    }
    // What is of other types is passed over, and not read again.
    let queued = read(&site, &token, "types=run.queued&limit=2").await;
    assert_eq!(kinds(&queued), ["run.queued"; 2]);
    let held = read(&site, &token, "types=event.held").await;
    assert_eq!((kinds(&held).len(), &held["next"]), (0, &json!("11")));
    for wrong in ["after=12", "after=x", "types=run", "wait=26", "limit=0"] {
        let (status, _) = site.get(&format!("/v1/changes?{wrong}"), &token).await;
        assert_eq!(status, 422, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_a_change_when_it_happens() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let site = Site::of(&app).await;
    let token = an_organiser(&app, organisation).await;
    let next = read(&site, &token, "after=end").await["next"].as_str().unwrap().to_owned();
    assert_eq!(read(&site, &token, &format!("after={next}&wait=1")).await["items"], json!([]));

    let query = format!("after={next}&wait=25");
    let (heard, ()) = tokio::join!(read(&site, &token, &query), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        app.top_up(organisation, 5).await;
    });
    assert_eq!(kinds(&heard), ["credits.added"]);
    assert_eq!(heard["items"][0]["data"]["credits"], 5);

    // A service that stops lets nobody wait.
    let query = format!("after={}&wait=25", heard["next"].as_str().unwrap());
    let (heard, ()) = tokio::join!(read(&site, &token, &query), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.stop.cancel();
    });
    assert_eq!(heard["items"], json!([]));
}

#[tokio::test]
async fn old_changes_are_deleted_and_a_client_that_was_away_is_told() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let other = app.an_organisation_with(1).await;
    for _ in 0..4 {
        app.top_up(organisation, 1).await;
    }
    let site = Site::of(&app).await;
    let token = an_organiser(&app, organisation).await;
    assert_eq!(kinds(&read(&site, &token, "").await).len(), 5);
    feed::number(&mut *app.db().await, other).await.unwrap();
    app.tamper("UPDATE photogate.change SET at = at - interval '15 days' WHERE position <= 3")
        .await;
    app.tamper("UPDATE photogate.change_end SET oldest_at = oldest_at - interval '15 days'").await;
    while feed::forget(&mut *app.db().await, 14).await.unwrap() > 0 {}

    let left = read(&site, &token, "").await;
    assert_eq!(left["items"][0]["id"], "4");
    assert_eq!(kinds(&left).len(), 2);
    let (status, problem) = site.get("/v1/changes?after=2", &token).await;
    assert_eq!((status.as_u16(), &problem["code"]), (410, &json!("changes_gone")));
    assert_eq!(kinds(&read(&site, &token, "after=3").await).len(), 2);
    let found = feed::list(&mut *app.db().await, other, 0, &Type::ALL, 9).await.unwrap();
    assert_eq!(found, []);
}

#[tokio::test]
async fn programs_that_queue_photos_do_not_hear_who_bought_credits() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    assert_eq!(kinds(&read(&site, &token, "").await), ["run.queued"]);
    let (status, _) = site.get("/v1/changes?types=credits.added", &token).await;
    assert_eq!(status, 422);
    let staff = app.a_token(Role::Staff, None).await;
    let (status, _) = site.get("/v1/changes", &staff).await;
    assert_eq!(status, 422, "it must say whose");
    let all = read(&site, &staff, &format!("organisation={organisation}")).await;
    assert_eq!(kinds(&all), ["credits.added", "run.queued"]);
}

/// Settlements only write which photos they settle where somebody hears it.
#[tokio::test]
async fn photos_are_told_from_when_somebody_wants_to_hear_them() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    let site = Site::of(&app).await;
    let token = an_organiser(&app, organisation).await;
    let photos = "types=photo.processed";
    assert_eq!(read(&site, &token, photos).await["items"], json!([]));

    let path = format!("/v1/organisations/{organisation}/feed");
    let on = site.ask(Method::PUT, &path, &token).json(&json!({ "photos": true }));
    assert_eq!(answered(on).await.0, 204);
    // Those that are settled within a moment are one change.
    hand.succeed_all(hand.claim(2).await).await;
    let reservation = hand.claim_one().await;
    hand.fail(reservation).await;
    let heard = read(&site, &token, photos).await;
    assert_eq!(kinds(&heard), ["photo.processed"]);
    let data = &heard["items"][0]["data"];
    let states: Vec<_> = data["photos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|photo| (photo["state"].as_str().unwrap(), photo["reason"].as_str()))
        .collect();
    let processed = ("processed", None);
    assert_eq!(states, [processed, processed, ("failed", Some("corrupt"))]);
    assert_eq!(data["event"], json!(event));

    let off = site.ask(Method::PUT, &path, &token).json(&json!({ "photos": false }));
    assert_eq!(answered(off).await.0, 204);
    assert_eq!(app.count("SELECT count(*) FROM account WHERE tells_photos").await, 0);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'feed.change'";
    assert_eq!(app.count(audited).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_the_same() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 1).await;
    let organisation = organisation.to_string();
    let printed = photogate(&app.config, &["--json", "changes", "--organisation", &organisation]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    let types: Vec<_> = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["credits.added", "run.queued"]);
    let one = app.says(&["changes", "--organisation", &organisation, "--types", "run.queued"]);
    assert!(one.contains("run.queued") && !one.contains("credits.added"), "{one}");
}

/// The jobs and attempts that are in flight.
async fn in_flight(app: &App) -> (Vec<i64>, Vec<i32>) {
    let found: Vec<(i64, i32)> =
        sqlx::query_as("SELECT job_id, attempt::int FROM in_flight ORDER BY job_id")
            .fetch_all(&mut *app.db().await)
            .await
            .unwrap();
    found.into_iter().unzip()
}

/// Whatever ends the last run of a queue: a settlement of two, a cancelled run, an act taken back.
#[tokio::test]
async fn a_queue_is_finished_once_however_its_last_photos_go() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let finished = async || {
        let db = &mut *app.db().await;
        feed::number(db, organisation).await.unwrap();
        let types = [Type::EventFinished];
        feed::list(db, organisation, 0, &types, 100).await.unwrap().len()
    };
    app.queue(event, "ok-a", 1).await;
    app.queue(event, "ok-b", 1).await;
    let hand = app.a_worker().await;
    hand.claim(2).await;
    let (jobs, attempts) = in_flight(&app).await;
    sqlx::query("SELECT settle($1, $2, $3, '{processed,processed}', '{NULL,NULL}', '{NULL,NULL}')")
        .bind(hand.me.key())
        .bind(jobs)
        .bind(attempts)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    assert_eq!(finished().await, 1, "one settlement ended two runs");

    app.queue(event, "ok-c", 1).await;
    let run = app.queue(event, "ok-d", 1).await.run.unwrap();
    hand.succeed_all(hand.claim(1).await).await;
    assert_eq!(finished().await, 1, "one waits");
    app.commands().cancel_run(&Caller::trusted("anna"), run).await.unwrap();
    assert_eq!(finished().await, 2);
}

/// A settlement of many photos is several changes.
#[tokio::test]
async fn a_change_names_at_most_250_photos() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(800).await;
    app.owner_runs("UPDATE photogate.account SET tells_photos = true").await;
    app.queue(event, "ok", 700).await;
    let hand = app.a_worker().await;
    hand.claim(700).await;
    let (jobs, attempts) = in_flight(&app).await;
    let (states, nothing) = (vec!["processed"; jobs.len()], vec![None::<&str>; jobs.len()]);
    sqlx::query("SELECT settle($1, $2, $3, $4::outcome_state[], $5, $5)")
        .bind(hand.me.key())
        .bind(&jobs)
        .bind(attempts)
        .bind(states)
        .bind(nothing)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    let db = &mut *app.db().await;
    feed::number(db, organisation).await.unwrap();
    let told = feed::list(db, organisation, 0, &Type::ALL, 100).await.unwrap();
    let kinds: Vec<_> = told.iter().skip(3).map(|(_, change)| change.kind).collect();
    let photos = Type::PhotoProcessed;
    assert_eq!(kinds, [photos, photos, photos, Type::RunFinished, Type::EventFinished]);
    let many = told.iter().filter_map(|(_, change)| change.data["photos"].as_array().map(Vec::len));
    assert_eq!(many.collect::<Vec<_>>(), [250, 250, 200]);
}

/// Who waits for changes is in nobody's way: it is counted as a stream.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_do_not_use_up_the_requests_of_their_organisation() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let site = Site::of(&app).await;
    let token = an_organiser(&app, organisation).await;
    let next = read(&site, &token, "after=end").await["next"].as_str().unwrap().to_owned();
    let query = format!("after={next}&wait=25");
    let waiting = futures::future::join_all((0..12).map(|_| read(&site, &token, &query)));
    let (heard, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (status, _) = site.get("/v1/webhooks", &token).await;
        assert_eq!(status, 200);
        app.top_up(organisation, 5).await;
    });
    assert!(heard.iter().all(|one| kinds(one) == ["credits.added"]));
}

/// What the document says of webhooks is what is said: each type, and each field of its data.
#[tokio::test]
async fn the_document_tells_all_that_changes_say() {
    let app = App::new().await;
    let document = serde_json::to_value(photogate::serve::document()).unwrap();
    let told = document["webhooks"].as_object().unwrap();
    let all: std::collections::BTreeSet<_> =
        Type::ALL.into_iter().chain([Type::WebhookPing]).map(Type::code).collect();
    assert_eq!(told.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), all);

    let (organisation, event) = app.an_event_with(3).await;
    let (commands, anna) = (app.commands(), Caller::trusted("anna"));
    commands.feed_photos(&anna, organisation, true).await.unwrap();
    let url = "https://club.example/hook".to_owned();
    let new = NewWebhook { url, types: None };
    let webhook = commands.add_webhook(&anna, organisation, &new).await.unwrap().webhook.id;
    commands.ping_webhook(&anna, webhook).await.unwrap();
    let new = NewAlert { kind: Kind::LowBalance, threshold: 3.into() };
    commands.add_alert(&anna, organisation, &new).await.unwrap();
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(3).await;
    hand.fail(claimed.remove(0)).await;
    hand.succeed_all(claimed).await;
    app.top_up(organisation, 30).await;
    let run = app.queue(event, "more", 2).await.run.unwrap();
    commands.cancel_run(&anna, run).await.unwrap();
    hand.succeed_all(hand.claim(9).await).await;
    let run = app.queue(event, "undone", 2).await;
    let undo = Undo { undo: vec![run.undo.unwrap()] };
    commands.undo(&anna, &undo).await.unwrap();
    let hold = app.hold(event, "ops").await;
    commands.lift_hold(&anna, hold).await.unwrap();
    app.owner_runs(
        "SELECT photogate.give_webhook_up(w, 'no_answer') FROM photogate.webhook w;
         UPDATE photogate.organisation SET purchase_limit = 1",
    )
    .await;
    sqlx::query(
        "SELECT decide_purchase(r_request, true, 'staff') FROM purchase($1, 9, 'anna', '', 'k')",
    )
    .bind(organisation.0)
    .execute(&mut *app.db().await)
    .await
    .unwrap();
    commands.delete_event(&anna, event).await.unwrap();
    sqlx::query("SELECT receive_payment('stripe', 'pi_1', 'nobody''s', NULL, 5, 'EUR')")
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    app.owner_runs(
        "INSERT INTO photogate.auto_top_up
             (organisation_id, switched_on, below, credits, monthly_max, price_per_credit, currency, set_by, set_at)
         SELECT organisation_id, true, 1, 1, 1, 1, 'EUR', 'anna', now() FROM photogate.account;
         SELECT photogate.stop_auto_top_up(organisation_id, 'refused', '{}') FROM photogate.account",
    )
    .await;

    let db = &mut *app.db().await;
    let types: Vec<_> = Type::ALL.into_iter().chain([Type::WebhookPing]).collect();
    let mut said = Vec::new();
    for whose in [organisation, OrganisationId::STAFF] {
        feed::number(db, whose).await.unwrap();
        said.extend(feed::list(db, whose, 0, &types, 1000).await.unwrap());
    }
    let kinds: std::collections::BTreeSet<_> =
        said.iter().map(|(_, one)| one.kind.code()).collect();
    assert_eq!(kinds, all, "the history has each of them");
    for (_, change) in said {
        let body = &told[change.kind.code()]["post"]["requestBody"]["content"];
        let example = &body["application/cloudevents+json"]["example"];
        let subject = change.subject.split('/').next();
        assert_eq!(example["subject"].as_str().unwrap().split('/').next(), subject);
        for field in change.data.as_object().unwrap().keys() {
            assert!(example["data"].get(field).is_some(), "{}: {field}", change.kind.code());
        }
    }
}
