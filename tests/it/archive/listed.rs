//! The page on which those who run photogate see the archives.

use photogate::{
    access::{Caller, Role},
    catalog::archive::{self, State},
};

use super::{an_old_event, archivist, begin, files};
use crate::support::{
    App, photogate,
    site::{Site, Visitor},
};

#[tokio::test(flavor = "multi_thread")]
async fn those_who_run_photogate_see_each_archive_and_what_comes_next() {
    let app = App::new().await;
    let (organisation, one) = an_old_event(&app).await;
    let (_, other) = an_old_event(&app).await;
    let site = Site::of(&app).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    app.a_person("anna@photogate.example", Role::Organiser, Some(organisation)).await;
    app.a_person("own@photogate.example", Role::Operator, Some(organisation)).await;
    let ops = Visitor::logged_in(&site, "ops@photogate.example").await;
    for email in ["anna@photogate.example", "own@photogate.example"] {
        let visitor = Visitor::logged_in(&site, email).await;
        assert_eq!(visitor.get(&site, "/archives").await, 403, "{email}");
        assert!(!visitor.text(&site, "/events").await.contains("\"/archives\""), "{email}");
    }
    assert!(ops.text(&site, "/queues").await.contains("href=\"/archives\""), "a link leads there");
    let page = ops.text(&site, "/archives").await;
    assert!(page.contains("No event was archived") && page.contains("archive_after_months"));
    assert!(page.contains("They are not signed"), "{page}");
    let id = begin(&app, one).await.unwrap();
    let page = ops.text(&site, "/archives").await;
    assert!(page.contains(">Packing<") && page.contains("written into the store"), "{page}");
    archivist(&app).go_on(id).await.unwrap();

    let page = ops.text(&site, "/archives").await;
    assert!(page.contains(">Archived<") && page.contains("until it is restored"), "{page}");
    assert!(page.contains(&format!("href=\"/events/{one}\"")) && page.contains("never"), "{page}");
    assert!(!page.contains(&format!("href=\"/events/{other}\"")), "{page}");
    let file = ops.text(&site, "/archives?format=csv").await;
    let header = "organisation,event,state,photos,size,packed,verified,damage,trouble";
    assert!(file.starts_with(header), "{file}");
    assert!(file.contains(",archived,11,"), "{file}");
    assert!(photogate(&app.config, &["ledger", "verify"]).status.success());
    assert!(!ops.text(&site, "/archives").await.contains("never"), "it was verified");

    let lost = files(&app).into_iter().find(|file| file.to_string_lossy().contains("part-000001"));
    let lost = lost.unwrap();
    let whole = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    app.commands().restore_event(&Caller::trusted("ops"), one).await.unwrap();
    archivist(&app).go_on_with_any().await.unwrap().unwrap().1.expect_err("it is damaged");
    let page = ops.text(&site, "/archives").await;
    assert!(page.contains(">Damaged<") && page.contains("is missing"), "{page}");
    assert_eq!(archive::in_trouble(&mut *app.db().await).await.unwrap(), 1);
    assert!(page.contains(&format!("photogate archive give-up {one}")), "{page}");
    std::fs::write(&lost, whole).unwrap();
    app.owner_runs("UPDATE photogate.archive SET taken_until = NULL").await;
    assert_eq!(archivist(&app).go_on(id).await.unwrap(), State::Restored);
    let page = ops.text(&site, "/archives").await;
    assert!(page.contains(">Restored<") && page.contains("Its files are deleted"), "{page}");
    assert!(!page.contains(">Damaged<"), "{page}");
    assert_eq!(archive::in_trouble(&mut *app.db().await).await.unwrap(), 0);
}

/// Found: only the newest thousand were named, and what is not named is said to be of no use.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_every_archive() {
    let app = App::new().await;
    app.an_event_with(1).await;
    app.owner_runs(
        "INSERT INTO photogate.archive (event_id, organisation_id, state, actor, erasures, ended_at)
         SELECT event_id, organisation_id, 'stopped', 'anna', '{}', now()
         FROM photogate.event, generate_series(1, 1001)",
    )
    .await;

    let named = app.says(&["archive", "list", "--json"]);

    assert_eq!(named.matches("\"directory\"").count(), 1001);
}
