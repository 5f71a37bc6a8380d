//! Bib numbers are decided again when more is known of their event: without the photo, without a
//! credit, and never against what was deleted.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use photogate::{
    access::Role,
    catalog::{events, findings::Findings, quality, reconsider},
    ids::{EventId, OrganisationId},
    worker::verdict::Verdict,
};
use photogate_jobs::{Face, Line, Reading, StartList, bibs};

use crate::support::{
    App,
    site::{Site, Visitor},
};

/// A line of text, with its readings, below the face of a person.
fn line(readings: &[(&str, f32)]) -> Line {
    let readings = readings
        .iter()
        .map(|&(text, score)| Reading { text: text.into(), score, others: Vec::new() })
        .collect();
    Line { readings, x: 110.5, y: 300.25, width: 80.0, height: 40.0, worn: true }
}

fn sure(number: &str) -> Line {
    line(&[(number, 1.0), (number, 0.99)])
}

/// Two readings say 1482, and two say 1432.
fn unsure() -> Line {
    line(&[("1482", 0.95), ("1432", 0.7), ("1482", 0.9), ("1432", 0.7)])
}

/// The embedding of a person.
fn person(number: usize) -> Vec<f32> {
    let mut face = vec![0.0; 128];
    face[number] = 1.0;
    face
}

/// A photo on which a person wears what this line says.
fn seen(of: usize, line: Line) -> Verdict {
    let face = Face {
        x: 100.0,
        y: 100.0,
        width: 90.0,
        height: 90.0,
        score: 0.9,
        landmarks: [[0.0; 2]; 5],
    };
    let lines = vec![line];
    let bibs = bibs(&lines, &StartList::default());
    let faces = vec![(face, Some(person(of)))];
    Verdict::Processed(Findings::Processing {
        content: None,
        width: 900,
        height: 600,
        turn: photogate_jobs::Turn::None,
        faces,
        bibs,
        lines,
    })
}

/// Processes a photo for each of these verdicts.
async fn process(app: &App, event: EventId, keys: &str, verdicts: Vec<Verdict>) {
    app.queue(event, keys, verdicts.len()).await;
    let hand = app.a_worker().await;
    let held = hand.claim(verdicts.len()).await;
    for (reservation, verdict) in held.into_iter().zip(verdicts) {
        assert!(hand.give_back(reservation, verdict).await);
    }
}

/// An event with 1482 unsurely read on one photo, worn by person 1.
async fn an_event(app: &App) -> (OrganisationId, EventId) {
    let organisation = app.an_organisation_with(1000).await;
    let event =
        events::create(&mut *app.db().await, organisation, "Race", true, true, "anna@club.example")
            .await
            .unwrap();
    process(app, event, "ok", vec![seen(1, unsure())]).await;
    (organisation, event)
}

/// All numbers, with what settled them, and what was read before; and how often each occurs.
async fn numbers(app: &App) -> BTreeMap<String, i64> {
    let all: Vec<(String, i64)> = sqlx::query_as(
        "SELECT concat_ws(' ', number, settled_by, was), count(*) FROM bib GROUP BY 1",
    )
    .fetch_all(&mut *app.db().await)
    .await
    .unwrap();
    all.into_iter().collect()
}

fn only(number: &str) -> BTreeMap<String, i64> {
    BTreeMap::from([(number.to_owned(), 1)])
}

/// Decides again what is due, as if the last time had taken no time.
async fn again(app: &App) -> u64 {
    app.owner_runs("UPDATE reconsideration SET began_at = ended_at").await;
    reconsider::all_due(&app.pool).await.unwrap()
}

async fn start_list(app: &App, event: EventId, numbers: &[&str]) {
    let numbers: Vec<_> = numbers.iter().map(|number| (*number).to_owned()).collect();
    photogate::catalog::start_list::set(&mut *app.db().await, event, &numbers).await.unwrap();
}

