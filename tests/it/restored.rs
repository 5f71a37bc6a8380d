//! After a restore, workers of before may still run. They know jobs whose numbers are given again.

use crate::support::{App, photogate, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_before_a_restore_change_nothing() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 3).await;
    let (old, heir) = (app.a_worker().await, app.a_worker().await);
    let claimed = old.claim(2).await;

    // On a database that was not restored, it would only cost work.
    let unsure = photogate(&app.config, &["restored", "--actor", "anna"]);
    assert!(!unsure.status.success() && stderr(&unsure).contains("--yes"), "{}", stderr(&unsure));
    let done = photogate(&app.config, &["--json", "restored", "--yes", "--actor", "anna"]);
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["workers_ended"], 2, "{}", stdout(&done));
    assert_eq!(app.count("SELECT count(*) FROM in_flight WHERE worker_id = 0").await, 2);
    let why = "SELECT count(*) FROM attempt WHERE ended = 'handed_back' AND reason = 'restored'";
    assert_eq!(app.count(why).await, 2);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'workers.retire'";
    assert_eq!(app.count(audited).await, 1);

    for photo in claimed {
        assert!(!old.succeed(photo).await);
    }
    assert_eq!(app.credits(organisation).await, (7, 2, 0));
    let beat = "SELECT heartbeat($1, '5 min')::int::bigint";
    for hand in [&old, &heir] {
        let lives: i64 = sqlx::query_scalar(beat)
            .bind(hand.me.key())
            .fetch_one(&mut *app.db().await)
            .await
            .unwrap();
        assert_eq!(lives, 0, "it must begin anew");
    }

    // A worker of afterwards takes what is left, under the same reservations.
    let worker = app.start_worker();
    app.until_done(event).await;
    worker.drain().await;
    assert_eq!(app.credits(organisation).await, (6, 0, 3));
    let crashes = "SELECT count(*) FROM attempt WHERE ended IN ('worker_gone', 'crash')";
    assert_eq!(app.count(crashes).await, 0);
}
