//! Whoever reads an archived event is told that it is archived: nothing looks as if it were empty.

use photogate::{
    access::{Caller, Role},
    catalog::{archive::State, finders::FinderAccess, photos, quality, search},
    commands::FinderChange,
    ids::{EventId, RunId},
    ledger::{history, refunds},
    queue::failures,
};
use reqwest::StatusCode;
use sqlx::PgConnection;

use super::{an_old_event, archivist, begin, photo_named};
use crate::support::{
    App, photogate,
    site::{Site, Visitor},
    stderr,
};

/// Each reader of what is packed: before it is packed, and afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_an_archived_event_is_told_so() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let (other, neighbour) = an_old_event(&app).await;
    let site = Site::of(&app).await;
    let stranger = app.a_token(Role::Organiser, Some(other)).await;
    let since = chrono::DateTime::UNIX_EPOCH;
    let of_all = refunds::Filter { since, until: None, organisation: None };
    let organiser = app.a_token(Role::Organiser, Some(organisation)).await;
    let staff = app.a_token(Role::Staff, None).await;
    let photo = photo_named(&app, event, "2024/Ä 5.jpg").await;
    let run = app.count("SELECT min(run_id) FROM run").await;
    let of = |event| {
        [
            format!("/v1/events/{event}/photos"),
            format!("/v1/events/{event}/search/bib?number=12"),
            format!("/v1/events/{event}/quality"),
            format!("/v1/failures?event={event}"),
        ]
    };
    let of_photo = [format!("/v1/photos/{photo}"), format!("/v1/runs/{run}/photos")];
    let paths = || of(event).into_iter().chain(of_photo.clone());
    let name = event.to_string();
    let commands = [
        &["search", "bib", &name, "12"][..],
        &["events", "quality", &name],
        &["jobs", "failures", &name],
        &["export", "labels", "--event", &name],
    ];
    let id = begin(&app, event).await.unwrap();

    // While it is packed, all of it is here.
    for path in paths() {
        assert_eq!(site.get(&path, &organiser).await.0, StatusCode::OK, "{path}");
    }
    for command in commands {
        assert!(photogate(&app.config, command).status.success(), "{command:?}");
    }

    // From the first row on that is deleted, until the last one is back.
    while archivist(&app).step(id).await.unwrap() != State::Deleting {}
    for state in [State::Deleting, State::Archived, State::Restoring] {
        if state == State::Archived {
            while archivist(&app).step(id).await.unwrap() != state {}
        } else if state == State::Restoring {
            app.commands().restore_event(&Caller::trusted("ops"), event).await.unwrap();
        }
        for path in paths() {
            let (status, said) = site.get(&path, &organiser).await;
            assert_eq!(said["code"], "event_archived", "{state:?} {path}: {status} {said}");
            assert_eq!(status, StatusCode::CONFLICT);
            let detail = said["detail"].as_str().unwrap();
            let today = chrono::Utc::now().format("%Y-%m-%d").to_string();
            assert!(detail.contains(&format!("photogate archive restore {event}")), "{detail}");
            assert!(detail.contains(&today), "since when: {detail}");
        }
        let (_, why) = site.get(&format!("/v1/photos/{photo}/why"), &organiser).await;
        assert_eq!(why["chain"][0]["code"], "archived", "{state:?} {why}");
        for command in commands {
            let output = photogate(&app.config, command);
            assert!(!output.status.success(), "{state:?} {command:?}");
            assert!(stderr(&output).contains("is archived"), "{command:?}: {}", stderr(&output));
        }
        // Another organisation learns nothing: as if there were no such event.
        for path in paths() {
            let (status, said) = site.get(&path, &stranger).await;
            assert!(!said.to_string().contains("archive"), "{path}: {status} {said}");
        }
        let filter = refunds::Filter { organisation: Some(other), ..of_all };
        for only in [
            refunds::Only { event: Some(event), ..Default::default() },
            refunds::Only { run: Some(RunId(run)), ..Default::default() },
        ] {
            let found = refunds::newest(&mut *app.db().await, filter, only, 9).await.unwrap();
            assert_eq!(found.len(), 0, "{only:?}");
        }
        // Others go on.
        for path in of(neighbour) {
            assert_eq!(site.get(&path, &staff).await.0, StatusCode::OK, "{path}");
        }
    }
    let export = photogate(&app.config, &["export", "labels"]);
    assert!(stderr(&export).contains("archived events are left out: 1 ("), "{}", stderr(&export));
    while archivist(&app).step(id).await.unwrap() != State::Restored {}
    for path in paths() {
        assert_eq!(site.get(&path, &organiser).await.0, StatusCode::OK, "{path}");
    }
}

