//! A content is paid for once in an event for an operation, and again only where a file has changed.

use std::{fs, path::PathBuf};

use photogate::{
    access::Caller,
    catalog::{
        corrections, events,
        findings::Findings,
        photo_store::PhotoStore,
        photos::{self, Photo, State},
    },
    commands::{Enqueue, FundingPlan, NewErasure, OnInsufficient, Payloads, Retry, Which},
    ids::{EventId, Operation, PhotoId},
    ledger::{
        receipt,
        refunds::{self, By},
    },
    queue::{claim::Reservation, failures, runs, why},
    worker::verdict::Verdict,
};
use photogate_jobs::{Bib, Cue, Face, Rotation, SettledBy, Turn};

use crate::{
    photos::{samples, start_worker},
    support::{App, Hand},
};

const PROCESSING: Operation = Operation::PhotoProcessing;

/// What is found on a photo with this content: two faces, and these numbers.
fn seen(content: u8, numbers: &[&str]) -> Verdict {
    let face =
        |x| Face { x, y: 1.0, width: 50.0, height: 60.0, score: 0.9, landmarks: [[2.0; 2]; 5] };
    let bibs = numbers.iter().map(|number| Bib {
        number: (*number).into(),
        score: 0.95,
        settled_by: SettledBy::Reading,
        was: None,
        x: 1.0,
        y: 1.0,
        width: 20.0,
        height: 9.0,
    });
    Verdict::Processed(Findings::Processing {
        content: Some([content; 32]),
        width: 200,
        height: 100,
        turn: Turn::None,
        faces: vec![(face(1.0), None), (face(100.0), None)],
        bibs: bibs.collect(),
        lines: Vec::new(),
    })
}

fn rotated(content: u8, abstained: bool) -> Verdict {
    let (turn, cue) = (Turn::None, (!abstained).then_some(Cue::Network));
    let rotation = Rotation { turn, confidence: 0.97, abstained, cue, unmirrored: false };
    let findings = Findings::Rotation { content: Some([content; 32]), rotation, upright: None };
    if abstained {
        return Verdict::Undecided { findings, detail: String::new() };
    }
    Verdict::Processed(findings)
}

/// Queues a photo, and settles it so.
async fn a_photo(app: &App, event: EventId, key: &str, verdict: Verdict) -> PhotoId {
    let operation = match &verdict {
        Verdict::Processed(Findings::Processing { .. }) => PROCESSING,
        Verdict::Processed(Findings::Rotation { .. } | Findings::Nothing)
        | Verdict::Undecided { .. }
        | Verdict::Failed { .. }
        | Verdict::Retry { .. }
        | Verdict::Crashed { .. }
        | Verdict::HandedBack => Operation::AiRotation,
    };
    app.queue_keys(event, operation, &[key.to_owned()]).await;
    let hand = app.a_worker().await;
    let reservation = hand.claim_one().await;
    let photo = reservation.photo();
    assert!(hand.give_back(reservation, verdict).await);
    photo
}

async fn shown(app: &App, event: EventId, photo: PhotoId) -> Photo {
    let filter = photos::Filter { photo: Some(photo), most: 1, ..photos::Filter::default() };
    photos::list(&mut *app.db().await, event, filter).await.unwrap().pop().unwrap()
}

/// The numbers of a photo, and how many faces it has.
async fn found(app: &App, event: EventId, photo: PhotoId) -> (Vec<String>, usize) {
    let photo = shown(app, event, photo).await;
    (photo.bibs.0.into_iter().map(|bib| bib.number).collect(), photo.faces.0.len())
}

