//! Several at once: services that archive the same event, a process that comes late, and people who
//! retry many queues.

use photogate::{access::Role, catalog::archive::Archivist};
use serde_json::json;
use sqlx::{Connection, Executor};

use super::{PROCESSING, an_old_event, archivist, begin, broken};
use crate::support::{App, site::Site, stderr};

/// Two services have the same events due. Each event is archived once, and nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_services_archive_the_same_event_once() {
    let app = App::new().await;
    let (_, _) = an_old_event(&app).await;
    let (_, _) = an_old_event(&app).await;
    app.owner_runs(
        "SET session_replication_role = replica; SET search_path = photogate;
         UPDATE event SET created_at = created_at - interval '2 years';
         UPDATE run SET created_at = created_at - interval '2 years';
         UPDATE queue_head SET claimed_at = claimed_at - interval '2 years';
         UPDATE timeline SET at = at - interval '2 years';
         UPDATE reconsideration SET began_at = began_at - interval '2 years',
             ended_at = ended_at - interval '2 years';
         UPDATE usage SET first_claimed_at = first_claimed_at - interval '2 years',
             last_claimed_at = last_claimed_at - interval '2 years',
             first_refunded_at = first_refunded_at - interval '2 years',
             last_refunded_at = last_refunded_at - interval '2 years'",
    )
    .await;
    let until_none_is_due = async |service: Archivist| {
        let mut archived = 0;
        while service.archive_a_due_one(12, "System").await.unwrap().is_some() {
            archived += 1;
        }
        // What the other one has begun and left.
        while service.go_on_with_any().await.unwrap().is_some() {}
        archived
    };

    let (one, other) =
        tokio::join!(until_none_is_due(archivist(&app)), until_none_is_due(archivist(&app)));

    assert_eq!(one + other, 2, "each event is archived by one of them");
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state = 'archived'").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM archive").await, 2);
    assert_eq!(app.count("SELECT count(*) FROM archive_part").await, 4);
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'event.archived'";
    assert_eq!(app.count(audited).await, 2);
    assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
}

/// A process whose store has lost the parts gives the packing up; not if another one has sealed it
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_process_gives_up_only_what_is_still_packed() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let id = begin(&app, event).await.unwrap();
    while app.count("SELECT count(*) FROM archive WHERE stage = 'packed'").await == 0 {
        archivist(&app).step(id).await.unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let mut config = app.config.clone();
    config.store_url = url::Url::from_directory_path(elsewhere.path()).unwrap().to_string();
    let late = Archivist::open(&config, app.pool.clone()).unwrap();
    let mut owner = app.as_owner().await;
    let mut tx = owner.begin().await.unwrap();
    tx.execute("SELECT 1 FROM event FOR NO KEY UPDATE").await.unwrap();

    let late = tokio::spawn(async move { late.step(id).await });
    app.until_somebody_waits_for_a_lock().await;
    let sealed = sqlx::query_scalar::<_, bool>("SELECT seal_archive($1, sha256('manifest'))");
    assert!(sealed.bind(id.0).fetch_one(&mut *tx).await.unwrap());
    tx.commit().await.unwrap();

    let error = late.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    let state = "SELECT count(*) FROM archive WHERE state = 'deleting' AND restored_by IS NULL";
    assert_eq!(app.count(state).await, 1, "it stays sealed");
    // What is still packed, it gives up: people go on with their event.
    let (_, other) = an_old_event(&app).await;
    let id = begin(&app, other).await.unwrap();
    let packed = "SELECT count(*) FROM archive WHERE archive_id = 2 AND stage = 'packed'";
    while app.count(packed).await == 0 {
        archivist(&app).step(id).await.unwrap();
    }
    let late = Archivist::open(&config, app.pool.clone()).unwrap();
    late.step(id).await.unwrap_err();
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state = 'stopped'").await, 1);
    app.queue(other, "ok", 1).await;
}

/// One of the events is being packed: the others are retried, and it is said which was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_retry_leaves_archived_events_out() {
    let app = App::new().await;
    let mut events = Vec::new();
    for _ in 0..3 {
        let (_, event) = app.an_event_with(20).await;
        app.queue(event, "ok", 2).await;
        events.push(event);
    }
    let hand = app.a_worker().await;
    let mut failed = 0;
    while failed < 6 {
        let claimed = hand.claim(6 - failed).await;
        failed += claimed.len();
        hand.fail_all(claimed).await;
    }
    super::be_old(&app).await;
    let packed = events[1];
    begin(&app, packed).await.unwrap();
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Staff, None).await;
    let mut queues = Vec::new();
    for event in &events {
        let queue =
            sqlx::query_scalar("SELECT queue_id FROM queue WHERE event_id = $1 AND operation = $2");
        let queue: i64 = queue
            .bind(event.0)
            .bind(PROCESSING)
            .fetch_one(&mut app.as_owner().await)
            .await
            .unwrap();
        queues.push(queue);
    }
    let retry = |dry_run| json!({ "queues": queues, "act": "retry", "dry_run": dry_run });

    for (dry_run, jobs) in [(true, 6), (false, 10)] {
        let (status, done) = site.post("/v1/queues/bulk", &token, retry(dry_run)).await;
        assert_eq!(status.as_u16(), 200, "{done}");
        assert_eq!((&done["queues"], &done["photos"]), (&json!(2), &json!(4)), "{done}");
        let left_out = done["left_out"].as_array().unwrap();
        assert_eq!(left_out.len(), 1, "{done}");
        assert_eq!(left_out[0]["queue"], queues[1]);
        assert_eq!(left_out[0]["event"], json!(packed));
        assert!(left_out[0]["why"].as_str().unwrap().contains("is archived"), "{done}");
        assert_eq!(app.count("SELECT count(*) FROM job").await, jobs);
    }
    let queue = queues[1].to_string();
    let output = crate::support::photogate(&app.config, &["queues", "retry", &queue]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("is left out"), "{}", stderr(&output));
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state = 'packing'").await, 1);
}
