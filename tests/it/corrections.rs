//! What a person says about a photo counts: no run of the models replaces it, it costs nothing, and
//! it exports as a label.

use std::fs;

use photogate::{
    access::{Caller, Role, audit_log},
    catalog::{
        corrections, events,
        findings::Findings,
        photo_store::PhotoStore,
        photos::{self, Filter, Photo, SettledBy},
        search,
    },
    commands::{CommandError, CorrectNumbers, NewErasure},
    ids::{EventId, Operation, PhotoId},
    worker::{forget, verdict::Verdict},
};
use photogate_jobs::{Bib, Cue, Photo as File, Rotation, Turn};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    photos::{samples, work_on},
    support::{
        App, Hand,
        site::{Site, Visitor, answered},
    },
};

/// What the models find: these numbers, one below the other.
fn seen(numbers: &[&str]) -> Verdict {
    let bibs = (1_u16..).zip(numbers).map(|(place, number)| Bib {
        number: (*number).into(),
        score: 0.7,
        settled_by: photogate_jobs::SettledBy::StartList,
        was: Some("999".into()),
        x: 1.0,
        y: f32::from(place),
        width: 20.0,
        height: 9.0,
    });
    Verdict::Processed(Findings::Processing {
        content: None,
        width: 200,
        height: 100,
        turn: photogate_jobs::Turn::None,
        faces: Vec::new(),
        bibs: bibs.collect(),
        lines: Vec::new(),
    })
}

/// What AI Rotation finds.
fn turned(turn: Turn) -> Verdict {
    let cue = Some(Cue::Network);
    let rotation = Rotation { turn, confidence: 0.97, abstained: false, cue, unmirrored: false };
    let upright = (turn != Turn::None).then(|| (".photogate/upright/by-ai.jpg".into(), true));
    Verdict::Processed(Findings::Rotation { content: None, rotation, upright })
}

/// An event with a photo on which the models have found these numbers.
async fn a_photo_with(app: &App, numbers: &[&str]) -> (EventId, PhotoId) {
    let (_, event) = app.an_event_with(10).await;
    (event, another_photo(app, event, "ok", numbers).await)
}

async fn another_photo(app: &App, event: EventId, act: &str, numbers: &[&str]) -> PhotoId {
    app.queue(event, act, 1).await;
    let hand = app.a_worker().await;
    let reservation = hand.claim_one().await;
    let photo = reservation.photo();
    assert!(hand.give_back(reservation, seen(numbers)).await);
    photo
}

async fn shown(app: &App, photo: PhotoId) -> Photo {
    let mut db = app.db().await;
    let event = photos::event_of(&mut db, photo).await.unwrap().expect("it is there");
    let filter = Filter { photo: Some(photo), most: 1, ..Filter::default() };
    photos::list(&mut db, event, filter).await.unwrap().pop().unwrap()
}

/// The numbers of a photo, each with whether its place is known and whether a person has said it.
async fn numbers(app: &App, photo: PhotoId) -> Vec<(String, bool, bool)> {
    let bibs = shown(app, photo).await.bibs.0;
    bibs.into_iter()
        .map(|bib| (bib.number, bib.x.is_some(), bib.settled_by == SettledBy::Organiser))
        .collect()
}

fn number(number: &str, has_place: bool, by_person: bool) -> (String, bool, bool) {
    (number.to_owned(), has_place, by_person)
}

fn anna() -> Caller {
    Caller::trusted("anna@club.example")
}

async fn correct(app: &App, photo: PhotoId, numbers: &[&str]) -> Result<(), CommandError> {
    let numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
    app.commands().correct_numbers(&anna(), photo, &CorrectNumbers { numbers }).await
}

async fn entries(app: &App, action: &str) -> Vec<Value> {
    let log = audit_log::list(&mut *app.db().await, None, None, 100).await.unwrap();
    log.into_iter().filter(|entry| entry.action == action).map(|entry| entry.detail).collect()
}