fn numbers(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn anna() -> Caller {
    Caller::trusted("anna@club.example")
}

const HASHES: &str = "SELECT count(*) FROM content";

#[tokio::test]
async fn the_second_copy_is_refunded_shows_what_was_found_and_says_of_which_photo() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;

    let first = a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    // The models may say something else by now: what was paid for counts.
    let second = a_photo(&app, event, "b.jpg", seen(1, &["99"])).await;

    assert_eq!(app.credits(organisation).await, (4, 0, 1));
    assert_eq!(found(&app, event, second).await, (numbers(&["12"]), 2));
    assert_eq!(shown(&app, event, second).await.processing, Some(State::Duplicate));
    assert_eq!(shown(&app, event, first).await.processing, Some(State::Processed));
    let mut db = app.db().await;
    let receipt = receipt::receipt(&mut db, second, None).await.unwrap().unwrap();
    let job = &receipt.jobs[0];
    assert_eq!((job.state.as_str(), job.reason.as_deref()), ("duplicate", Some("duplicate")));
    let original = job.duplicate_of.as_ref().unwrap();
    assert_eq!((original.photo, original.key.as_str()), (first, "a.jpg"));
    assert_eq!(job.closed.as_ref().unwrap().movement, "refund");
    let why = why::photo(&mut db, second).await.unwrap().unwrap();
    assert!(why.answer.contains("cost nothing") && why.chain.is_empty(), "{why:?}");

    let queue = app.processing(event).await;
    assert_eq!((queue.processed, queue.duplicates, queue.failed), (1, 1, 0));
    let run = runs::find(&mut db, job.run).await.unwrap().unwrap();
    assert_eq!((run.processed, run.duplicates, run.failed), (0, 1, 0));
    assert!(
        failures::list(&mut db, event, failures::Filter::default(), 9).await.unwrap().is_empty()
    );
    let retry = Retry { operation: PROCESSING, reason: Some("duplicate"), dry_run: false };
    assert_eq!(app.commands().retry(&anna(), event, &retry).await.unwrap().queued, 0);
    let since = refunds::Filter {
        since: chrono::DateTime::UNIX_EPOCH,
        until: None,
        organisation: Some(organisation),
    };
    let lines = refunds::count(&mut db, since, By::Reason).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.of.as_str()).collect::<Vec<_>>(), ["duplicate"]);
    let again = app.queue_keys(event, PROCESSING, &["b.jpg".into()]).await;
    assert_eq!((again.queued, again.skipped.already_processed), (0, 1));
}

/// Found by review: a copy that was looked at with the search for faces lost its own embeddings.
#[tokio::test]
async fn a_copy_keeps_what_the_search_for_faces_found_but_not_after_a_person_was_erased() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let first = a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    sqlx::query("SELECT set_face_search($1, true, 'anna')")
        .bind(event.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    let with_embeddings = || {
        let mut verdict = seen(1, &["12"]);
        if let Verdict::Processed(Findings::Processing { faces, .. }) = &mut verdict {
            for (at, (_, embedding)) in faces.iter_mut().enumerate() {
                let mut vector = vec![0.0; 128];
                vector[at] = 1.0;
                *embedding = Some(vector);
            }
        }
        verdict
    };
    let embeddings = async |photo: PhotoId| -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM face WHERE photo_id = $1 AND embedding IS NOT NULL",
        )
        .bind(photo.0)
        .fetch_one(&mut *app.db().await)
        .await
        .unwrap()
    };

    let second = a_photo(&app, event, "b.jpg", with_embeddings()).await;

    assert_eq!((embeddings(first).await, embeddings(second).await), (0, 2));
    sqlx::query("SELECT erase_person($1, ARRAY[$2], '{0}', NULL, 'anna', gen_random_uuid())")
        .bind(event.0)
        .bind(first.0)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    let third = a_photo(&app, event, "c.jpg", with_embeddings()).await;
    assert_eq!(embeddings(third).await, 0, "as the original, without this person");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_copies_that_many_workers_settle_at_once_one_is_charged() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(24).await;
    app.queue(event, "ok", 24).await;
    let mut hands = Vec::new();
    for _ in 0..6 {
        hands.push(app.a_worker().await);
    }
    let mut claimed = Vec::new();
    for hand in &hands {
        claimed.push((hand, hand.claim(4).await));
    }

    // Each worker has four photos: two contents, each twice.
    let settle = async |(hand, photos): (&Hand<'_>, Vec<Reservation>)| {
        let settle = photos.into_iter().zip([1, 1, 2, 2]).map(async |(photo, content)| {
            assert!(hand.give_back(photo, seen(content, &["12"])).await, "never an error");
        });
        futures::future::join_all(settle).await;
    };
    futures::future::join_all(claimed.into_iter().map(settle)).await;

    assert_eq!(app.credits(organisation).await, (22, 0, 2), "two contents, two credits");
    let queue = app.processing(event).await;
    assert_eq!((queue.processed, queue.duplicates, queue.in_progress), (2, 22, 0));
    let originals = "SELECT count(DISTINCT same_as) FROM outcome WHERE state = 'duplicate'";
    assert_eq!(app.count(originals).await, 2);
    assert_eq!(app.count("SELECT count(*) FROM bib WHERE number = '12'").await, 24);
}