#[tokio::test]
async fn a_start_list_that_comes_late_decides_earlier_photos_and_costs_nothing() {
    let app = App::new().await;
    let (organisation, event) = an_event(&app).await;
    let other = app.an_event_of(organisation).await;
    process(&app, other, "crash", vec![seen(1, unsure())]).await;
    again(&app).await;
    let before = app.credits(organisation).await;
    let entries = app.count("SELECT count(*) FROM ledger").await;
    assert_eq!(numbers(&app).await, BTreeMap::from([("1482 reading".to_owned(), 2)]));

    start_list(&app, event, &["1432", "7"]).await;

    assert_eq!(again(&app).await, 1, "only the event with the list");
    let both = ["1432 start_list 1482", "1482 reading"].map(|number| (number.to_owned(), 1));
    assert_eq!(numbers(&app).await, BTreeMap::from(both));
    assert_eq!(again(&app).await, 0, "once is enough");
    start_list(&app, event, &[]).await;
    assert_eq!(again(&app).await, 1, "and without a list it is as it was read");
    assert_eq!(numbers(&app).await, BTreeMap::from([("1482 reading".to_owned(), 2)]));
    assert_eq!(app.credits(organisation).await, before);
    assert_eq!(app.count("SELECT count(*) FROM ledger").await, entries);
}

#[tokio::test]
async fn a_person_is_known_by_the_number_on_other_photos_that_come_later() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    again(&app).await;
    assert_eq!(numbers(&app).await, only("1482 reading"));

    // While photos come, it is done once a minute.
    process(&app, event, "retry", vec![seen(2, sure("1482")), seen(1, sure("1432"))]).await;
    assert_eq!(again(&app).await, 0);
    app.owner_runs(
        "UPDATE reconsideration SET ended_at = ended_at - interval '1 minute', \
                    began_at = ended_at - interval '1 minute'",
    )
    .await;

    assert_eq!(again(&app).await, 1);
    let all = ["1432 person 1482", "1432 reading", "1482 reading"];
    assert_eq!(numbers(&app).await, BTreeMap::from(all.map(|number| (number.to_owned(), 1))));
}

#[tokio::test]
async fn what_a_face_has_settled_goes_when_face_search_is_switched_off() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    process(&app, event, "retry", vec![seen(1, sure("1432"))]).await;
    again(&app).await;
    assert_eq!(numbers(&app).await.get("1432 person 1482"), Some(&1));

    app.set_face_search(event, false).await.unwrap();

    assert_eq!(again(&app).await, 1);
    assert_eq!(numbers(&app).await.get("1482 reading"), Some(&1));
}

#[tokio::test]
async fn what_lies_beside_a_face_on_a_photo_that_was_turned_proves_nothing() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    let mut turned = seen(1, sure("1432"));
    if let Verdict::Processed(Findings::Processing { turn, .. }) = &mut turned {
        *turn = photogate_jobs::Turn::Half;
    }
    process(&app, event, "retry", vec![turned]).await;

    assert_eq!(again(&app).await, 0);
    assert_eq!(
        app.count("SELECT looked_turn::bigint FROM looked_at ORDER BY 1 DESC LIMIT 1").await,
        180
    );
}

#[tokio::test]
async fn a_clock_that_had_jumped_stops_nothing() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    again(&app).await;
    start_list(&app, event, &["1432"]).await;
    app.owner_runs(
        "UPDATE reconsideration SET began_at = now() + interval '1 year', \
         ended_at = now() + interval '1 year', taken_until = now() + interval '1 year'",
    )
    .await;

    assert_eq!(again(&app).await, 1);
    assert_eq!(numbers(&app).await, only("1432 start_list 1482"));
}

#[tokio::test]
async fn a_number_unlike_the_others_of_its_event_was_misread() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1000).await;
    let edge = line(&[("17431", 0.9), ("7431", 0.9), ("17431", 0.9), ("7431", 0.8)]);
    let mut photos: Vec<_> = (0..25).map(|n| seen(n, sure(&(5000 + n).to_string()))).collect();
    photos.push(seen(90, edge));

    process(&app, event, "ok", photos).await;

    assert_eq!(numbers(&app).await.get("17431 reading"), Some(&1));
    assert_eq!(again(&app).await, 1);
    assert_eq!(numbers(&app).await.get("7431 numbering 17431"), Some(&1));
    assert_eq!(numbers(&app).await.len(), 26);
}

#[tokio::test]
async fn what_a_person_has_corrected_stays_and_tells_about_other_photos() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    process(&app, event, "retry", vec![seen(1, line(&[("1432", 0.9), ("1482", 0.5)]))]).await;
    again(&app).await;
    let before = ["1432 reading", "1482 reading"].map(|number| (number.to_owned(), 1));
    assert_eq!(numbers(&app).await, BTreeMap::from(before));
    let correct = "SELECT r_changed::int::bigint FROM photo, \
                   correct_numbers(photo_id, '{1482}', 'anna') WHERE key LIKE 'rehearsal/ok/%'";

    assert_eq!(app.count(correct).await, 1);

    assert_eq!(again(&app).await, 1, "the other photo, at once");
    let after = ["1482 organiser", "1482 person 1432"].map(|number| (number.to_owned(), 1));
    assert_eq!(numbers(&app).await, BTreeMap::from(after));
    start_list(&app, event, &["1432"]).await;
    assert_eq!(again(&app).await, 1);
    let listed = ["1432 start_list", "1482 organiser"].map(|number| (number.to_owned(), 1));
    assert_eq!(numbers(&app).await, BTreeMap::from(listed), "a list does not correct a person");
}