/// Reads one of an event's lists. `None`: there are no more.
async fn read(
    db: &mut PgConnection,
    list: usize,
    event: EventId,
    run: RunId,
) -> Option<sqlx::Result<()>> {
    let since = chrono::DateTime::UNIX_EPOCH;
    let refunds = refunds::Filter { since, until: None, organisation: None };
    let of_event = refunds::Only { event: Some(event), ..Default::default() };
    let of_run = refunds::Only { run: Some(run), ..Default::default() };
    let which = failures::Which { event: Some(event), ..Default::default() };
    let filter = photos::Filter { most: 9, ..Default::default() };
    let face = super::embedding(0);
    let found = match list {
        0 => search::by_bib(db, event, "12", false).await.map(|_| ()),
        1 => search::by_face(db, event, &face, 0.4).await.map(|_| ()),
        2 => photos::list(db, event, filter).await.map(|_| ()),
        3 => quality::report(db, event).await.map(|_| ()),
        4 => failures::list(db, event, failures::Filter::default(), 9).await.map(|_| ()),
        5 => failures::groups(db, which).await.map(|_| ()),
        6 => history::photos_of_run(db, run, -1, 9).await.map(|_| ()),
        7 => refunds::newest(db, refunds, of_event, 9).await.map(|_| ()),
        8 => refunds::newest(db, refunds, of_run, 9).await.map(|_| ()),
        _ => return None,
    };
    Some(found)
}

/// An archive is sealed while somebody reads: nobody is told that what is left is all.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_while_an_archive_is_sealed_is_told_so() {
    let app = App::new().await;
    let (_, event) = an_old_event(&app).await;
    let run = RunId(app.count("SELECT min(run_id) FROM run").await);
    begin(&app, event).await.unwrap();
    for list in 0.. {
        let Some(found) = read(&mut app.as_owner().await, list, event, run).await else { break };
        found.expect("all of it is still here");
        let mut sealing = app.as_owner().await;
        let stop = "BEGIN; LOCK TABLE photo, outcome IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(stop).execute(&mut sealing).await.unwrap();
        let mut db = app.as_owner().await;
        let reading = tokio::spawn(async move { read(&mut db, list, event, run).await });
        app.until_somebody_waits_for_a_lock().await;
        let seal = "UPDATE archive
                    SET state = 'deleting', manifest = sha256('it'), archived_at = now(); COMMIT";
        sqlx::raw_sql(seal).execute(&mut sealing).await.unwrap();
        let told = reading.await.unwrap().unwrap().expect_err("rows may be missing").to_string();
        assert!(told.contains("is archived since"), "list {list}: {told}");
        let unseal = "UPDATE archive SET state = 'packing', manifest = NULL, archived_at = NULL";
        sqlx::raw_sql(unseal).execute(&mut sealing).await.unwrap();
    }
}

