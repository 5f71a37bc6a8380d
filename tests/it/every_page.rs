//! Every page of scripts/pages.json, in a real browser: it fits desk and phone, and its fields have
//! names. `make screenshots` takes the pictures of the same pages, and asks axe.

use photogate::{
    access::{Caller, Role},
    catalog::{events, finders::FinderAccess},
    changes::alerts::Kind,
    commands::{FinderChange, NewAlert, NewWebhook},
    ids::{Operation, OrganisationId, WebhookId},
};
use serde::Deserialize;

use crate::{
    photos::{samples, work_on},
    support::{
        App, Process,
        browser::{Browser, DESK, PHONE},
        program, root,
        site::{Site, Visitor},
    },
};

/// It fits the width, each field has a name, and there is one heading.
async fn is_for_everybody(browser: &Browser, page: &str, name: &str) {
    let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
    let fits = browser.page.execute(wide, Vec::new()).await.unwrap();
    assert_eq!(fits, true, "{page} fits the width of a {name}");
    let unnamed = "return [...document.querySelectorAll('input:not([type=hidden]),select')]\
         .filter(field => !field.labels.length).length";
    assert_eq!(
        browser.page.execute(unnamed, Vec::new()).await.unwrap(),
        0,
        "every field of {page} has a name"
    );
    let heading = "return document.querySelectorAll('h1').length";
    assert_eq!(browser.page.execute(heading, Vec::new()).await.unwrap(), 1, "{page}");
}

async fn an_alert_and_a_webhook(app: &App, organisation: OrganisationId) -> WebhookId {
    let (commands, caller) = (app.commands(), Caller::trusted("anna@club.example"));
    let new = NewAlert { kind: Kind::LowBalance, threshold: 500.into() };
    commands.add_alert(&caller, organisation, &new).await.unwrap();
    let new = NewWebhook { url: "https://hooks.club.example/photogate".into(), types: None };
    let webhook = commands.add_webhook(&caller, organisation, &new).await.unwrap().webhook.id;
    commands.ping_webhook(&caller, webhook).await.unwrap();
    webhook
}

/// A row of scripts/pages.json.
#[derive(Deserialize)]
struct Page {
    name: String,
    path: String,
    /// `scene`: it is a page as the others, with other data.
    only: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_fits_desk_and_phone_and_names_its_fields() {
    let app = App::new().await;
    let store = samples(&app);
    let organisation = app.an_organisation_with(9).await;
    let event = events::create(
        &mut *app.db().await,
        organisation,
        "City Marathon",
        true,
        true,
        "anna@club.example",
    )
    .await
    .unwrap();
    let photos: Vec<String> = std::fs::read_dir(store.join("marathon"))
        .unwrap()
        .map(|file| format!("marathon/{}", file.unwrap().file_name().to_string_lossy()))
        .collect();
    let photos: Vec<&str> = photos.iter().map(String::as_str).collect();
    work_on(&app, event, Operation::PhotoProcessing, &photos[..4]).await;
    work_on(&app, event, Operation::AiRotation, &photos[4..]).await;
    app.queue(event, "ok", 40).await;
    app.hold(event, "ops@photogate.example").await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let photo = app.photo_of(event).await;
    let mut checking = program(&app.config);
    checking.args(["work", "--rehearse"]).env("PHOTOGATE_RECONCILE_SECONDS", "1");
    let checking = Process::start(checking);
    let checks = "SELECT count(*) FROM reconciliation WHERE ended_at IS NOT NULL";
    app.until("the books are checked", async || app.count(checks).await > 0).await;
    let webhook = an_alert_and_a_webhook(&app, organisation).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let of_rotation = app.count("SELECT queue_id FROM queue WHERE operation = 'ai_rotation'").await;
    let queue = of_rotation.to_string();
    let hold = [("act", "hold"), ("queues", &*queue), ("note", "the turns are looked at first")];
    assert_eq!(staff.post(&site, "/queues/bulk", &hold).await, 303);
    let link = app.says(&["people", "add", "bert@photogate.example", "--role", "finance"]);
    app.a_token(Role::Pipeline, Some(organisation)).await;
    let (caller, access) = (Caller::trusted("anna@club.example"), FinderAccess::Public);
    let change = FinderChange { access, replace_link: false };
    let finder = app.commands().set_finder(&caller, event, change).await.unwrap();
    let soon = (chrono::Utc::now() + chrono::TimeDelta::days(1)).format("%Y-%m-%dT%H:%M");
    let values = [
        ("organisation", organisation.to_string()),
        ("event", event.to_string()),
        ("photo", photo.to_string()),
        ("webhook", webhook.to_string()),
        ("queue", queue.clone()),
        ("month", chrono::Utc::now().format("%Y-%m").to_string()),
        ("soon", soon.to_string()),
        ("find", finder.link.unwrap()),
    ];
    let pages = std::fs::read(root().join("scripts/pages.json")).unwrap();
    let pages: Vec<Page> = serde_json::from_slice(&pages).unwrap();
    for (name, look) in [("desk", DESK), ("phone", PHONE)] {
        let browser = Browser::open(&site, name, look).await;
        browser.go(link.trim()).await;
        browser.sees("Choose a password").await;
        is_for_everybody(&browser, "invitation", name).await;
        browser.log_in("staff@photogate.example").await;
        for Page { name: page, path, only } in &pages {
            if only.is_some() || page == "login" {
                continue;
            }
            let path = values.iter().fold(path.clone(), |path, (name, value)| {
                path.replace(&format!("{{{name}}}"), value)
            });
            assert!(!path.contains('{'), "{page}: nothing is known for {path}");
            browser.go(&path).await;
            is_for_everybody(&browser, page, name).await;
        }
        browser.close().await;
    }
    drop(checking);
}

/// Found: a rule for the desk hid the button on phones, too, and there was no way to another page.
#[tokio::test(flavor = "multi_thread")]
async fn the_navigation_unfolds_on_a_phone() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::open(&site, "phone-menu", PHONE).await;
    browser.log_in("anna@club.example").await;
    assert!(!browser.text().await.contains("Log out"), "it is folded");

    browser.click("label.menu").await;
    browser.press("Statements").await;

    browser.sees("Opening balance").await;
    browser.close().await;
}

/// Credits takes two screens of a phone, however many transactions there are. They are one touch away.
#[tokio::test(flavor = "multi_thread")]
async fn credits_take_two_screens_of_a_phone() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    for _ in 0..20 {
        app.top_up(organisation, 1).await;
    }
    app.queue(event, "ok", 30).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(20).await).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::open(&site, "phone-credits", PHONE).await;
    browser.log_in("anna@club.example").await;
    browser.go("/credits").await;
    browser.sees("Monthly Usage Summary").await;
    let height = "return document.documentElement.scrollHeight";
    let height = browser.page.execute(height, Vec::new()).await.unwrap().as_i64().unwrap();
    assert!(height <= 2 * 844, "{height} pixels");
    assert!(!browser.text().await.contains("Marathon"), "the transactions are folded");

    browser.click("#transactions").await;

    browser.sees("Marathon").await;
    browser.go("/credits?kind=usage").await;
    browser.sees("Marathon").await;
    browser.close().await;
}
