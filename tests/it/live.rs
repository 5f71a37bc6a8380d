//! Pages that are open move with the work, and leave whoever reads or types in peace.

use photogate::access::Role;
use serde_json::Value;

use crate::support::{App, browser::Browser, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_moves_as_a_whole_and_keeps_what_a_person_has_begun() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "live", "anna@club.example").await;
    browser.go(&format!("/events/{event}")).await;
    browser.sees("No photos yet").await;
    browser.press("AI Rotation").await;
    browser.write("details[open] input[name=prefix]", "marathon/").await;
    let run = async |script: &str| browser.page.execute(script, Vec::new()).await.unwrap();
    run("window.isTheSame = true").await;

    app.queue(event, "ok", 3).await;
    app.queue(event, "fail", 1).await;
    let worker = app.start_worker();

    browser.shows("processed", "3").await;
    browser.sees("rehearsal/ok/2").await;
    browser.sees("Failures").await;
    assert_eq!(run("return window.isTheSame").await, true, "it was not loaded again");
    let typed = "return document.querySelector('details[open] input[name=prefix]').value";
    assert_eq!(run(typed).await, "marathon/");
    let tinted = "return document.getAnimations().length";
    assert_eq!(run(tinted).await, 0, "nothing flashes");
    worker.drain().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_all_organisations_moves_and_says_when_it_stands_still() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(0).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "live-queues", "ops@photogate.example").await;
    browser.go("/queues").await;
    browser.page.execute("window.isTheSame = true", Vec::new()).await.unwrap();

    app.queue(event, "ok", 2).await;

    browser.sees("Paused: no credits").await;
    app.owner_runs("DELETE FROM photogate.session").await;
    browser.sees("You have been logged out. Load it again").await;
    let same = browser.page.execute("return window.isTheSame", Vec::new()).await.unwrap();
    assert_eq!(same, Value::Bool(true));
    browser.close().await;
}
