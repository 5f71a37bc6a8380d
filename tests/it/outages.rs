//! What stops one photo, and what stops all: a file that cannot be read, and a store that is down.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use futures::future::join_all;
use photogate::{
    catalog::{key::Key, photo_store::PhotoStore},
    ids::{EventId, Operation},
    queue::{failures, why},
    worker::roster,
};

use tokio::time::Instant;

use crate::{
    photos::{samples, start_worker},
    support::{App, bucket::Bucket, place},
};

/// As many photos as a worker of the tests can have in hand, and more.
const BAD: usize = 60;

/// Photos of one organisation that cannot be read, and six of another one. Nobody's photos wait for
/// the bad ones.
async fn six_are_done_beside(app: &App, bad: impl Fn(usize) -> String, reason: &str) {
    let (_, hostile) = app.an_event_with(1_000).await;
    let (organisation, event) = app.an_event_with(10).await;
    let keys: Vec<_> = (0..BAD).map(bad).collect();
    queue_unchecked(app, hostile, &keys).await;
    let good: Vec<_> = (1..=6).map(|n| format!("marathon/IMG_000{n}.jpg")).collect();
    app.queue_keys(event, Operation::PhotoProcessing, &good).await;

    let worker = start_worker(app).await;
    app.until_done(event).await;
    app.until_done(hostile).await;
    worker.drain().await;

    assert_eq!(app.credits(organisation).await, (4, 0, 6));
    let which = failures::Which { event: Some(hostile), ..failures::Which::default() };
    let failed = failures::groups(&mut *app.db().await, which).await.unwrap();
    let failed: Vec<_> = failed.iter().map(|group| (&*group.reason, group.photos)).collect();
    assert_eq!(failed, [(reason, i64::try_from(BAD).unwrap())]);
    let outages = "SELECT count(*) FROM attempt WHERE reason = 'store_unavailable'";
    assert_eq!(app.count(outages).await, 0);
}

/// Queues keys that an enqueue of today would refuse.
async fn queue_unchecked(app: &App, event: EventId, keys: &[String]) {
    let ids: Vec<_> = keys.iter().map(|_| uuid::Uuid::new_v4()).collect();
    sqlx::query("SELECT enqueue($1, 'photo_processing', $2, $3, 'anna')")
        .bind(event.0)
        .bind(keys)
        .bind(ids)
        .execute(&mut *app.db().await)
        .await
        .unwrap();
}

/// Found: photos that are tried again came before all new photos, so one organisation's missing
/// photos kept everybody else's waiting.
#[tokio::test(flavor = "multi_thread")]
async fn photos_that_are_tried_again_keep_nobody_waiting() {
    const MISSING: i64 = 10_000;
    let mut app = App::new().await;
    samples(&app);
    app.config.retry_base_milliseconds = 1;
    app.config.retries_max = 20;
    let (_, hostile) = app.an_event_with(MISSING).await;
    let (organisation, event) = app.an_event_with(10).await;
    let keys: Vec<_> = (0..MISSING).map(|n| format!("missing/{n}.jpg")).collect();
    app.queue_keys(hostile, Operation::PhotoProcessing, &keys).await;
    // All of them are due, as they are after a first round.
    let hand = app.a_worker().await;
    loop {
        let some = hand.claim(1_000).await;
        if some.is_empty() {
            break;
        }
        let put_off = some.into_iter().map(|photo| hand.put_off(photo, Duration::ZERO));
        assert!(join_all(put_off).await.into_iter().all(|fenced| fenced));
    }
    let retries = "SELECT coalesce(sum(retries), 0) FROM in_flight";
    assert_eq!(app.count(retries).await, MISSING);
    let good: Vec<_> = (1..=6).map(|n| format!("marathon/IMG_000{n}.jpg")).collect();
    app.queue_keys(event, Operation::PhotoProcessing, &good).await;

    let worker = start_worker(&app).await;
    app.until_done(event).await;

    let tried = app.count(retries).await - MISSING;
    assert!(tried < MISSING / 4, "{tried} missing photos came before six that are there");
    assert_eq!(app.credits(organisation).await, (4, 0, 6));
    worker.drain().await;
}

/// The same among photos that are tried again.
#[tokio::test]
async fn each_organisation_has_a_share_of_what_is_adopted() {
    let app = App::new().await;
    let (_, many) = app.an_event_with(100).await;
    let (few, event) = app.an_event_with(100).await;
    app.queue(many, "many", 100).await;
    let hand = app.a_worker().await;
    for photo in hand.claim(100).await {
        assert!(hand.put_off(photo, Duration::ZERO).await);
    }
    app.queue(event, "few", 6).await;
    for photo in hand.claim(6).await {
        assert!(hand.put_off(photo, Duration::ZERO).await);
    }

    let adopted = hand.adopt(10).await;

    assert_eq!(adopted.len(), 10);
    assert_eq!(adopted.iter().filter(|photo| photo.organisation() == few).count(), 5);
}

#[test]
fn a_name_that_no_file_system_has_is_refused_at_intake() {
    let long = format!("2026/{}.jpg", "a".repeat(252));

    let refused = Key::parse(&long).unwrap_err();

    assert!(refused.to_string().contains("255 bytes"), "{refused}");
}

