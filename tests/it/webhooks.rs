//! Webhooks: what was said arrives, once it happened, in its order, whatever becomes of the worker or
//! of who receives it.

use std::collections::{BTreeMap, BTreeSet};

use photogate::{
    access::{Caller, Role},
    changes::{
        Type,
        deliveries::{self, Delivery, State},
        feed,
        webhooks::Webhook,
    },
    commands::{CommandError, Commands, NewWebhook, Quotas, SecretWebhook, WebhookChange},
    ids::{Operation, OrganisationId, WebhookId},
    notify::wake::Wake,
    queue::holds,
};
use reqwest::Method;
use serde_json::json;
use sqlx::Executor;
use standardwebhooks::Webhook as Verifier;
use tokio::io::AsyncBufReadExt;

use crate::support::{
    App, Process,
    receiver::{Heard, Mood, Receiver},
    root,
    site::{Site, answered},
};

/// Its webhooks lead to this machine, and failed calls are made again at once.
async fn an_app() -> App {
    let mut app = App::new().await;
    app.config.webhooks_to_private_addresses = true;
    app.config.webhook_pause_milliseconds = 20;
    app
}

fn commands(app: &App) -> Commands {
    Commands::new(app.pool.clone(), Wake::silent()).with(Quotas::from(&app.config))
}

async fn add(
    app: &App,
    organisation: OrganisationId,
    receiver: &Receiver,
    types: &[Type],
) -> SecretWebhook {
    let new = NewWebhook { url: receiver.url(), types: Some(types.to_vec()) };
    commands(app).add_webhook(&Caller::trusted("anna"), organisation, &new).await.unwrap()
}

async fn listed(app: &App, webhook: WebhookId) -> Vec<Delivery> {
    let mut found =
        deliveries::list(&mut *app.db().await, webhook, None, None, 10_000).await.unwrap();
    found.reverse();
    found
}

async fn until_delivered(app: &App, webhook: WebhookId, changes: usize) {
    app.until("all changes are delivered", async || {
        let listed = listed(app, webhook).await;
        listed.len() >= changes && listed.iter().all(|one| one.state == State::Delivered)
    })
    .await;
}

async fn shown(app: &App, webhook: WebhookId) -> Webhook {
    commands(app).webhook(&Caller::trusted("anna"), webhook).await.unwrap()
}

fn kinds_of<'a>(heard: &'a [Heard], subject: &str) -> Vec<&'a str> {
    heard.iter().filter(|one| one.subject() == subject).map(Heard::kind).collect()
}

/// Each subject's changes came in their order. (Some of them twice.)
fn assert_in_order(heard: &[Heard]) {
    let mut last = BTreeMap::<&str, i64>::new();
    let mut seen = BTreeSet::new();
    for one in heard {
        if seen.insert(one.number()) {
            let before = last.insert(one.subject(), one.number()).unwrap_or_default();
            assert!(before < one.number(), "{}: {} after {before}", one.subject(), one.number());
        }
    }
}