#[tokio::test]
async fn another_operation_event_or_organisation_pays_for_itself() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let sister = app.an_event_of(organisation).await;
    let (stranger, theirs) = app.an_event_with(5).await;

    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    a_photo(&app, event, "a.jpg", rotated(1, false)).await;
    a_photo(&app, sister, "a.jpg", seen(1, &["12"])).await;
    let photo = a_photo(&app, theirs, "x.jpg", seen(1, &["34"])).await;

    assert_eq!(app.credits(organisation).await, (2, 0, 3));
    assert_eq!(app.credits(stranger).await, (4, 0, 1), "nobody learns what others have");
    assert_eq!(found(&app, theirs, photo).await.0, numbers(&["34"]));
}

#[tokio::test]
async fn what_was_not_charged_makes_nothing_a_duplicate() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;

    a_photo(&app, event, "a.jpg", rotated(1, true)).await;
    let photo = a_photo(&app, event, "b.jpg", rotated(1, false)).await;
    a_photo(&app, event, "c.jpg", rotated(1, true)).await;

    assert_eq!(shown(&app, event, photo).await.rotation, Some(State::Processed));
    assert_eq!(app.credits(organisation).await, (4, 0, 1));
    assert_eq!(app.count(HASHES).await, 1);
}

#[tokio::test]
async fn a_late_worker_takes_no_content() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let late = app.a_worker().await;
    let held = late.claim_one().await;
    app.let_the_lease_run_out(late.me.worker).await;
    let other = app.a_worker().await;
    let adopted = other.adopt_from_the_dead(4).await.pop().unwrap();

    assert!(!late.give_back(held, seen(1, &["12"])).await);

    assert_eq!(app.count(HASHES).await, 0);
    assert!(other.give_back(adopted, seen(1, &["12"])).await);
    assert_eq!(app.credits(organisation).await, (4, 0, 1));
}

#[tokio::test]
async fn what_people_corrected_or_erased_counts_for_a_later_copy() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let first = a_photo(&app, event, "a.jpg", seen(1, &["12", "34"])).await;
    let mut db = app.db().await;
    corrections::correct_numbers(&mut db, first, &numbers(&["34", "56"]), "anna").await.unwrap();
    let erasure: NewErasure = serde_json::from_value(serde_json::json!({
        "faces": [{ "photo": first, "face": 0 }], "bib": "34"
    }))
    .unwrap();
    app.commands().erase_person(&anna(), event, &erasure).await.unwrap();

    let second = a_photo(&app, event, "b.jpg", seen(1, &["12", "34"])).await;

    assert_eq!(found(&app, event, second).await, (numbers(&["56"]), 1));
    assert!(shown(&app, event, second).await.corrected.0.numbers, "it says that it is corrected");
    // From here on each stands for itself.
    corrections::take_numbers_back(&mut db, first).await.unwrap();
    assert_eq!(found(&app, event, first).await.0, numbers(&["12"]));
    assert_eq!(found(&app, event, second).await.0, numbers(&["56"]));
    corrections::take_numbers_back(&mut db, second).await.unwrap();
    assert_eq!(found(&app, event, second).await.0, numbers(&["12"]), "34 stays erased");
}

#[tokio::test]
async fn a_copy_that_a_person_has_corrected_before_stays_as_they_said() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    let second = a_photo(&app, event, "b.jpg", rotated(2, false)).await;
    let mut db = app.db().await;
    corrections::correct_numbers(&mut db, second, &numbers(&["77"]), "anna").await.unwrap();

    a_photo(&app, event, "b.jpg", seen(1, &["12"])).await;

    assert_eq!(found(&app, event, second).await.0, numbers(&["77"]));
    corrections::take_numbers_back(&mut db, second).await.unwrap();
    assert_eq!(found(&app, event, second).await.0, numbers(&["12"]), "found on its own content");
}

