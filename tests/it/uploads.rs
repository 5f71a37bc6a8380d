//! Photos come by the page or the API: the way of a newcomer, and what nobody gets into the store.

mod original;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use photogate::{
    access::Role,
    catalog::organisations,
    ids::{EventId, OrganisationId},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    photos::{samples, start_worker},
    support::{
        App,
        browser::{Browser, PHONE},
        root,
        site::{Site, Visitor, answered},
    },
};

/// Twenty photos on the disk of a person, one to a line.
fn twenty_photos() -> String {
    let path = |n: usize| root().join(format!("samples/races/race-{n:02}.jpg"));
    let paths: Vec<String> = (0..20).map(|n| path(n).display().to_string()).collect();
    paths.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_uploads_twenty_photos_and_has_a_result_after_six_clicks() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(50).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let worker = start_worker(&app).await;
    let site = Site::of(&app).await;
    let browser = Browser::logged_in(&site, "upload", "anna@club.example").await;
    browser.go("/events").await;
    let clicks = Cell::new(0);
    let press = async |name: &str| {
        browser.press(name).await;
        clicks.set(clicks.get() + 1);
    };
    press("New event").await;
    browser.write("main input[name=name]", "City Marathon").await;
    press("Create").await;
    press("Upload photos").await;
    browser.keep("empty").await;
    // A click on the field opens a window of the system.
    browser.write("input[type=file]", &twenty_photos()).await;
    clicks.set(clicks.get() + 1);
    browser.sees("20 of 20 photos are uploaded.").await;
    browser.sees("What to do with the 20 that are new").await;
    browser.sees("40 credits").await;
    browser.keep("uploaded").await;
    press("Process Photos").await;
    browser.sees("The credits are enough for all of them.").await;
    press("Queue them").await;
    browser.sees("20 photos were queued.").await;
    let event = EventId(app.count("SELECT max(event_id) FROM event").await);
    app.until_processed_more_than(event, 0).await;
    assert_eq!(clicks.get(), 6);
    let stored = "SELECT count(*) FROM upload WHERE key LIKE 'event\\_%/race-__.jpg'";
    assert_eq!(app.count(stored).await, 20);
    let told = "SELECT count(*) FROM audit_log WHERE action = 'photos.upload'";
    assert_eq!(app.count(told).await, 1, "one act of a person");

    // After an interruption, all of them are chosen again.
    browser.go(&format!("/events/{event}/upload")).await;
    browser.write("input[type=file]", &twenty_photos()).await;
    browser.sees("20 of 20 photos are uploaded, 20 of them were there before.").await;
    browser.sees("All of them were queued before.").await;
    let other = root().join("samples/README.md");
    browser.write("input[type=file]", &other.display().to_string()).await;
    browser.sees("README.md: the name of a photo ends with .jpg").await;
    browser.keep("refused").await;
    browser.close().await;
    worker.drain().await;

    let phone = Browser::open(&site, "upload-phone", PHONE).await;
    phone.log_in("anna@club.example").await;
    for (page, path) in [("upload", "upload"), ("browse", "browse")] {
        phone.go(&format!("/events/{event}/{path}")).await;
        let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
        assert_eq!(phone.page.execute(wide, Vec::new()).await.unwrap(), true, "{page} fits");
        phone.keep(page).await;
    }
    phone.press(&format!("event_{event}")).await;
    phone.sees("20 photos in").await;
    phone.keep("chosen").await;
    phone.close().await;
}

/// Two organisations, each with an event, a person and a token; the second has a part of the store.
struct Stage {
    site: Site,
    event: EventId,
    elsewhere: EventId,
    token: String,
    other_token: String,
    store: PathBuf,
    // Its books are audited at last.
    app: App,
}

