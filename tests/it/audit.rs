//! The audit log: what it has, and that nobody changes it unseen.

use futures::future::join_all;
use photogate::{
    access::{Caller, Role, audit_log},
    commands::NewEvent,
    ids::Operation,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    photos::{samples, work_on},
    support::{
        App, code_of, refused_for_want_of_privilege,
        site::{Site, answered},
    },
};

/// Two organisations with three entries each, and one of nobody.
async fn an_app_with_a_log() -> App {
    let app = App::new().await;
    let commands = app.commands();
    for actor in ["anna@club.example", "Zoë \"Z\" O'Neill \\ \u{1}\u{1f} 🏃"] {
        let organisation = app.an_organisation_with(1).await;
        let caller = Caller::trusted(actor);
        for name in ["one", "two\nlines", "três"] {
            commands.create_event(&caller, &NewEvent::new(name, organisation)).await.unwrap();
        }
    }
    let caller = Caller::trusted("staff@photogate.example");
    commands.confirm_clock(&caller).await.unwrap();
    app
}

async fn verify(app: &App) -> Vec<audit_log::Verified> {
    audit_log::verify(&mut *app.db().await, None, |_| ()).await.unwrap()
}

#[tokio::test]
async fn every_entry_is_sealed() {
    let app = an_app_with_a_log().await;

    let verified = verify(&app).await;

    let entries: Vec<_> =
        verified.iter().map(|one| (one.organisation.is_some(), one.entries)).collect();
    assert_eq!(entries, [(false, 1), (true, 3), (true, 3)]);
    assert!(verified.iter().all(|one| one.broken.is_none()), "{verified:#?}");
}

#[tokio::test]
async fn whatever_is_changed_behind_its_back_is_found() {
    for (change, words) in [
        ("UPDATE audit_log SET actor = 'eve' WHERE organisation_id = 2 AND link = 2", "entry 2"),
        ("UPDATE audit_log SET subject = 'event 9' WHERE organisation_id = 2 AND link = 1", "1"),
        (
            "UPDATE audit_log SET action = 'event.delete' WHERE organisation_id = 2 AND link = 1",
            "1",
        ),
        ("UPDATE audit_log SET detail = '{}' WHERE organisation_id = 2 AND link = 3", "entry 3"),
        ("UPDATE audit_log SET at = now() WHERE organisation_id = 2 AND link = 3", "entry 3"),
        ("UPDATE audit_log SET hash = sha256('x') WHERE organisation_id = 2 AND link = 2", "2"),
        ("DELETE FROM audit_log WHERE organisation_id = 2 AND link = 2", "entry 2 is missing"),
        ("DELETE FROM audit_log WHERE organisation_id = 2 AND link = 3", "ends at 2"),
        ("DELETE FROM audit_log WHERE organisation_id = 2", "ends at 0"),
        ("DELETE FROM audit_chain WHERE chain = 2", "should end at entry 0"),
        ("UPDATE audit_chain SET links = 2 WHERE chain = 2", "should end at entry 2"),
        ("UPDATE audit_log SET organisation_id = 1 WHERE organisation_id = 2 AND link = 3", ""),
    ] {
        let app = an_app_with_a_log().await;
        if change.contains("organisation_id = 1 WHERE") {
            // Its number in the other chain must be free.
            app.tamper("DELETE FROM audit_log WHERE organisation_id = 1 AND link = 3").await;
        }
        app.tamper(change).await;

        let verified = verify(&app).await;

        let broken: Vec<_> = verified.iter().filter_map(|one| one.broken.as_deref()).collect();
        assert!(broken.iter().any(|broken| broken.contains(words)), "{change}: {broken:?}");
    }
}

#[tokio::test]
async fn nobody_changes_the_log_not_even_its_owner() {
    let app = an_app_with_a_log().await;
    let mut db = app.db().await;
    for statement in [
        "UPDATE audit_log SET actor = 'eve'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_chain SET links = 0",
        "INSERT INTO audit_log (actor, action, subject, link, hash) \
         VALUES ('eve', 'x', 'y', 9, sha256('x'))",
    ] {
        refused_for_want_of_privilege(&mut db, statement).await;
    }
    for statement in ["UPDATE audit_log SET actor = 'eve'", "DELETE FROM audit_log"] {
        let refused = sqlx::query(statement).execute(&mut app.as_owner().await).await.unwrap_err();
        assert_eq!(code_of(&refused).as_deref(), Some("PG005"), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_stand_one_after_the_other() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    let (commands, caller) = (app.commands(), Caller::trusted("anna@club.example"));
    let new = NewEvent::new("Gala", organisation);

    let made = join_all((0..20).map(|_| commands.create_event(&caller, &new))).await;

    assert!(made.iter().all(Result::is_ok));
    let verified = verify(&app).await;
    assert_eq!((verified[0].entries, &verified[0].broken), (20, &None));
}

/// A face is biometric data: who looked for one is in the log, and no pipeline looks for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_for_a_face_is_in_the_log() {
    let app = App::new().await;
    let store = samples(&app);
    let (organisation, event) = app.a_gala_with(10).await;
    app.set_face_search(event, true).await.unwrap();
    work_on(&app, event, Operation::PhotoProcessing, &["gala/DSC_0001.jpg"]).await;
    let site = Site::of(&app).await;
    let selfie = std::fs::read(store.join("gala/DSC_0001.jpg")).unwrap();
    let path = format!("/v1/events/{event}/search/selfie");
    let search = async |role| {
        let token = app.a_token(role, Some(organisation)).await;
        let request = site.ask(Method::POST, &path, &token).body(selfie.clone());
        answered(request).await.0.as_u16()
    };

    assert_eq!(search(Role::Pipeline).await, 403);
    assert_eq!(search(Role::Organiser).await, 200);

    let log = audit_log::list(&mut *app.db().await, Some(organisation), None, 10).await.unwrap();
    let searches: Vec<_> =
        log.iter().filter(|entry| entry.action == "photos.search_face").collect();
    assert_eq!(searches.len(), 1, "{log:#?}");
    assert_eq!(searches[0].subject, format!("event {event}"));
    assert_eq!(searches[0].detail["found"], json!(1));
}
