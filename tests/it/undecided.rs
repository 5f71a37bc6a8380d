//! An AI rotation that cannot decide costs nothing, and is no failure.

use std::fs;

use photogate::{
    access::Caller,
    catalog::{
        findings::Findings,
        photos::{self, Photo, State},
        quality,
    },
    commands::{Enqueue, OnInsufficient, Payloads, Retry, Which},
    ids::{EventId, Operation, PhotoId},
    ledger::{
        receipt,
        refunds::{self, By},
    },
    queue::{
        failures::{self, UNDECIDED},
        runs, status, why,
    },
    worker::verdict::Verdict,
};
use photogate_jobs::{Rotation, Turn};

use crate::{
    photos::{samples, work_on},
    support::App,
};

const ROTATION: Operation = Operation::AiRotation;

/// What the work says that cannot tell which way is up.
fn undecided() -> Verdict {
    let (turn, confidence, cue) = (Turn::None, 0.41, None);
    let rotation = Rotation { turn, confidence, abstained: true, cue, unmirrored: false };
    let findings = Findings::Rotation { content: None, rotation, upright: None };
    Verdict::Undecided { findings, detail: "as the test wants it".into() }
}

fn upright() -> Verdict {
    let (turn, confidence) = (Turn::None, 0.98);
    let cue = Some(photogate_jobs::Cue::Network);
    let rotation = Rotation { turn, confidence, abstained: false, cue, unmirrored: false };
    Verdict::Processed(Findings::Rotation { content: None, rotation, upright: None })
}

/// Queues this photo for AI Rotation, and settles it so.
async fn a_photo(app: &App, event: EventId, key: &str, verdict: Verdict) -> PhotoId {
    app.queue_keys(event, ROTATION, &[key.to_owned()]).await;
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

fn anna() -> Caller {
    Caller::trusted("anna@club.example")
}

async fn retry(app: &App, event: EventId, reason: Option<&str>) -> u32 {
    let retry = Retry { operation: ROTATION, reason, dry_run: false };
    app.commands().retry(&anna(), event, &retry).await.unwrap().queued
}

#[tokio::test]
async fn an_abstention_is_refunded_and_kept_and_what_is_upright_is_charged() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;

    let unclear = a_photo(&app, event, "a.jpg", undecided()).await;
    let clear = a_photo(&app, event, "b.jpg", upright()).await;

    assert_eq!(app.credits(organisation).await, (4, 0, 1), "the answer was the work");
    let (unclear, clear) = (shown(&app, event, unclear).await, shown(&app, event, clear).await);
    assert_eq!((unclear.rotation, unclear.turn), (Some(State::Undecided), None));
    assert_eq!((clear.rotation, clear.turn), (Some(State::Processed), Some(0)));
    let mut db = app.db().await;
    let report = quality::report(&mut db, event).await.unwrap();
    assert_eq!((report.undecided, report.upright, report.rotation_photos), (1, 1, 2));
}

#[tokio::test]
async fn everybody_sees_that_it_is_no_failure() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let run = app.queue_keys(event, ROTATION, &["a.jpg".into(), "b.jpg".into()]).await.run.unwrap();
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;
    let photo = claimed[0].photo();
    assert!(hand.give_back(claimed.remove(0), undecided()).await);
    assert!(hand.fail(claimed.remove(0)).await);
    let mut db = app.db().await;

    let all = failures::list(&mut db, event, failures::Filter::default(), 9).await.unwrap();
    assert_eq!(all.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), ["corrupt"]);
    let groups = failures::groups(&mut db, failures::Which::default()).await.unwrap();
    assert_eq!(groups.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(), ["corrupt"]);
    let named = failures::Filter { operation: None, reason: Some(UNDECIDED) };
    let named = failures::list(&mut db, event, named, 9).await.unwrap();
    assert_eq!(named.iter().map(|one| one.photo).collect::<Vec<_>>(), [photo]);

    let queues = status::of_event(&mut db, event).await.unwrap();
    let queue = queues.iter().find(|queue| queue.operation == ROTATION).unwrap();
    assert_eq!((queue.processed, queue.undecided, queue.failed), (0, 1, 1));
    let run = runs::find(&mut db, run).await.unwrap().unwrap();
    assert_eq!((run.processed, run.undecided, run.failed, run.in_progress), (0, 1, 1, 0));

    let receipt = receipt::receipt(&mut db, photo, None).await.unwrap().unwrap();
    let job = &receipt.jobs[0];
    assert_eq!((job.state.as_str(), job.reason.as_deref()), ("undecided", Some(UNDECIDED)));
    assert_eq!(job.closed.as_ref().unwrap().movement, "refund");
    let why = why::photo(&mut db, photo).await.unwrap().unwrap();
    assert!(why.answer.contains("ai rotation could not decide"), "{}", why.answer);
    assert!(why.chain.is_empty() && why.action.is_none(), "nothing is to be done");

    let since = refunds::Filter {
        since: chrono::DateTime::UNIX_EPOCH,
        until: None,
        organisation: Some(organisation),
    };
    let lines = refunds::count(&mut db, since, By::Reason).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (line.of.as_str(), line.credits.0)).collect();
    assert_eq!(lines, [("corrupt", 1), (UNDECIDED, 1)], "a line of its own for finance");
}

