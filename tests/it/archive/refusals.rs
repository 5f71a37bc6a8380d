//! What an archived event refuses, to whom, and why.

use std::path::PathBuf;

use photogate::{
    access::{Caller, Role},
    catalog::{
        archive::{self, State},
        erasures::FaceOf,
        search,
    },
    commands::NewErasure,
    queue::{enqueue, skips},
};
use reqwest::Method;
use serde_json::json;
use sqlx::Executor;

use super::{PROCESSING, an_old_event, archivist, begin, embedding, files, photo_named, restore};
use crate::support::{
    App, code_of, refused_for_want_of_privilege,
    site::{Site, Visitor, answered},
};

/// Nothing is queued or changed, and everybody is told why.
#[tokio::test(flavor = "multi_thread")]
async fn an_archived_event_refuses_what_would_change_it() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    let photo = photo_named(&app, event, "2024/Ä 5.jpg").await;
    let id = begin(&app, event).await.unwrap();
    // The same in each state, from the first one on.
    for state in [State::Packing, State::Archived] {
        if state == State::Archived {
            assert_eq!(archivist(&app).go_on(id).await.unwrap(), state);
        }
        let enqueued = |operation, dry_run| {
            let keys = ["2024/Ä 3.jpg", "x.jpg"];
            json!({ "operation": operation, "keys": keys, "dry_run": dry_run })
        };
        for (method, path, body) in [
            (Method::POST, format!("/v1/events/{event}/runs"), enqueued("photo_processing", false)),
            (Method::POST, format!("/v1/events/{event}/runs"), enqueued("both", false)),
            (Method::POST, format!("/v1/events/{event}/runs"), enqueued("ai_rotation", true)),
            (
                Method::POST,
                format!("/v1/events/{event}/schedules"),
                json!({ "operation": "photo_processing", "keys": ["y.jpg"],
                        "not_before": chrono::Utc::now() + chrono::TimeDelta::hours(1) }),
            ),
            (
                Method::POST,
                format!("/v1/events/{event}/retry"),
                json!({ "operation": "photo_processing" }),
            ),
            (Method::PUT, format!("/v1/photos/{photo}/bibs"), json!({ "numbers": ["5"] })),
        ] {
            let request = site.ask(method.clone(), &path, &organiser).json(&body);
            let (status, said) = answered(request).await;
            assert_eq!(
                said["code"], "event_archived",
                "{state:?} {method} {path}: {status} {said}"
            );
            assert_eq!(status.as_u16(), 409);
            let detail = said["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("photogate archive restore {event}")), "{detail}");
        }
        let db = &mut *app.db().await;
        let skipped = [photo_named(&app, event, "2024/skipped.jpg").await];
        let refused = skips::restore(db, event, PROCESSING, &skipped, "anna").await.unwrap_err();
        assert!(refused.to_string().contains("is archived"), "{refused}");
        assert!(begin(&app, event).await.unwrap_err().to_string().contains("already"));
    }
    let (_, seen) = site.get(&format!("/v1/events/{event}"), &organiser).await;
    assert!(seen["archived_at"].is_string(), "{seen}");
    assert_eq!(app.count("SELECT count(*) FROM photo WHERE key IN ('x.jpg', 'y.jpg')").await, 0);
    assert_eq!(restore(&app, event).await, State::Restored);
}

