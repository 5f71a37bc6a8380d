//! The finder: athletes look for their photos without an account, and see nothing else.

use std::{fs, path::Path};

use photogate::{
    access::{Caller, Role, audit_log},
    catalog::{
        events,
        finders::{Finder, FinderAccess},
    },
    commands::{FinderChange, NewErasure},
    ids::{EventId, Operation, OrganisationId, PhotoId},
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::json;

use crate::{
    photos::{samples, work_on},
    search::a_face_and_the_number,
    support::{
        App,
        browser::{Browser, Look},
        root,
        site::{Site, Visitor, answered},
    },
};

async fn a_race(app: &App, name: &str) -> (OrganisationId, EventId) {
    let organisation = app.an_organisation_with(20).await;
    let (db, actor) = (&mut *app.db().await, "anna@club.example");
    (organisation, events::create(db, organisation, name, true, true, actor).await.unwrap())
}

async fn set(app: &App, event: EventId, access: FinderAccess, replace_link: bool) -> Finder {
    let (anna, change) = (Caller::trusted("anna"), FinderChange { access, replace_link });
    app.commands().set_finder(&anna, event, change).await.unwrap()
}

/// The event's finder, by its link.
async fn opened(app: &App, event: EventId) -> String {
    set(app, event, FinderAccess::Link, false).await.link.unwrap()
}

/// Photos of an event, each with a face, a number, and a thumbnail in the store.
async fn photos(app: &App, event: EventId, numbers: &[(&str, f32)]) -> Vec<PhotoId> {
    let store = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    fs::create_dir_all(store.join(".photogate/thumbnails")).unwrap();
    app.queue(event, "ok", numbers.len()).await;
    let hand = app.a_worker().await;
    let mut all = Vec::new();
    for (reservation, (number, score)) in hand.claim(numbers.len()).await.into_iter().zip(numbers) {
        let photo = reservation.photo();
        let small = store.join(format!(".photogate/thumbnails/{photo}.jpg"));
        fs::copy(root().join("samples/marathon/IMG_0001.jpg"), small).unwrap();
        assert!(hand.give_back(reservation, a_face_and_the_number(number, *score)).await);
        all.push(photo);
    }
    all
}

async fn get(site: &Site, path: &str) -> Response {
    site.client.get(site.url(path)).send().await.unwrap()
}

async fn status(site: &Site, path: &str) -> u16 {
    get(site, path).await.status().as_u16()
}

async fn by_number(site: &Site, finder: &str, number: &str) -> (u16, String) {
    let sent = site.client.post(site.url(finder)).form(&[("bib", number)]).send().await.unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

/// A selfie as a browser sends it.
fn selfie(client: &Client, url: &str, photo: &[u8], consent: &str) -> RequestBuilder {
    let mut body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"consent\"\r\n\r\n{consent}\r\n--x\r\n\
         Content-Disposition: form-data; name=\"selfie\"; filename=\"a.jpg\"\r\n\
         Content-Type: image/jpeg\r\n\r\n"
    )
    .into_bytes();
    body.extend(photo);
    body.extend(b"\r\n--x--\r\n");
    client.post(url).header("content-type", "multipart/form-data; boundary=x").body(body)
}

async fn by_selfie(site: &Site, finder: &str, photo: &Path, consent: &str) -> (u16, String) {
    let photo = fs::read(photo).unwrap();
    let url = site.url(&format!("{finder}/selfie"));
    let sent = selfie(&site.client, &url, &photo, consent).send().await.unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finder_opens_to_whom_its_organisers_say_and_an_old_link_leads_nowhere() {
    let app = App::new().await;
    let (organisation, event) = a_race(&app, "City Marathon").await;
    let (_, other) = a_race(&app, "Night Run").await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let (public, path) = (format!("/find/{event}"), format!("/v1/events/{event}/finder"));
    let put = async |body| answered(site.ask(Method::PUT, &path, &token).json(&body)).await.1;
    let unknown = format!("/find/{}", "0".repeat(32));
    let nothing = get(&site, &unknown).await;
    assert_eq!(nothing.headers()["x-robots-tag"], "noindex, nofollow");
    let nothing = nothing.text().await.unwrap();
    assert!(nothing.contains("There is no page here"), "{nothing}");
    assert_eq!(status(&site, &public).await, 404, "off, as every event at first");

    let by_link = put(json!({ "access": "link" })).await;
    let link = by_link["link"].as_str().unwrap();
    assert_eq!((status(&site, link).await, status(&site, &public).await), (200, 404));
    assert_eq!(put(json!({ "access": "link" })).await, by_link, "nothing has changed");
    let to_all = put(json!({ "access": "public" })).await;
    assert_eq!((&to_all["public"], &to_all["link"]), (&json!(public), &json!(link)));
    assert_eq!((status(&site, link).await, status(&site, &public).await), (200, 200));
    assert_eq!(status(&site, &format!("/find/{other}")).await, 404, "that of another is not");
    let anew = put(json!({ "access": "link", "replace_link": true })).await;
    let new = anew["link"].as_str().unwrap();
    assert_eq!((status(&site, link).await, status(&site, new).await), (404, 200));
    for gone in [link, &*public, "/find/x", "/find/0", "/find/-1", "/find/٧"] {
        assert_eq!(get(&site, gone).await.text().await.unwrap(), nothing, "{gone}");
    }
    put(json!({ "access": "off" })).await;
    assert_eq!(status(&site, new).await, 404);
    let again = put(json!({ "access": "link" })).await;
    assert_ne!(again["link"], anew["link"], "what was off stays off");
    let said = app.says(&["events", "finder", &event.to_string()]);
    assert!(said.contains(again["link"].as_str().unwrap()), "{said}");

    let page = get(&site, again["link"].as_str().unwrap()).await;
    for (name, value) in [
        ("x-robots-tag", "noindex, nofollow"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.headers()[name], value);
    }
    assert!(page.headers().get("set-cookie").is_none());
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    assert!(get(&site, "/robots.txt").await.text().await.unwrap().contains("Disallow: /find/"));
    app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap();
    assert_eq!(status(&site, again["link"].as_str().unwrap()).await, 404);
    assert_eq!(app.count("SELECT count(*) FROM finder").await, 0);
    let log = audit_log::list(&mut *app.db().await, None, None, 100).await.unwrap();
    let told: Vec<_> = log.iter().filter(|one| one.action == "event.finder").collect();
    assert_eq!(told.len(), 5, "each change, and no other");
    let secrets = [link, new, again["link"].as_str().unwrap()].map(|link| &link[6..]);
    assert!(!secrets.iter().any(|secret| format!("{log:?}").contains(secret)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_finds_small_pictures_and_nothing_else() {
    let app = App::new().await;
    let (_, event) = a_race(&app, "Run <script>alert(1)</script> & Fun").await;
    let (_, other) = a_race(&app, "Night Run").await;
    // The last one is not a part of an ID by chance.
    let of_event = photos(&app, event, &[("1482", 0.99), ("1482", 0.4), ("87XY", 0.99)]).await;
    let of_other = photos(&app, other, &[("1482", 0.99)]).await;
    let (site, finder) = (Site::of(&app).await, opened(&app, event).await);

    let (status_of_found, page) = by_number(&site, &finder, " 14-82 ").await;

    assert_eq!(status_of_found, 200);
    assert!(page.contains("2 photos with the number 1482"), "{page}");
    let (sure, maybe) = page.split_once("Maybe").expect("one may be misread");
    let small = |photo: PhotoId| format!("{finder}/photos/{photo}");
    assert!(sure.contains(&small(of_event[0])) && maybe.contains(&small(of_event[1])));
    for not in [&of_event[2], &of_other[0]] {
        assert!(!page.contains(&not.to_string()));
    }
    for word in ["rehearsal", ".jpg\"", "credit", "<script", "/events", "/login", "score", "87XY"] {
        assert!(!page.contains(word), "{word}: {page}");
    }
    assert!(page.contains("Run &lt;script&gt;"), "{page}");
    let picture = get(&site, &small(of_event[0])).await;
    assert_eq!(picture.headers()["content-type"], "image/jpeg");
    assert!(picture.headers()["cache-control"].to_str().unwrap().starts_with("private"));
    // Not the photos of others: not by this link, by their number, by a made-up ID, or by a key.
    for path in [
        small(of_other[0]),
        format!("/find/{event}/photos/{}", of_event[0]),
        format!("/find/{other}/photos/{}", of_other[0]),
        format!("{finder}/photos/{}", uuid::Uuid::now_v7()),
        format!("{finder}/photos/rehearsal%2Fok%2F1"),
        format!("{finder}/photos/..%2f{}", of_other[0]),
    ] {
        assert_eq!(status(&site, &path).await, 404, "{path}");
    }
    assert!(by_number(&site, &finder, "14").await.1.contains("No photo with the number 14"));
    assert!(by_number(&site, &finder, "%").await.1.contains("at most ten letters and digits"));
    assert_eq!(by_number(&site, &finder, "12345678901").await.0, 422);
    assert_eq!(by_number(&site, &format!("/find/{event}"), "1482").await.0, 404);
    let erased = NewErasure { faces: Vec::new(), bib: Some("1482".into()) };
    app.commands().erase_person(&Caller::trusted("anna"), event, &erased).await.unwrap();
    assert!(by_number(&site, &finder, "1482").await.1.contains("No photo with the number 1482"));
    set(&app, event, FinderAccess::Link, true).await;
    assert_eq!(status(&site, &small(of_event[0])).await, 404, "the pictures go with the link");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selfie_finds_its_face_with_consent_only_and_is_in_the_audit_log() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = a_race(&app, "City Marathon").await;
    let (_, of_strangers) = a_race(&app, "Night Run").await;
    work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0001.jpg"]).await;
    let photo = app.photo_of(event).await;
    let stranger = photos(&app, of_strangers, &[("12", 0.99)]).await[0];
    let (site, finder) = (Site::of(&app).await, opened(&app, event).await);
    let face = store.join("gala/DSC_0001.jpg");
    let (refused, page) = by_selfie(&site, &finder, &face, "no").await;
    assert_eq!(refused, 422);
    assert!(page.contains("without your consent"), "{page}");

    let (_, page) = by_selfie(&site, &finder, &face, "yes").await;

    assert!(page.contains("1 photo with this face"), "{page}");
    let small = format!("{finder}/photos/{photo}");
    assert!(page.contains(&small) && !page.contains("marathon/"), "{page}");
    assert_eq!(status(&site, &small).await, 200);
    let others = opened(&app, of_strangers).await;
    let (_, page) = by_selfie(&site, &others, &face, "yes").await;
    assert!(page.contains("No photo with this face") && !page.contains(&stranger.to_string()));
    let (refused, page) =
        by_selfie(&site, &finder, &store.join("marathon/IMG_0007.jpg"), "yes").await;
    assert!(refused == 422 && page.contains("No face was found"), "{page}");
    let (refused, page) = by_selfie(&site, &finder, &store.join("gala/DSC_0003.jpg"), "yes").await;
    assert!(refused == 422 && page.contains("cannot be read as a photo"), "{page}");
    let log = audit_log::list(&mut *app.db().await, Some(organisation), None, 100).await.unwrap();
    let searches: Vec<_> =
        log.iter().filter(|entry| entry.action == "photos.search_face").collect();
    assert_eq!(searches.len(), 1, "what finds no face is no search");
    assert_eq!(searches[0].actor, "a visitor of the finder");
    let detail = searches[0].detail.as_object().unwrap();
    assert!(detail.keys().all(|key| ["found", "score_min"].contains(&key.as_str())), "{detail:?}");

    app.set_face_search(event, false).await.unwrap();
    assert_eq!(by_selfie(&site, &finder, &face, "yes").await.0, 404);
    assert!(!get(&site, &finder).await.text().await.unwrap().contains("consent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_searches_too_often_is_told_to_wait_and_others_do_not_notice() {
    let mut app = App::new().await;
    app.config.behind_https = true;
    let (organisation, event) = a_race(&app, "City Marathon").await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let (site, finder) = (Site::of(&app).await, opened(&app, event).await);
    let from = |address: &'static str, request: RequestBuilder| async move {
        request.header("x-forwarded-for", address).send().await.unwrap()
    };
    let number = || site.client.post(site.url(&finder)).form(&[("bib", "1")]);
    let face = || selfie(&site.client, &site.url(&format!("{finder}/selfie")), b"no photo", "no");

    let mut numbers = Vec::new();
    for _ in 0..60 {
        numbers.push(from("2001:db8::1", number()).await.status().as_u16());
    }
    let mut faces = Vec::new();
    for _ in 0..12 {
        faces.push(from("2001:db8::2", face()).await.status().as_u16());
    }

    assert!(numbers.iter().filter(|status| **status == 200).count() >= 30, "{numbers:?}");
    assert!(numbers.contains(&429), "{numbers:?}");
    assert_eq!(faces.iter().filter(|status| **status == 422).count(), 8, "{faces:?}");
    let told = from("2001:db8::3", face()).await;
    assert_eq!(told.status(), StatusCode::TOO_MANY_REQUESTS, "of the same network");
    assert!(told.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(told.headers()["x-robots-tag"], "noindex, nofollow");
    let page = told.text().await.unwrap();
    assert!(page.contains("Too many searches at the moment"), "{page}");
    assert_eq!(from("2001:db8:0:1::1", number()).await.status(), 200, "of another network");
    let own = site.get(&format!("/v1/events/{event}"), &token).await;
    assert_eq!(own.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_change_the_event_opens_its_finder_and_learns_its_link() {
    let app = App::new().await;
    let (organisation, event) = a_race(&app, "City Marathon").await;
    let elsewhere = app.an_organisation_with(0).await;
    for (email, role, of) in [
        ("anna@club.example", Role::Organiser, Some(organisation)),
        ("eve@other.example", Role::Organiser, Some(elsewhere)),
        ("ops@photogate.example", Role::Operator, None),
    ] {
        app.a_person(email, role, of).await;
    }
    let site = Site::of(&app).await;
    let path = format!("/events/{event}/finder");
    let public = [("access", "public")];
    for (email, wanted) in [("eve@other.example", 404), ("ops@photogate.example", 403)] {
        let visitor = Visitor::logged_in(&site, email).await;
        let key = visitor.text(&site, "/account").await;
        let key = key.split("name=\"form_key\" value=\"").nth(1).unwrap();
        let form = [("form_key", key.split('"').next().unwrap()), public[0]];
        let sent = visitor.client.post(site.url(&path)).form(&form).send().await.unwrap();
        assert_eq!(sent.status(), wanted, "{email}");
    }
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let foreign = anna.client.post(site.url(&path)).form(&public).send().await.unwrap();
    assert_eq!(foreign.status(), 403, "without the key of the form");
    assert_eq!(status(&site, &format!("/find/{event}")).await, 404);

    assert_eq!(anna.post(&site, &path, &public).await, 303);

    assert_eq!(status(&site, &format!("/find/{event}")).await, 200);
    let link = set(&app, event, FinderAccess::Public, false).await.link.unwrap();
    assert!(anna.text(&site, &format!("/events/{event}")).await.contains(&link));
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    assert!(!ops.text(&site, &format!("/events/{event}")).await.contains("/find/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pacemaker_who_is_on_hundreds_of_photos_finds_all_of_them() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(230).await;
    let event = app.an_event_of(organisation).await;
    photos(&app, event, &[("7", 0.99); 230]).await;
    let finder = opened(&app, event).await;
    let site = Site::of(&app).await;

    let (status, page) = by_number(&site, &finder, "7").await;

    assert_eq!(status, 200);
    assert!(page.contains("230 photos with the number 7") && !page.contains("These are the first"));
    assert_eq!(page.matches("class=\"shot\"").count(), 230);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_with_a_phone_finds_a_photo_by_the_link_of_the_organiser() {
    let app = App::new().await;
    let (organisation, event) = a_race(&app, "City Marathon 2026").await;
    photos(&app, event, &[("1482", 0.99), ("1482", 0.98), ("1482", 0.97), ("1482", 0.4)]).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let look = Look { width: 390, height: 844, dark: false };
    for (name, look) in [
        ("finder-phone-day", look),
        ("finder-desk-night", Look { width: 1440, height: 900, dark: true }),
    ] {
        let browser = Browser::open(&site, name, look).await;
        browser.log_in("anna@club.example").await;
        browser.go(&format!("/events/{event}")).await;
        browser.press("Page for athletes").await;
        browser.click("#finder input[value=link]").await;
        browser.click("#finder button[type=submit]").await;
        browser.sees("open to whoever has its link").await;
        let code = "return document.querySelectorAll('#finder svg[role=img]').length";
        assert_eq!(browser.page.execute(code, Vec::new()).await.unwrap(), 1, "a QR code");
        browser.keep("organiser").await;
        let link = browser.page.find(fantoccini::Locator::Css("#finder input[readonly]")).await;
        let link = link.unwrap().prop("value").await.unwrap().unwrap();
        browser.page.delete_all_cookies().await.unwrap();

        browser.page.goto(&link).await.unwrap();
        browser.keep("page").await;
        browser.write("input[name=bib]", "1482").await;
        browser.press("Find my photos").await;
        browser.sees("4 photos with the number 1482").await;
        assert!(!browser.text().await.contains("Close"), "no photo is large at first");
        let all = "return [...document.querySelectorAll('.shot img')]\
                   .every(picture => picture.complete && picture.naturalWidth > 0)";
        app.until("the first photos are shown", async || {
            browser.page.execute(all, Vec::new()).await.unwrap() == true
        })
        .await;
        browser.keep("found").await;
        let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
        assert_eq!(browser.page.execute(wide, Vec::new()).await.unwrap(), true);
        browser.click("button.shot").await;
        browser.sees("Close").await;
        let seen = "const picture = document.querySelector('.enlarged:popover-open img'); \
                    return picture.complete && picture.naturalWidth > 0";
        app.until("the photo is shown", async || {
            browser.page.execute(seen, Vec::new()).await.unwrap() == true
        })
        .await;
        browser.keep("large").await;
        browser.close().await;
    }
}
