//! Paces and weights are seen and set everywhere, and what they keep back is told as that.

use chrono::{TimeDelta, Utc};
use photogate::{
    access::{Caller, Role},
    commands::NewOrder,
    ids::{EventId, Operation},
    ledger::spending::{self, Order, Pace},
    queue::{status::Queue, totals},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    App, photogate,
    site::{Site, Visitor, answered},
};

impl App {
    async fn keep_pace(&self, event: EventId, pace: Pace) {
        self.commands().set_event_pace(&Caller::trusted("anna"), event, pace).await.unwrap();
    }
}

/// Quiet hours that are now, in the organisation's own time.
fn quiet_now() -> Pace {
    let now = Utc::now().with_timezone(&chrono_tz::Europe::Berlin);
    Pace {
        quiet_from: Some((now - TimeDelta::hours(1)).time()),
        quiet_to: Some((now + TimeDelta::hours(1)).time()),
        ..Pace::default()
    }
}

/// Found: the alert for a backlog that nobody claims woke people in the quiet hours of a customer.
#[tokio::test]
async fn what_quiet_hours_or_a_rate_keep_back_is_no_backlog() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 9).await;
    let hand = app.a_worker().await;
    let backlog = async || {
        let totals = totals::totals(&mut *app.db().await, None).await.unwrap();
        (totals.funded, totals.oldest_funded.is_some())
    };
    assert_eq!(backlog().await, (9, true));

    app.keep_pace(event, quiet_now()).await;
    assert_eq!(backlog().await, (0, false));
    app.keep_pace(event, Pace { photos_per_minute: Some(1), ..Pace::default() }).await;
    assert_eq!(backlog().await, (9, true), "the bucket is full");
    assert_eq!(hand.claim(5).await.len(), 1);
    assert_eq!(backlog().await, (0, false), "and now it is empty");
    // As many as may be are in progress: their worker may be gone, and then somebody must come.
    app.keep_pace(event, Pace { in_flight_max: Some(1), ..Pace::default() }).await;
    assert_eq!(backlog().await, (8, true));
    // All events of the organisation together; another one is as before.
    let (_, other) = app.an_event_with(5).await;
    app.queue(other, "ok", 2).await;
    let staff = Caller::trusted("staff");
    let quiet = Some(quiet_now());
    app.commands().set_organisation_pace(&staff, organisation, quiet, None).await.unwrap();
    assert_eq!(backlog().await, (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_are_told_on_the_pages_and_the_command_line_and_have_no_eta() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 9).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(4).await).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    let event_page = format!("/events/{event}");
    let queue = async || -> Queue { app.processing(event).await };
    assert!(queue().await.eta_seconds.is_some());
    assert!(ops.text(&site, &event_page).await.contains(" left"));

    app.keep_pace(event, quiet_now()).await;

    assert_eq!(queue().await.eta_seconds, None);
    let page = ops.text(&site, &event_page).await;
    assert!(page.contains("5 photos wait: these are quiet hours"), "{page}");
    assert!(!page.contains(" left"), "{page}");
    let page = ops.text(&site, "/queues").await;
    assert!(page.contains("waits: these are quiet hours"), "{page}");
    assert!(ops.text(&site, "/queues?format=csv").await.contains("quiet_hours"));
    let said = app.says(&["events", "show", &event.to_string()]);
    assert!(said.contains("Running, but it waits: these are quiet hours"), "{said}");
    let said = app.says(&["why", "event", &event.to_string()]);
    assert!(said.contains(&format!("photogate spending show {organisation}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paces_and_weights_are_seen_and_set_on_the_page_spending() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 9).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    app.a_person("fin@club.example", Role::Finance, Some(organisation)).await;
    app.a_person("own@club.example", Role::Operator, Some(organisation)).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let page = format!("/spending?organisation={organisation}");
    let of_event = format!("/events/{event}/pace");
    let of_all = format!("/organisations/{organisation}/pace");
    let anna = Visitor::logged_in(&site, "anna@club.example").await;

    let wanted = [
        ("in_flight_max", "3"),
        ("photos_per_minute", ""),
        ("quiet_from", "22:00"),
        ("quiet_to", "06:00"),
    ];
    assert_eq!(anna.post(&site, &of_event, &wanted).await, 303);
    let shown = anna.text(&site, &page).await;
    assert!(shown.contains("3 in progress, quiet from 22:00 to 06:00"), "{shown}");
    assert!(shown.contains("value=\"22:00\""), "{shown}");
    for bad in [[("in_flight_max", "0")], [("quiet_from", "late")], [("quiet_from", "22:00")]] {
        assert_eq!(anna.post(&site, &of_event, &bad).await, 422, "{bad:?}");
    }
    // What an organisation may have at most is for operators, its weight for those of nobody.
    let all = [("in_flight_max", "8"), ("weight", "4")];
    assert_eq!(anna.post(&site, &of_all, &all).await, 403);
    assert!(!shown.contains(&of_all), "{shown}");
    let own = Visitor::logged_in(&site, "own@club.example").await;
    assert_eq!(own.post(&site, &of_all, &all).await, 403);
    assert!(!own.text(&site, &page).await.contains("name=\"weight\""));
    assert_eq!(own.post(&site, &of_all, &all[..1]).await, 303);
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    assert_eq!(ops.post(&site, &of_all, &all).await, 303);
    let shown = ops.text(&site, &page).await;
    assert!(shown.contains("All events together: 8 in progress."), "{shown}");
    assert!(shown.contains("Weight beside other organisations: 4."), "{shown}");
    // Who may not change it sees it.
    let fin = Visitor::logged_in(&site, "fin@club.example").await;
    let shown = fin.text(&site, &page).await;
    assert!(
        shown.contains("3 in progress, quiet from 22:00 to 06:00") && !shown.contains(&of_event)
    );
    // The organiser may take away the pace of an event, whoever set it.
    app.keep_pace(event, quiet_now()).await;
    assert_eq!(anna.post(&site, &of_event, &[]).await, 303);
    assert_eq!(app.count("SELECT count(*) FROM pace WHERE event_id IS NOT NULL").await, 0);
}

/// Found: a new weight took away the limits of the organisation.
#[tokio::test(flavor = "multi_thread")]
async fn a_weight_leaves_the_limits_and_limits_leave_the_weight() {
    let app = App::new().await;
    let (organisation, _) = app.an_event_with(5).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Operator, None).await;
    let path = format!("/v1/organisations/{organisation}/pace");
    let id = organisation.to_string();
    let set = async |body: Value| {
        let (status, _) = answered(site.ask(Method::PUT, &path, &token).json(&body)).await;
        assert_eq!(status, 200);
    };
    let standing = async || {
        let found =
            spending::read(&mut *app.db().await, organisation, None).await.unwrap().unwrap();
        (found.pace.and_then(|pace| pace.in_flight_max), found.weight)
    };

    set(json!({ "pace": { "in_flight_max": 32 } })).await;
    set(json!({ "weight": 2 })).await;
    assert_eq!(standing().await, (Some(32), 2));
    app.says(&["spending", "pace", "--organisation", &id, "--weight", "3"]);
    assert_eq!(standing().await, (Some(32), 3));
    app.says(&["spending", "pace", "--organisation", &id, "--in-flight-max", "8"]);
    assert_eq!(standing().await, (Some(8), 3));
    let said = app.says(&["spending", "show", &id]);
    assert!(said.contains("Pace of all events together: 8 in progress. Weight"), "{said}");
    set(json!({ "pace": {} })).await;
    assert_eq!(standing().await, (None, 3));
    let nothing = site.ask(Method::PUT, &path, &token).json(&json!({}));
    let (status, problem) = answered(nothing).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &"/pace".into()));
}