fn assert_signed(heard: &Heard, secret: &str) {
    Verifier::new(secret).unwrap().verify(heard.text.as_bytes(), &heard.headers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_run_is_said_signed_and_in_its_order() {
    let app = an_app().await;
    let (organisation, event) = app.an_event_with(2).await;
    let receiver = Receiver::start().await;
    let SecretWebhook { webhook, secret } = add(&app, organisation, &receiver, &Type::ALL).await;
    let run = app.queue(event, "ok", 3).await.run.unwrap();
    let worker = app.start_worker();
    app.until_out_of_credit(event).await;
    app.top_up(organisation, 5).await;
    app.until_done(event).await;
    until_delivered(&app, webhook.id, 8).await;
    worker.drain().await;

    let heard = receiver.heard();
    assert_in_order(&heard);
    for one in &heard {
        assert_signed(one, &secret);
    }
    let of_run = kinds_of(&heard, &format!("runs/{run}"));
    assert_eq!(of_run.first_chunk(), Some(&["run.queued", "run.started"]), "{of_run:?}");
    assert_eq!(of_run.last(), Some(&"run.finished"), "{of_run:?}");
    let of_event = kinds_of(&heard, &format!("events/{event}"));
    assert_eq!(of_event, ["event.paused", "event.resumed", "event.finished"]);
    let photos: Vec<_> = heard
        .iter()
        .filter(|one| one.kind() == "photo.processed")
        .flat_map(|one| one.body["data"]["photos"].as_array().unwrap())
        .map(|photo| (photo["key"].as_str().unwrap(), photo["state"].as_str().unwrap()))
        .collect();
    let keys: BTreeSet<_> = photos.iter().map(|(key, _)| *key).collect();
    assert_eq!((photos.len(), keys.len()), (3, 3), "{photos:?}");
    assert!(photos.iter().all(|(_, state)| *state == "processed"));
    let first = &heard[0];
    assert_eq!(first.headers["content-type"], "application/cloudevents+json");
    assert_eq!(first.body["specversion"], "1.0");
    assert_eq!(first.body["source"], format!("/v1/organisations/{organisation}"));
    assert_eq!(first.headers["webhook-id"], format!("{organisation}-{}", first.number()));
    // The feed says the same.
    let feed = feed::list(&mut *app.db().await, organisation, 0, &Type::ALL, 1000).await.unwrap();
    let feed: Vec<_> = feed.into_iter().map(|(_, change)| json!(change)).collect();
    let mut said: Vec<_> = heard.into_iter().map(|one| one.body).collect();
    said.sort_by_key(|body| body["id"].as_str().unwrap().parse::<i64>().unwrap());
    said.dedup();
    // The credits that it began with came before the webhook.
    assert_eq!(said, feed[feed.len() - said.len()..]);
}

#[tokio::test]
async fn what_is_rolled_back_is_not_said_and_what_is_committed_late_is_not_left_out() {
    let app = an_app().await;
    let (organisation, event) = app.an_event_with(9).await;
    let other = app.an_event_of(organisation).await;
    let all = async || {
        feed::number(&mut *app.db().await, organisation).await.unwrap();
        let found = feed::list(&mut *app.db().await, organisation, 0, &Type::ALL, 100).await;
        let found = found.unwrap().into_iter();
        found
            .map(|(at, change)| (at, change.kind, change.data["event"].clone()))
            .collect::<Vec<_>>()
    };
    let hold = async |db: &mut sqlx::PgConnection, event: photogate::ids::EventId| {
        holds::hold(db, event, Operation::PhotoProcessing, "anna", "", None).await.unwrap();
    };
    assert_eq!(all().await, [(1, Type::CreditsAdded, json!(null))]);

    let (mut early, mut late) = (app.db().await, app.db().await);
    early.execute("BEGIN").await.unwrap();
    hold(&mut early, event).await;
    late.execute("BEGIN").await.unwrap();
    hold(&mut late, other).await;
    late.execute("COMMIT").await.unwrap();
    assert_eq!(all().await[1..], [(2, Type::EventHeld, json!(other))]);
    early.execute("COMMIT").await.unwrap();
    assert_eq!(all().await[2..], [(3, Type::EventHeld, json!(event))]);

    early.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT top_up($1, 'admin_grant', 5, 'anna', '', 'k')")
        .bind(organisation.0)
        .execute(&mut *early)
        .await
        .unwrap();
    early.execute("ROLLBACK").await.unwrap();
    assert_eq!(all().await.len(), 3);
}

/// Two that number at the same time give each number once, and leave none out.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_given_once_and_have_no_gaps_whoever_gives_them() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook;
    let top_up = async || {
        for _ in 0..20 {
            app.top_up(organisation, 1).await;
        }
    };
    let number = async || {
        for _ in 0..60 {
            feed::number(&mut *app.db().await, organisation).await.unwrap();
        }
    };
    tokio::join!(top_up(), top_up(), top_up(), number(), number());
    feed::number(&mut *app.db().await, organisation).await.unwrap();

    let found = feed::list(&mut *app.db().await, organisation, 0, &Type::ALL, 1000).await.unwrap();
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    let addressed: Vec<_> = listed(&app, webhook.id).await.iter().map(|one| one.change).collect();
    assert_eq!(addressed, numbers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_hangs_redirects_or_dies_gets_all_in_order_once_it_is_well() {
    let app = an_app().await;
    let (organisation, event) = app.an_event_with(99).await;
    let mut receiver = Receiver::start().await;
    let elsewhere = Receiver::start().await;
    let SecretWebhook { webhook, .. } = add(&app, organisation, &receiver, &Type::ALL).await;
    let worker = app.start_worker();
    let moods = [
        Mood::Answers(500),
        Mood::Answers(404),
        Mood::Redirects(elsewhere.address),
        Mood::Answers(101),
        Mood::Hangs,
        Mood::GoesOn,
    ];
    for (n, mood) in moods.into_iter().enumerate() {
        receiver.is(mood);
        app.queue(event, &format!("ok-{n}"), 2).await;
        let before = receiver.heard().len();
        app.until("it was called", async || receiver.heard().len() > before).await;
        app.until("it counts as failing", async || {
            shown(&app, webhook.id).await.failing_since.is_some()
        })
        .await;
        receiver.is(Mood::Well);
        app.until("it is well again", async || {
            shown(&app, webhook.id).await.failing_since.is_none()
        })
        .await;
    }
    receiver.die();
    app.queue(event, "ok-last", 2).await;
    app.until("nobody answers", async || {
        listed(&app, webhook.id).await.iter().any(|one| one.status.is_none() && one.attempts > 1)
    })
    .await;
    receiver.come_back().await;
    app.until_done(event).await;
    until_delivered(&app, webhook.id, 7 * 4).await;
    worker.drain().await;

    let accepted = receiver.accepted();
    assert_in_order(&accepted);
    let numbers: BTreeSet<_> = accepted.iter().map(Heard::number).collect();
    let listed = listed(&app, webhook.id).await;
    assert_eq!(numbers, listed.iter().map(|one| one.change).collect::<BTreeSet<_>>());
    assert_eq!(elsewhere.heard().len(), 0, "nobody follows a redirect");
    let now = shown(&app, webhook.id).await;
    assert_eq!((now.failing_since, now.failures, now.disabled_at), (None, 0, None));
}

/// Killed while the receiver has the call, before its answer is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_a_call_is_replaced_and_the_change_arrives() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook;
    receiver.is(Mood::Hangs);
    let mut worker = Process::work(&app.config, &["--rehearse"]);
    app.top_up(organisation, 5).await;
    app.until("it was called", async || receiver.heard().len() == 1).await;
    worker.kill();
    receiver.is(Mood::Well);
    // Half a minute later.
    app.owner_runs(
        "UPDATE photogate.delivery SET leased_until = clock_timestamp(), due_at = clock_timestamp();
         UPDATE photogate.webhook SET due_at = clock_timestamp()",
    )
    .await;
    let worker = app.start_worker();
    until_delivered(&app, webhook.id, 1).await;
    worker.drain().await;

    let heard = receiver.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].headers["webhook-id"], heard[1].headers["webhook-id"]);
    assert_eq!(heard[0].body, heard[1].body);
}