#[tokio::test]
async fn what_was_erased_or_forgotten_is_not_decided_again() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    process(&app, event, "retry", vec![seen(1, sure("1432"))]).await;
    let lines = "SELECT count(*) FROM looked_at WHERE lines <> '[]'";
    assert_eq!(app.count(lines).await, 2);

    app.count("SELECT count(erase_person(event_id, '{}', '{}', '1432', 'anna')::text) FROM event")
        .await;

    assert_eq!(numbers(&app).await, only("1482 reading"), "at once");
    again(&app).await;
    assert_eq!(app.count(lines).await, 0, "what may be that number is gone, too");
    start_list(&app, event, &["1432"]).await;
    again(&app).await;
    assert_eq!(numbers(&app).await, only("1482 reading"));
    assert_eq!(again(&app).await, 0);
    // On photos that come later, too.
    process(&app, event, "crash", vec![seen(1, unsure()), seen(3, sure("77"))]).await;
    assert_eq!(numbers(&app).await.get("1432 reading"), None);
    start_list(&app, event, &[]).await;
    again(&app).await;
    assert_eq!(app.count(lines).await, 1);

    app.owner_runs("UPDATE event SET forgets = 'findings'").await;
    while app.count("SELECT r_done::int::bigint FROM forget(NULL, 1)").await == 0 {}
    assert_eq!(app.count(lines).await, 0);
    start_list(&app, event, &[]).await;
    again(&app).await;
    assert!(numbers(&app).await.is_empty());
}

#[tokio::test]
async fn what_was_decided_from_old_lines_is_not_written() {
    let app = App::new().await;
    let (organisation, event) = an_event(&app).await;
    let stranger = app.an_event_of(organisation).await;
    let decided = "jsonb_agg(jsonb_build_object('photo', photo_id, 'version', xmin::text, 'bibs', \
                   '[{\"number\": \"9\", \"x\": 1, \"y\": 1, \"width\": 1, \"height\": 1, \
                   \"score\": 1, \"settled_by\": \"person\"}]'::jsonb))";
    let sql = format!("SELECT {decided} FROM looked_at");
    let old: serde_json::Value =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *app.db().await).await.unwrap();
    let began: DateTime<Utc> = sqlx::query_scalar(
        "INSERT INTO reconsideration (event_id, began_at, taken_until)
         SELECT event_id, now(), now() + interval '1 minute' FROM event RETURNING began_at",
    )
    .fetch_one(&mut app.as_owner().await)
    .await
    .unwrap();
    let write_as = async |event: EventId, began: DateTime<Utc>| -> Option<i32> {
        let write = "SELECT write_reconsidered($1, $2, '1 minute', $3)";
        let write = sqlx::query_scalar(write).bind(event.0).bind(began).bind(&old);
        write.fetch_one(&mut *app.db().await).await.unwrap()
    };
    let write = async |event: EventId| write_as(event, began).await;

    let agreed =
        "UPDATE event SET face_search = true, face_consent_by = 'x', face_consent_at = now()";
    app.owner_runs(agreed).await;
    let later = began + TimeDelta::seconds(1);
    assert_eq!(write_as(event, later).await, None, "somebody else has taken the event");
    assert_eq!(write(stranger).await, Some(0), "a photo of another event");
    app.owner_runs("UPDATE event SET face_search = false").await;
    assert_eq!(write(event).await, None, "what a face has settled, when that is switched off");
    app.owner_runs(agreed).await;
    app.owner_runs("UPDATE looked_at SET lines = '[]'").await;
    assert_eq!(write(event).await, Some(0), "the lines were deleted meanwhile");
    assert_eq!(numbers(&app).await, only("1482 reading"));
    app.owner_runs(
        "UPDATE event SET deleted_at = now(), deleted_by = 'x', face_search = false, \
                    face_consent_by = NULL, face_consent_at = NULL",
    )
    .await;
    assert_eq!(write(event).await, None, "the event was deleted");
}

