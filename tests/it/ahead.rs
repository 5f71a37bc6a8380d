//! How far ahead of its slots a worker claims.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use photogate::{
    catalog::findings::Findings,
    ids::{EventId, Operation},
    queue::claim::Reservation,
    worker::{Stop, Worker, verdict::Verdict, work::Work},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    photos::start_worker,
    support::{App, PATIENCE, bucket::Bucket, root},
};

/// Fetches photos, each before it has a slot.
struct Fetching {
    /// One permit for each photo that the store answers.
    store: Arc<Semaphore>,
    idle: Arc<AtomicUsize>,
}

impl Work for Fetching {
    const WAITS_FOR_ITS_SLOT: bool = true;

    async fn perform(&self, _: &Reservation, _: &CancellationToken) -> Verdict {
        self.store.acquire().await.unwrap().forget();
        Verdict::Processed(Findings::Nothing)
    }

    fn idle_slots(&self) -> usize {
        self.idle.load(Ordering::SeqCst)
    }
}

/// That so many are in hand, also several looks at the slots later.
async fn has_in_hand(app: &App, event: EventId, photos: i64) {
    app.until("as much is claimed as may be", async || {
        app.processing(event).await.in_progress == photos
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(app.processing(event).await.in_progress, photos);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_slots_are_idle_claims_further_ahead_and_less_when_they_are_busy() {
    let mut app = App::new().await;
    (app.config.slots, app.config.ahead) = (2, 0);
    let organisation = app.an_organisation_with(600).await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "first", 500).await;
    let (stop, store, idle) = (Stop::default(), Arc::new(Semaphore::new(0)), Arc::default());
    let work = Fetching { store: store.clone(), idle: Arc::clone(&idle) };
    let worker = Worker::new(&app.config, app.pool.clone(), work).unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    has_in_hand(&app, event, 10).await;

    idle.store(2, Ordering::SeqCst);
    has_in_hand(&app, event, 34).await;
    idle.store(0, Ordering::SeqCst);
    let began = Instant::now();
    while app.processing(event).await.in_progress > 28 {
        assert!(began.elapsed() < PATIENCE, "it claims as far ahead as before");
        store.add_permits(1);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    idle.store(2, Ordering::SeqCst);
    has_in_hand(&app, event, 34).await;
    store.add_permits(500);
    app.until_done(event).await;
    app.until("the worker sees that nothing waits", async || {
        app.count("SELECT count(*) FROM queue WHERE NOT drained").await == 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    // The next photos are for all workers.
    idle.store(0, Ordering::SeqCst);
    store.forget_permits(store.available_permits());
    app.queue(event, "second", 40).await;
    has_in_hand(&app, event, 10).await;
    store.add_permits(40);
    app.until_done(event).await;
    stop.drain.cancel();
    worker.await.unwrap().unwrap();
    assert_eq!(app.credits(organisation).await, (60, 0, 540));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_photos_ahead_that_was_set_stays() {
    let mut app = App::new().await;
    (app.config.slots, app.config.ahead) = (2, 3);
    let organisation = app.an_organisation_with(40).await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "any", 40).await;
    let (stop, store) = (Stop::default(), Arc::new(Semaphore::new(0)));
    let work = Fetching { store: store.clone(), idle: Arc::new(2.into()) };
    let worker = Worker::new(&app.config, app.pool.clone(), work).unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));

    has_in_hand(&app, event, 5).await;

    store.add_permits(40);
    app.until_done(event).await;
    stop.drain.cancel();
    worker.await.unwrap().unwrap();
}

/// A worker that does the real work, of so many photos with so many bytes, which do not come. While
/// its slots are idle, `look` is told about it.
async fn a_store_is_slow(photos: usize, bytes: usize, look: impl AsyncFnOnce(&App, EventId)) {
    let mut app = App::new().await;
    let bucket = Bucket::start().await;
    (app.config.slots, app.config.ahead) = (2, 0);
    (app.config.store_url, app.config.store_options) =
        ("s3://photos".into(), bucket.options.clone());
    let mut photo = fs::read(root().join("samples/marathon/IMG_0001.jpg")).unwrap();
    photo.resize(bytes.max(photo.len()), 0);
    let keys: Vec<_> = (0..photos).map(|n| format!("late/{n}.jpg")).collect();
    for key in &keys {
        // No two are the same.
        bucket.keep(key, [&photo, key.as_bytes()].concat());
    }
    let organisation = app.an_organisation_with(40).await;
    let event = app.an_event_of(organisation).await;
    app.queue_keys(event, Operation::PhotoProcessing, &keys).await;

    let worker = start_worker(&app).await;
    look(&app, event).await;

    // More than once, where there was no room in memory.
    bucket.answer(10 * photos);
    app.until_done(event).await;
    worker.drain().await;
    let spent = i64::try_from(photos).unwrap();
    assert_eq!(app.credits(organisation).await, (40 - spent, 0, spent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_claims_further_ahead_while_its_store_keeps_slots_idle() {
    a_store_is_slow(40, 0, async |app, event| has_in_hand(app, event, 34).await).await;
}

/// More of them would not come sooner, and would take memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_claim_further_ahead_of_large_photos() {
    a_store_is_slow(24, 30 << 20, async |app, event| {
        app.until("it has claimed", async || app.processing(event).await.in_progress >= 10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let in_hand = app.processing(event).await.in_progress;
        assert!(in_hand < 24, "{in_hand} photos of 30 MiB are in hand");
    })
    .await;
}
