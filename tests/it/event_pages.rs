//! The journey of an event: the list, its first screen, the top-up from a paused event, its photos.

use fantoccini::Locator;
use photogate::{
    access::{Caller, Role},
    catalog::events,
    commands::NewHold,
    ids::{EventId, Operation, OrganisationId},
    queue::holds,
};
use serde_json::Value;

use crate::{
    photos::{samples, work_on},
    support::{
        App,
        browser::{Browser, Look},
        site::{Site, Visitor},
    },
};

const DESK: Look = Look { width: 1440, height: 900, dark: false };
const PHONE: Look = Look { width: 390, height: 844, dark: false };

async fn an_event(app: &App, organisation: OrganisationId, name: &str) -> EventId {
    events::create(&mut *app.db().await, organisation, name, true, false, "anna").await.unwrap()
}

/// Photos of an event that fail.
async fn failures(app: &App, event: EventId, photos: usize) {
    app.queue(event, "ok", photos).await;
    let hand = app.a_worker().await;
    for reservation in hand.claim(photos).await {
        assert!(hand.fail(reservation).await);
    }
}

/// How many screens down something ends.
async fn screens(browser: &Browser, css: &str) -> f64 {
    let of = format!(
        "return (document.querySelector('{css}').getBoundingClientRect().bottom + window.scrollY) \
         / window.innerHeight"
    );
    browser.page.execute(&of, Vec::new()).await.unwrap().as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_event_runs_again_after_three_clicks_from_its_page() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let worker = app.start_worker();
    app.until_out_of_credit(event).await;
    let site = Site::of(&app).await;
    let browser = Browser::open(&site, "journey", DESK).await;
    browser.log_in("anna@club.example").await;
    browser.go(&format!("/events/{event}")).await;
    browser.sees("Needs credits").await;
    browser.keep("paused").await;
    // How far, what it costs, what is wrong, what to do, and what happened: all on the first screen.
    assert!(screens(&browser, "#answers").await < 1.0);
    assert!(screens(&browser, ".journey").await < 1.0);

    let mut clicks = 0;
    for (press, then) in [
        ("Add 3 credits to finish", "Buy 3 credits for 0.15 EUR"),
        ("Buy", "Photos that waited for them resume."),
    ] {
        browser.press(press).await;
        clicks += 1;
        browser.sees(then).await;
    }

    assert!(clicks <= 3);
    let here = browser.page.current_url().await.unwrap();
    assert_eq!(here.path(), format!("/events/{event}"), "back where it began");
    app.until_done(event).await;
    browser.go(&format!("/events/{event}")).await;
    browser.sees("Nothing. All photos are done.").await;
    browser.keep("done").await;
    assert_eq!(app.credits(organisation).await, (0, 0, 5));
    browser.close().await;
    worker.drain().await;
}