#[tokio::test]
async fn of_two_services_one_decides_and_if_it_dies_the_other_one() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    let take = "SELECT coalesce(r_event, 0) FROM take_reconsideration('2 minutes')";

    assert_eq!(app.count(take).await, event.0);
    assert_eq!(app.count(take).await, 0, "somebody does it");
    assert_eq!(again(&app).await, 0);
    app.owner_runs("UPDATE reconsideration SET taken_until = now()").await;
    assert_eq!(app.count(take).await, event.0, "who had it is gone");

    // What is asked for meanwhile is not lost.
    let (settled, asked, began): (i64, i64, DateTime<Utc>) = sqlx::query_as(
        "SELECT s.committed, r.asked, r.began_at FROM reconsideration r JOIN queue q USING (event_id) \
         JOIN queue_settled s USING (queue_id) WHERE q.operation = 'photo_processing'",
    )
    .fetch_one(&mut *app.db().await)
    .await
    .unwrap();
    start_list(&app, event, &["1432"]).await;
    for began in [began - TimeDelta::minutes(20), began] {
        let end = sqlx::query("SELECT end_reconsideration($1, $2, $3, $4)").bind(event.0);
        let end = end.bind(began).bind(settled).bind(asked);
        end.execute(&mut *app.db().await).await.unwrap();
        let is_over = app.count("SELECT count(*) FROM reconsideration WHERE taken_until IS NULL");
        let mine = began > Utc::now() - TimeDelta::minutes(10);
        assert_eq!(is_over.await, i64::from(mine), "who had it before ends nothing");
    }
    assert_eq!(again(&app).await, 1);
    assert_eq!(numbers(&app).await, only("1432 start_list 1482"));
}

#[tokio::test]
async fn the_quality_report_counts_what_was_found_and_what_settled_it() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    let nothing = line(&[("RUN4", 0.2)]);
    process(&app, event, "crash", vec![seen(1, sure("12")), seen(2, sure("12")), seen(3, nothing)])
        .await;
    let report = async || -> quality::Report {
        let said = app.says(&["events", "quality", &event.to_string(), "--json"]);
        serde_json::from_str(&said).unwrap()
    };
    let photos = |report: &quality::Report| {
        (report.with_sure_number, report.with_unsure_number, report.without_number)
    };

    let before = report().await;
    assert_eq!((before.photos, before.faces, before.with_face), (4, 4, 4));
    assert_eq!(photos(&before), (2, 1, 1));
    let numbers = (before.numbers, before.sure_numbers, before.different_numbers);
    assert_eq!(numbers, (3, 2, 2));
    start_list(&app, event, &["1432", "12"]).await;
    again(&app).await;

    let report = report().await;
    assert_eq!(photos(&report), (3, 0, 1), "the list makes it sure");
    assert_eq!(report.settled_by_start_list, 1, "the others were read");
    assert_eq!(report.rotation_photos, 0);
    let words = app.says(&["events", "quality", &event.to_string()]);
    assert!(words.contains("4 photos: 3 with a sure number"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_with_unsure_numbers_are_listed_alone_and_the_report_leads_there() {
    let app = App::new().await;
    let (organisation, event) = an_event(&app).await;
    process(&app, event, "crash", vec![seen(1, sure("12"))]).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let listed = async |filter: &str| {
        let (_, page) = site.get(&format!("/v1/events/{event}/photos?{filter}"), &token).await;
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|photo| photo["bibs"][0]["number"].clone()).collect::<Vec<_>>()
    };

    assert_eq!(listed("unsure=true").await, ["1482"]);
    assert_eq!(listed("unsure=false").await.len(), 2);
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let report = anna.text(&site, &format!("/events/{event}/quality")).await;
    let link = format!("/events/{event}?numbers=unsure");
    assert!(report.contains(&link), "{report}");
    let page = anna.text(&site, &link).await;
    assert!(page.contains("rehearsal/ok/1") && !page.contains("rehearsal/crash/1"), "{page}");
    assert_eq!(anna.get(&site, &format!("/events/{event}?numbers=x")).await, 422);
}

/// The service decides beside its requests: nobody has to ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_does_it_by_itself() {
    let app = App::new().await;
    let (_, event) = an_event(&app).await;
    start_list(&app, event, &["1432"]).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(reconsider::when_due(app.pool.clone(), stop.clone()));

    app.until("the number is decided", async || {
        numbers(&app).await == only("1432 start_list 1482")
    })
    .await;

    stop.cancel();
    running.await.unwrap();
}
