//! Old events are packed into the photo store, and restored: nothing that was paid changes, whoever
//! dies in the middle.

mod listed;
mod lost;
mod reads;
mod refusals;
mod together;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use photogate::{
    access::Caller,
    catalog::{
        archive::{self, Archivist, Signature, State, Which},
        findings::Findings,
        photo_store::PhotoStore,
        reconsider,
    },
    commands::{CommandError, CorrectNumbers},
    ids::{ArchiveId, EventId, Operation, OrganisationId, PhotoId},
    ledger::reconcile::{self, Check, Scope},
    queue::{enqueue, skips},
    worker::verdict::Verdict,
};
use photogate_jobs::{Bib, Face, SettledBy, Turn};
use serde_json::{Value, json};

use crate::support::{App, photogate, stderr, stdout};

const PROCESSING: Operation = Operation::PhotoProcessing;

fn embedding(of: usize) -> Vec<f32> {
    (0..128).map(|n| if n % 2 == of { 0.125 } else { 0.0 }).collect()
}

/// Anna with 12 and Ben with 34, on a photo with this content.
fn both(content: u8) -> Verdict {
    let face =
        |x| Face { x, y: 1.5, width: 50.25, height: 60.1, score: 0.9, landmarks: [[2.0; 2]; 5] };
    let bib = |number: &str| Bib {
        number: number.into(),
        score: 0.1 + 0.2,
        settled_by: SettledBy::Reading,
        was: None,
        x: 1.0 / 3.0,
        y: 1.0,
        width: 20.0,
        height: 9.0,
    };
    Verdict::Processed(Findings::Processing {
        content: Some([content; 32]),
        width: 200,
        height: 100,
        turn: Turn::None,
        faces: vec![(face(1.1), Some(embedding(0))), (face(100.7), Some(embedding(1)))],
        bibs: vec![bib("12"), bib("34")],
        lines: Vec::new(),
    })
}

/// An event with something of everything, in which nothing moves any more.
async fn an_old_event(app: &App) -> (OrganisationId, EventId) {
    let (organisation, event) = app.a_gala_with(60).await;
    let keys: Vec<_> = (1..=9).map(|n| format!("2024/Ä {n}.jpg")).collect();
    let hand = app.a_worker().await;
    app.queue_keys(event, PROCESSING, &keys).await;
    for (n, photo) in hand.claim(9).await.into_iter().enumerate() {
        let verdict = match n {
            // The second one is a duplicate of the first.
            0 | 1 => both(1),
            2 => Verdict::Failed { reason: "corrupt", detail: "it \"ends\"\n early".into() },
            3 => Verdict::Undecided { findings: Findings::Nothing, detail: "no".into() },
            n => both(u8::try_from(n).unwrap()),
        };
        assert!(hand.give_back(photo, verdict).await);
    }
    // A person retries: the failed photo has a second job, with an attempt that did not end it.
    let failed = photo_named(app, event, "2024/Ä 3.jpg").await;
    app.retry(event, &[failed]).await;
    let photo = hand.claim_one().await;
    assert!(hand.put_off(photo, Duration::ZERO).await);
    for photo in hand.adopt_from_the_dead(1).await {
        assert!(hand.give_back(photo, both(99)).await);
    }
    // One with a payload, in AI rotation; and one that was skipped.
    let mut job = enqueue::jobs(&["2024/turned.jpg".to_owned()]).unwrap();
    job[0].payload = Some(json!({"n": 1e300, "null": null}));
    let db = &mut *app.db().await;
    enqueue::enqueue(db, event, Operation::AiRotation, &job, "pipeline").await.unwrap();
    let photo = hand.claim_one().await;
    assert!(hand.succeed(photo).await);
    app.queue_keys(event, PROCESSING, &["2024/skipped.jpg".to_owned()]).await;
    let skipped = photo_named(app, event, "2024/skipped.jpg").await;
    skips::skip(db, event, PROCESSING, &[skipped], "anna").await.unwrap();
    let corrected = photo_named(app, event, "2024/Ä 5.jpg").await;
    let new = CorrectNumbers { numbers: vec!["77".into(), "12".into()] };
    app.commands().correct_numbers(&Caller::trusted("anna"), corrected, &new).await.unwrap();
    be_old(app).await;
    (organisation, event)
}

async fn photo_named(app: &App, event: EventId, key: &str) -> PhotoId {
    photogate::catalog::events::photo(&mut *app.db().await, event, key).await.unwrap().unwrap()
}