/// An answer that comes after somebody else has tried changes nothing.
#[tokio::test]
async fn a_late_answer_is_ignored_once_another_worker_tries() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook;
    app.top_up(organisation, 5).await;
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let (one, other) = (app.a_worker().await, app.a_worker().await);
    let lease = std::time::Duration::from_millis(1);
    let db = &mut *app.db().await;
    let first = deliveries::take(db, one.me, false, 9, lease).await.unwrap();
    assert_eq!(first.len(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let second = deliveries::take(db, other.me, false, 9, lease * 60_000).await.unwrap();
    assert_eq!((second.len(), second[0].attempt), (1, 2));
    assert_eq!(deliveries::take(db, one.me, false, 9, lease).await.unwrap().len(), 0);

    let patience = deliveries::Patience { pause: lease, give_up_after: lease };
    let well = deliveries::Answer { status: Some(204), trouble: None };
    deliveries::end(db, &first[0], &well, patience).await.unwrap();
    assert_eq!(listed(&app, webhook.id).await[0].state, State::Waiting);
    deliveries::end(db, &second[0], &well, patience).await.unwrap();
    assert_eq!(listed(&app, webhook.id).await[0].state, State::Delivered);
    // Whoever has lost the lease takes nothing.
    app.let_the_lease_run_out(one.me.worker).await;
    assert!(deliveries::take(db, one.me, false, 9, lease).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_days_or_an_answer_410_nothing_is_sent_until_somebody_enables_it_again() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(0).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let failing = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook.id;
    add(&app, organisation, &other, &[Type::WebhookDisabled]).await;
    receiver.is(Mood::Answers(503));
    let worker = app.start_worker();
    app.top_up(organisation, 1).await;
    app.until("it fails", async || shown(&app, failing).await.failures > 2).await;
    assert_eq!(shown(&app, failing).await.disabled_at, None);
    app.owner_runs(
        "UPDATE photogate.delivery SET failing_since = failing_since - interval '72 hours'
         WHERE failing_since IS NOT NULL;
         UPDATE photogate.webhook SET failing_since = failing_since - interval '72 hours'
         WHERE failing_since IS NOT NULL",
    )
    .await;
    app.until("it is given up", async || shown(&app, failing).await.disabled_at.is_some()).await;
    assert_eq!(shown(&app, failing).await.disabled_by.as_deref(), Some("System"));
    app.until("the other one hears of it", async || other.accepted().len() == 1).await;
    let said = &other.accepted()[0].body;
    assert_eq!(
        (&said["type"], &said["data"]["reason"]),
        (&json!("webhook.disabled"), &json!("no_answer"))
    );
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'webhook.disable'").await,
        1
    );

    app.top_up(organisation, 2).await;
    app.until("both wait", async || listed(&app, failing).await.len() == 2).await;
    receiver.is(Mood::Well);
    let calls = receiver.heard().len();
    let on = WebhookChange { enabled: Some(true), ..WebhookChange::default() };
    commands(&app).change_webhook(&Caller::trusted("anna"), failing, &on).await.unwrap();
    until_delivered(&app, failing, 2).await;
    let after: Vec<_> = receiver.heard().iter().skip(calls).map(Heard::number).collect();
    assert!(after.is_sorted(), "{after:?}");

    receiver.is(Mood::Answers(410));
    app.top_up(organisation, 3).await;
    app.until("it is gone", async || shown(&app, failing).await.disabled_at.is_some()).await;
    assert_eq!(listed(&app, failing).await[2].attempts, 1);
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_both_secrets_sign_for_a_day() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    let SecretWebhook { webhook, secret: old } =
        add(&app, organisation, &receiver, &[Type::CreditsAdded]).await;
    let caller = Caller::trusted("anna");
    let new = commands(&app).rotate_webhook_secret(&caller, webhook.id).await.unwrap().secret;
    let worker = app.start_worker();
    app.top_up(organisation, 1).await;
    until_delivered(&app, webhook.id, 1).await;
    let heard = receiver.heard();
    assert_signed(&heard[0], &old);
    assert_signed(&heard[0], &new);

    app.owner_runs("UPDATE photogate.webhook SET old_secret_until = clock_timestamp()").await;
    app.top_up(organisation, 1).await;
    until_delivered(&app, webhook.id, 2).await;
    worker.drain().await;
    let last = &receiver.heard()[1];
    assert_signed(last, &new);
    let verified = Verifier::new(&old).unwrap().verify(last.text.as_bytes(), &last.headers);
    assert!(verified.is_err());
}

#[tokio::test]
async fn webhooks_do_not_lead_into_our_own_networks() {
    let mut app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    for url in
        ["https://127.0.0.1/", "http://example.com", "https://[::1]/", "https://169.254.169.254/"]
    {
        let new = NewWebhook { url: url.to_owned(), types: None };
        let refused =
            commands(&app).add_webhook(&Caller::trusted("anna"), organisation, &new).await;
        assert!(matches!(refused, Err(CommandError::Invalid { .. })), "{url}: {refused:?}");
    }
    // One that was added while this was allowed, and one whose name leads here by now.
    let receiver = Receiver::start().await;
    app.config.webhooks_to_private_addresses = true;
    let webhook = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook;
    app.config.webhooks_to_private_addresses = false;
    app.top_up(organisation, 1).await;
    let worker = app.start_worker();
    app.until("the call is refused", async || {
        listed(&app, webhook.id).await.first().is_some_and(|one| one.trouble.is_some())
    })
    .await;
    worker.drain().await;
    assert_eq!(receiver.heard().len(), 0);
    let trouble = listed(&app, webhook.id).await.remove(0).trouble.unwrap();
    assert!(trouble.contains("https"), "{trouble}");
}

/// Forty tenants whose addresses hang: others hear their changes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_slows_nobody_else() {
    let app = an_app().await;
    let dead = Receiver::start().await;
    dead.is(Mood::Hangs);
    for _ in 0..40 {
        let organisation = app.an_organisation_with(0).await;
        add(&app, organisation, &dead, &[Type::CreditsAdded, Type::RunQueued]).await;
        app.top_up(organisation, 1).await;
    }
    let worker = app.start_worker();
    app.until("the dead are failing", async || {
        app.count("SELECT count(*) FROM webhook WHERE failing_since IS NOT NULL").await == 40
    })
    .await;
    let organisation = app.an_organisation_with(0).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, organisation, &receiver, &[Type::CreditsAdded]).await.webhook;
    for _ in 0..50 {
        app.top_up(organisation, 1).await;
    }
    let calls = dead.heard().len();
    until_delivered(&app, webhook.id, 50).await;
    // Eight calls to failing addresses run at the same time, for five seconds each. In turn, forty
    // would come first.
    assert!(dead.heard().len() - calls < 40, "it waited for the dead");
    worker.drain().await;
}