/// The ledger and the accounts, as one number.
async fn books(app: &App) -> i64 {
    app.count(
        "SELECT (SELECT count(*) FROM ledger) * 1000000 + (SELECT sum(available) FROM account)::bigint * 1000
                + (SELECT count(*) FROM job)",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_says_which_numbers_a_photo_shows() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &["12", "34"]).await;
    let organisation = app.count("SELECT organisation_id FROM organisation").await;
    let site = Site::of(&app).await;
    let organisation = photogate::ids::OrganisationId(organisation);
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/photos/{photo}/bibs");
    let put = async |body| answered(site.ask(Method::PUT, &path, &token).json(&body)).await;
    let before = books(&app).await;

    let (status, answer) = put(json!({ "numbers": ["12", " a-77", "A77"] })).await;

    assert_eq!(status.as_u16(), 200, "{answer}");
    assert_eq!(answer["corrected"], json!({ "numbers": true, "turn": false }));
    let told: Vec<_> = answer["bibs"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["number"], &told[0]["x"], &told[0]["score"]),
        (&json!("12"), &json!(1.0), &json!(1.0))
    );
    assert_eq!(
        (&told[1]["number"], &told[1]["x"], &told[1]["sure"]),
        (&json!("A77"), &json!(null), &json!(true))
    );
    assert!(told.iter().all(|bib| bib["settled_by"] == "organiser"));
    let find = async |number| {
        search::by_bib(&mut *app.db().await, event, number, false).await.unwrap().len()
    };
    assert_eq!((find("12").await, find("A77").await, find("34").await), (1, 1, 0));
    // The same once more: nothing has changed.
    assert_eq!(put(json!({ "numbers": ["A77", "12"] })).await.0.as_u16(), 200);
    // The log is for ever, and a number may be erased.
    let told = json!({ "before": 2, "after": 2, "added": 1, "removed": 1 });
    assert_eq!(entries(&app, "photo.correct_numbers").await, [told]);

    for (body, pointer) in [
        (json!({ "numbers": ["12", "not a number at all"] }), "/numbers/1"),
        (json!({ "numbers": [""] }), "/numbers/0"),
        (json!({ "numbers": vec!["1"; 101] }), ""),
        (json!({}), ""),
    ] {
        let (status, no) = put(body).await;
        assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!(pointer)), "{no}");
    }

    let back = format!("{path}/correction");
    for _twice in 0..2 {
        let (status, _) = answered(site.ask(Method::DELETE, &back, &token)).await;
        assert_eq!(status.as_u16(), 204);
    }
    let found = [number("12", true, false), number("34", true, false)];
    assert_eq!(numbers(&app, photo).await, found, "what the models found is back");
    let bibs = shown(&app, photo).await.bibs.0;
    assert_eq!((bibs[1].score, bibs[1].y, bibs[1].was.as_deref()), (0.7, Some(2.0), Some("999")));
    assert_eq!(bibs[1].settled_by, SettledBy::StartList);
    assert_eq!(entries(&app, "photo.take_numbers_back").await.len(), 1);
    assert_eq!(books(&app).await, before, "it was free");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_of_the_models_replaces_what_a_person_has_said() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let reservation = hand.claim_one().await;
    let photo = reservation.photo();
    // In flight; nothing is known of it yet.
    correct(&app, photo, &["12", "34"]).await.unwrap();
    assert!(!shown(&app, photo).await.bibs.0.is_empty());
    assert!(hand.fail(reservation).await);
    app.retry(event, &[photo]).await;
    let reservation = hand.claim_one().await;
    correct(&app, photo, &["12"]).await.unwrap();

    assert!(hand.give_back(reservation, seen(&["12", "99"])).await, "a late settlement");

    assert_eq!(numbers(&app, photo).await, [number("12", true, true)], "it has a place now");
    assert_eq!(shown(&app, photo).await.width, Some(200), "the rest is written");
    correct(&app, photo, &[]).await.unwrap();
    assert_eq!(numbers(&app, photo).await, [], "there is none");
    let found = corrections::found(&mut *app.db().await, photo).await.unwrap();
    assert_eq!(found.numbers, Some(vec!["12".to_owned(), "99".to_owned()]));
    app.commands().take_numbers_back(&anna(), photo).await.unwrap();
    assert_eq!(numbers(&app, photo).await, [number("12", true, false), number("99", true, false)]);
}