/// Nobody could take anything back, and bib numbers are decided. The head has passed what is skipped.
async fn be_old(app: &App) {
    assert!(app.a_worker().await.try_claim(1).await.unwrap().is_empty());
    app.owner_runs("DELETE FROM photogate.undo").await;
    reconsider::all_due(&app.pool).await.unwrap();
    app.owner_runs("UPDATE photogate.reconsideration SET answered = asked, taken_until = NULL")
        .await;
}

fn archivist(app: &App) -> Archivist {
    Archivist::open(&app.config, app.pool.clone()).unwrap()
}

async fn begin(app: &App, event: EventId) -> Result<ArchiveId, CommandError> {
    app.commands().archive_event(&Caller::trusted("ops"), event, None).await
}

async fn restore(app: &App, event: EventId) -> State {
    let id = app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap();
    archivist(app).go_on(id).await.unwrap()
}

/// All rows of all tables, but of those that tell of archives.
async fn all_rows(app: &App) -> BTreeMap<String, Value> {
    let mut db = app.as_owner().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'photogate'
         AND tablename NOT LIKE 'archive%' AND tablename NOT LIKE 'audit%'
         AND tablename NOT IN ('worker', 'functions_applied', '_sqlx_migrations')",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        // A statement moves the account's clock: what is before it cannot change any more.
        let all = format!(
            "SELECT coalesce(jsonb_agg(to_jsonb(t) - 'moved_at' ORDER BY t::text), '[]') FROM {table} t"
        );
        let all = sqlx::query_scalar(sqlx::AssertSqlSafe(all)).fetch_one(&mut db).await.unwrap();
        rows.insert(table, all);
    }
    rows
}