#[tokio::test]
async fn nobody_hears_sees_or_changes_what_is_of_another_organisation() {
    let app = an_app().await;
    let (mine, _) = app.an_event_with(1).await;
    let (theirs, _) = app.an_event_with(1).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, theirs, &receiver, &Type::ALL).await.webhook.id;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(mine)).await;
    let pipeline = app.a_token(Role::Pipeline, Some(theirs)).await;
    let ask = async |method: Method, path: String, token: &str, body: serde_json::Value| {
        answered(site.ask(method, &path, token).json(&body)).await.0.as_u16()
    };
    let hook = format!("/v1/webhooks/{webhook}");
    for (method, path, body) in [
        (Method::PATCH, hook.clone(), json!({ "enabled": false })),
        (Method::DELETE, hook.clone(), json!({})),
        (Method::POST, format!("{hook}/ping"), json!({})),
        (Method::POST, format!("{hook}/rotate"), json!({})),
        (Method::POST, format!("{hook}/replay"), json!({ "from": 1 })),
        (Method::GET, format!("{hook}/deliveries"), json!({})),
        (Method::GET, format!("/v1/webhooks?organisation={theirs}"), json!({})),
        (Method::GET, format!("/v1/changes?organisation={theirs}"), json!({})),
        (Method::PUT, format!("/v1/organisations/{theirs}/feed"), json!({ "photos": true })),
        (
            Method::POST,
            format!("/v1/organisations/{theirs}/webhooks"),
            json!({ "url": receiver.url() }),
        ),
    ] {
        assert_eq!(
            ask(method.clone(), path.clone(), &organiser, body.clone()).await,
            404,
            "{path}"
        );
        let expected = if path.starts_with("/v1/changes") { 200 } else { 403 };
        assert_eq!(ask(method, path.clone(), &pipeline, body).await, expected, "{path}");
    }
    let (_, list) = site.get("/v1/webhooks", &organiser).await;
    assert_eq!(list["items"], json!([]));
    // Nobody but the functions that deliver reads a secret.
    let mut db = app.db().await;
    crate::support::refused_for_want_of_privilege(&mut db, "SELECT secret FROM webhook").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_goes_to_one_and_a_replay_says_all_again() {
    let app = an_app().await;
    let (organisation, _) = app.an_event_with(3).await;
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    let first = add(&app, organisation, &one, &[Type::CreditsAdded]).await.webhook.id;
    add(&app, organisation, &other, &[Type::CreditsAdded]).await;
    let caller = Caller::trusted("anna");
    let worker = app.start_worker();
    commands(&app).ping_webhook(&caller, first).await.unwrap();
    until_delivered(&app, first, 2).await;
    app.top_up(organisation, 4).await;
    until_delivered(&app, first, 3).await;
    let kinds = |receiver: &Receiver| {
        let mut kinds: Vec<_> =
            receiver.accepted().iter().map(|one| one.kind().to_owned()).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(&one), ["credits.added", "credits.added", "webhook.ping"]);
    app.until("the other has both", async || other.accepted().len() == 2).await;
    assert!(!kinds(&other).contains(&"webhook.ping".to_owned()));

    // What was said before it was added can be said, too.
    let late = Receiver::start().await;
    let third = add(&app, organisation, &late, &[Type::CreditsAdded]).await.webhook.id;
    let replay = async |from, upto| {
        commands(&app).replay_deliveries(&caller, third, from, upto).await.unwrap().changes
    };
    assert_eq!(replay(1, None).await, 2);
    until_delivered(&app, third, 2).await;
    assert_eq!(replay(3, Some(3)).await, 1);
    app.until("the last comes again", async || late.accepted().len() == 3).await;
    worker.drain().await;
    let numbers: Vec<_> = late.accepted().iter().map(Heard::number).collect();
    assert_eq!(numbers, [1, 3, 3]);
}