/// The pages say it too, and whoever may restore the event does it there.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_an_archived_event_say_what_to_do() {
    let app = App::new().await;
    let (organisation, event) = an_old_event(&app).await;
    let site = Site::of(&app).await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    app.a_person("anna@photogate.example", Role::Organiser, Some(organisation)).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    let anna = Visitor::logged_in(&site, "anna@photogate.example").await;
    let run = app.count("SELECT min(run_id) FROM run").await;
    let photo = photo_named(&app, event, "2024/Ä 5.jpg").await;
    let change = FinderChange { access: FinderAccess::Public, replace_link: false };
    app.commands().set_finder(&Caller::trusted("anna"), event, change).await.unwrap();
    let find = format!("/find/{event}");
    let says = "Restore it to see its photos";
    let action = format!("action=\"/events/{event}/restore\"");
    let pages =
        [format!("/events/{event}"), format!("/events/{event}/quality"), format!("/runs/{run}")];
    for path in &pages {
        assert!(!anna.text(&site, path).await.contains(says), "{path}");
    }
    app.owner_runs("DELETE FROM photogate.undo").await;
    let id = begin(&app, event).await.unwrap();
    archivist(&app).go_on(id).await.unwrap();

    for path in &pages {
        let (page, of_staff) = (anna.text(&site, path).await, staff.text(&site, path).await);
        assert!(page.contains("This event was archived on"), "{path}: {page}");
        assert!(page.contains(says) && page.contains("Ask whoever runs photogate"), "{path}");
        assert!(!page.contains(&action), "{path}: an organiser cannot");
        assert!(of_staff.contains(says) && of_staff.contains(&action), "{path}: {of_staff}");
        assert!(!page.contains("No photos") && !page.contains("Nothing yet"), "{path}: {page}");
    }
    for path in [
        format!("/events/{event}?format=csv"),
        format!("/runs/{run}?format=csv"),
        format!("/photos/{photo}"),
        format!("/failures?event={event}"),
        format!("/refunds?event={event}"),
    ] {
        let page = anna.client.get(site.url(&path)).send().await.unwrap();
        assert_eq!(page.status(), StatusCode::CONFLICT, "{path}");
        assert!(page.text().await.unwrap().contains("is archived since"), "{path}");
    }
    let refunds = anna.text(&site, "/refunds").await;
    assert!(refunds.contains("Refunds of archived events are not in this list"), "{refunds}");
    assert_eq!(anna.get(&site, &format!("/events/{event}/timeline")).await, 200);
    assert_eq!(anna.get(&site, &format!("/events/{event}/why")).await, 200);
    // An erasure is asked for, without a number that nobody knows.
    let key = anna.form_key(&site).await;
    let ask = anna.client.post(site.url(&format!("/events/{event}/erase")));
    let asked = ask.form(&[("bib", "12"), ("form_key", key.as_str())]).send().await.unwrap();
    let asked = asked.text().await.unwrap();
    assert!(asked.contains("it is restored first"), "{asked}");
    // Athletes are not told that there are no photos of them.
    let visitor = Visitor::stranger();
    let page = visitor.text(&site, &find).await;
    assert!(page.contains("are archived") && !page.contains("<form"), "{page}");
    let searched = visitor.client.post(site.url(&find)).form(&[("bib", "12")]).send().await;
    let searched = searched.unwrap();
    assert_eq!(searched.status(), StatusCode::CONFLICT);
    assert!(searched.text().await.unwrap().contains("are archived"));

    // Staff press the button, and the service does the rest.
    assert_eq!(anna.post(&site, &format!("/events/{event}/restore"), &[]).await, 403);
    assert_eq!(staff.post(&site, &format!("/events/{event}/restore"), &[]).await, 303);
    let page = anna.text(&site, &format!("/events/{event}")).await;
    assert!(page.contains("is being restored"), "{page}");
    while archivist(&app).go_on_with_any().await.unwrap().is_some() {}
    let page = anna.text(&site, &format!("/events/{event}")).await;
    assert!(page.contains("2024/Ä 5.jpg") && !page.contains("archived"), "{page}");
    assert_eq!(restored_by(&app).await, "staff@photogate.example");
}

async fn restored_by(app: &App) -> String {
    let by = sqlx::query_scalar("SELECT restored_by FROM archive");
    by.fetch_one(&mut app.as_owner().await).await.unwrap()
}
