//! An archive that is lost or damaged for ever is given up: erasures do not wait for it for ever, and
//! what was paid stays in the books.

use photogate::{
    access::{Caller, Role},
    catalog::{archive::State, events},
    ids::EventId,
};
use reqwest::StatusCode;

use super::{an_old_event, archivist, begin, books, broken, files, photo_named, receipts};
use crate::support::{
    App, photogate,
    site::{Site, Visitor},
    stderr, stdout,
};

/// Gives it up on the command line: the exit code, and what was said.
fn give_up(app: &App, event: &str, more: &[&str]) -> (Option<i32>, String) {
    let of = ["archive", "give-up", event, "--reason", "disk 3 burnt", "--actor", "ops"];
    let output = photogate(&app.config, &[&of[..], more].concat());
    (output.status.code(), stderr(&output) + &stdout(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_archive_is_given_up_and_its_books_stay() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let (_, neighbour) = an_old_event(&app).await;
    let name = event.to_string();
    let of_neighbour = receipts(&app, neighbour).await;
    let before = books(&app, organisation, event);
    let photo = photo_named(&app, event, "2024/Ä 5.jpg").await;
    let (code, said) = give_up(&app, &name, &["--yes"]);
    assert!(code == Some(1) && said.contains("is not archived"), "{said}");
    let id = begin(&app, event).await.unwrap();
    let (code, said) = give_up(&app, &name, &["--yes"]);
    assert!(code == Some(1) && said.contains("nothing of event"), "{said}");
    // The program has ended; its connection may still have the row for a moment.
    while archivist(&app).go_on(id).await.unwrap() != State::Archived {}
    let (code, said) = give_up(&app, &name, &["--yes"]);
    assert!(code == Some(1) && said.contains("it is intact"), "{said}");
    // What disagrees with the ledger is evidence.
    let add = "UPDATE photogate.archive_queue SET committed = committed + 1 WHERE archive_id = 1 AND jobs > 0";
    app.owner_runs(add).await;
    let (code, said) = give_up(&app, &name, &["--yes"]);
    assert!(code == Some(1) && said.contains("keep them as evidence"), "{said}");
    let take = "UPDATE photogate.archive_queue SET committed = committed - 1 WHERE archive_id = 1 AND jobs > 0";
    app.owner_runs(take).await;
    // A directory that is not mounted is no store that has lost its files.
    let empty = tempfile::tempdir().unwrap();
    let elsewhere = format!("file://{}", empty.path().display());
    let (code, said) = give_up(&app, &name, &["--yes", "--store-url", &elsewhere]);
    assert!(code == Some(1) && said.contains("has no file at all"), "{said}");
    // A part is lost, and people ask to be erased: they wait.
    let part = files(&app).into_iter().find(|file| file.to_string_lossy().contains("part-000002"));
    let part = part.unwrap();
    std::fs::remove_file(&part).unwrap();
    app.set_face_search(event, false).await.unwrap();
    archivist(&app).go_on_with_any().await.unwrap().unwrap().1.expect_err("it is damaged");
    let (code, said) = give_up(&app, &name, &[]);
    assert!(code == Some(1) && said.contains("is missing") && said.contains("--yes"), "{said}");
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state = 'restoring'").await, 1);

    let (code, said) = give_up(&app, &name, &["--yes"]);

    assert!(code == Some(0) && said.contains("given_up"), "{said}");
    let again = give_up(&app, &name, &["--yes"]);
    assert!(again.0 == Some(0) && again.1.contains("given_up"), "{}", again.1);
    assert_eq!(files(&app).len(), 0, "nothing is left in the store");
    assert_eq!(app.count("SELECT count(DISTINCT queue_id) FROM job").await, 2, "the neighbour's");
    // What somebody who was late has written is deleted a day later.
    let late = part.parent().unwrap();
    std::fs::create_dir_all(late).unwrap();
    std::fs::write(late.join("part-000009.json.zst"), "late").unwrap();
    assert_eq!(archivist(&app).clear().await.unwrap(), 0);
    let a_day = "UPDATE photogate.archive SET ended_at = ended_at - interval '2 days'
                 WHERE state = 'given_up'";
    app.owner_runs(a_day).await;
    assert_eq!(archivist(&app).clear().await.unwrap(), 1);
    assert_eq!(files(&app).len(), 0);
    // The erasure is done: nothing is left that it waits for.
    while events::forget(&mut *app.db().await, event).await.unwrap() > 0 {}
    assert_eq!(app.count("SELECT count(*) FROM event WHERE forgets IS NOT NULL").await, 0);
    let audited = "SELECT count(*) FROM audit_log WHERE actor = 'ops' \
                   AND action IN ('event.give_up', 'event.given_up')";
    assert_eq!(app.count(audited).await, 2, "each once");
    // The books are as they were, and each can be checked.
    assert_eq!(books(&app, organisation, event), before);
    assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
    let verified = photogate(&app.config, &["ledger", "verify"]);
    assert!(verified.status.success(), "{}", stderr(&verified));
    let said = stderr(&verified);
    assert!(said.contains("ops gave archive 1 of event") && said.contains("All links"), "{said}");
    assert_eq!(receipts(&app, neighbour).await, of_neighbour);
    // Nobody is told that there was nothing, or that it could be restored.
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    for path in [
        format!("/v1/photos/{photo}/receipt"),
        format!("/v1/photos/{photo}/why"),
        format!("/v1/events/{event}/photos"),
        format!("/v1/events/{event}/search/bib?number=12"),
    ] {
        let (status, said) = site.get(&path, &organiser).await;
        assert_eq!(status, StatusCode::GONE, "{path} {said}");
        assert_eq!(said["code"], "details_lost", "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains("ops gave its archive up on"), "{detail}");
    }
    let retry = serde_json::json!({ "operation": "photo_processing" });
    let retry = site.post(&format!("/v1/events/{event}/retry"), &organiser, retry).await;
    assert_eq!(retry.1["code"], "details_lost", "{}", retry.1);
    for command in [&["archive", "restore", &name][..], &["archive", "verify", &name]] {
        let output = photogate(&app.config, command);
        assert!(!output.status.success(), "{command:?}");
        assert!(stderr(&output).contains("gave its archive up"), "{}", stderr(&output));
    }
    assert!(app.says(&["events", "show", &name]).contains("ops gave its archive up"));
    app.a_person("anna@photogate.example", Role::Organiser, Some(organisation)).await;
    let anna = Visitor::logged_in(&site, "anna@photogate.example").await;
    let page = anna.text(&site, &format!("/events/{event}")).await;
    assert!(page.contains("were lost") && page.contains("ops gave its archive up"), "{page}");
    let receipt = anna.text(&site, &format!("/receipts/{photo}")).await;
    assert!(receipt.contains("ops gave its archive up on"), "{receipt}");
    let export = photogate(&app.config, &["export", "labels"]);
    assert!(stderr(&export).contains("archived events are left out: 1 ("), "{}", stderr(&export));
    an_erasure_is_still_noted(&app, &site, &anna, event).await;
    // Its event can still be deleted, and is not archived again.
    assert!(begin(&app, event).await.is_err());
    app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap();
    while events::forget(&mut *app.db().await, event).await.unwrap() > 0 {}
    assert_eq!(app.count("SELECT count(*) FROM event WHERE forgets IS NOT NULL").await, 0);
    assert!(archivist(&app).go_on_with_any().await.unwrap().is_none(), "nothing is to be done");
}

/// Whoever asks to be erased is told what is lost, and the number is noted for photos that may still come.
async fn an_erasure_is_still_noted(app: &App, site: &Site, anna: &Visitor, event: EventId) {
    let key = anna.form_key(site).await;
    let ask = anna.client.post(site.url(&format!("/events/{event}/erase")));
    let asked = ask.form(&[("bib", "12"), ("form_key", key.as_str())]).send().await.unwrap();
    let asked = asked.text().await.unwrap();
    assert!(asked.contains("nothing of it is left to delete"), "{asked}");
    let sure = [("bib", "12"), ("sure", "true")];
    assert_eq!(anna.post(site, &format!("/events/{event}/erase"), &sure).await, 303);
    assert_eq!(app.count("SELECT count(*) FROM erased_bib WHERE number = '12'").await, 1);
}

/// Whoever gives up, restores or verifies comes before or after, and whoever dies is followed.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_meets_those_who_restore() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let name = event.to_string();
    let id = begin(&app, event).await.unwrap();
    archivist(&app).go_on(id).await.unwrap();
    app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap();
    // Half of it is restored when the rest is lost.
    while app.count("SELECT restored_part::bigint FROM archive").await < 2 {
        archivist(&app).step(id).await.unwrap();
    }
    assert!(app.count("SELECT count(*) FROM job").await > 0);
    for file in files(&app) {
        std::fs::remove_file(file).unwrap();
    }
    let gives_up = sqlx::query("SELECT begin_give_up($1, 'ops', 'lost')").bind(event.0);
    let refused = gives_up.execute(&app.pool).await.unwrap_err().to_string();
    assert!(refused.contains("no damage"), "{refused}");
    archivist(&app).verify(id, &mut |_| {}).await.unwrap();
    // Somebody's restore waits for the event, and finds it given up.
    let mut tx = app.pool.begin().await.unwrap();
    sqlx::query("SELECT begin_give_up($1, 'ops', 'lost')")
        .bind(event.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    let late = app.pool.clone();
    let restoring = tokio::spawn(async move {
        let line = "SELECT restore_lines($1, 2, 0, '{}', '1 s')";
        sqlx::query_scalar::<_, bool>(line).bind(id.0).fetch_one(&late).await
    });
    app.until_somebody_waits_for_a_lock().await;
    tx.commit().await.unwrap();
    assert!(!restoring.await.unwrap().unwrap(), "it writes nothing");
    // A restore that comes later does nothing, also by an erasure.
    assert!(app.commands().restore_event(&Caller::trusted("ops"), event).await.is_err());
    app.set_face_search(event, false).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE state = 'giving_up'").await, 1);
    // Each step is made by two at once, who die; the books balance after each.
    assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
    while app.count("SELECT count(*) FROM archive WHERE state = 'giving_up'").await > 0 {
        let (one, other) = (archivist(&app), archivist(&app));
        let (one, other) = tokio::join!(one.step(id), other.step(id));
        one.unwrap();
        other.unwrap();
        assert_eq!(broken(&app).await.len(), 0, "{:#?}", broken(&app).await);
    }
    assert_eq!(app.count("SELECT count(*) FROM job").await, 0);
    assert_eq!(
        app.count("SELECT count(*) FROM audit_log WHERE action = 'event.given_up'").await,
        1
    );
    // What a late process says does not come back.
    let late = sqlx::query("SELECT leave_archive($1, 'late trouble', '1 h')").bind(id.0);
    late.execute(&app.pool).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM archive WHERE trouble IS NOT NULL").await, 0);
    let (code, said) = give_up(&app, &name, &["--yes"]);
    assert!(code == Some(0), "{said}");
}