#[tokio::test]
async fn an_organisation_has_at_most_ten_webhooks_also_if_two_add_one_at_the_same_time() {
    let app = an_app().await;
    let organisation = app.an_organisation_with(0).await;
    let (caller, commands) = (Caller::trusted("anna"), commands(&app));
    let new = NewWebhook { url: "http://127.0.0.1:9/hook".into(), types: None };
    let adding = (0..14).map(|_| commands.add_webhook(&caller, organisation, &new));
    let added = futures::future::join_all(adding).await;

    assert_eq!(added.iter().filter(|one| one.is_ok()).count(), 10);
    assert_eq!(app.count("SELECT count(*) FROM webhook").await, 10);
}

/// The program in docs/webhooks.md, with the published library: it believes what is signed, and nothing
/// else.
#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_the_documentation_checks_signatures() {
    let app = an_app().await;
    let (organisation, event) = app.an_event_with(2).await;
    let page = crate::support::read("docs/webhooks.md");
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let address = crate::support::a_free_address();
    let new = NewWebhook {
        url: format!("http://{address}/"),
        types: Some(vec![Type::RunFinished, Type::EventFinished]),
    };
    let made =
        commands(&app).add_webhook(&Caller::trusted("anna"), organisation, &new).await.unwrap();
    let mut python = tokio::process::Command::new(root().join(".photogate/receivers/bin/python"))
        .args(["-c", program])
        .env("WEBHOOK_SECRET", &made.secret)
        .env("PORT", address.port().to_string())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(python.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("listening on"), "{first}");

    let client = reqwest::Client::new();
    let forged = client
        .post(&new.url)
        .header("webhook-id", "7-1")
        .header("webhook-timestamp", chrono::Utc::now().timestamp().to_string())
        .header("webhook-signature", "v1,bm9ib2R5")
        .body("{}");
    assert_eq!(forged.send().await.unwrap().status(), 401);

    app.queue(event, "ok", 2).await;
    let worker = app.start_worker();
    until_delivered(&app, made.webhook.id, 2).await;
    worker.drain().await;
    let mut said = Vec::new();
    for _ in 0..2 {
        let line = lines.next_line().await.unwrap().unwrap();
        let change: serde_json::Value = serde_json::from_str(&line).unwrap();
        said.push(change["type"].as_str().unwrap().to_owned());
    }
    said.sort();
    assert_eq!(said, ["event.finished", "run.finished"]);
}