/// The preview refuses what the change refuses, and says which event it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_preview_of_an_order_refuses_what_the_change_refuses() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let (_, elsewhere) = app.an_event_with(5).await;
    let gone = app.an_event_of(organisation).await;
    let anna = Caller::trusted("anna");
    app.commands().delete_event(&anna, gone).await.unwrap();
    for bad in [elsewhere, gone, EventId(99)] {
        let new = NewOrder { order: Order::FinishFirst, events: vec![event, bad] };
        for dry_run in [true, false] {
            let refused = app.commands().set_spend_order(&anna, organisation, &new, dry_run).await;
            let says = refused.unwrap_err().to_string();
            assert!(says.contains(&format!("has no event {bad}")), "{dry_run}: {says}");
        }
    }
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/organisations/{organisation}/spending/order?dry_run=true");
    let body = json!({ "order": "finish_first", "events": [event, 99] });
    let (status, problem) = answered(site.ask(Method::PUT, &path, &token).json(&body)).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &"/events/1".into()));
}

/// Found: who was short of budget was asked for money.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_first_that_the_budget_is_in_the_way() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 9).await;
    let id = event.to_string();
    app.says(&["spending", "budget", &id, "--cap", "4"]);
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let ask = format!("/events/{event}/run?operation=both&what=all");

    // 9 wait and 9 come, of which 4 may be.
    let page = anna.text(&site, &ask).await;
    assert!(page.contains("has none for 14 of its waiting photos"), "{page}");
    assert!(!page.contains("Add credits") && page.contains("Change the budget"), "{page}");
    let run = ["enqueue", &id, "new.jpg", "--dry-run"];
    let said = String::from_utf8(photogate(&app.config, &run).stderr).unwrap();
    assert!(said.contains("no credits for 6 of its waiting photos"), "{said}");
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let body = json!({ "operation": "photo_processing", "keys": ["new.jpg"], "on_insufficient": "reject" });
    let (status, problem) = site.post(&format!("/v1/events/{event}/runs"), &token, body).await;
    assert_eq!(status, 402);
    assert!(problem["detail"].as_str().unwrap().contains("raise its cap"), "{problem}");

    // Without the budget, credits are what is missing. A photo of both operations costs two.
    app.says(&["spending", "budget", &id]);
    app.queue_keys(event, Operation::AiRotation, &["only/rotation.jpg".to_owned()]).await;
    let page = anna.text(&site, &ask).await;
    assert!(
        page.contains("Add credits") && page.contains("for both operations (10 credits)?"),
        "{page}"
    );
    let fields = [("operation", "both"), ("what", "all")];
    assert_eq!(anna.post(&site, &format!("/events/{event}/run"), &fields).await, 303);
    let said = anna.text(&site, &format!("/events/{event}?said=queued_both.10")).await;
    assert!(said.contains("The photos were queued for both operations: 10 credits."), "{said}");
}
