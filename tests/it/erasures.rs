//! What was found of people is deleted when they ask, when its time has come, and again after a
//! restore.

use photogate::{
    access::{Caller, Role, audit_log},
    catalog::{
        erasures::FaceOf,
        events,
        findings::{self, Findings},
        photo_store::PhotoStore,
        search,
    },
    commands::NewErasure,
    ids::EventId,
    worker::{forget, verdict::Verdict},
};
use photogate_jobs::{Bib, Face};
use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    App,
    site::{Site, Visitor, answered},
};

/// The embeddings of two people.
fn anna() -> Vec<f32> {
    (0..128).map(|n| if n % 2 == 0 { 0.125 } else { 0.0 }).collect()
}

fn ben() -> Vec<f32> {
    (0..128).map(|n| if n % 2 == 1 { 0.125 } else { 0.0 }).collect()
}

fn both() -> Verdict {
    let face =
        |x| Face { x, y: 1.0, width: 50.0, height: 60.0, score: 0.9, landmarks: [[2.0; 2]; 5] };
    let bib = |number: &str| Bib {
        number: number.into(),
        score: 0.9,
        settled_by: photogate_jobs::SettledBy::Reading,
        was: None,
        x: 1.0,
        y: 1.0,
        width: 20.0,
        height: 9.0,
    };
    Verdict::Processed(Findings::Processing {
        content: None,
        width: 200,
        height: 100,
        turn: photogate_jobs::Turn::None,
        faces: vec![(face(1.0), Some(anna())), (face(100.0), Some(ben()))],
        bibs: vec![bib("12"), bib("34")],
        lines: Vec::new(),
    })
}

/// Anna with 12 and Ben with 34 are on all its photos.
async fn a_gala(app: &App) -> EventId {
    let (_, event) = app.a_gala_with(10).await;
    photos(app, event, "ok", 3).await;
    event
}

async fn photos(app: &App, event: EventId, act: &str, n: usize) {
    app.queue(event, act, n).await;
    let hand = app.a_worker().await;
    for photo in hand.claim(n).await {
        assert!(hand.give_back(photo, both()).await);
    }
}

/// Anna's faces, Ben's faces, readings of 12, readings of 34.
async fn found(app: &App, event: EventId) -> [usize; 4] {
    let mut db = app.db().await;
    let anna = search::by_face(&mut db, event, &anna(), 0.9).await.unwrap().len();
    let ben = search::by_face(&mut db, event, &ben(), 0.9).await.unwrap().len();
    let twelve = search::by_bib(&mut db, event, "12", false).await.unwrap().len();
    [anna, ben, twelve, search::by_bib(&mut db, event, "34", false).await.unwrap().len()]
}