#[tokio::test]
async fn a_retry_takes_it_only_if_it_names_the_reason() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let photo = a_photo(&app, event, "a.jpg", undecided()).await;

    let enqueue = async |dry_run| {
        let keys = ["a.jpg".to_owned()];
        let asked = Enqueue {
            operation: ROTATION.into(),
            photos: Which::Keys(&keys),
            payloads: Payloads::default(),
            dry_run,
            on_insufficient: OnInsufficient::Wait,
            priority: photogate::queue::enqueue::Priority::Normal,
        };
        let plan = app.commands().enqueue(&anna(), event, &asked).await.unwrap();
        (plan.queued, plan.skipped.undecided_before, plan.already_paid)
    };
    assert_eq!(enqueue(true).await, (0, 1, 0));
    assert_eq!(enqueue(false).await, (0, 1, 0), "the plan says what is done");
    assert_eq!(retry(&app, event, None).await, 0, "the answer would be the same");
    assert_eq!(retry(&app, event, Some("corrupt")).await, 0);

    assert_eq!(retry(&app, event, Some(UNDECIDED)).await, 1);
    assert_eq!(retry(&app, event, Some(UNDECIDED)).await, 0, "it waits already");
    let queue = app.queues(event).await.into_iter().find(|queue| queue.operation == ROTATION);
    assert_eq!(queue.unwrap().undecided, 0, "it is asked again");
    let hand = app.a_worker().await;
    assert!(hand.give_back(hand.claim_one().await, upright()).await);
    assert_eq!(shown(&app, event, photo).await.turn, Some(0));
    assert_eq!(app.credits(organisation).await, (4, 0, 1), "the answer is paid for once");
    assert_eq!(retry(&app, event, Some(UNDECIDED)).await, 0, "it has an answer now");
}

#[tokio::test]
async fn a_turn_that_a_person_says_later_costs_nothing_either() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(5).await;
    let photo = a_photo(&app, event, "a.jpg", undecided()).await;
    let mut db = app.db().await;

    photogate::catalog::corrections::correct_turn(&mut db, photo, 90, None, "anna").await.unwrap();

    let now = shown(&app, event, photo).await;
    assert_eq!((now.turn, now.rotation), (Some(90), Some(State::Undecided)));
    assert_eq!(app.credits(organisation).await, (5, 0, 0));
    photogate::catalog::corrections::take_turn_back(&mut db, photo).await.unwrap();
    assert_eq!(shown(&app, event, photo).await.turn, None, "it abstained");
}

#[tokio::test]
async fn its_refund_ends_a_pause() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue_keys(event, ROTATION, &["a.jpg".into(), "b.jpg".into()]).await;
    let hand = app.a_worker().await;
    let first = hand.claim_one().await;
    assert!(hand.claim(1).await.is_empty(), "the credit is spent");

    assert!(hand.give_back(first, undecided()).await);

    assert!(hand.give_back(hand.claim_one().await, upright()).await);
    assert_eq!(app.credits(organisation).await, (0, 0, 1));
}

#[tokio::test]
async fn an_abstention_is_never_kept_of_a_photo_that_was_charged() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    let Verdict::Undecided { findings, .. } = undecided() else { unreachable!() };

    a_photo(&app, event, "a.jpg", Verdict::Processed(findings)).await;

    assert_eq!(app.count("SELECT count(*) FROM rotation").await, 0, "nobody pays for no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_worker_refunds_what_it_cannot_decide() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = app.an_event_with(10).await;

    let found =
        work_on(&app, event, ROTATION, &["marathon/IMG_0007.jpg", "marathon/IMG_0001.jpg"]).await;

    let of = |end: &str| found.iter().find(|found| found.key.ends_with(end)).unwrap();
    assert_eq!((of("7.jpg").reason.as_deref(), of("7.jpg").turn), (Some(UNDECIDED), None));
    assert_eq!((of("1.jpg").reason.as_deref(), of("1.jpg").turn), (None, Some(0)));
    assert_eq!(app.credits(organisation).await, (9, 0, 1));
    let thumbnail = store.join(format!(".photogate/thumbnails/{}.jpg", of("7.jpg").photo));
    assert!(fs::exists(thumbnail).unwrap(), "a person can see it, and say the turn");
    assert_eq!(app.count("SELECT count(*) FROM rotation WHERE abstained").await, 1);
}
