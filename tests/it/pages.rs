//! The pages, in a real browser: what people come for, from the first click to the last.
//! Screenshots are kept in `.photogate/screenshots`.

use fantoccini::Locator;
use photogate::{
    access::Role,
    ids::{EventId, Operation},
};
use reqwest::StatusCode;

use crate::{
    photos::{samples, work_on},
    support::{
        App,
        browser::{Browser, PASSWORD},
        site::{Site, Visitor},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn credits_are_bought_and_paused_photos_go_on_without_touching_anything() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    app.queue(event, "ok", 5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let worker = app.start_worker();
    app.until_out_of_credit(event).await;
    let site = Site::of(&app).await;
    let watching = Browser::logged_in(&site, "event", "anna@club.example").await;
    watching.go(&format!("/events/{event}")).await;
    watching.sees("Add 3 credits to finish").await;
    watching.keep("paused").await;

    let buying = Browser::logged_in(&site, "buying", "anna@club.example").await;
    buying.sees("Monthly Usage Summary").await;
    buying.shows("available", "0").await;
    buying.shows("reserved", "0").await;
    buying.press("Add Credits").await;
    buying.write("input[name=credits]", "10").await;
    buying.press("Continue").await;
    buying.sees("Buy 10 credits for 0.50 EUR").await;
    buying.keep("asked").await;
    buying.press("Buy").await;
    buying.sees("Photos that waited for them resume.").await;
    // The same form once more, as by a second click.
    buying.page.back().await.unwrap();
    buying.press("Buy").await;
    buying.sees("This purchase was made before").await;

    watching.shows("processed", "5").await;
    watching.shows("paused", "0").await;
    watching.keep("done").await;
    buying.shows("available", "7").await;
    buying.sees("Purchase").await;
    buying.keep("credits").await;
    assert_eq!(app.credits(organisation).await, (7, 0, 5));
    buying.close().await;
    watching.close().await;
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_decides_which_photos_get_the_credits_and_sees_what_comes_of_it() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    let gala = app.an_event_of(organisation).await;
    app.queue(event, "ok", 4).await;
    app.queue(gala, "ok", 4).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "spending", "anna@club.example").await;
    browser.press("Which photos get the credits?").await;
    browser.sees("Every event in turn").await;
    browser.click("input[value=finish_first]").await;
    browser.write("input[name=events]", &gala.to_string()).await;
    browser.press("Show what this would do").await;
    browser.sees("Will finish then").await;
    browser.keep("asked").await;
    browser.press("Change it").await;
    browser.sees("The settings were saved.").await;

    browser.go(&format!("/events/{gala}")).await;
    browser.press("Credits for this event").await;
    browser.write("details[open] input[name=cap]", "2").await;
    browser.click("details[open] form[action$=budget] button").await;
    browser.sees("The settings were saved.").await;
    let hand = app.a_worker().await;
    let claimed = hand.claim(8).await;
    let of_gala = claimed.iter().filter(|one| one.event() == gala).count();
    assert_eq!((claimed.len(), of_gala), (3, 2), "two of the gala, and the rest of the other");
    browser.go(&format!("/events/{gala}")).await;
    browser.sees("The budget of this event is used up.").await;
    browser.keep("used-up").await;
    browser.go("/spending").await;
    browser.sees("Photos waiting").await;
    browser.keep("spending").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finance_follows_a_refund_to_its_photo() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    assert!(hand.fail(hand.claim_one().await).await);
    app.a_person("finance@photogate.example", Role::Finance, None).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "finance", "finance@photogate.example").await;
    browser.sees("Refunds of the last 31 days").await;
    browser.sees("The file is corrupt").await;
    browser.sees("Club").await;
    browser.press("Photos").await;
    browser.sees("rehearsal/ok/1").await;
    browser.sees("Marathon").await;
    browser.keep("refunds").await;
    browser.press("Receipt").await;
    browser.sees("1 credit refunded").await;
    browser.sees("balance 5 → 4").await;
    browser.sees("queued by pipeline@club.example").await;
    browser.keep("receipt").await;
    browser.go(&format!("/statements?organisation={organisation}")).await;
    browser.sees("Opening 0 + 5 added − 0 used = closing 5").await;
    browser.sees("1 were charged, and 1 refunded").await;
    browser.keep("statement").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_plans_a_run_sets_a_start_list_and_finds_somebody_by_a_selfie() {
    let app = App::new().await;
    let store = samples(&app);
    let organisation = app.an_organisation_with(20).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "organiser", "anna@club.example").await;
    browser.go("/events").await;
    browser.press("New event").await;
    browser.write("main input[name=name]", "City Marathon").await;
    browser.press("Create").await;
    browser.sees("No photos yet").await;
    let event = EventId(app.count("SELECT max(event_id) FROM event").await);
    browser.press("Settings").await;
    browser
        .page
        .find(Locator::Css("input[name=face_search]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.write("textarea", "bib\n1482\n338\n").await;
    browser.press("Save").await;
    browser.sees("Find by a selfie").await;
    assert_eq!(app.count("SELECT cardinality(numbers)::bigint FROM start_list").await, 2);

    browser.click("#process summary").await;
    browser.write("details[open] input[name=prefix]", "marathon/IMG_000").await;
    browser.press("Show the cost").await;
    browser.sees("The credits are enough for all of them.").await;
    browser.keep("plan").await;
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0, "asked, and not done");
    browser.press("Queue them").await;
    let keys: Vec<String> = (1..=3).map(|n| format!("marathon/IMG_000{n}.jpg")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    work_on(&app, event, Operation::PhotoProcessing, &keys).await;
    browser.go(&format!("/events/{event}?bib=1482")).await;
    browser.sees("IMG_0001.jpg").await;
    assert!(!browser.text().await.contains("IMG_0003.jpg"), "only who is asked for");

    let selfie = store.join("gala/DSC_0001.jpg");
    browser.write("input[name=selfie]", selfie.to_str().unwrap()).await;
    browser.press("Find").await;
    browser.sees("most similar first").await;
    browser.keep("selfie").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_corrects_the_numbers_and_the_turn_of_a_photo() {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(9).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0004.jpg"]).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "correcting", "anna@club.example").await;
    let click = async |css: &str| {
        let found = browser.page.find(Locator::Css(css)).await.unwrap();
        found.click().await.unwrap();
    };
    browser.go(&format!("/events/{event}?state=processed")).await;

    browser.press("Correct").await;
    browser.write("input[name=numbers]", "a-77 615").await;
    browser.press("Save the numbers").await;
    browser.sees("The numbers were corrected.").await;
    browser.press("Correct").await;
    click("input[name=turn][value='270']").await;
    browser.keep("chosen").await;
    browser.press("Save the turn").await;
    browser.sees("The turn was corrected.").await;
    browser.sees("turned by 270° by a person").await;
    browser.keep("corrected").await;
    assert!(browser.page.current_url().await.unwrap().as_str().contains("state=processed"));
    browser.press("Correct").await;
    browser.sees("The models had found").await;
    browser.keep("again").await;
    click("form[action$='/numbers/take-back'] button").await;
    browser.sees("The correction was taken back.").await;
    assert_eq!(app.count("SELECT count(*) FROM number_correction").await, 0);
    assert_eq!(app.count("SELECT turn::bigint FROM rotation").await, 270);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_lives_on_when_redis_stops() {
    let (app, mut services) = App::with_services("pages-redis").await;
    let (organisation, event) = app.an_event_with(5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "redis", "anna@club.example").await;
    browser.go(&format!("/events/{event}")).await;
    browser.shows("processed", "0").await;

    services.redis.stop();
    app.queue(event, "ok", 3).await;
    let worker = app.start_worker();

    browser.shows("processed", "3").await;
    worker.drain().await;
    browser.close().await;
    // Its books are audited while there is a database.
    drop(app);
    drop(services);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_business_there_sees_nothing_and_no_other_site_presses_our_buttons() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let photo = app.a_worker().await.claim_one().await.photo();
    let elsewhere = app.an_organisation_with(5).await;
    app.a_person("eve@other.example", Role::Organiser, Some(elsewhere)).await;
    app.a_person("finance@photogate.example", Role::Finance, None).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let anna = app.count("SELECT person_id FROM person WHERE email = 'anna@club.example'").await;
    let site = Site::of(&app).await;

    let eve = Visitor::logged_in(&site, "eve@other.example").await;
    for path in [
        format!("/events/{event}"),
        format!("/events/{event}/live"),
        format!("/events/{event}/why"),
        format!("/events/{event}/quality"),
        format!("/events/{event}/timeline"),
        format!("/events/{event}/timeline?format=csv"),
        format!("/events/{event}/schedules"),
        format!("/events/{event}/schedules/new?operation=both&at=2030-05-04T16:00"),
        format!("/credits?organisation={organisation}"),
        format!("/credits?organisation={organisation}&format=csv"),
        format!("/credits/live?organisation={organisation}"),
        format!("/credits/auto-top-up?organisation={organisation}&below=1&credits=1&monthly_max=1"),
        format!("/spending?organisation={organisation}"),
        format!("/spending/order?organisation={organisation}&order=fair"),
        format!("/statements?organisation={organisation}"),
        format!("/people?organisation={organisation}"),
        format!("/tokens?organisation={organisation}"),
        format!("/alerts?organisation={organisation}"),
        format!("/webhooks?organisation={organisation}"),
        format!("/people/{anna}/mail"),
        format!("/receipts/{photo}"),
        format!("/photos/{photo}"),
        format!("/photos/{photo}/correct"),
        format!("/photos/{photo}/thumbnail"),
    ] {
        assert_eq!(eve.get(&site, &path).await, 404, "{path}");
    }
    for path in [
        "/queues",
        "/workers",
        "/archives",
        "/finance",
        "/finance/months",
        "/organisations",
        "/organisations/1",
        "/organisations/new",
        "/organisations/1/credits?kind=adjustment&credits=1&note=x&once=x",
        "/purchases/1/approve",
    ] {
        assert_eq!(eve.get(&site, path).await, 403, "{path}");
    }
    assert!(!eve.text(&site, "/events").await.contains(&format!("/events/{event}")));
    let finance = Visitor::logged_in(&site, "finance@photogate.example").await;
    for path in
        ["/queues", "/archives", "/people", "/tokens", "/organisations/1", "/organisations/new"]
    {
        assert_eq!(finance.get(&site, path).await, 403, "{path}");
    }

    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let (key, others) = (anna.form_key(&site).await, eve.form_key(&site).await);
    let buy = async |key: &str| {
        let id = organisation.to_string();
        let form = [
            ("form_key", key),
            ("organisation", &id),
            ("credits", "100"),
            ("once", "x"),
            ("price", "0.05 EUR"),
        ];
        anna.client
            .post(site.url("/credits/add"))
            .form(&form)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((buy("").await, buy(others.as_str()).await), (403, 403), "not from our own page");
    assert_eq!(app.credits(organisation).await.0 + app.credits(organisation).await.1, 5);
    assert_eq!(buy(key.as_str()).await, 303);
    assert_eq!(app.credits(organisation).await.0, 104);

    let form = [("form_key", key.as_str())];
    let logout = anna.client.post(site.url("/logout")).form(&form).send().await.unwrap();
    assert_eq!(logout.status(), StatusCode::SEE_OTHER);
    assert_eq!(anna.get(&site, "/credits").await, 303, "asked to log in");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_change_their_own_password_and_are_logged_out_everywhere() {
    const NEW: &str = "a new horse, a new battery";
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let elsewhere = Visitor::logged_in(&site, "anna@club.example").await;
    assert!(anna.text(&site, "/events").await.contains("href=\"/account\""));
    assert!(anna.text(&site, "/account").await.contains("anna@club.example"));
    let change = async |present, new| {
        anna.post(&site, "/account/password", &[("present", present), ("new", new)]).await
    };

    assert_eq!(
        (change("a wrong password", NEW).await, change(PASSWORD, "short").await),
        (422, 422)
    );
    assert_eq!(change(PASSWORD, NEW).await, 303);

    assert_eq!(
        (anna.get(&site, "/events").await, elsewhere.get(&site, "/events").await),
        (303, 303)
    );
    for (password, status) in [(PASSWORD, 401), (NEW, 303)] {
        let form = [("email", "anna@club.example"), ("password", password)];
        let login = Visitor::stranger().client.post(site.url("/login")).form(&form).send().await;
        assert_eq!(login.unwrap().status().as_u16(), status);
    }
    let recorded = "SELECT count(*) FROM audit_log WHERE action = 'person.password'";
    assert_eq!(app.count(recorded).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_not_guessed_here() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let mut statuses = Vec::new();
    for password in 0..11 {
        let form = [("email", "anna@club.example"), ("password", &format!("wrong {password}"))];
        let answer = site.client.post(site.url("/login")).form(&form).send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10], 429);
    let right = [("email", "anna@club.example"), ("password", PASSWORD)];
    assert_eq!(
        site.client.post(site.url("/login")).form(&right).send().await.unwrap().status(),
        429
    );
    assert_eq!(app.count("SELECT count(*) FROM session").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM person WHERE password LIKE '$argon2id$%'").await, 1);
}