/// A scene with a bit of everything: an event that is done, one that failed in part and is held, one
/// that waits for credits, one that is new.
async fn scene(app: &App) -> (OrganisationId, [EventId; 4]) {
    let store = samples(app);
    let organisation = app.an_organisation_with(20).await;
    let done = an_event(app, organisation, "City Marathon 2026").await;
    let mut photos: Vec<String> = std::fs::read_dir(store.join("marathon"))
        .unwrap()
        .map(|file| format!("marathon/{}", file.unwrap().file_name().to_string_lossy()))
        .collect();
    photos.sort();
    let photos: Vec<&str> = photos.iter().map(String::as_str).take(4).collect();
    work_on(app, done, Operation::AiRotation, &photos).await;
    work_on(app, done, Operation::PhotoProcessing, &photos).await;
    let held = an_event(app, organisation, "Night Run").await;
    failures(app, held, 3).await;
    app.queue(held, "more", 40).await;
    let note = "the start list is not here yet".to_owned();
    let hold = NewHold { operation: Some(Operation::PhotoProcessing), note, until: None };
    app.commands().hold(&Caller::trusted("ops@photogate.example"), held, &hold).await.unwrap();
    let paused =
        an_event(app, organisation, "Charity Gala at the Old Harbour with a long name").await;
    app.queue(paused, "ok", 1500).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(20).await).await;
    let new = an_event(app, organisation, "Spring Trail").await;
    (organisation, [done, held, paused, new])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_events_have_their_pictures() {
    let app = App::new().await;
    let (organisation, [done, held, paused, new]) = scene(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let photo = app.photo_of(done).await;
    let site = Site::of(&app).await;
    for (name, look) in [
        ("events-desk-day", DESK),
        ("events-desk-night", Look { dark: true, ..DESK }),
        ("events-phone-day", PHONE),
        ("events-phone-night", Look { dark: true, ..PHONE }),
    ] {
        let browser = Browser::open(&site, name, look).await;
        browser.log_in("staff@photogate.example").await;
        for (page, path) in [
            ("list", format!("/events?organisation={organisation}")),
            ("form", format!("/events/new?organisation={organisation}")),
            ("done", format!("/events/{done}")),
            ("held", format!("/events/{held}")),
            ("paused", format!("/events/{paused}")),
            ("new", format!("/events/{new}")),
            ("timeline", format!("/events/{held}/timeline")),
            ("photo", format!("/photos/{photo}")),
        ] {
            browser.go(&path).await;
            browser.keep(page).await;
            let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
            let fits = browser.page.execute(wide, Vec::new()).await.unwrap();
            assert_eq!(fits, Value::Bool(true), "{page} fits the width of {name}");
        }
        browser.go(&format!("/events/{paused}")).await;
        let most = if look.width < 500 { 2.0 } else { 1.0 };
        assert!(screens(&browser, "#answers").await < most, "{name}");
        // The pictures of the photos are links.
        browser.go(&format!("/events/{done}")).await;
        let css = format!("#photo-{photo} a");
        assert!(browser.page.find(Locator::Css(&css)).await.is_ok());
        browser.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_says_how_far_each_event_is_and_what_is_wrong() {
    let app = App::new().await;
    let (organisation, first) = app.an_event_with(10).await;
    failures(&app, first, 2).await;
    let second = app.an_event_of(organisation).await;
    app.queue(second, "ok", 12).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(12).await;
    assert_eq!(claimed.len(), 10, "the credits are spent");
    let last = claimed.pop().unwrap();
    hand.succeed_all(claimed).await;
    app.an_event_of(organisation).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;

    let file = anna.text(&site, "/events?format=csv").await;
    let rows: Vec<Vec<&str>> =
        file.trim_start_matches('\u{feff}').lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|found| *found == name).unwrap();
    let of = |event: EventId| {
        let id = event.to_string();
        let row = rows.iter().find(|row| row[column("id")] == id).unwrap();
        ["state", "progress", "photos", "failed", "credits_used"].map(|name| row[column(name)])
    };
    assert_eq!(of(first), ["idle", "100", "2", "2", "0"]);
    assert_eq!(of(second), ["no_credits", "75", "12", "0", "10"]);
    let page = anna.text(&site, "/events").await;
    for words in ["Needs credits", "No photos yet", "Done", "75 %", "New event"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    // A retry: the failures of before are none any more.
    let photos: Vec<_> = sqlx::query_scalar("SELECT photo_id FROM photo WHERE event_id = $1")
        .bind(first.0)
        .fetch_all(&mut *app.db().await)
        .await
        .unwrap();
    let photos: Vec<_> = photos.into_iter().map(photogate::ids::PhotoId).collect();
    app.retry(first, &photos).await;
    let file = anna.text(&site, &format!("/events?format=csv&name={first}")).await;
    assert!(file.contains(",no_credits,0,2,0,0,"), "{file}");
    hand.succeed_all(vec![last]).await;

    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    let new = format!("/events/new?organisation={organisation}");
    assert_eq!((ops.get(&site, &new).await, anna.get(&site, "/events/new").await), (403, 200));
    assert!(!ops.text(&site, "/events").await.contains("New event"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_the_one_thing_that_helps() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    let path = format!("/events/{event}");
    let says = async |visitor: &Visitor, words: &[&str]| {
        let page = visitor.text(&site, &path).await;
        for words in words {
            assert!(page.contains(words), "{words}: {page}");
        }
    };
    says(&anna, &["No photos yet", "Bring photos"]).await;
    failures(&app, event, 1).await;
    says(&anna, &["Retry 1 photos"]).await;
    app.queue(event, "more", 2000).await;
    says(&anna, &["Running", "2,001"]).await;
    let hold = app.hold(event, "ops@photogate.example").await;
    says(&anna, &["Ask ops@photogate.example to lift the hold"]).await;
    says(&ops, &["Lift the hold", "A top-up does not lift the hold"]).await;
    holds::lift(&mut *app.db().await, hold, "ops@photogate.example").await.unwrap();
    let other = app.an_event_of(organisation).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(3).await).await;
    app.queue(other, "ok", 1200).await;
    says(
        &anna,
        &["Add 1,997 credits to finish", "Other events wait for 1,200", "Add 3,197 for all"],
    )
    .await;
    says(&ops, &["Ask an organiser. Add 1,997 credits to finish."]).await;
    // The picture has words for those who do not see it.
    says(&anna, &["queued 2 times, paused 1 times", "1 photos failed"]).await;

    // Whoever asked there is led back there, also by "Cancel".
    let ask = format!(
        "/credits/add?organisation={organisation}&event={event}&credits=1997&once=from-the-event"
    );
    let asked = anna.text(&site, &ask).await;
    assert!(asked.contains(&format!("href=\"{path}\"")), "{asked}");
    let id = (organisation.to_string(), event.to_string());
    let form = [
        ("organisation", id.0.as_str()),
        ("credits", "1997"),
        ("once", "from-the-event"),
        ("price", "0.05 EUR"),
        ("event", id.1.as_str()),
    ];
    for _ in 0..2 {
        assert_eq!(anna.post(&site, "/credits/add", &form).await, 303);
    }
    assert_eq!(app.credits(organisation).await.0, 1997, "sent twice, it buys once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_opens_large_and_leads_to_its_neighbours_and_its_receipt() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let keys = ["a/1.jpg", "a/2.jpg", "a/3.jpg"].map(str::to_owned);
    app.queue_keys(event, Operation::PhotoProcessing, &keys).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let mut ids = Vec::new();
    for key in &keys {
        ids.push(events::photo(&mut *app.db().await, event, key).await.unwrap().unwrap());
    }

    let page =
        anna.text(&site, &format!("/photos/{}?back=/events/{event}?state=pending", ids[1])).await;

    let back = format!("back=%2Fevents%2F{event}%3Fstate%3Dpending");
    for (rel, id) in [("prev", ids[0]), ("next", ids[2])] {
        let link = format!("rel=\"{rel}\" href=\"/photos/{id}?{back}\"");
        assert!(page.contains(&link), "{link}: {page}");
    }
    let leads = [
        format!("/receipts/{}", ids[1]),
        format!("/photos/{}/correct?{back}", ids[1]),
        format!("/events/{event}?state=pending#photo-{}", ids[1]),
    ];
    for lead in leads {
        assert!(page.contains(&lead), "{lead}: {page}");
    }
    let first = anna.text(&site, &format!("/photos/{}", ids[0])).await;
    assert!(!first.contains("Previous photo") && first.contains("Next photo"));
    // A photo on which nothing was found may lie on its side. One that waits says nothing of it.
    let hint = "Does the photo lie on its side?";
    assert!(!first.contains(hint), "{first}");
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    let first = anna.text(&site, &format!("/photos/{}", ids[0])).await;
    assert!(first.contains(hint), "{first}");
    let event_page = anna.text(&site, &format!("/events/{event}")).await;
    assert_eq!(event_page.matches("Nothing found. Turn it first?").count(), 1, "{event_page}");
    // Nowhere else, whatever the address says.
    let away = anna.text(&site, &format!("/photos/{}?back=https://evil.example", ids[0])).await;
    assert!(!away.contains("evil"), "{away}");
}