/// Those who come first win, and the others are told.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_and_an_archive_come_one_after_the_other() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let jobs = enqueue::jobs(&["new.jpg".to_owned()]).unwrap();
    let with = async |db: &mut sqlx::PgConnection| {
        enqueue::enqueue(db, event, PROCESSING, &jobs, "anna").await
    };

    // The archive has begun, and is not committed: the enqueue waits, and is refused.
    let mut tx = app.pool.begin().await.unwrap();
    sqlx::query("SELECT begin_archive($1, 'ops', NULL)")
        .bind(event.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    // A pipeline may have an older snapshot.
    let mut pipeline = app.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    pipeline.execute("SELECT count(*) FROM event").await.unwrap();
    let (queued, ()) = tokio::join!(async { with(&mut *app.db().await).await }, async {
        app.until_somebody_waits_for_a_lock().await;
        tx.commit().await.unwrap();
    });
    assert!(queued.unwrap_err().to_string().contains("is archived"));
    let late = with(&mut pipeline).await.unwrap_err();
    let enqueue::EnqueueError::Database(late) = late else { panic!("{late}") };
    assert_eq!(code_of(&late).as_deref(), Some("40001"), "{late}");
    drop(pipeline);
    assert_eq!(app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap().0, 1);

    // The enqueue has begun: the archive waits, and is refused.
    let mut tx = app.pool.begin().await.unwrap();
    with(&mut tx).await.unwrap();
    let (begun, ()) = tokio::join!(begin(&app, event), async {
        app.until_somebody_waits_for_a_lock().await;
        tx.commit().await.unwrap();
    });
    let begun = begun.unwrap_err().to_string();
    assert!(begun.contains("photos wait"), "{begun}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_idle_is_not_archived() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(3).await;
    let why = async || begin(&app, event).await.unwrap_err().to_string();
    assert!(why().await.contains("ever queued"));
    app.queue(event, "ok", 2).await;
    assert!(why().await.contains("photos wait"));
    let hand = app.a_worker().await;
    let claimed = hand.claim(2).await;
    assert!(why().await.contains("in progress"));
    hand.succeed_all(claimed).await;
    assert!(why().await.contains("take that back"));
    app.owner_runs("DELETE FROM photogate.undo").await;
    app.owner_runs("UPDATE photogate.event SET keep_findings_days = 3").await;
    assert!(why().await.contains("kept for 3 days"));
    app.owner_runs("UPDATE photogate.event SET keep_findings_days = NULL").await;
    app.owner_runs("INSERT INTO photogate.reconsideration (event_id, asked) SELECT event_id, 1 FROM photogate.event").await;
    assert!(why().await.contains("decided again"));
    app.owner_runs("UPDATE photogate.reconsideration SET answered = 1").await;
    // It is due if nothing has moved for so long.
    let caller = Caller::trusted("ops");
    let hour = chrono::TimeDelta::hours(1);
    let (past, future) = (chrono::Utc::now() - hour, chrono::Utc::now() + hour);
    assert_eq!(archive::due(&app.pool, past).await.unwrap(), []);
    let moved = app.commands().archive_event(&caller, event, Some(past)).await.unwrap_err();
    assert!(moved.to_string().contains("has moved since"), "{moved}");
    assert_eq!(archive::due(&app.pool, future).await.unwrap(), [event]);
    // Photos that somebody has uploaded, and that are not queued yet.
    app.owner_runs(
        "INSERT INTO photogate.upload (event_id, key, organisation_id, bytes, sha256, actor, at)
         SELECT event_id, 'new.jpg', organisation_id, 1, sha256(''), 'anna', now() + interval '2 hours'
         FROM photogate.event",
    )
    .await;
    assert_eq!(archive::due(&app.pool, future).await.unwrap(), []);
    app.owner_runs("DELETE FROM photogate.upload").await;
    // Of a year that is not over, nothing is.
    assert_eq!(archivist(&app).archive_a_due_one(12, "System").await.unwrap(), None);
    app.owner_runs(
        "SET session_replication_role = replica; SET search_path = photogate;
         UPDATE event SET created_at = created_at - interval '2 years';
         UPDATE run SET created_at = created_at - interval '2 years';
         UPDATE queue_head SET claimed_at = claimed_at - interval '2 years';
         UPDATE timeline SET at = at - interval '2 years';
         UPDATE usage SET first_claimed_at = first_claimed_at - interval '2 years',
             last_claimed_at = last_claimed_at - interval '2 years'",
    )
    .await;
    let archived = archivist(&app).archive_a_due_one(12, "System").await.unwrap();
    assert_eq!(archived, Some(event));
    assert_eq!(archive::of_event(&mut *app.db().await, event).await.unwrap().unwrap().photos, 2);
    let by = "SELECT count(*) FROM audit_log WHERE actor = 'System' \
              AND action IN ('event.archive', 'event.archived')";
    assert_eq!(app.count(by).await, 2);
}

/// Whoever asks to be erased is not in the archive either, in the end.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_the_archive() {
    let app = App::new().await;
    let (_, person) = an_old_event(&app).await;
    let (_, deleted) = an_old_event(&app).await;
    let (_, switched_off) = an_old_event(&app).await;
    let faces: Vec<_> = search::by_face(&mut *app.db().await, person, &embedding(0), 0.9)
        .await
        .unwrap()
        .into_iter()
        .map(|found| FaceOf { photo: found.photo, face: found.face })
        .collect();
    assert!(faces.len() > 3);
    for event in [person, deleted, switched_off] {
        let id = begin(&app, event).await.unwrap();
        archivist(&app).go_on(id).await.unwrap();
    }
    let caller = Caller::trusted("anna");
    let anna = NewErasure { faces, bib: Some("12".into()) };

    app.commands().erase_person(&caller, person, &anna).await.unwrap();
    app.commands().delete_event(&caller, deleted).await.unwrap();
    app.set_face_search(switched_off, false).await.unwrap();
    while archivist(&app).go_on_with_any().await.unwrap().is_some() {}

    let db = &mut *app.db().await;
    assert_eq!(search::by_face(db, person, &embedding(0), 0.9).await.unwrap().len(), 0);
    assert!(search::by_face(db, person, &embedding(1), 0.9).await.unwrap().len() > 3);
    assert_eq!(search::by_bib(db, person, "12", false).await.unwrap().len(), 0);
    assert_eq!(search::by_bib(db, person, "77", false).await.unwrap().len(), 1, "a correction");
    let left = "SELECT count(*) FROM number_correction c JOIN photo USING (photo_id) \
                WHERE '12' = ANY (c.numbers) AND event_id = (SELECT min(event_id) FROM event)";
    assert_eq!(app.count(left).await, 0);
    while photogate::catalog::events::forget(db, deleted).await.unwrap() > 0 {}
    photogate::catalog::events::forget(db, switched_off).await.unwrap();
    let embeddings = "SELECT count(*) FROM face JOIN photo USING (photo_id) JOIN event USING (event_id) \
                      WHERE embedding IS NOT NULL AND NOT face_search";
    assert_eq!(app.count(embeddings).await, 0);
    let of_deleted = "SELECT count(*) FROM face JOIN photo USING (photo_id) JOIN event USING (event_id) \
                      WHERE deleted_at IS NOT NULL";
    assert_eq!(app.count(of_deleted).await, 0);
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state <> 'restored'").await, 0);
    // The files are not deleted yet: a backup of the database may be older than the restore.
    assert_eq!(archivist(&app).clear().await.unwrap(), 0);
    app.owner_runs("UPDATE photogate.archive SET ended_at = ended_at - interval '31 days'").await;
    assert_eq!(archivist(&app).clear().await.unwrap(), 3);
    assert_eq!(files(&app), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_run_photogate_archive_and_restore() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let (other, _) = app.an_event_with(0).await;
    for (role, of) in [
        (Role::Organiser, Some(organisation)),
        (Role::Operator, None),
        (Role::Pipeline, Some(other)),
        (Role::Finance, None),
    ] {
        let caller = Caller { actor: "eve".into(), role, organisation: of };
        assert!(app.commands().archive_event(&caller, event, None).await.is_err());
        assert!(app.commands().restore_event(&caller, event).await.is_err());
    }
    let id = begin(&app, event).await.unwrap();
    archivist(&app).step(id).await.unwrap();
    let mut tx = app.pool.begin().await.unwrap();
    for (whose, rows) in [(organisation, 1), (other, 0)] {
        let set = format!(
            "RESET ROLE; SET LOCAL ROLE photogate_organisation; \
             SET LOCAL photogate.organisation = '{whose}'"
        );
        tx.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
        for table in ["archive", "archive_part", "archive_jobs"] {
            let count = format!("SELECT count(*) FROM {table}");
            let found: i64 =
                sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(found.min(1), rows, "{table} of {whose}");
        }
    }
    tx.rollback().await.unwrap();
    // Workers read no findings, and nobody of an organisation makes a step.
    for role in ["photogate_worker", "photogate_organisation", "photogate_pipeline"] {
        for call in [
            "SELECT archive_page(1, '', 1)",
            "SELECT begin_archive(1, 'x', NULL)",
            "SELECT begin_restore(1, 'x')",
            "SELECT restore_lines(1, 1, 0, '{}', '1 s')",
            "SELECT delete_archived(1, 1, '1 s')",
            "DELETE FROM archive",
        ] {
            let mut db = app.as_owner().await;
            let set = format!("SET ROLE {role}");
            db.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
            refused_for_want_of_privilege(&mut db, call).await;
        }
    }
    // None of the functions, but for those that only say that it is archived.
    let callable = "SELECT count(*) FROM pg_proc p,
             unnest(ARRAY['photogate_worker', 'photogate_organisation', 'photogate_pipeline']) r
         WHERE p.pronamespace = 'photogate'::regnamespace AND p.proname ~ 'archive|give_up|end_restore|begin_restore|restore_lines'
             AND p.proname NOT IN ('is_archived', 'refuse_archived', 'refuse_given_up')
             AND has_function_privilege(r, p.oid, 'EXECUTE')";
    assert_eq!(app.count(callable).await, 0);
    assert_eq!(restore(&app, event).await, State::Stopped, "nothing was deleted yet");
    assert_eq!(app.count("SELECT count(*) FROM archive_jobs").await, 0);
}

/// The page says it, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_an_archived_event_says_so() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let site = Site::of(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let path = format!("/events/{event}");
    assert!(!staff.text(&site, &path).await.contains("archived on"));
    let id = begin(&app, event).await.unwrap();
    archivist(&app).go_on(id).await.unwrap();

    let page = staff.text(&site, &path).await;

    assert!(page.contains("archived on"), "{page}");
    assert!(page.contains(&format!("photogate archive restore {event}")), "{page}");
    let said = app.says(&["events", "show", &event.to_string()]);
    assert!(said.contains("Archived on"), "{said}");
    let photo = photo_named(&app, event, "2024/Ä 1.jpg").await;
    let receipt = staff.text(&site, &format!("/receipts/{photo}")).await;
    assert!(receipt.contains("2024/Ä 1.jpg"), "{receipt}");
}