async fn a_stage_with(change: impl FnOnce(&mut App)) -> Stage {
    let mut app = App::new().await;
    change(&mut app);
    let store = samples(&app);
    let (club, event) = app.an_event_with(10).await;
    let (other, elsewhere) = app.an_event_with(10).await;
    organisations::set_photos_under(&mut *app.db().await, other, "other/").await.unwrap();
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    app.a_person("eve@other.example", Role::Organiser, Some(other)).await;
    let token = async |of: OrganisationId| app.a_token(Role::Pipeline, Some(of)).await;
    let (token, other_token) = (token(club).await, token(other).await);
    let site = Site::of(&app).await;
    Stage { site, event, elsewhere, token, other_token, store, app }
}

impl Stage {
    fn photo(&self, name: &str) -> Vec<u8> {
        fs::read(self.store.join("marathon").join(name)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        format!("/v1/events/{}/files/{name}", self.event)
    }

    async fn put(&self, name: &str, body: Vec<u8>) -> (u16, Value) {
        let request = self.site.ask(Method::PUT, &self.path(name), &self.token).body(body);
        let (status, answer) = answered(request).await;
        (status.as_u16(), answer)
    }

    /// Where uploads of the event are.
    fn directory(&self) -> PathBuf {
        self.store.join(format!("event_{}", self.event))
    }

    async fn uploads(&self) -> i64 {
        self.app.count("SELECT count(*) FROM upload").await
    }

    /// Sends bytes as they are. `None`: and hangs up.
    async fn send(&self, head: &str, body: &[u8], waits: bool) -> String {
        let mut line = TcpStream::connect(self.site.address).await.unwrap();
        line.write_all(head.as_bytes()).await.unwrap();
        line.write_all(body).await.unwrap();
        let mut said = Vec::new();
        if waits {
            let _ = line.read_to_end(&mut said).await;
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    fn head(&self, name: &str, length: usize) -> String {
        format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n",
            self.path(name),
            self.token
        )
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_stored_once_and_never_replaced() {
    let stage = a_stage_with(|_| ()).await;
    let (one, other) = (stage.photo("IMG_0001.jpg"), stage.photo("IMG_0002.jpg"));

    let (status, made) = stage.put("K%C3%B6ln%20%252e%252e%252f1.jpg", one.clone()).await;
    assert_eq!(status, 201, "{made}");
    let key = format!("event_{}/Köln %2e%2e%2f1.jpg", stage.event);
    assert_eq!(made["key"], key);
    assert_eq!(fs::read(stage.store.join(&key)).unwrap(), one);
    let (status, again) = stage.put("K%C3%B6ln%20%252e%252e%252f1.jpg", one.clone()).await;
    assert_eq!((status, &again), (200, &made));
    let (status, refused) = stage.put("K%C3%B6ln%20%252e%252e%252f1.jpg", other.clone()).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("name_taken")));
    assert_eq!(fs::read(stage.store.join(&key)).unwrap(), one);
    let path = stage.path("K%C3%B6ln%20%252e%252e%252f1.jpg");
    assert_eq!(stage.site.get(&path, &stage.token).await, (StatusCode::OK, made));

    // Two at the same time: one is stored, and the other one hears of it.
    for n in 0..5 {
        let name = format!("twice-{n}.jpg");
        let both = tokio::join!(stage.put(&name, one.clone()), stage.put(&name, other.clone()));
        let mut statuses = [both.0.0, both.1.0];
        let won = if statuses[0] == 201 { &one } else { &other };
        assert_eq!(&fs::read(stage.directory().join(&name)).unwrap(), won);
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
    }
    let hash = "SELECT count(DISTINCT sha256) FROM upload WHERE key LIKE '%Köln%'";
    assert_eq!((stage.uploads().await, stage.app.count(hash).await), (6, 1));

    // What the store lost may come again, even another file.
    fs::remove_file(stage.store.join(&key)).unwrap();
    assert_eq!(stage.site.get(&path, &stage.token).await.0, StatusCode::NOT_FOUND);
    assert_eq!(stage.put("K%C3%B6ln%20%252e%252e%252f1.jpg", other).await.0, 201);
    assert_eq!((stage.uploads().await, stage.app.count(hash).await), (6, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_photo_or_no_name_or_elsewhere_is_not_stored() {
    let stage = a_stage_with(|_| ()).await;
    let photo = stage.photo("IMG_0001.jpg");

    let long = format!("{}.jpg", "x".repeat(230));
    for name in [
        "..%2Fa.jpg",
        "%2e%2e%2f%2e%2e%2fa.jpg",
        "..%5Ca.jpg",
        "a%00.jpg",
        "%E2%80%AEgpj.a.jpg",
        ".photogate%2Fupright%2Fx.jpg",
        ".photogate.jpg",
        "a.jpg%23",
        "a.html",
        &long,
    ] {
        assert_eq!(stage.put(name, photo.clone()).await.0, 422, "{name}");
    }
    let bomb = b"PK\x03\x04".iter().copied().chain(vec![0; 100_000]).collect::<Vec<_>>();
    let heic = b"\0\0\0\x18ftypheic".iter().copied().chain(vec![0; 100]).collect::<Vec<_>>();
    for (body, says) in [
        (bomb, "this kind of file is not supported"),
        (heic, "HEIC is not supported: send JPEG"),
        (b"<svg onload='x'>".to_vec(), "SVG is not supported"),
        (Vec::new(), "the file is empty"),
    ] {
        let (status, answer) = stage.put("a.jpg", body).await;
        assert_eq!(status, 422);
        assert!(answer["detail"].as_str().unwrap().contains(says), "{answer}");
    }
    // Somebody else's event, and somebody else's part of the store.
    let path = format!("/v1/events/{}/files/a.jpg", stage.elsewhere);
    let request = stage.site.ask(Method::PUT, &path, &stage.token).body(photo.clone());
    assert_eq!(answered(request).await.0, StatusCode::NOT_FOUND);
    assert_eq!(stage.site.get(&path, &stage.token).await.0, StatusCode::NOT_FOUND);
    let request = stage.site.ask(Method::PUT, &path, &stage.other_token).body(photo.clone());
    assert_eq!(answered(request).await.0, StatusCode::CREATED, "its own");
    let part = format!("other/event_{}/a.jpg", stage.elsewhere);
    assert!(stage.store.join(part).exists());
    // A directory that leads out of the store.
    let outside = stage.store.with_extension("outside");
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, stage.directory()).unwrap();
    assert_eq!(stage.put("a.jpg", photo).await.0, 503);
    assert_eq!(files_below(&outside), Vec::<PathBuf>::new());
    assert_eq!(stage.uploads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_come_whole_leaves_nothing() {
    let stage = a_stage_with(|_| ()).await;
    let photo = stage.photo("IMG_0001.jpg");

    stage.send(&stage.head("half.jpg", photo.len()), &photo[..photo.len() / 2], false).await;
    let chunked =
        stage.head("chunks.jpg", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let part = [format!("{:x}\r\n", 1000).as_bytes(), &photo[..1000], b"\r\nzz\r\n"].concat();
    let said = stage.send(&chunked, &part, true).await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let said = stage.send(&stage.head("large.jpg", 200 << 20), b"", true).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    // What comes after the file is not the file.
    let more = [&photo[..], b"PUT / HTTP/1.1\r\n\r\n"].concat();
    let said = stage.send(&stage.head("whole.jpg", photo.len()), &more, true).await;
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");

    let whole = stage.directory().join("whole.jpg");
    assert_eq!(fs::read(&whole).unwrap(), photo);
    assert_eq!(files_below(&stage.directory()), [whole]);
    assert_eq!(stage.uploads().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_a_limit_a_day_and_places_of_their_own() {
    let stage = a_stage_with(|app| app.config.upload_files_max = 2).await;
    let photo = stage.photo("IMG_0001.jpg");
    for n in 0..2 {
        assert_eq!(stage.put(&format!("{n}.jpg"), photo.clone()).await.0, 201);
    }
    let (status, refused) = stage.put("2.jpg", photo.clone()).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("limit_reached")), "{refused}");
    stage.app.owner_runs("UPDATE photogate.upload SET at = at - interval '1 day'").await;
    assert_eq!(stage.put("2.jpg", photo.clone()).await.0, 201, "a day later");

    // Four that hang take all places of their token, and none of others.
    let mut hanging = Vec::new();
    for n in 0..4 {
        let mut line = TcpStream::connect(stage.site.address).await.unwrap();
        let head = stage.head(&format!("hangs-{n}.jpg"), photo.len());
        line.write_all(head.as_bytes()).await.unwrap();
        line.write_all(&photo[..1000]).await.unwrap();
        hanging.push(line);
    }
    let path = format!("/v1/events/{}", stage.event);
    assert_eq!(stage.site.get(&path, &stage.token).await.0, StatusCode::OK, "no upload");
    let other = format!("/v1/events/{}/files/a.jpg", stage.elsewhere);
    let request = stage.site.ask(Method::PUT, &other, &stage.other_token).body(photo.clone());
    assert_eq!(answered(request).await.0, StatusCode::CREATED, "somebody else");
    stage
        .app
        .until("all places are taken", async || stage.put("3.jpg", photo.clone()).await.0 == 429)
        .await;
    drop(hanging);
    stage
        .app
        .until("they are free again", async || {
            [200, 201, 409].contains(&stage.put("3.jpg", photo.clone()).await.0)
        })
        .await;
}

fn a_form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head =
            format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--limit--\r\n");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_a_form_uploads_and_only_our_own_page_sends_it() {
    let stage = a_stage_with(|_| ()).await;
    let (one, other) = (stage.photo("IMG_0001.jpg"), stage.photo("IMG_0002.jpg"));
    let anna = Visitor::logged_in(&stage.site, "anna@club.example").await;
    let eve = Visitor::logged_in(&stage.site, "eve@other.example").await;
    let (key, others) = (anna.form_key(&stage.site).await, eve.form_key(&stage.site).await);
    let page = format!("/events/{}/upload", stage.event);
    let send = async |who: &Visitor, parts: &[(&str, Option<&str>, &[u8])]| {
        let request = who.client.post(stage.site.url(&page)).body(a_form(parts));
        let kind = "multipart/form-data; boundary=limit";
        let answer = request.header("Content-Type", kind).send().await.unwrap();
        let to = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        (answer.status().as_u16(), to.unwrap_or_default(), answer.text().await.unwrap())
    };
    let photo = ("photos", Some("a.jpg"), &one[..]);

    assert_eq!(send(&anna, &[photo]).await.0, 403, "no key");
    assert_eq!(send(&anna, &[("form_key", None, others.as_bytes()), photo]).await.0, 403);
    assert_eq!(send(&anna, &[photo, ("form_key", None, key.as_bytes())]).await.0, 403, "too late");
    assert_eq!(send(&eve, &[("form_key", None, others.as_bytes()), photo]).await.0, 404);
    let form_key = ("form_key", None, key.as_bytes());
    assert_eq!(send(&anna, &[form_key, ("photos", Some(""), b"")]).await.0, 422, "none is chosen");
    assert_eq!(stage.uploads().await, 0);

    let (status, to, _) = send(&anna, &[form_key, photo, ("photos", Some("b.jpg"), &other)]).await;
    assert_eq!((status, to), (303, format!("{page}?new=2&known=0")));
    let more = [photo, ("photos", Some("../c.jpg"), &one), ("photos", Some("b.jpg"), &one)];
    let (status, _, text) = send(&anna, &[&[form_key][..], &more[..]].concat()).await;
    assert_eq!(status, 422);
    assert!(text.contains("1 photos were uploaded, and 2 were not"), "{text}");
    assert!(text.contains("has no slash") && text.contains("another photo is called b.jpg"));
    assert_eq!(stage.uploads().await, 2);

    let file = format!("/events/{}/files/d.jpg", stage.event);
    let put = async |who: &Visitor, key: Option<&str>, body: &[u8]| {
        let mut request = who.client.put(stage.site.url(&file)).body(body.to_vec());
        if let Some(key) = key {
            request = request.header("X-Form-Key", key);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put(&anna, None, b"x").await, 403);
    assert_eq!(put(&anna, Some(&others), b"x").await, 403);
    assert_eq!(put(&eve, Some(&others), b"x").await, 404, "the event is not hers");
    assert_eq!(put(&Visitor::stranger(), Some(&key), b"x").await, 401);
    assert_eq!(put(&anna, Some(&key), &one).await, 201);
    assert_eq!((anna.get(&stage.site, &file).await, eve.get(&stage.site, &file).await), (200, 404));
    assert_eq!(eve.get(&stage.site, &page).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_chosen_and_nobody_sees_those_of_others() {
    let stage = a_stage_with(|_| ()).await;
    for n in 0..35 {
        fs::create_dir_all(stage.store.join(format!("many/day {n:02}/a"))).unwrap();
    }
    for key in ["other/theirs/1.jpg", "many/day 01/a/1.jpg", ".photogate/thumbnails/1.jpg"] {
        fs::create_dir_all(stage.store.join(key).parent().unwrap()).unwrap();
        fs::write(stage.store.join(key), b"x").unwrap();
    }
    std::os::unix::fs::symlink("/etc", stage.store.join("many/etc")).unwrap();
    let anna = Visitor::logged_in(&stage.site, "anna@club.example").await;
    let eve = Visitor::logged_in(&stage.site, "eve@other.example").await;
    let browse = |event: EventId, rest: &str| format!("/events/{event}/browse{rest}");

    let text = anna.text(&stage.site, &browse(stage.event, "")).await;
    assert!(text.contains(">marathon</a>") && text.contains(">gala</a>"), "{text}");
    assert!(!text.contains("theirs") && !text.contains(">other<") && !text.contains("thumbnails"));
    assert!(text.contains("12 photos are in the store"), "{text}");
    let text = anna.text(&stage.site, &browse(stage.event, "?in=marathon/")).await;
    assert!(text.contains("<b>8</b> photos in <code>marathon/</code>"), "{text}");
    let first = anna.text(&stage.site, &browse(stage.event, "?in=many/")).await;
    assert!(first.contains(">day 29</a>") && !first.contains(">day 30</a>"), "{first}");
    assert!(!first.contains(">etc</a>"), "no link is followed");
    let next = first.split("after=").nth(1).and_then(|next| next.split('"').next()).unwrap();
    let second = browse(stage.event, &format!("?in=many/&after={next}"));
    let second = anna.text(&stage.site, &second).await;
    assert!(second.contains(">day 34</a>") && !second.contains(">day 29</a>"), "{second}");

    let text = eve.text(&stage.site, &browse(stage.elsewhere, "")).await;
    assert!(text.contains(">theirs</a>") && !text.contains("marathon"), "{text}");
    for (who, event, inside) in [
        (&anna, stage.event, "other/"),
        (&anna, stage.event, "other/theirs/"),
        (&anna, stage.event, ".photogate/"),
        (&anna, stage.event, "marathon"),
        (&anna, stage.event, "../"),
        (&anna, stage.elsewhere, "other/"),
        (&eve, stage.elsewhere, "marathon/"),
        (&eve, stage.elsewhere, "other/../marathon/"),
        (&eve, stage.event, "other/"),
    ] {
        let path = browse(event, &format!("?in={inside}"));
        assert_eq!(who.get(&stage.site, &path).await, 404, "{path}");
    }
}