#[tokio::test]
async fn hashes_go_when_findings_are_forgotten_and_then_a_copy_is_paid_for() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    let (_, other) = app.an_event_with(9).await;
    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    a_photo(&app, other, "a.jpg", seen(1, &["12"])).await;
    app.owner_runs(
        "UPDATE photogate.event SET forgets = 'findings', findings_forgotten_at = now() \
         WHERE event_id = (SELECT min(event_id) FROM photogate.event)",
    )
    .await;

    let mut db = app.db().await;
    events::forget(&mut db, event).await.unwrap();

    assert_eq!(app.count(HASHES).await, 1, "that of the other event");
    let copy = a_photo(&app, event, "b.jpg", seen(1, &["12"])).await;
    assert_eq!(found(&app, event, copy).await, (numbers(&["12"]), 2));
    assert_eq!(app.credits(organisation).await, (7, 0, 2), "there was nothing to share");
}

#[tokio::test]
async fn a_deleted_event_keeps_no_hash_not_even_of_a_photo_in_hand() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    let mut in_hand = hand.claim(2).await;
    app.commands().delete_event(&anna(), event).await.unwrap();
    assert_eq!(app.count(HASHES).await, 0);

    assert!(hand.give_back(in_hand.remove(0), seen(2, &["34"])).await);
    assert!(hand.give_back(in_hand.remove(0), seen(2, &["34"])).await);

    assert_eq!(app.count(HASHES).await, 0);
    assert_eq!(app.count("SELECT count(*) FROM bib").await, 0);
    assert_eq!(app.credits(organisation).await.1, 0, "and the books are in order");
}

/// Photos below `race/` in the app's store, with these contents.
fn put(app: &App, files: &[(&str, &str)]) -> PathBuf {
    let store = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    fs::create_dir_all(store.join("race")).unwrap();
    for (name, content) in files {
        fs::write(store.join("race").join(name), content).unwrap();
    }
    store
}

async fn sync(app: &App, event: EventId, operation: Operation, dry_run: bool) -> FundingPlan {
    let store = PhotoStore::open(&app.config.store_url, &app.config.store_options).unwrap();
    let asked = Enqueue {
        operation: operation.into(),
        photos: Which::Below("race/", &store),
        payloads: Payloads::default(),
        dry_run,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    app.commands().enqueue(&anna(), event, &asked).await.unwrap()
}

async fn settle_next(app: &App, verdict: Verdict) -> PhotoId {
    let hand = app.a_worker().await;
    let reservation = hand.claim_one().await;
    let photo = reservation.photo();
    assert!(hand.give_back(reservation, verdict).await);
    photo
}

#[tokio::test]
async fn a_changed_file_is_queued_anew_by_a_sync_and_charged_for_its_new_content() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    put(&app, &[("a.jpg", "one")]);
    let first = sync(&app, event, PROCESSING, false).await;
    assert_eq!((first.queued, first.changed), (1, 0));
    let photo = settle_next(&app, seen(1, &["12"])).await;
    assert_eq!(sync(&app, event, PROCESSING, false).await.queued, 0, "nothing has changed");

    put(&app, &[("a.jpg", "another")]);
    let plan = sync(&app, event, PROCESSING, true).await;
    assert_eq!((plan.queued, plan.changed, plan.needed.0, plan.already_paid), (1, 1, 1, 0));
    let again = app.queue_keys(event, PROCESSING, &["race/a.jpg".into()]).await;
    assert_eq!(again.queued, 0, "only a sync compares");
    let done = sync(&app, event, PROCESSING, false).await;
    assert_eq!((done.queued, done.changed), (1, 1), "as the plan said");
    assert_eq!(sync(&app, event, PROCESSING, false).await.skipped.already_queued, 1);
    assert_eq!(settle_next(&app, seen(2, &["34"])).await, photo);

    assert_eq!(app.credits(organisation).await, (7, 0, 2));
    assert_eq!(found(&app, event, photo).await.0, numbers(&["34"]));
    let receipt = receipt::receipt(&mut *app.db().await, photo, None).await.unwrap().unwrap();
    let states: Vec<_> = receipt.jobs.iter().map(|job| (job.state.as_str(), job.retry)).collect();
    assert_eq!(states, [("processed", false), ("processed", true)]);
    assert_eq!(sync(&app, event, PROCESSING, false).await.queued, 0);
}