/// The tables in which rows differ.
fn differ(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> Vec<String> {
    assert_eq!(one.len(), other.len());
    one.iter().filter(|(name, rows)| other[*name] != **rows).map(|(name, _)| name.clone()).collect()
}

/// The tables whose rows are packed.
const PACKED: [&str; 8] =
    ["attempt", "bib", "content", "face", "job", "looked_at", "number_correction", "outcome"];

async fn receipts(app: &App, event: EventId) -> Vec<Value> {
    let store = PhotoStore::open(&app.config.store_url, &app.config.store_options).unwrap();
    let ids = sqlx::query_scalar("SELECT photo_id FROM photo WHERE event_id = $1 ORDER BY key");
    let ids: Vec<uuid::Uuid> =
        ids.bind(event.0).fetch_all(&mut app.as_owner().await).await.unwrap();
    let mut all = Vec::new();
    for id in ids {
        let receipt =
            archive::receipt(&app.pool, &store, PhotoId(id), None).await.unwrap().unwrap();
        all.push(serde_json::to_value(receipt).unwrap());
    }
    all
}

/// What the pages say of the queues, but for the rate of the last minutes.
async fn queues(app: &App, event: EventId) -> Value {
    let mut queues = serde_json::to_value(app.queues(event).await).unwrap();
    for queue in queues.as_array_mut().unwrap() {
        let queue = queue.as_object_mut().unwrap();
        assert!(queue.remove("rate").is_some() && queue.remove("eta_seconds").is_some());
    }
    queues
}

async fn broken(app: &App) -> Vec<Check> {
    let checks = reconcile::reconcile(&mut *app.db().await, Scope::Full).await.unwrap();
    checks.into_iter().filter(|check| check.violations > 0).collect()
}

/// What finance sees, to the byte.
fn books(app: &App, organisation: OrganisationId, event: EventId) -> Vec<String> {
    let (organisation, event) = (organisation.to_string(), event.to_string());
    let month = chrono::Utc::now().format("%Y-%m").to_string();
    let of = ["--organisation", &organisation];
    vec![
        app.says(&["statement", "--organisation", &organisation, "--month", &month]),
        app.says(&["ledger", "export", of[0], of[1]]),
        app.says(&["credits", "history", &organisation]),
        app.says(&["events", "timeline", &event, "--csv"]),
    ]
}

fn files(app: &App) -> Vec<PathBuf> {
    let root = url::Url::parse(&app.config.store_url).unwrap().to_file_path().unwrap();
    let mut files = Vec::new();
    for directory in std::fs::read_dir(root.join(".photogate/archives")).unwrap() {
        for file in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_packed_is_restored_as_it_was() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let (_, neighbour) = an_old_event(&app).await;
    let (receipts_before, books_before) =
        (receipts(&app, event).await, books(&app, organisation, event));
    let rows = all_rows(&app).await;
    let queues_before = queues(&app, event).await;

    let said = app.says(&["archive", "event", &event.to_string(), "--json"]);

    assert!(said.contains("\"state\":\"archived\""), "{said}");
    let packed = all_rows(&app).await;
    assert_eq!(differ(&rows, &packed), PACKED, "the others stay as they are");
    assert_eq!(app.count("SELECT count(DISTINCT queue_id) FROM job").await, 2, "the neighbour's");
    assert_eq!(receipts(&app, event).await, receipts_before);
    assert_eq!(books(&app, organisation, event), books_before);
    assert_eq!(queues(&app, event).await, queues_before);
    assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
    let verified = photogate(&app.config, &["ledger", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    let said = stderr(&verified);
    assert!(said.contains("is intact: 11 photos") && said.contains("not signed"), "{said}");
    let listed = app.says(&["archive", "list"]);
    assert!(listed.contains("archived"), "{listed}");

    app.says(&["archive", "restore", &event.to_string()]);

    assert_eq!(differ(&rows, &all_rows(&app).await), [""; 0], "every row is as before");
    assert_eq!(receipts(&app, event).await, receipts_before);
    assert_eq!(receipts(&app, neighbour).await.len(), 11);
    // It goes on as any other event.
    app.queue_keys(event, PROCESSING, &["2024/new.jpg".to_owned()]).await;
    let hand = app.a_worker().await;
    let photo = hand.claim_one().await;
    assert!(hand.succeed(photo).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_archive_is_found_and_not_restored() {
    let mut app = App::new().await;
    app.config.archive_key = Some("5a".repeat(32));
    let (_, event) = an_old_event(&app).await;
    let name = event.to_string();
    let id = begin(&app, event).await.unwrap();
    assert_eq!(archivist(&app).go_on(id).await.unwrap(), State::Archived);
    let signature = async || archivist(&app).verify(id, &mut |_| {}).await.unwrap().signature;
    assert_eq!(signature().await, Signature::Good);
    let rows = all_rows(&app).await;
    let files = files(&app);
    assert_eq!(files.len(), 4, "photos, contents, a manifest and its signature: {files:?}");

    for file in &files {
        let whole = std::fs::read(file).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for bytes in [Some(changed), None] {
            match bytes {
                Some(bytes) => std::fs::write(file, bytes).unwrap(),
                None => std::fs::remove_file(file).unwrap(),
            }
            // The programs that are started here do not have the key.
            if file.to_string_lossy().ends_with(".sig") {
                assert!([Signature::Bad, Signature::None].contains(&signature().await));
                continue;
            }
            for command in [
                &["archive", "verify", &name][..],
                &["archive", "restore", &name],
                &["ledger", "verify"],
            ] {
                let output = photogate(&app.config, command);
                assert_eq!(
                    output.status.code(),
                    Some(3),
                    "{file:?} {command:?}: {}",
                    stderr(&output)
                );
                assert!(
                    (stderr(&output) + &stdout(&output)).contains("is damaged"),
                    "{}",
                    stderr(&output)
                );
            }
        }
        std::fs::write(file, whole).unwrap();
    }
    assert_eq!(differ(&rows, &all_rows(&app).await), [""; 0], "nothing was restored");
    // An erasure asks for the restore; the service does not write from a damaged archive either.
    let part = files.iter().find(|file| file.to_string_lossy().contains("part-000002")).unwrap();
    let whole = std::fs::read(part).unwrap();
    std::fs::remove_file(part).unwrap();
    app.set_face_search(event, false).await.unwrap();
    let (_, went) = archivist(&app).go_on_with_any().await.unwrap().unwrap();
    went.expect_err("it is damaged");
    assert!(archivist(&app).go_on_with_any().await.unwrap().is_none(), "it rests: others go on");
    let said = archive::of_event(&mut *app.db().await, event).await.unwrap().unwrap();
    assert!(said.state == State::Restoring && said.trouble.unwrap().contains("is missing"));
    std::fs::write(part, whole).unwrap();
    assert_eq!(app.says(&["archive", "verify", &name]).lines().count(), 1);
    // Another key: whoever has only the store cannot sign.
    app.config.archive_key = Some("5b".repeat(32));
    let verified = archivist(&app).verify(id, &mut |_| {}).await.unwrap();
    assert_eq!(verified.signature, Signature::Bad);
    // What the ledger says counts, too.
    app.config.archive_key = None;
    app.tamper("UPDATE ledger SET movement = 'refund' WHERE movement = 'commit' AND entry = 11")
        .await;
    let verified = archivist(&app).verify(id, &mut |_| {}).await.unwrap();
    assert!(verified.broken[0].contains("was processed in the archive"), "{verified:?}");
    let found = broken(&app).await;
    assert!(found.iter().any(|check| check.invariant == "outcomes_are_booked"), "{found:#?}");
    app.audited = false;
}

/// Nothing is deleted that does not add up, and people go on with their event.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_add_up_is_given_up() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let rows = all_rows(&app).await;
    app.tamper("UPDATE queue_settled SET committed = committed + 1").await;
    let id = begin(&app, event).await.unwrap();

    let error = archivist(&app).go_on(id).await.unwrap_err();

    assert!(error.to_string().contains("and the event has"), "{error}");
    app.tamper("UPDATE queue_settled SET committed = committed - 1").await;
    assert!(archive::of_event(&mut *app.db().await, event).await.unwrap().is_none());
    assert_eq!(differ(&rows, &all_rows(&app).await), [""; 0]);
    app.queue(event, "ok", 1).await;
}

/// Whatever was done last, the next one goes on, and everything is done once.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_leaves_what_the_next_one_finishes() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let rows = all_rows(&app).await;
    let before = receipts(&app, event).await;
    let id = begin(&app, event).await.unwrap();
    let mut steps = Vec::new();

    // Two of them make each step at the same time, and die. The books balance after each.
    while steps.last() != Some(&State::Archived) {
        let (one, other) = (archivist(&app), archivist(&app));
        let (one, other) = tokio::join!(one.step(id), other.step(id));
        steps.push(one.unwrap().max_by_progress(other.unwrap()));
        assert_eq!(broken(&app).await.len(), 0, "{steps:?}: {:#?}", broken(&app).await);
        assert_eq!(receipts(&app, event).await, before, "{steps:?}");
    }

    assert!(steps.contains(&State::Packing) && steps.contains(&State::Deleting), "{steps:?}");
    assert_eq!(app.count("SELECT count(*) FROM archive_part").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);
    let id = app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap();
    let mut state = State::Restoring;
    while state == State::Restoring {
        let (one, other) = (archivist(&app), archivist(&app));
        let (one, other) = tokio::join!(one.step(id), other.step(id));
        state = one.unwrap().max_by_progress(other.unwrap());
        assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
        assert_eq!(receipts(&app, event).await, before);
    }
    assert_eq!(state, State::Restored);
    assert_eq!(differ(&rows, &all_rows(&app).await), [""; 0]);
}

trait Progress {
    fn max_by_progress(self, other: Self) -> Self;
}

impl Progress for State {
    fn max_by_progress(self, other: Self) -> Self {
        let rank = |state| match state {
            Self::Packing => 0,
            Self::Deleting => 1,
            Self::Archived => 2,
            Self::Restoring => 3,
            Self::Restored => 4,
            Self::Stopped => 5,
            Self::GivingUp => 6,
            Self::GivenUp => 7,
        };
        if rank(self) > rank(other) { self } else { other }
    }
}

/// Connections are cut at any moment, and futures dropped.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_and_everything_is_done_once() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(700).await;
    app.queue(event, "ok", 650).await;
    let hand = app.a_worker().await;
    loop {
        let claimed = hand.claim(50).await;
        if claimed.is_empty() {
            break;
        }
        futures::future::join_all(claimed.into_iter().map(|photo| hand.succeed(photo))).await;
    }
    be_old(&app).await;
    let rows = all_rows(&app).await;
    let id = begin(&app, event).await.unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut killed = 0;

    for round in 0_u64.. {
        let state =
            archive::list(&mut *app.db().await, Which::default(), 1).await.unwrap()[0].state;
        if state == State::Archived {
            app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap();
        }
        if state == State::Restored {
            break;
        }
        let archivist = archivist(&app);
        // Each is given more time than the one before, so it comes to its end, late.
        let patience = Duration::from_millis(1 + round * 5);
        let step = tokio::time::timeout(patience, archivist.step(id));
        if round % 2 == 0 {
            killed += i64::from(!matches!(step.await, Ok(Ok(_))));
        } else {
            let (step, _) = tokio::join!(archivist.step(id), async {
                tokio::time::sleep(patience).await;
                app.count(cut).await
            });
            killed += i64::from(step.is_err());
        }
    }

    assert!(killed > 3, "it was interrupted {killed} times");
    assert_eq!(differ(&rows, &all_rows(&app).await), [""; 0]);
    let sums = "SELECT sum(jobs)::bigint FROM archive_part";
    assert_eq!(app.count(sums).await, 650, "each job was packed once");
}