/// Settlements and corrections of the same photos, at the same time: in the end a correction is
/// what is shown, whole.
#[tokio::test(flavor = "multi_thread")]
async fn corrections_and_settlements_at_once_do_not_mix() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(20).await;
    app.queue(event, "ok", 20).await;
    let hand = app.a_worker().await;
    let held = hand.claim(20).await;
    let photos: Vec<_> = held.iter().map(|reservation| reservation.photo()).collect();
    let settle = async {
        for reservation in held {
            assert!(hand.give_back(reservation, seen(&["1", "2", "3"])).await);
        }
    };
    let one = async {
        for photo in &photos {
            correct(&app, *photo, &["1", "A1"]).await.unwrap();
        }
    };
    let other = async {
        for photo in photos.iter().rev() {
            correct(&app, *photo, &["2", "B1", "C1"]).await.unwrap();
        }
    };

    tokio::join!(settle, one, other);

    for photo in &photos {
        let shown: Vec<_> = numbers(&app, *photo).await;
        let one = [number("1", true, true), number("A1", false, true)];
        let other = [number("2", true, true), number("B1", false, true), number("C1", false, true)];
        assert!(shown == one || shown == other, "{shown:?}");
    }
    let kept = "SELECT count(*) FROM number_correction WHERE jsonb_array_length(found) = 3";
    assert_eq!(app.count(kept).await, 20, "what the models found is kept, and nothing else");
    assert_eq!(entries(&app, "photo.correct_numbers").await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_waits_for_a_settlement_that_writes_findings() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &["12"]).await;
    let mut settling = app.as_owner().await;
    let sql = format!("BEGIN; SELECT FROM photogate.event WHERE event_id = {event} FOR KEY SHARE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut settling).await.unwrap();

    let correcting = async { correct(&app, photo, &["34"]).await.unwrap() };
    let settled = async {
        app.until_somebody_waits_for_a_lock().await;
        assert_eq!(app.count("SELECT count(*) FROM number_correction").await, 0);
        sqlx::raw_sql("COMMIT").execute(&mut settling).await.unwrap();
    };
    tokio::join!(correcting, settled);

    assert_eq!(numbers(&app, photo).await, [number("34", false, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_kept_is_not_kept_in_a_correction_either() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &["12", "34"]).await;
    let other = another_photo(&app, event, "more", &["34"]).await;
    correct(&app, photo, &["12", "56"]).await.unwrap();
    correct(&app, other, &["56"]).await.unwrap();
    let names = |number: &str| {
        format!(
            "SELECT count(*) FROM number_correction WHERE '{number}' = ANY (numbers)
                 OR found::text LIKE '%\"{number}\"%'"
        )
    };
    let kept = async |number: &str| -> i64 {
        let sql = sqlx::AssertSqlSafe(names(number));
        sqlx::query_scalar(sql).fetch_one(&mut *app.db().await).await.unwrap()
    };
    assert_eq!((kept("12").await, kept("34").await, kept("999").await), (1, 2, 2));

    for bib in ["12", "34", "999"] {
        let person = NewErasure { faces: Vec::new(), bib: Some(bib.into()) };
        app.commands().erase_person(&anna(), event, &person).await.unwrap();
        assert_eq!(kept(bib).await, 0, "{bib}");
    }

    assert_eq!(numbers(&app, photo).await, [number("56", false, true)]);
    let whole = "SELECT count(*) FROM number_correction WHERE complete";
    assert_eq!(app.count(whole).await, 1, "the other photo's");
    let refused = correct(&app, photo, &["12"]).await.unwrap_err();
    assert!(matches!(refused, CommandError::Invalid { .. }), "{refused:?}");
    assert!(refused.to_string().contains("the number 12 was erased"), "{refused}");
    app.commands().take_numbers_back(&anna(), photo).await.unwrap();
    assert_eq!(numbers(&app, photo).await, [], "what was erased does not come back");

    // The days are over.
    app.says(&["events", "keep-findings", &event.to_string(), "30"]);
    app.owner_runs(
        "UPDATE photogate.usage SET last_claimed_at = last_claimed_at - interval '31 days',
             first_claimed_at = first_claimed_at - interval '31 days'",
    )
    .await;
    let refused = correct(&app, photo, &["78"]).await.unwrap_err();
    assert!(refused.to_string().contains("keeps bib numbers for 30 days"), "{refused}");
    // PostgreSQL tells that it has refused before it lets the event go: a later call comes.
    let due = async || events::forget_what_is_due(&mut *app.db().await).await.unwrap() == 1;
    app.until("the findings are due", due).await;
    let refused = correct(&app, photo, &["78"]).await.unwrap_err();
    assert!(refused.to_string().contains("still being deleted"), "{refused}");
    while app.count("SELECT coalesce(r_event, 0) FROM forget(NULL, 100)").await > 0 {}
    assert_eq!(app.count("SELECT count(*) FROM number_correction").await, 0);
    // Photos still come: it keeps numbers again. What was deleted does not count as "none found".
    another_photo(&app, event, "late", &[]).await;
    correct(&app, photo, &["78"]).await.unwrap();
    let found = corrections::found(&mut *app.db().await, photo).await.unwrap();
    assert_eq!(found.numbers, None);

    app.commands().delete_event(&anna(), event).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM number_correction").await, 0);
    assert!(correct(&app, photo, &["78"]).await.unwrap_err().is_not_found());
}

async fn rotate(app: &App, event: EventId, hand: &Hand<'_>, turn: Turn) {
    let keys = ["rehearsal/ok/1".to_owned()];
    assert_eq!(app.queue_keys(event, Operation::AiRotation, &keys).await.queued, 1);
    assert!(hand.give_back(hand.claim_one().await, turned(turn)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ai_rotation_replaces_the_turn_that_a_person_has_said() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &[]).await;
    let hand = app.a_worker().await;
    let turn = async |degrees| {
        let mut db = app.db().await;
        let upright = Some((".photogate/upright/x/90.jpg", true));
        corrections::correct_turn(&mut db, photo, degrees, upright, "anna").await.unwrap()
    };
    assert_eq!((turn(90).await.before, turn(90).await.changed), (None, false));

    rotate(&app, event, &hand, Turn::Half).await;

    let now = shown(&app, photo).await;
    assert_eq!(
        (now.turn, now.upright_key.as_deref()),
        (Some(90), Some(".photogate/upright/x/90.jpg"))
    );
    assert!(now.corrected.0.turn);
    assert_eq!(turn(270).await.before, Some(90));
    let found = corrections::found(&mut *app.db().await, photo).await.unwrap();
    assert_eq!(found.turn, Some(Some(180)), "what AI Rotation said is kept");

    app.commands().take_turn_back(&anna(), photo).await.unwrap();

    let now = shown(&app, photo).await;
    assert_eq!(
        (now.turn, now.upright_key.as_deref()),
        (Some(180), Some(".photogate/upright/by-ai.jpg"))
    );
    assert!(!now.corrected.0.turn);
    assert_eq!(
        entries(&app, "photo.take_turn_back").await,
        [json!({ "before": 270, "after": 180 })]
    );
}

const SIDEWAYS: &str = "marathon/IMG_0004.jpg";

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_says_which_way_is_up_and_faces_and_numbers_are_found_then() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = app.an_event_with(10).await;
    app.queue_keys(event, Operation::PhotoProcessing, &[SIDEWAYS.to_owned()]).await;
    let photo = app.photo_of(event).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/photos/{photo}/turn");
    let put = async |turn| {
        answered(site.ask(Method::PUT, &path, &token).json(&json!({ "turn": turn }))).await
    };
    let before = books(&app).await;

    let (status, answer) = put(90).await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    let (status, answer) = put(270).await;
    assert_eq!((status.as_u16(), &answer["turn"]), (200, &json!(270)), "{answer}");
    assert_eq!(answer["corrected"], json!({ "numbers": false, "turn": true }));
    let key = format!(".photogate/upright/{photo}/270.jpg");
    assert_eq!(answer["upright_key"], json!(key));
    let copy = fs::read(store.join(&key)).unwrap();
    assert!(File::open(&copy).unwrap().orientation.is_upright());
    let original = fs::read(store.join(SIDEWAYS)).unwrap();
    assert_ne!(copy, original);
    assert_eq!(
        entries(&app, "photo.correct_turn").await,
        [json!({ "before": 90, "after": 270 }), json!({ "before": null, "after": 90 })]
    );
    assert_eq!(books(&app).await, before, "it was free");

    // Photo processing reads it as it is turned, and the boxes are on the photo as it is stored.
    let found = work_on(&app, event, Operation::PhotoProcessing, &[]).await;
    assert_eq!((found[0].faces, found[0].bibs.as_slice()), (1, &["2750".to_owned()][..]));
    let now = shown(&app, photo).await;
    let (face, bib) = (&now.faces.0[0], &now.bibs.0[0]);
    let (width, height) = (now.width.unwrap(), now.height.unwrap());
    let stored = File::open(&original).unwrap();
    let size = (width.cast_unsigned(), height.cast_unsigned());
    assert_eq!(size, (stored.stored_width, stored.stored_height));
    // Upright, the number is below the face; here it is beside it.
    assert!((face.x - bib.x.unwrap()).abs() > (face.y - bib.y.unwrap()).abs(), "{face:?} {bib:?}");
    // AI rotation still says what it finds, and does not replace what a person has said.
    work_on(&app, event, Operation::AiRotation, &[SIDEWAYS]).await;
    assert_eq!(shown(&app, photo).await.upright_key, Some(key.clone()));
    assert!(corrections::found(&mut *app.db().await, photo).await.unwrap().turn.is_some());

    for turn in [-90, 45, 360] {
        let (status, no) = put(turn).await;
        assert_eq!((status.as_u16(), &no["errors"][0]["pointer"]), (422, &json!("/turn")), "{no}");
    }
    fs::rename(store.join(SIDEWAYS), store.join("elsewhere.jpg")).unwrap();
    let (status, no) = put(0).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("photo_missing")), "{no}");
    fs::write(store.join(SIDEWAYS), "no photo").unwrap();
    let (status, no) = put(0).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("cannot_be_turned")), "{no}");
    assert_eq!(shown(&app, photo).await.turn, Some(270), "nothing has changed");

    // Of a deleted event, none of the copies stays, whatever refers to it.
    app.commands().delete_event(&anna(), event).await.unwrap();
    let photos = PhotoStore::open(&app.config.store_url, &app.config.store_options).unwrap();
    let stop = CancellationToken::new();
    let deleting = tokio::spawn(forget::delete_files(app.pool.clone(), photos, stop.clone()));
    let left = "SELECT count(*) FROM leftover_files(100)";
    app.until("the files are deleted", async || app.count(left).await == 0).await;
    stop.cancel();
    deleting.await.unwrap();
    let uprights = store.join(".photogate/upright");
    assert_eq!(fs::read_dir(uprights).unwrap().count(), 0);
    assert_eq!(app.count("SELECT count(*) FROM turn_correction").await, 0);
}