/// Found: 41 photos whose names were too long stopped a worker for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_too_long_stop_nobody() {
    let app = App::new().await;
    samples(&app);

    six_are_done_beside(&app, |n| format!("marathon/{n}{}.jpg", "a".repeat(260)), "bad_key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_opened_stop_nobody() {
    let mut app = App::new().await;
    app.config.retry_base_milliseconds = 1;
    let store = samples(&app);
    for n in 0..BAD {
        let link = store.join(format!("loop{n}.jpg"));
        std::os::unix::fs::symlink(&link, &link).unwrap();
    }

    six_are_done_beside(&app, |n| format!("loop{n}.jpg"), "store_refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_store_refuses_stop_nobody() {
    for (folder, reason) in [("forbidden", "store_refused"), ("broken", "store_refused")] {
        let mut app = App::new().await;
        let bucket = Bucket::start().await;
        (app.config.store_url, app.config.store_options) =
            ("s3://photos".into(), bucket.options.clone());
        app.config.retry_base_milliseconds = 1;

        six_are_done_beside(&app, |n| format!("{folder}/{n}.jpg"), reason).await;
    }
}

/// A store that is down: nothing is claimed, nothing fails, everybody can see it, and it goes on by
/// itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_waited_for() {
    let mut app = App::new().await;
    // Without the slash at its end.
    let store: PathBuf = samples(&app).components().collect();
    app.config.lease_seconds = 5;
    app.config.retry_base_milliseconds = 10;
    let (organisation, event) = app.an_event_with(200).await;
    let keys: Vec<_> = (0..100).map(|n| format!("marathon/IMG_0001.jpg/{n}.jpg")).collect();
    // Where the store's directory was, there is a file.
    let away = store.with_extension("away");
    fs::rename(&store, &away).unwrap();
    let worker = {
        fs::create_dir(&store).unwrap();
        let worker = start_worker(&app).await;
        fs::remove_dir(&store).unwrap();
        fs::write(&store, b"not a directory").unwrap();
        worker
    };
    queue_unchecked(&app, event, &keys).await;

    let crew = async || roster::workers(&mut *app.db().await).await.unwrap();
    app.until("the worker says that it has stopped", async || crew().await[0].state() == "stopped")
        .await;

    assert_eq!(crew().await[0].stopped_by.as_deref(), Some("store_unavailable"));
    let why = why::event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert_eq!(why.chain.last().unwrap().code, "workers_stopped");
    assert!(why.action.unwrap().contains("photo store"));
    let in_hand = app.count("SELECT count(*) FROM in_flight").await;
    assert!(in_hand < 50, "{in_hand} credits are reserved");
    assert_eq!(app.count("SELECT count(*) FROM outcome").await, 0);

    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    app.until_done(event).await;
    app.until("the worker claims again", async || crew().await[0].stopped_by.is_none()).await;
    worker.drain().await;
    assert_eq!(app.credits(organisation).await, (200, 0, 0));
}

/// A store that never worked: no credit is reserved to find that out.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_found_before_a_photo_is_claimed() {
    let app = App::new().await;
    let store = samples(&app);
    // Where photogate's own directory should be, there is a file. Permissions do not stop root.
    let file = store.join(".photogate");
    fs::write(&file, b"not a directory").unwrap();
    is_found_before_a_photo_is_claimed(&app, || fs::remove_file(file).unwrap()).await;
}

/// Found: where the photos were not mounted yet, the worker ended, and nothing named the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_mounted_later_is_waited_for() {
    let mut app = App::new().await;
    let mounted = samples(&app);
    let place = place("a-mount");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    // The way to it leads through a file.
    let way = place.join("way");
    fs::write(&way, b"not a directory").unwrap();
    app.config.store_url = url::Url::from_directory_path(way.join("photos")).unwrap().to_string();
    is_found_before_a_photo_is_claimed(&app, || {
        fs::remove_file(&way).unwrap();
        fs::create_dir(&way).unwrap();
        std::os::unix::fs::symlink(mounted, way.join("photos")).unwrap();
    })
    .await;
}

async fn is_found_before_a_photo_is_claimed(app: &App, mend: impl FnOnce()) {
    let (organisation, event) = app.an_event_with(10).await;
    let good: Vec<_> = (1..=3).map(|n| format!("marathon/IMG_000{n}.jpg")).collect();
    app.queue_keys(event, Operation::PhotoProcessing, &good).await;

    let worker = start_worker(app).await;
    let crew = async || roster::workers(&mut *app.db().await).await.unwrap();
    app.until("the worker says that it has stopped", async || {
        crew().await.first().is_some_and(|worker| worker.state() == "stopped")
    })
    .await;

    assert_eq!(crew().await[0].stopped_by.as_deref(), Some("store_unavailable"));
    let why = why::event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert!(why.action.unwrap().contains("photo store"));
    assert_eq!(app.count("SELECT count(*) FROM ledger WHERE movement = 'reserve'").await, 0);

    mend();
    app.until_done(event).await;
    worker.drain().await;
    assert_eq!(app.credits(organisation).await, (7, 0, 3));
}

#[tokio::test]
async fn a_probe_tells_whether_the_store_works() {
    let bucket = Bucket::start().await;
    let works = PhotoStore::open("s3://photos", &bucket.options).unwrap();
    let forbidden = PhotoStore::open("s3://photos/forbidden", &bucket.options).unwrap();

    assert_eq!(works.probe(Instant::now()).await, Ok(()));
    assert!(forbidden.probe(Instant::now()).await.is_err());
    let dir = place("probed");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(".photogate"), b"").unwrap();
    let files = PhotoStore::open(&format!("file://{}", dir.display()), &BTreeMap::new()).unwrap();
    let trouble = files.probe(Instant::now()).await.unwrap_err();
    assert!(trouble.starts_with("the store cannot be written: "), "{trouble}");
}