/// Takes what is due, as a worker does, and ends each call with this status.
async fn calls(
    app: &App,
    me: photogate::queue::claim::Incarnation,
    most: usize,
    status: u16,
) -> usize {
    let db = &mut *app.db().await;
    let lease = std::time::Duration::from_secs(60);
    let mut taken = deliveries::take(db, me, false, most, lease).await.unwrap();
    taken.extend(deliveries::take(db, me, true, most, lease).await.unwrap());
    let trouble = (status >= 300).then(|| format!("it answered {status}"));
    let answer = deliveries::Answer { status: Some(status), trouble };
    let pause = std::time::Duration::from_secs(5);
    let patience = deliveries::Patience { pause, give_up_after: pause * 17_280 * 3 };
    for call in &taken {
        deliveries::end(db, call, &answer, patience).await.unwrap();
    }
    taken.len()
}

/// A backlog is served in turn with others, however old it is.
#[tokio::test]
async fn who_has_thousands_of_changes_waiting_keeps_nobody_waiting_who_has_one() {
    let app = an_app().await;
    let (hog, event) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    for _ in 0..7 {
        add(&app, hog, &receiver, &[Type::RunQueued]).await;
    }
    for n in 0..100 {
        app.queue(event, &format!("ok-{n}"), 1).await;
    }
    feed::number(&mut *app.db().await, hog).await.unwrap();
    let victim = app.an_organisation_with(0).await;
    let webhook = add(&app, victim, &receiver, &[Type::CreditsAdded]).await.webhook.id;
    app.top_up(victim, 1).await;
    feed::number(&mut *app.db().await, victim).await.unwrap();
    let me = app.a_worker().await.me;
    // A round serves at most eight calls of an organisation.
    assert!(calls(&app, me, 24, 204).await <= 9);
    calls(&app, me, 24, 204).await;
    assert_eq!(listed(&app, webhook).await[0].state, State::Delivered);
}