/// Where AI Rotation has found a turn, Photo Processing reads the photo as it is turned.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ai_rotation_has_found_is_known_to_photo_processing() {
    let app = App::new().await;
    samples(&app);
    let (_, event) = app.an_event_with(10).await;
    let rotated = work_on(&app, event, Operation::AiRotation, &[SIDEWAYS]).await;
    assert_eq!(rotated[0].turn, Some(270));

    let found = work_on(&app, event, Operation::PhotoProcessing, &[SIDEWAYS]).await;

    let found = found.iter().find(|one| one.operation == Operation::PhotoProcessing).unwrap();
    assert_eq!((found.faces, found.bibs.as_slice()), (1, &["2750".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_export_as_labels() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &["12", "34"]).await;
    let untouched = another_photo(&app, event, "untouched", &["56"]).await;
    correct(&app, photo, &["77", "12"]).await.unwrap();
    let export = |more: &[&str]| {
        let arguments = [&["export", "labels"], more].concat();
        serde_json::from_str::<Value>(&app.says(&arguments)).unwrap()
    };
    let bibs = json!({
        "bibs": ["12", "77"], "complete": true, "partial": [], "found_bibs": ["12", "34"],
    });
    assert_eq!(export(&[]), json!({ "rehearsal/ok/1": bibs }));

    // Another event with the same file: what was said last counts. A turn goes with it.
    let (_, other) = app.an_event_with(10).await;
    let again = another_photo(&app, other, "ok", &["12"]).await;
    correct(&app, again, &["99"]).await.unwrap();
    let hand = app.a_worker().await;
    rotate(&app, event, &hand, Turn::Half).await;
    corrections::correct_turn(&mut *app.db().await, photo, 0, None, "anna").await.unwrap();
    let mut both = json!({
        "bibs": ["99"], "complete": true, "partial": [], "found_bibs": ["12"], "turn": 0,
        "found_turn": 180,
    });
    assert_eq!(export(&[]), json!({ "rehearsal/ok/1": both }));
    let of_event = export(&["--event", &event.to_string()]);
    both["bibs"] = json!(["12", "77"]);
    both["found_bibs"] = json!(["12", "34"]);
    assert_eq!(of_event, json!({ "rehearsal/ok/1": both }));
    assert_eq!(export(&["--since", "2100-01-01"]), json!({}));
    assert_eq!(export(&["--organisation", "1"]).as_object().unwrap().len(), 1);
    let text = app.says(&["export", "labels"]);
    assert!(!text.contains("anna"), "nobody is named: {text}");
    assert!(
        text.starts_with("{\n \"rehearsal/ok/1\": {\n  \"bibs\": [\n   \"99\"\n  ],\n"),
        "{text}"
    );
    // The other photo of the event was never corrected; a second one sorts after the first.
    correct(&app, untouched, &[]).await.unwrap();
    let all = export(&[]);
    assert_eq!(all["rehearsal/untouched/1"]["bibs"], json!([]));
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_correct_a_photo_on_its_page() {
    let app = App::new().await;
    let (event, photo) = a_photo_with(&app, &["12"]).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    let of_photo = format!("/photos/{photo}");
    let page = format!("{of_photo}/correct");
    for path in [format!("/events/{event}"), of_photo.clone()] {
        assert!(staff.text(&site, &path).await.contains(&page));
        assert!(!ops.text(&site, &path).await.contains(&page), "it may look");
    }
    assert_eq!(ops.get(&site, &page).await, 403);
    assert!(staff.text(&site, &page).await.contains("value=\"12\""));

    let save = format!("{of_photo}/numbers");
    let back = format!("/events/{event}?state=processed");
    let form = [("numbers", " 12, a77;"), ("back", back.as_str())];
    assert_eq!(ops.post(&site, &save, &form).await, 403);
    assert_eq!(staff.post(&site, &save, &form).await, 303);
    assert_eq!(numbers(&app, photo).await, [number("12", true, true), number("A77", false, true)]);
    let text = staff.text(&site, &page).await;
    assert!(
        text.contains("value=\"12 A77\"") && text.contains("The models had found 12."),
        "{text}"
    );
    let text = staff.text(&site, &format!("/events/{event}")).await;
    assert!(text.contains("corrected by a person"), "{text}");
    assert_eq!(staff.post(&site, &format!("{save}/take-back"), &[]).await, 303);
    assert_eq!(numbers(&app, photo).await, [number("12", true, false)]);
    assert_eq!(staff.post(&site, &save, &[("numbers", "")]).await, 303, "none");
    assert_eq!(numbers(&app, photo).await, []);
    // There is no file of it.
    assert_eq!(staff.post(&site, &format!("{of_photo}/turn"), &[("turn", "90")]).await, 409);
    assert_eq!(staff.post(&site, &format!("{of_photo}/turn"), &[]).await, 422);
    assert_eq!(staff.post(&site, &format!("{of_photo}/turn/take-back"), &[]).await, 303);
}
