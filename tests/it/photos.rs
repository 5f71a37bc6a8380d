//! Real photos, real models: what is found, what is refunded, what is written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use photogate::{
    access::Caller,
    catalog::{
        findings::{self, Found},
        photo_store::PhotoStore,
    },
    ids::{EventId, Operation},
    notify::progress::{Subject, Watch},
    worker::{forget, looker::Looker},
};
use photogate_jobs::Photo;
use tokio_util::sync::CancellationToken;

use crate::support::{App, Running, root};

/// Looks at photos in its children.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_photogate");

/// The samples of the demo, in the app's store.
pub fn samples(app: &App) -> PathBuf {
    let store = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    for folder in ["marathon", "gala"] {
        fs::create_dir_all(store.join(folder)).unwrap();
        for sample in fs::read_dir(root().join("samples").join(folder)).unwrap() {
            let sample = sample.unwrap();
            fs::copy(sample.path(), store.join(folder).join(sample.file_name())).unwrap();
        }
    }
    store
}

/// Queues photos, has a real worker process them, and returns what was found.
pub async fn work_on(app: &App, event: EventId, operation: Operation, keys: &[&str]) -> Vec<Found> {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    app.queue_keys(event, operation, &keys).await;
    let worker = start_worker(app).await;
    app.until_done(event).await;
    worker.drain().await;
    findings::of_event(&mut *app.db().await, event).await.unwrap()
}

