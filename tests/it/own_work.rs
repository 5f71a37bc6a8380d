//! A program can build a worker of its own on the gate: it brings the work, and gets a payload
//! beside each key.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use photogate::{
    access::Caller,
    catalog::findings::Findings,
    commands::{self, CommandError, NewEvent, OnInsufficient, Payloads, Which},
    ids::{EventId, Operation, OrganisationId, PhotoId},
    queue::{
        claim::Reservation,
        enqueue::{self, EnqueueError, PAYLOAD_MAX},
    },
    worker::{Stop, Worker, rehearsal::Rehearsal, verdict::Verdict, work::Work},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    photos::PROGRAM,
    support::{App, Process, place, root},
};

/// Counts how many photos are worked on at the same time.
#[derive(Default)]
struct Counting {
    now: AtomicUsize,
    most: Arc<AtomicUsize>,
}

impl Work for Counting {
    async fn perform(&self, _: &Reservation, _: &CancellationToken) -> Verdict {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Verdict::Processed(Findings::Nothing)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_work_is_done_in_the_slots_however_much_is_claimed_ahead() {
    let mut app = App::new().await;
    (app.config.slots, app.config.ahead) = (3, 20);
    let organisation = app.an_organisation_with(40).await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "any", 40).await;
    let work = Counting::default();
    let most = work.most.clone();

    let stop = Stop::default();
    let worker = Worker::new(&app.config, app.pool.clone(), work).unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    app.until_done(event).await;
    stop.drain.cancel();
    worker.await.unwrap().unwrap();

    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(app.credits(organisation).await, (0, 0, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_that_wait_for_a_slot_are_handed_back_when_the_worker_drains() {
    struct Endless(Arc<AtomicUsize>);
    impl Work for Endless {
        async fn perform(&self, _: &Reservation, drain: &CancellationToken) -> Verdict {
            self.0.fetch_add(1, Ordering::SeqCst);
            drain.cancelled().await;
            Verdict::Failed { reason: "stopped", detail: String::new() }
        }
    }
    let mut app = App::new().await;
    (app.config.slots, app.config.ahead) = (1, 4);
    let organisation = app.an_organisation_with(5).await;
    let event = app.an_event_of(organisation).await;
    app.queue(event, "any", 5).await;
    let stop = Stop::default();
    let begun = Arc::<AtomicUsize>::default();
    let worker = Worker::new(&app.config, app.pool.clone(), Endless(begun.clone())).unwrap();
    let worker = tokio::spawn(worker.run(stop.clone()));
    app.until("all are claimed, and one is worked on", async || {
        app.processing(event).await.in_progress == 5 && begun.load(Ordering::SeqCst) == 1
    })
    .await;

    stop.drain.cancel();
    worker.await.unwrap().unwrap();

    assert_eq!(app.count("SELECT count(*) FROM outcome WHERE reason = 'stopped'").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'handed_back'").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_are_told_of_every_settled_photo_and_cannot_stop_the_worker() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(4).await;
    let event = app.an_event_of(organisation).await;
    let jobs = enqueue::jobs(&["rehearsal/ok/1".into(), "rehearsal/fail/1".into()]).unwrap();
    let told: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
    let noted = told.clone();
    let worker = Worker::new(&app.config, app.pool.clone(), Rehearsal)
        .unwrap()
        .observe(|_: &Reservation, _: &Verdict| panic!("a broken observer"))
        .observe(move |reservation: &Reservation, verdict: &Verdict| {
            let is_good = matches!(verdict, Verdict::Processed(_));
            noted.lock().unwrap().insert(reservation.key().to_owned(), is_good);
        });
    let stop = Stop::default();
    let worker = tokio::spawn(worker.run(stop.clone()));

    let mut db = app.db().await;
    enqueue::enqueue(&mut db, event, Operation::AiRotation, &jobs, "anna").await.unwrap();
    app.until_done(event).await;
    stop.drain.cancel();
    worker.await.unwrap().unwrap();

    let expected = [("rehearsal/fail/1", false), ("rehearsal/ok/1", true)];
    let expected: BTreeMap<_, _> = expected.map(|(key, good)| (key.to_owned(), good)).into();
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(app.credits(organisation).await, (3, 0, 1));
}

async fn enqueue_with(
    app: &App,
    event: EventId,
    keys: &[String],
    payloads: &[(&str, Value)],
) -> Result<commands::FundingPlan, CommandError> {
    let payloads: Payloads =
        payloads.iter().map(|(key, payload)| ((*key).to_owned(), payload.clone())).collect();
    let asked = commands::Enqueue {
        operation: Operation::PhotoProcessing.into(),
        photos: Which::Keys(keys),
        payloads,
        dry_run: false,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    app.commands().enqueue(&Caller::trusted("anna"), event, &asked).await
}

#[tokio::test]
async fn a_payload_goes_with_its_photo_through_adoption_retry_and_restore() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(50).await;
    let event = app.an_event_of(organisation).await;
    let keys = ["a", "b", "a", "c"].map(String::from);
    let (first, second) = (json!({"runner": "Ann", "n": [1, 2]}), json!("only a text"));
    let operation = Operation::PhotoProcessing;
    enqueue_with(&app, event, &keys, &[("a", first.clone()), ("b", second.clone())]).await.unwrap();
    // Another call for a photo that waits changes nothing.
    enqueue_with(&app, event, &keys[..1], &[("a", json!("too late"))]).await.unwrap();

    let hand = app.a_worker().await;
    let claimed = hand.claim(2).await;
    let payloads: Vec<Value> = claimed.iter().map(|photo| photo.payload().unwrap()).collect();
    assert_eq!(payloads, [first.clone(), second.clone()]);

    // One is handed back, and another worker adopts it. The other fails, and a person retries it.
    let mut claimed = claimed.into_iter();
    hand.give_back(claimed.next().unwrap(), Verdict::HandedBack).await;
    hand.fail(claimed.next().unwrap()).await;
    let adopted = hand.adopt(9).await;
    assert_eq!(adopted[0].payload::<Value>().unwrap(), first);
    let failed = app.count("SELECT count(*) FROM outcome WHERE state = 'failed'").await;
    assert_eq!(failed, 1);
    let mut db = app.db().await;
    let b = sqlx::query_scalar("SELECT photo_id FROM photo WHERE key = 'b'");
    let b = PhotoId(b.fetch_one(&mut *db).await.unwrap());
    photogate::queue::retry::retry(&mut db, event, operation, &[b], false, "anna").await.unwrap();
    let claimed = hand.claim(9).await;
    let seen: BTreeMap<_, Value> =
        claimed.iter().map(|photo| (photo.key(), photo.payload().unwrap())).collect();
    assert_eq!(seen, BTreeMap::from([("b", second), ("c", Value::Null)]));
    for reservation in claimed.into_iter().chain(adopted) {
        hand.succeed(reservation).await;
    }
}

#[tokio::test]
async fn a_payload_that_is_too_large_odd_or_for_no_photo_is_refused_and_queues_nothing() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let event = app.an_event_of(organisation).await;
    let keys = ["a".to_owned()];

    let large = enqueue_with(&app, event, &keys, &[("a", json!("x".repeat(PAYLOAD_MAX)))]).await;
    assert!(
        matches!(large, Err(CommandError::Enqueue(EnqueueError::LargePayload { .. }))),
        "{large:?}"
    );
    let most = json!("x".repeat(PAYLOAD_MAX - 2));
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    for odd in [json!("NUL \0"), json!(vec![1e300; 500]), deep] {
        let refused = enqueue_with(&app, event, &keys, &[("a", odd)]).await;
        assert!(
            matches!(refused, Err(CommandError::Enqueue(EnqueueError::OddPayload))),
            "{refused:?}"
        );
    }
    let dry = commands::Enqueue {
        operation: Operation::PhotoProcessing.into(),
        photos: Which::Keys(&keys),
        payloads: [("a".to_owned(), json!("x".repeat(PAYLOAD_MAX)))].into(),
        dry_run: true,
        on_insufficient: OnInsufficient::Wait,
        priority: photogate::queue::enqueue::Priority::Normal,
    };
    let dry = app.commands().enqueue(&Caller::trusted("anna"), event, &dry).await;
    assert!(dry.is_err(), "a dry run says the same: {dry:?}");
    let stray = enqueue_with(&app, event, &keys, &[("b", json!(1))]).await;
    assert!(matches!(stray, Err(CommandError::Invalid { .. })), "{stray:?}");
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);

    enqueue_with(&app, event, &keys, &[("a", most)]).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM job").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_writes_certificates_and_pays_a_credit_for_each() {
    let app = App::new().await;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--example", "certificates"])
        .current_dir(root())
        .status()
        .unwrap();
    assert!(built.success(), "the example compiles");
    let example = Path::new(PROGRAM).parent().unwrap().join("examples/certificates");
    let directory = place(&format!("certificates-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let print = |names: &[&str]| {
        let mut command = Command::new(&example);
        command.arg(&directory).args(names).current_dir(&directory);
        command.env("DATABASE_URL", &app.config.database_url).env("REDIS_URL", "");
        Process::start(command)
    };
    let done = async |n: i64| {
        app.until("they are written", async || {
            app.count("SELECT count(*) FROM outcome WHERE state = 'processed'").await == n
        })
        .await;
    };

    // Nobody has paid yet, so the first run only waits. A top-up lets it go on.
    let mut first = print(&["Ann", "Bo"]);
    app.until("they wait", async || app.count("SELECT count(*) FROM job").await == 2).await;
    let club = OrganisationId(app.count("SELECT organisation_id FROM organisation").await);
    app.says(&["credits", "grant", &club.to_string(), "10", "--key", "1", "--actor", "anna"]);
    done(2).await;
    first.signal(Signal::SIGINT);
    assert!(first.wait().success());
    // The second run finds the organisation and the event, and does only what is new.
    let mut second = print(&["Bo", "Cem"]);
    done(3).await;
    second.signal(Signal::SIGINT);
    assert!(second.wait().success());

    assert_eq!(app.credits(club).await, (7, 0, 3));
    assert_eq!(app.count("SELECT count(*) FROM event").await, 1);
    let mut texts: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["Ann has finished.\n", "Bo has finished.\n", "Cem has finished.\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_create_the_same_reference_at_once_get_one_event() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let other = app.an_organisation_with(1).await;
    let caller = Caller::trusted("sync");
    let create = async |organisation| {
        let new = NewEvent::new("City Marathon", organisation).with_reference("race-17");
        app.commands().create_event(&caller, &new).await.unwrap()
    };

    let made = futures::future::join_all((0..8).map(|_| create(organisation))).await;
    let elsewhere = create(other).await;

    let first = made[0].value.id;
    assert!(made.iter().all(|one| one.value.id == first));
    assert_eq!(made.iter().filter(|one| one.is_new).count(), 1);
    assert_eq!(made[0].value.reference.as_deref(), Some("race-17"));
    assert!(
        elsewhere.is_new && elsewhere.value.id != first,
        "references are an organisation's own"
    );
    let entries = "SELECT count(*) FROM audit_log WHERE action = 'event.create'";
    assert_eq!(app.count(entries).await, 2, "what was found is not logged as created");
    // A deleted event gives its reference back.
    app.commands().delete_event(&caller, first).await.unwrap();
    assert!(create(organisation).await.is_new);
}

#[tokio::test]
async fn a_payload_that_nobody_can_read_fails_its_own_photo_and_no_claim() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    // The largest number that most languages have. serde_json reads it back only if it is told to
    // read exactly.
    let largest = ("a", json!(f64::MAX));
    enqueue_with(&app, event, &["a".into(), "b".into()], &[largest]).await.unwrap();
    // As a later version of PostgreSQL, or a person at its prompt, could leave it.
    app.owner_runs("UPDATE photogate.job SET payload = '1e400' WHERE payload IS NULL").await;
    let hand = app.a_worker().await;

    let claimed = hand.claim(2).await;

    assert_eq!(claimed[0].payload::<f64>().unwrap().to_bits(), f64::MAX.to_bits());
    assert!(claimed[1].payload::<f64>().is_err());
    for reservation in claimed {
        assert!(hand.fail(reservation).await);
    }
    assert_eq!(app.credits(organisation).await, (2, 0, 0));
}

#[tokio::test]
async fn a_deleted_event_forgets_its_payloads() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(2).await;
    enqueue_with(&app, event, &["a".into()], &[("a", json!({"name": "Ann"}))]).await.unwrap();
    assert_eq!(app.count("SELECT count(payload) FROM job").await, 1);

    app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap();

    assert_eq!(app.count("SELECT count(payload) FROM job").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM job").await, 1, "the books keep the job");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_hands_back_without_being_stopped_goes_round_with_a_pause() {
    struct Lazy;
    impl Work for Lazy {
        async fn perform(&self, photo: &Reservation, _: &CancellationToken) -> Verdict {
            if photo.retries() == 0 {
                Verdict::HandedBack
            } else {
                Verdict::Processed(Findings::Nothing)
            }
        }
    }
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "any", 1).await;
    let worker = app.start_worker_on(Lazy);
    app.until_done(event).await;
    worker.drain().await;

    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'retry'").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'handed_back'").await, 0);
    assert_eq!(app.credits(organisation).await, (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_never_stops_retrying_is_failed_and_refunded_in_the_end() {
    struct Stubborn;
    impl Work for Stubborn {
        async fn perform(&self, _: &Reservation, _: &CancellationToken) -> Verdict {
            let (reason, detail) = ("not_yet", "the work wants another try".into());
            Verdict::Retry { reason, detail, after: Duration::ZERO, outage: false }
        }
    }
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "any", 1).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    assert!(hand.put_off(photo, Duration::ZERO).await);
    // As after many retries: the last but one is still allowed.
    app.owner_runs("UPDATE photogate.in_flight SET retries = 999").await;

    let worker = app.start_worker_on(Stubborn);
    app.until_done(event).await;
    worker.drain().await;

    assert_eq!(app.credits(organisation).await, (1, 0, 0));
    let failed = "SELECT count(*) FROM outcome WHERE state = 'failed' AND reason = 'not_yet'";
    assert_eq!(app.count(failed).await, 1);
    assert_eq!(app.count("SELECT count(*) FROM attempt WHERE ended = 'retry'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_future_is_dropped_leaves_and_others_take_its_photos() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(4).await;
    app.queue(event, "slow-60000", 4).await;
    let worker = Worker::new(&app.config, app.pool.clone(), Rehearsal).unwrap();
    let dropped = tokio::time::timeout(Duration::from_secs(1), worker.run(Stop::default())).await;
    assert!(dropped.is_err(), "it was still at work");

    // Nobody extends its lease of two seconds any more.
    let heir = app.start_worker_on(Counting::default());
    app.until_done(event).await;
    heir.drain().await;

    assert_eq!(app.credits(organisation).await, (0, 0, 4));
}

#[tokio::test]
async fn a_reference_with_a_space_at_its_end_is_refused() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    for bad in ["", " race-17", "race-17 ", &"x".repeat(201)] {
        let new = NewEvent::new("City Marathon", organisation).with_reference(bad);
        let refused = app.commands().create_event(&Caller::trusted("sync"), &new).await;
        let Err(CommandError::Invalid { pointer, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(pointer, "/reference");
    }
}