#[tokio::test]
async fn a_file_that_was_only_touched_is_looked_at_and_costs_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    put(&app, &[("a.jpg", "one")]);
    sync(&app, event, PROCESSING, false).await;
    let photo = settle_next(&app, seen(1, &["12"])).await;
    put(&app, &[("a.jpg", "the same, for this test")]);
    assert_eq!(sync(&app, event, PROCESSING, false).await.changed, 1);

    settle_next(&app, seen(1, &["12"])).await;

    assert_eq!(app.credits(organisation).await, (8, 0, 1));
    assert_eq!(found(&app, event, photo).await, (numbers(&["12"]), 2));
    let queue = app.processing(event).await;
    assert_eq!((queue.processed, queue.duplicates, queue.failed), (1, 1, 0));
}

#[tokio::test]
async fn a_copy_of_what_a_photo_showed_before_is_not_given_what_it_shows_now() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    put(&app, &[("a.jpg", "one")]);
    sync(&app, event, PROCESSING, false).await;
    settle_next(&app, seen(1, &["12"])).await;
    put(&app, &[("a.jpg", "another")]);
    sync(&app, event, PROCESSING, false).await;
    settle_next(&app, seen(2, &["34"])).await;

    let copy = a_photo(&app, event, "b.jpg", seen(1, &["12"])).await;

    assert_eq!(found(&app, event, copy).await.0, numbers(&["12"]));
    assert_eq!(app.credits(organisation).await, (7, 0, 2), "that content was paid for");
}

#[tokio::test]
async fn a_change_counts_for_each_operation_and_for_what_failed() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    put(&app, &[("a.jpg", "one"), ("b.jpg", "two")]);
    sync(&app, event, PROCESSING, false).await;
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(2).await).await;
    sync(&app, event, Operation::AiRotation, false).await;
    assert!(hand.give_back(hand.claim_one().await, rotated(1, true)).await);
    put(&app, &[("a.jpg", "one, mended"), ("b.jpg", "two, mended")]);

    let processing = sync(&app, event, PROCESSING, false).await;
    let rotation = sync(&app, event, Operation::AiRotation, false).await;

    assert_eq!((processing.queued, processing.changed), (2, 2), "what failed has a new file");
    assert_eq!((rotation.queued, rotation.changed), (1, 1), "the other one waits still");
    assert_eq!(rotation.skipped.already_queued, 1, "and is claimed with its new file");
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(8).await;
    while let Some(photo) = claimed.pop() {
        hand.succeed(photo).await;
    }
    assert_eq!(sync(&app, event, Operation::AiRotation, false).await.queued, 0);
    assert_eq!(app.credits(organisation).await, (5, 0, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn syncs_at_once_count_a_change_once() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(50).await;
    let names: Vec<_> = (0..20).map(|n| format!("{n}.jpg")).collect();
    let files = |content| names.iter().map(|name| (name.as_str(), content)).collect::<Vec<_>>();
    put(&app, &files("one"));
    sync(&app, event, PROCESSING, false).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(20).await).await;
    put(&app, &files("another"));

    let syncs = (0..6).map(|n| {
        let operation = Operation::ALL[n % 2];
        sync(&app, event, operation, false)
    });
    let done = futures::future::join_all(syncs).await;

    let of = |nth: usize| {
        done.iter()
            .skip(nth)
            .step_by(2)
            .fold((0, 0), |sum, plan: &FundingPlan| (sum.0 + plan.queued, sum.1 + plan.changed))
    };
    let processing = Operation::ALL.iter().position(|one| *one == PROCESSING).unwrap();
    assert_eq!((of(processing), of(1 - processing)), ((20, 20), (20, 0)));
    assert_eq!(app.count("SELECT max(version)::bigint FROM photo").await, 1);
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(30).await).await;
    assert_eq!(app.credits(organisation).await.1, 0);
}