async fn anna_of(app: &App, event: EventId) -> serde_json::Value {
    let faces = search::by_face(&mut *app.db().await, event, &anna(), 0.9).await.unwrap();
    faces.iter().map(|face| json!({ "photo": face.photo, "face": face.face })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_erased_and_others_stay() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    let elsewhere = a_gala(&app).await;
    let site = Site::of(&app).await;
    let organisation = app.count("SELECT min(organisation_id) FROM organisation").await;
    let token = app.a_token(Role::Staff, None).await;
    let path = format!("/v1/events/{event}/erasures");
    let erase = async |body| answered(site.ask(Method::POST, &path, &token).json(&body)).await;
    assert_eq!(found(&app, event).await, [3, 3, 3, 3]);

    let (status, erased) = erase(json!({ "faces": anna_of(&app, event).await, "bib": "12" })).await;

    assert_eq!(status.as_u16(), 201, "{erased}");
    assert_eq!((&erased["faces"], &erased["bibs"]), (&json!(3), &json!(3)));
    assert_eq!(found(&app, event).await, [0, 3, 0, 3]);
    assert_eq!(found(&app, elsewhere).await, [3, 3, 3, 3], "of another event");
    photos(&app, event, "more", 1).await;
    assert_eq!(found(&app, event).await, [1, 4, 0, 4], "the number is not found again");
    // A face of another event is not deleted through this one.
    let others = json!({ "faces": anna_of(&app, elsewhere).await });
    assert_eq!(erase(others).await.1["faces"], 0);
    assert_eq!(erase(json!({})).await.0.as_u16(), 422, "nobody is named");
    let listed = site.get(&path, &token).await.1;
    assert_eq!(
        (&listed["items"][1]["kind"], &listed["items"][1]["bib"]),
        (&json!("person"), &json!("12"))
    );
    let log = audit_log::list(&mut *app.db().await, None, None, 100).await.unwrap();
    let entry = log.iter().rfind(|entry| entry.action == "photos.erase").unwrap();
    assert!(!entry.detail.to_string().contains("\"12\""), "the log names no number: {entry:?}");
    assert_eq!(entry.organisation.map(|id| id.0), Some(organisation));
}

/// The erasures that came after a backup are made again after it was restored.
#[tokio::test(flavor = "multi_thread")]
async fn erasures_outlive_a_restore() {
    let mut app = App::new().await;
    app.audited = false;
    let person = a_gala(&app).await;
    let switched_off = a_gala(&app).await;
    let deleted = a_gala(&app).await;
    // The backup.
    app.owner_runs(
        "CREATE SCHEMA backup; CREATE TABLE backup.face AS TABLE face;
         CREATE TABLE backup.bib AS TABLE bib; CREATE TABLE backup.event AS TABLE event",
    )
    .await;
    let (commands, caller) = (app.commands(), Caller::trusted("anna@club.example"));
    let faces = serde_json::from_value(anna_of(&app, person).await).unwrap();
    let anna = NewErasure { faces, bib: Some("12".into()) };
    commands.erase_person(&caller, person, &anna).await.unwrap();
    app.set_face_search(switched_off, false).await.unwrap();
    commands.delete_event(&caller, deleted).await.unwrap();
    // A worker writes the records.
    let store = PhotoStore::open(&app.config.store_url, &app.config.store_options).unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(forget::delete_files(app.pool.clone(), store.clone(), stop.clone()));
    let missing = "SELECT count(*) FROM erasure WHERE NOT in_store";
    app.until("the records are in the store", async || app.count(missing).await == 0).await;
    stop.cancel();
    keeping.await.unwrap();
    // The restore.
    let restore = "DELETE FROM erasure; DELETE FROM erased_bib; DELETE FROM face;
         INSERT INTO face SELECT * FROM backup.face; DELETE FROM bib;
         INSERT INTO bib SELECT * FROM backup.bib; DELETE FROM hold;
         UPDATE queue SET held = false;
         UPDATE event e SET deleted_at = NULL, deleted_by = NULL, forgets = NULL,
             face_search = b.face_search, face_consent_by = b.face_consent_by,
             face_consent_at = b.face_consent_at
         FROM backup.event b WHERE b.event_id = e.event_id";
    app.owner_runs(restore).await;
    for event in [person, switched_off, deleted] {
        assert_eq!(found(&app, event).await, [3, 3, 3, 3], "as before");
    }

    let said = app.says(&["erasures", "apply"]);

    assert!(said.starts_with("3 erasures were made again"), "{said}");
    assert_eq!(found(&app, person).await, [0, 3, 0, 3]);
    assert_eq!(found(&app, switched_off).await, [0, 0, 3, 3]);
    assert!(app.is_deleted(deleted).await);
    assert_eq!(app.count("SELECT count(*) FROM erased_bib").await, 1);
    let again = app.says(&["erasures", "apply"]);
    assert!(again.starts_with("0 erasures were made again. 3 were known"), "{again}");
    // Another database's event with the same number is left alone.
    app.owner_runs(restore).await;
    app.owner_runs("UPDATE event SET created_at = created_at + interval '1 s'").await;
    let other = app.says(&["erasures", "apply"]);
    assert!(other.starts_with("0 erasures"), "{other}");
    assert_eq!(found(&app, person).await, [3, 3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_kept_for_as_many_days_as_the_event_says() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    let always = a_gala(&app).await;
    let number = event.to_string();
    app.says(&["events", "keep-findings", &number, "30"]);
    let due = async || events::forget_what_is_due(&mut *app.db().await).await.unwrap();
    let forget = async || {
        while app.count("SELECT coalesce(r_event, 0) FROM forget(NULL, 2)").await > 0 {}
    };
    assert_eq!(due().await, 0, "30 days have not passed");

    let later = "UPDATE usage SET last_claimed_at = last_claimed_at - interval '31 days',
                 first_claimed_at = first_claimed_at - interval '31 days'";
    app.owner_runs(later).await;
    assert_eq!(due().await, 1);
    forget().await;

    assert_eq!(found(&app, event).await, [0, 0, 0, 0]);
    assert_eq!(found(&app, always).await, [3, 3, 3, 3]);
    assert_eq!(due().await, 0, "once");
    let photos = findings::of_event(&mut *app.db().await, event).await.unwrap();
    assert_eq!(photos.len(), 3, "the photos are still processed ones");
    let log = audit_log::list(&mut *app.db().await, None, None, 100).await.unwrap();
    let entry = log.iter().find(|entry| entry.action == "event.forget").unwrap();
    assert_eq!((&*entry.actor, &*entry.subject), ("System", &*format!("event {event}")));
    // What comes later is kept for as long again.
    self::photos(&app, event, "later", 1).await;
    assert_eq!(due().await, 0);
    assert_eq!(found(&app, event).await, [1, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_searched_only_where_somebody_says_that_people_agreed() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    let pipeline = app.a_token(Role::Pipeline, Some(organisation)).await;
    let path = format!("/v1/events/{event}");
    let change =
        async |body| answered(site.ask(Method::PATCH, &path, &organiser).json(&body)).await;
    let create = async |token: &str| {
        let body = json!({ "name": "Gala", "face_search": true, "face_consent": true });
        site.post("/v1/events", token, body).await
    };

    let (status, no) = change(json!({ "face_search": true })).await;
    assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/face_consent")));
    let (status, no) = create(&pipeline).await;
    assert_eq!(status.as_u16(), 403, "{no}");

    let (_, changed) = change(json!({ "face_search": true, "face_consent": true })).await;
    assert!(changed["face_consent_by"].as_str().unwrap().starts_with("token "), "{changed}");
    assert_eq!(create(&organiser).await.0.as_u16(), 201);
    let (_, off) = change(json!({ "face_search": false })).await;
    assert_eq!(off["face_consent_by"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_erase_a_number_on_the_page_and_are_asked_first() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let path = format!("/events/{event}/erase");
    assert!(staff.text(&site, &format!("/events/{event}")).await.contains("Erase a person"));

    assert_eq!(staff.post(&site, &path, &[("bib", "12")]).await, 200, "it asks");
    assert_eq!(found(&app, event).await, [3, 3, 3, 3]);
    assert_eq!(staff.post(&site, &path, &[("bib", "12"), ("sure", "true")]).await, 303);
    assert_eq!(found(&app, event).await, [3, 3, 0, 3]);
    let faces = anna_of(&app, event).await.to_string();
    assert_eq!(staff.post(&site, &path, &[("faces", &faces), ("sure", "true")]).await, 303);
    assert_eq!(found(&app, event).await, [0, 3, 0, 3]);
}

/// Found: after a restore, a photo that was waiting in the backup brought an erased face back.
#[tokio::test]
async fn an_erased_face_does_not_come_back_with_its_photo() {
    let app = App::new().await;
    let (_, event) = app.a_gala_with(10).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    let faces = vec![FaceOf { photo: photo.photo(), face: 0 }];
    let erasure = NewErasure { faces, bib: None };
    app.commands().erase_person(&Caller::trusted("anna"), event, &erasure).await.unwrap();

    assert!(hand.give_back(photo, both()).await);

    assert_eq!(found(&app, event).await, [0, 1, 1, 1]);
}

/// Found: what was in flight when the days were over was kept for ever.
#[tokio::test]
async fn findings_are_not_due_while_photos_are_in_flight() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    app.says(&["events", "keep-findings", &event.to_string(), "1"]);
    app.queue(event, "late", 1).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    app.owner_runs(
        "UPDATE photogate.usage SET last_claimed_at = last_claimed_at - interval '3 days',
             first_claimed_at = first_claimed_at - interval '3 days'",
    )
    .await;
    let due = async || events::forget_what_is_due(&mut *app.db().await).await.unwrap();

    assert_eq!(due().await, 0);

    assert!(hand.give_back(photo, both()).await);
    assert_eq!(due().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_old_switches_nothing_on_again() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    // The page was made while it was on; then somebody switched it off, and set a number of days.
    app.set_face_search(event, false).await.unwrap();
    app.says(&["events", "keep-findings", &event.to_string(), "30"]);
    let form = [
        ("face_search", "yes"),
        ("faces_were", "true"),
        ("days_were", "0"),
        ("keep_findings_days", ""),
        ("bib_search", "yes"),
    ];

    assert_eq!(staff.post(&site, &format!("/events/{event}/settings"), &form).await, 303);

    let event = events::find(&mut *app.db().await, event).await.unwrap().unwrap();
    assert!(event.bib_search, "it was changed");
    assert_eq!((event.face_search, event.keep_findings_days), (false, Some(30)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_has_an_end() {
    let app = App::new().await;
    let event = a_gala(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let faces: Vec<_> =
        (0..1001).map(|_| json!({ "photo": uuid::Uuid::now_v7(), "face": 0 })).collect();
    let form = [("faces", &*json!(faces).to_string()), ("sure", "true")];
    let path = format!("/events/{event}/erase");

    assert_eq!(staff.post(&site, &path, &form).await, 422);

    let some = json!(faces[..10]).to_string();
    assert_eq!(staff.post(&site, &path, &[("faces", &some), ("sure", "true")]).await, 303);
    let kept = "SELECT coalesce(sum(cardinality(photos)), 0)::bigint FROM erasure";
    assert_eq!(app.count(kept).await, 0, "only photos of the event are noted");
}