/// Four calls that fail together are one failure, and a dead address is given up after three days,
/// however many subjects wait.
#[tokio::test]
async fn failures_are_counted_once_and_patience_is_that_of_the_address() {
    let app = an_app().await;
    let (organisation, event) = app.an_event_with(0).await;
    let receiver = Receiver::start().await;
    let webhook = add(&app, organisation, &receiver, &[Type::RunQueued]).await.webhook.id;
    for n in 0..20 {
        app.queue(event, &format!("ok-{n}"), 1).await;
    }
    feed::number(&mut *app.db().await, organisation).await.unwrap();
    let me = app.a_worker().await.me;
    assert_eq!(calls(&app, me, 24, 500).await, 4);
    assert_eq!(shown(&app, webhook).await.failures, 1);
    assert_eq!(calls(&app, me, 24, 500).await, 0, "it rests");
    for hour in 1..=72 {
        assert_eq!(shown(&app, webhook).await.disabled_at, None, "{hour}");
        app.owner_runs(
            "UPDATE photogate.webhook SET failing_since = failing_since - interval '1 hour',
                 rests_until = rests_until - interval '1 hour', due_at = due_at - interval '1 hour';
             UPDATE photogate.delivery SET failing_since = failing_since - interval '1 hour',
                 due_at = due_at - interval '1 hour'",
        )
        .await;
        assert_eq!(calls(&app, me, 24, 500).await, 1, "one call an hour at most");
        if shown(&app, webhook).await.disabled_at.is_some() {
            assert_eq!(hour, 72);
            return;
        }
    }
    panic!("it is not given up");
}