/// A worker that does the real work.
pub async fn start_worker(app: &App) -> Running {
    let store = PhotoStore::open(&app.config.store_url, &app.config.store_options).unwrap();
    let looker = Looker::open(Path::new(PROGRAM), &app.config, store, app.pool.clone());
    app.start_worker_on(looker.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_photo_is_refunded_with_its_reason() {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(10).await;

    let mut found = work_on(
        &app,
        event,
        Operation::PhotoProcessing,
        &["marathon/IMG_0008.jpg", "gala/DSC_0003.jpg"],
    )
    .await;

    found.sort_by(|a, b| a.key.cmp(&b.key));
    let reasons: Vec<_> =
        found.iter().map(|found| found.reason.as_deref().unwrap_or("none")).collect();
    assert_eq!(reasons, ["unsupported_format", "truncated"]);
    assert_eq!(app.credits(organisation).await, (10, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_and_bib_numbers_are_found_and_nobody_is_a_success_too() {
    let app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(10).await;

    let mut found = work_on(
        &app,
        event,
        Operation::PhotoProcessing,
        &["marathon/IMG_0003.jpg", "marathon/IMG_0007.jpg"],
    )
    .await;

    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        (found[0].faces, found[0].bibs.as_slice()),
        (2, ["338", "871"].map(String::from).as_slice())
    );
    assert_eq!((found[1].faces, found[1].bibs.len(), found[1].reason.as_deref()), (0, 0, None));
    assert_eq!(app.credits(organisation).await, (8, 0, 2));
    assert_eq!(
        app.count("SELECT count(*) FROM face WHERE embedding IS NOT NULL").await,
        0,
        "face search is off"
    );
    assert_eq!(
        app.count(
            "SELECT count(*) FROM bib b JOIN looked_at l USING (photo_id) WHERE x < 0 OR y < 0 \
             OR x + b.width > l.width OR y + b.height > l.height"
        )
        .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_computed_only_where_face_search_is_on() {
    let app = App::new().await;
    samples(&app);
    let (_, event) = app.a_gala_with(10).await;

    let found = work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0001.jpg"]).await;

    assert_eq!((found[0].faces, found[0].bibs.len()), (1, 0), "bib search is off");
    assert_eq!(app.count("SELECT count(*) FROM face WHERE octet_length(embedding) = 256").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_writes_an_upright_copy_and_keeps_the_original() {
    let app = App::new().await;
    let store = samples(&app);
    let (_, event) = app.an_event_with(10).await;
    let original = fs::read(store.join("marathon/IMG_0005.jpg")).unwrap();

    let found = work_on(
        &app,
        event,
        Operation::AiRotation,
        &["marathon/IMG_0005.jpg", "marathon/IMG_0001.jpg"],
    )
    .await;

    let turned = found.iter().find(|found| found.key.ends_with("5.jpg")).unwrap();
    let upright = found.iter().find(|found| found.key.ends_with("1.jpg")).unwrap();
    assert_eq!(
        (turned.turn, upright.turn, upright.upright_key.as_deref()),
        (Some(180), Some(0), None)
    );
    let copy = fs::read(store.join(turned.upright_key.as_ref().unwrap())).unwrap();
    let photo = Photo::open(&copy).unwrap();
    assert!(photo.orientation.is_upright());
    assert_eq!((photo.stored_width, photo.stored_height), (900, 900));
    assert_eq!(fs::read(store.join("marathon/IMG_0005.jpg")).unwrap(), original);
    assert_eq!(
        app.queue_keys(event, Operation::AiRotation, &["marathon/IMG_0005.jpg".into()])
            .await
            .queued,
        0,
        "never turned twice"
    );
}

/// Found: thumbnails and upright copies of a deleted event stayed in the store for ever.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_event_only_the_originals_stay_in_the_store() {
    let app = App::new().await;
    let store = samples(&app);
    let (_, event) = app.an_event_with(10).await;
    let (_, other) = app.an_event_with(10).await;
    work_on(&app, event, Operation::AiRotation, &["marathon/IMG_0005.jpg"]).await;
    work_on(&app, other, Operation::PhotoProcessing, &["marathon/IMG_0001.jpg"]).await;
    let files = |folder: &str| {
        fs::read_dir(store.join(".photogate").join(folder)).unwrap().flatten().count()
    };
    assert_eq!((files("thumbnails"), files("upright")), (2, 1));

    app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap();
    let (photos, stop) = (app.config.store_url.clone(), CancellationToken::new());
    let photos = PhotoStore::open(&photos, &app.config.store_options).unwrap();
    let deleting = tokio::spawn(forget::delete_files(app.pool.clone(), photos, stop.clone()));
    let left = "SELECT count(*) FROM leftover_files(100)";
    app.until("the files are deleted", async || app.count(left).await == 0).await;
    stop.cancel();
    deleting.await.unwrap();

    assert_eq!((files("thumbnails"), files("upright")), (1, 0), "those of the other event stay");
    assert!(store.join("marathon/IMG_0005.jpg").exists(), "and so do the originals");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_photo_is_retried_then_failed_and_refunded() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;

    let found = work_on(&app, event, Operation::PhotoProcessing, &["marathon/nowhere.jpg"]).await;

    assert_eq!(found[0].reason.as_deref(), Some("photo_missing"));
    assert_eq!(
        app.count(
            "SELECT count(*) FROM attempt WHERE ended = 'retry' AND reason = 'photo_missing'"
        )
        .await,
        2
    );
    assert_eq!(app.credits(organisation).await, (10, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_arrives_late_is_processed() {
    let mut app = App::new().await;
    app.config.retries_max = 100;
    let (organisation, event) = app.an_event_with(10).await;
    app.queue_keys(event, Operation::PhotoProcessing, &["marathon/IMG_0007.jpg".into()]).await;
    let worker = start_worker(&app).await;
    app.until("it was missed", async || {
        app.count("SELECT count(*) FROM attempt WHERE ended = 'retry'").await > 0
    })
    .await;

    samples(&app);
    app.until_done(event).await;

    assert_eq!(app.credits(organisation).await, (9, 0, 1));
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_an_event_or_its_organisation_hears_of_every_photo() {
    let mut app = App::new().await;
    samples(&app);
    let (organisation, event) = app.an_event_with(10).await;
    let open = |subject| Watch::open(app.config.redis_url.as_deref(), subject).unwrap();
    let watch = open(Subject::Event(event));
    let all = open(Subject::Organisation(organisation));
    watch.heard().await; // that it is connected
    all.heard().await;
    app.config.slots = 1;

    let (_, _) = tokio::join!(
        work_on(&app, event, Operation::PhotoProcessing, &["marathon/IMG_0007.jpg"]),
        async { tokio::join!(watch.heard(), all.heard()) }
    );
}