#[tokio::test]
async fn no_photo_is_charged_twice_for_one_version_whatever_the_code_does() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    let mut owner = app.as_owner().await;

    let twice = sqlx::query(
        "INSERT INTO photogate.outcome (job_id, queue_id, photo_id, run_id, state, attempt, \
         worker_id, started_at) SELECT job_id + 1000, queue_id, photo_id, run_id, 'processed', 1, \
         worker_id, started_at FROM photogate.outcome",
    )
    .execute(&mut owner)
    .await;
    assert_eq!(crate::support::code_of(&twice.unwrap_err()).as_deref(), Some("23505"));
}

#[tokio::test]
async fn a_duplicate_of_nothing_is_found_in_the_books() {
    let mut app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    a_photo(&app, event, "a.jpg", seen(1, &["12"])).await;
    a_photo(&app, event, "b.jpg", seen(1, &["12"])).await;
    app.audited = false;
    app.tamper("UPDATE outcome SET same_as = 77 WHERE state = 'duplicate'").await;

    let mut db = app.db().await;
    let scope = photogate::ledger::reconcile::Scope::Full;
    let checks = photogate::ledger::reconcile::reconcile(&mut db, scope).await.unwrap();

    let broken: Vec<_> = checks.iter().filter(|check| check.violations > 0).collect();
    assert_eq!(
        broken.iter().map(|one| one.invariant).collect::<Vec<_>>(),
        ["duplicates_were_paid_for"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_worker_knows_a_copy_by_its_content() {
    let app = App::new().await;
    let store = samples(&app);
    for (from, to) in [("IMG_0001.jpg", "copy.jpg"), ("IMG_0005.jpg", "turned.jpg")] {
        fs::copy(store.join("marathon").join(from), store.join("marathon").join(to)).unwrap();
    }
    let (organisation, event) = app.an_event_with(9).await;
    let keys = |names: [&str; 2]| names.map(|name| format!("marathon/{name}"));
    app.queue_keys(event, PROCESSING, &keys(["IMG_0001.jpg", "copy.jpg"])).await;
    let turned = keys(["IMG_0005.jpg", "turned.jpg"]);
    app.queue_keys(event, Operation::AiRotation, &turned).await;

    let worker = start_worker(&app).await;
    app.until_done(event).await;
    worker.drain().await;

    assert_eq!(app.credits(organisation).await, (7, 0, 2));
    assert_eq!(app.count("SELECT count(*) FROM bib WHERE number = '1482'").await, 2);
    // Each has an upright copy of its own.
    let copies = "SELECT count(DISTINCT upright_key) FROM rotation WHERE turn = 180";
    assert_eq!(app.count(copies).await, 2);
}

#[tokio::test]
async fn what_is_no_hash_settles_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    app.queue(event, "ok", 1).await;
    let hand = app.a_worker().await;
    let reservation = hand.claim(1).await.pop().unwrap();
    let settle = async |content: &'static str| {
        let sql = format!(
            "SELECT settle('{}', ARRAY[{}], '{{1}}', '{{processed}}', '{{NULL}}', '{{NULL}}', ARRAY[{content}])",
            hand.me.key(),
            reservation.job()
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *app.db().await).await.map(|_| ())
    };
    for content in ["'\\x00'::bytea", "substring(sha256('a') FROM 1 FOR 16)", "sha512('a')"] {
        let refused = settle(content).await.unwrap_err();
        let kind = refused.as_database_error().unwrap().kind();
        assert!(matches!(kind, sqlx::error::ErrorKind::NotNullViolation), "{content}: {refused}");
        assert_eq!(app.credits(organisation).await, (4, 1, 0), "{content}");
    }

    settle("sha256('a')").await.unwrap();

    assert_eq!(app.credits(organisation).await, (4, 0, 1));
    assert_eq!(app.count(HASHES).await, 1);
}
