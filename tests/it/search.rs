//! Photos are found by number and by face, by a start list's leave; and what may not be kept is not
//! kept.

use std::path::Path;

use photogate::{
    access::Caller,
    catalog::{events, findings::Findings, search, start_list},
    config::Config,
    ids::Operation,
    sandbox::Pool,
    worker::verdict::Verdict,
};
use photogate_jobs::{Bib, Face};

use crate::{
    photos::{PROGRAM, samples, work_on},
    support::{App, photogate, stderr},
};

const PHOTOS: [&str; 4] = [
    "marathon/IMG_0001.jpg",
    "marathon/IMG_0002.jpg",
    "marathon/IMG_0003.jpg",
    "marathon/IMG_0007.jpg",
];

#[tokio::test(flavor = "multi_thread")]
async fn photos_are_found_by_number_and_by_how_it_begins() {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(10).await;
    let other = app.an_event_of(organisation).await;
    work_on(&app, event, Operation::PhotoProcessing, &PHOTOS).await;
    let find = async |event, number: &str, prefix| {
        let found = search::by_bib(&mut *app.db().await, event, number, prefix).await.unwrap();
        found.into_iter().map(|found| (found.key, found.number)).collect::<Vec<_>>()
    };
    let photo = |key: &str, number: &str| (key.to_owned(), number.to_owned());

    assert_eq!(find(event, "A207", false).await, [photo(PHOTOS[1], "A207")]);
    assert_eq!(find(event, "A20", false).await, []);
    assert_eq!(find(event, "A20", true).await, [photo(PHOTOS[1], "A207")]);
    assert_eq!(find(event, "338", true).await, [photo(PHOTOS[2], "338")]);
    assert_eq!(find(other, "A207", false).await, [], "another event's photos");

    let said = app.says(&["search", "bib", &event.to_string(), "a-207", "--json"]);
    assert!(said.contains(PHOTOS[1]), "as people write it: {said}");
    let refused = photogate(&app.config, &["search", "face", &event.to_string(), "x.jpg"]);
    assert!(stderr(&refused).contains("face search is off"), "{refused:?}");
    assert_eq!(photogate(&app.config, &["search", "bib", "99", "1"]).status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_are_found_by_a_selfie_until_face_search_is_switched_off() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = app.a_gala_with(10).await;
    work_on(&app, event, Operation::PhotoProcessing, &PHOTOS).await;
    let config = Config { slots: 1, ..app.config.clone() };
    let pool = Pool::open(Path::new(PROGRAM), &config).await.unwrap();
    let selfie = std::fs::read(store.join("gala/DSC_0001.jpg")).unwrap();
    let face = search::selfie(&pool, organisation, selfie).await.unwrap();
    let find = async |score_min| {
        search::by_face(&mut *app.db().await, event, &face, score_min).await.unwrap()
    };

    let found = find(search::SAME_PERSON).await;
    let mut keys: Vec<_> = found.iter().map(|found| found.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, &PHOTOS[..3], "each photo once, with two faces too");
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    assert_eq!(find(1.01).await, []);
    let selfie = store.join("gala/DSC_0001.jpg");
    let selfie = selfie.to_str().unwrap();
    let said = app.says(&["search", "face", &event.to_string(), selfie, "--json"]);
    assert!(said.contains(PHOTOS[0]), "{said}");

    let off = app.says(&["events", "face-search", &event.to_string(), "off"]);
    assert!(off.contains("embeddings of 4 faces were deleted"), "{off}");
    assert_eq!(find(0.0).await, []);
    assert_eq!(app.count("SELECT count(*) FROM face WHERE embedding IS NOT NULL").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM face").await, 4, "the boxes stay");
}

/// The embedding of somebody.
pub fn a_unit() -> Vec<f32> {
    vec![128f32.sqrt().recip(); 128]
}

pub fn a_face_and_a_number() -> Verdict {
    a_face_and_the_number("12", 0.9)
}

pub fn a_face_and_the_number(number: &str, score: f32) -> Verdict {
    Verdict::Processed(Findings::Processing {
        content: None,
        width: 100,
        height: 100,
        turn: photogate_jobs::Turn::None,
        faces: vec![(a_face(), Some(a_unit()))],
        bibs: vec![Bib {
            number: number.into(),
            score,
            settled_by: photogate_jobs::SettledBy::Reading,
            was: None,
            x: 1.0,
            y: 1.0,
            width: 20.0,
            height: 9.0,
        }],
        lines: Vec::new(),
    })
}

fn a_face() -> Face {
    Face { x: 1.0, y: 1.0, width: 50.0, height: 60.0, score: 0.9, landmarks: [[2.0, 2.0]; 5] }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedding_that_was_on_its_way_is_not_kept_after_face_search_was_switched_off() {
    let app = App::new().await;
    let (organisation, event) = app.a_gala_with(10).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(2).await;
    assert!(held.iter().all(|reservation| reservation.face_search()), "claimed while it was on");
    assert!(hand.give_back(held.pop().unwrap(), a_face_and_a_number()).await);
    assert_eq!(app.count("SELECT count(*) FROM face WHERE embedding IS NOT NULL").await, 1);

    assert_eq!(app.set_face_search(event, false).await.unwrap(), 1);
    assert!(hand.give_back(held.pop().unwrap(), a_face_and_a_number()).await);

    assert_eq!(app.count("SELECT count(*) FROM face WHERE embedding IS NOT NULL").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM face").await, 2);
    assert_eq!(app.credits(organisation).await, (8, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_short_is_out_of_reach_at_once_and_finished_by_whoever_comes_by() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(10).await;
    let event =
        events::create(&mut *app.db().await, organisation, "Gala", true, true, "anna@club.example")
            .await
            .unwrap();
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    for reservation in hand.claim(3).await {
        assert!(hand.give_back(reservation, a_face_and_a_number()).await);
    }
    let found = async || {
        let mut db = app.db().await;
        let faces = search::by_face(&mut db, event, &a_unit(), 0.5).await.unwrap();
        (faces.len(), search::by_bib(&mut db, event, "12", false).await.unwrap().len())
    };
    let one = async || app.count("SELECT r_done::int::bigint FROM forget(NULL, 1)").await == 1;
    let faces = "SELECT count(*) FROM face WHERE embedding IS NOT NULL";
    assert_eq!(found().await, (3, 3));

    app.count("SELECT count(set_face_search(event_id, false, 'anna')::text) FROM event").await;
    assert_eq!(found().await, (0, 3), "at once");
    assert_eq!(app.count(faces).await, 3, "but they are still there");
    let again = app.set_face_search(event, true).await.unwrap_err();
    assert!(again.to_string().contains("still being deleted"), "{again}");
    assert!(!one().await);
    assert_eq!(app.count(faces).await, 2, "one photo at a time");
    assert_eq!(app.set_face_search(event, false).await.unwrap(), 2);
    assert_eq!(app.set_face_search(event, true).await.unwrap(), 0);

    app.count("SELECT count(delete_event(event_id, 'anna')::text) FROM event").await;
    assert_eq!(found().await, (0, 0), "at once");
    assert_eq!(app.count("SELECT count(*) FROM bib").await, 3, "but they are still there");
    while !one().await {}
    assert_eq!(
        app.count("SELECT (SELECT count(*) FROM face) + (SELECT count(*) FROM bib)").await,
        0
    );
    assert!(one().await, "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_event_only_the_books_and_the_photos_stay() {
    let app = App::new().await;
    let (organisation, event) = app.a_gala_with(10).await;
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    let mut held = hand.claim(2).await;
    assert!(hand.give_back(held.pop().unwrap(), a_face_and_a_number()).await);

    let number = event.to_string();
    let delete = ["events", "delete", &number, "--actor", "anna", "--yes"];
    let refused = photogate(&app.config, &delete[..5]);
    assert!(stderr(&refused).contains("--yes"), "it asks first: {refused:?}");
    app.says(&delete);

    let files = "SELECT count(*) FROM leftover_files(100)";
    assert_eq!(app.count(files).await, 2, "the files of the one in hand may still be written");
    assert!(
        hand.give_back(held.pop().unwrap(), a_face_and_a_number()).await,
        "what is in hand is finished and charged"
    );
    assert_eq!(app.count(files).await, 3);
    assert_eq!(
        app.count("SELECT (SELECT count(*) FROM face) + (SELECT count(*) FROM looked_at)").await,
        0
    );
    assert!(hand.claim(2).await.is_empty(), "nothing more of it runs");
    assert_eq!(app.credits(organisation).await, (8, 0, 2));
    assert!(events::find(&mut *app.db().await, event).await.unwrap().is_none());
    let again = app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap_err();
    assert!(again.is_not_found(), "{again}");
    let late = photogate(&app.config, &["enqueue", &event.to_string(), "rehearsal/ok/9"]);
    assert_eq!(late.status.code(), Some(4), "{late:?}");
    assert_eq!(
        app.count("SELECT count(*) FROM hold WHERE lifted_at IS NULL AND for_good").await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_list_decides_what_a_number_is() {
    let app = App::new().await;
    let store = samples(&app);
    let (_, event) = app.an_event_with(10).await;
    // Of 338 and 871 on IMG_0003, one runs, and one is a digit off. A207 and 1482 do not run.
    let file = store.join("runners.csv");
    std::fs::write(&file, "Name;Bib\nAnna;338\nBo;877\nCem;\n").unwrap();
    let number = event.to_string();
    let set = ["events", "start-list", &number, file.to_str().unwrap()];
    let said = app.says(&set);
    assert!(said.contains("2 numbers"), "{said}");

    work_on(&app, event, Operation::PhotoProcessing, &PHOTOS).await;

    let find =
        async |number| search::by_bib(&mut *app.db().await, event, number, false).await.unwrap();
    let (listed, corrected) = (find("338").await, find("877").await);
    assert_eq!((listed.len(), corrected.len()), (1, 1));
    assert!(corrected[0].score < listed[0].score, "a corrected reading is less sure");
    assert!(listed[0].sure && !corrected[0].sure, "{listed:?} {corrected:?}");
    assert_eq!(app.count("SELECT count(*) FROM bib").await, 2, "nobody else runs");
    std::fs::write(&file, "Name,Age\nAnna,33\n").unwrap();
    let refused = photogate(&app.config, &set);
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("no column is called"), "{}", stderr(&refused));
    let listed = "SELECT coalesce(sum(cardinality(numbers)), 0)::bigint FROM start_list";
    assert_eq!(app.count(listed).await, 2, "a bad file loses nothing");
    start_list::set(&mut *app.db().await, event, &["12".into()]).await.unwrap();
    assert_eq!(app.count(listed).await, 1, "the new list replaces the old one");
    for other in ["a", "A B", "", "12345678901"] {
        let bad = start_list::set(&mut *app.db().await, event, &["12".into(), other.into()]).await;
        assert!(bad.is_err(), "the database takes numbers only, and not {other:?}");
    }
    start_list::set(&mut *app.db().await, event, &[]).await.unwrap();
    assert_eq!(app.count(listed).await, 0);
}
