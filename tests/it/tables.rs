//! What the tables of the pages are made of: sorting, searching, paging, files, and for whom.

use photogate::{
    access::Role,
    catalog::{events, organisations},
    ledger::statement,
    queue::failures::{self, Filter},
};
use reqwest::Method;
use serde_json::json;

use crate::support::{
    App,
    browser::PASSWORD,
    site::{Site, Visitor, answered},
};

/// The lines of a table's file, the first with the names of its columns.
async fn lines(visitor: &Visitor, site: &Site, path: &str) -> Vec<String> {
    let text = visitor.text(site, path).await;
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_a_file_too_with_the_same_rows() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    let event = events::create(
        &mut *app.db().await,
        organisation,
        "=1+1 Marathon",
        true,
        false,
        "anna@club.example",
    )
    .await
    .unwrap();
    app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    assert!(hand.fail(hand.claim_one().await).await);
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;
    staff.post(&site, "/events", &[("organisation", "1"), ("name", "Second")]).await;

    for (path, columns, rows) in [
        ("/queues?state=all&format=csv", "queue,event_id,operation,organisation,state,", 4),
        ("/queues?format=csv&state=running", "queue,event_id,operation,organisation,state,", 1),
        ("/failures?format=csv", "reason,event,event_id,operation,photos,last", 1),
        ("/workers?format=csv", "name,since,state,slots,in_hand,photos_s,last_failure", 1),
        ("/events?format=csv", "event,id,organisation,bib_search,face_search", 2),
        ("/events?format=csv&name=marathon", "event,id,organisation,", 1),
        (
            "/organisations?format=csv",
            "organisation,id,available,photos_waiting,cost_per_credit,purchasing,",
            1,
        ),
        (
            "/credits?organisation=1&format=csv",
            "type,credits,balance,event,event_id,operation,user,",
            3,
        ),
        ("/credits?organisation=1&kind=refund&format=csv", "type,credits,balance,event,", 1),
        (
            "/statements?organisation=1&format=csv",
            "date,type,credits,balance,day_is_over,event,",
            5,
        ),
        ("/refunds?format=csv", "when,photo,photo_id,organisation,organisation_id,event,", 1),
        ("/finance?format=csv", "reason,code,credits,first,last", 1),
        ("/finance?table=where&format=csv", "organisation,id,credits,last", 1),
        ("/finance/months?format=csv", "organisation,organisation_id,month,time_zone,", 0),
        ("/finance?table=checks&format=csv", "when,kind,took,found,broken", 0),
        ("/audit-log?format=csv", "date,who,action,subject,details,organisation", 1),
        ("/events/1?format=csv", "photo,photo_id,processing,processing_reason,rotation,", 3),
        ("/events/1?format=csv&state=failed", "photo,photo_id,processing,", 1),
    ] {
        let lines = lines(&staff, &site, path).await;
        assert!(lines[0].starts_with(columns), "{path}: {lines:?}");
        assert_eq!(lines.len() - 1, rows, "{path}: {lines:?}");
    }
    let formula = lines(&staff, &site, "/events?format=csv&name=marathon").await;
    assert!(formula[1].starts_with("'=1+1 Marathon,1,"), "{formula:?}");
    let page = staff.text(&site, "/queues?state=running&name=marathon").await;
    assert!(page.contains(
        "href=\"/queues?state=running&amp;name=marathon&amp;sort=state&amp;format=csv\""
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_sorted_and_paged_by_what_stands_longest_or_waits_most() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(0).await;
    for photos in 1..=30 {
        let name = format!("Event {photos:02}");
        let event = events::create(
            &mut *app.db().await,
            organisation,
            &name,
            true,
            false,
            "anna@club.example",
        )
        .await
        .unwrap();
        app.queue(event, "ok", photos).await;
        if photos % 10 == 0 {
            app.hold(event, &format!("ops{photos}")).await;
        }
    }
    // Held in another order than they are numbered in.
    app.owner_runs("UPDATE hold SET since = since - interval '1 hour' * (50 - abs(queue_id - 35))")
        .await;
    let (rich, event) = app.an_event_with(7).await;
    app.queue(event, "ok", 9).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Operator, None).await;
    let all = async |query: &str| {
        let (mut rows, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) =
                site.get(&format!("/v1/queues?limit=7{query}{after}"), &token).await;
            assert_eq!(status, 200, "{page}");
            rows.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return rows,
            }
        }
    };

    let rows = all("").await;
    assert_eq!(rows.len(), 62);
    let states: Vec<_> = rows.iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(
        states[..28],
        ["no_credits"; 28][..27].iter().copied().chain(["held"]).collect::<Vec<_>>()
    );
    assert_eq!(states[27..31], ["held", "held", "held", "running"]);
    assert!(states[31..].iter().all(|state| *state == "idle"));

    let waiting: Vec<_> =
        all("&sort=waiting").await.iter().map(|row| row["waiting"].as_i64().unwrap()).collect();
    assert!(waiting.is_sorted_by(|one, other| one >= other), "{waiting:?}");
    assert_eq!((waiting.len(), waiting[0]), (62, 30));

    let longest = all("&sort=since").await;
    let names: Vec<_> =
        longest[..3].iter().map(|row| row["event_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Event 20", "Event 10", "Event 30"], "held, what has stood longest first");
    assert_eq!(all("&name=event%201&state=held").await.len(), 1);
    assert_eq!(all(&format!("&organisation={rich}")).await.len(), 2);

    let (_, totals) = site.get("/v1/queues/totals", &token).await;
    assert_eq!(totals["held"], 3);
    assert_eq!(totals["no_credits"], 27);
    assert_eq!(
        (&totals["running"], &totals["waiting"], &totals["funded"]),
        (&1.into(), &474.into(), &7.into())
    );
    assert!(totals["oldest_funded"].is_string(), "{totals}");
    assert_eq!(site.get("/v1/queues?after=nonsense", &token).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sees_several_organisations_switches_between_them() {
    let app = App::new().await;
    let club = app.an_organisation_with(5).await;
    let other =
        organisations::create(&mut *app.db().await, "Agency", "America/New_York").await.unwrap();
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    let site = Site::of(&app).await;
    let staff = Visitor::logged_in(&site, "staff@photogate.example").await;

    let lead = async |path: &str| staff.leads(&site, path).await;
    assert_eq!(lead("/credits").await, "/organisations?to=/credits");
    assert_eq!(
        lead("/organisations?to=/events&name=agen").await,
        format!("/events?organisation={other}")
    );
    assert_eq!(
        lead(&format!("/organisations?to=/queues&name={club}")).await,
        format!("/queues?organisation={club}")
    );
    assert_eq!(
        lead("/organisations?to=https://evil.example/&name=agency").await,
        format!("/organisations/{other}")
    );
    let page = staff.text(&site, &format!("/events?organisation={other}")).await;
    assert!(page.contains("value=\"Agency\""), "it says which one");
    assert!(page.contains(&format!("href=\"/queues?organisation={other}\"")), "and keeps it");
    let both = staff.text(&site, "/organisations").await;
    assert!(both.find("Agency").unwrap() < both.find("Club").unwrap(), "by name");

    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    assert_eq!(anna.get(&site, "/organisations").await, 403);
    assert_eq!(anna.get(&site, &format!("/audit-log?organisation={other}")).await, 404);
    assert!(!anna.text(&site, "/credits").await.contains("All: name or ID"));
}

/// Support's adjustment is no refund: it is counted with what was added, as the month's card does.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_says_what_an_adjustment_took_away() {
    let app = App::new().await;
    let club = app.an_organisation_with(3).await;
    app.top_up(club, -2).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;

    let page = anna.text(&site, "/statements").await;
    assert!(page.contains("</strong> + 1 added − 0 used = closing <strong>1"), "{page}");
    let history = anna.text(&site, "/credits?kind=adjustment").await;
    assert!(history.contains("Adjustment") && history.contains("-2"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_reads_its_own_audit_trail() {
    let app = App::new().await;
    let club = app.an_organisation_with(5).await;
    let elsewhere = app.an_organisation_with(5).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    app.a_person("eve@other.example", Role::Organiser, Some(elsewhere)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let form = [("organisation", club.to_string()), ("name", "City Marathon".into())];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(anna.post(&site, "/events", &form).await, 303);

    let trail = anna.text(&site, "/audit-log").await;
    assert!(trail.contains("event.create") && trail.contains("name: City Marathon"), "{trail}");
    let eve = Visitor::logged_in(&site, "eve@other.example").await;
    assert!(eve.text(&site, "/audit-log").await.contains("Nothing has been changed yet."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_told_to_stop_is_seen_to_finish() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(5).await;
    app.queue(event, "slow-30000", 1).await;
    app.a_person("ops@photogate.example", Role::Operator, None).await;
    let site = Site::of(&app).await;
    let operator = Visitor::logged_in(&site, "ops@photogate.example").await;
    let worker = app.start_worker();
    app.until_in_progress(event, 1).await;
    assert!(operator.text(&site, "/workers").await.contains("in time"));

    worker.stop.drain.cancel();

    app.until("it says so", async || operator.text(&site, "/workers").await.contains(">draining<"))
        .await;
    assert_eq!(app.count("SELECT count(*) FROM worker WHERE draining_since IS NOT NULL").await, 1);
    worker.stop.now.cancel();
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_streams_without_end() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(5).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let other = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/organisations/{organisation}/live");
    let open = async |token: &str| site.ask(Method::GET, &path, token).send().await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let stream = open(&token).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    assert_eq!(open(&token).await.status(), 429);
    assert_eq!(open(&other).await.status(), 200, "others are not kept out");
    streams.pop();
    app.until("a stream that ended makes room", async || open(&token).await.status() == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_no_more_lines_than_asked_for() {
    let app = App::new().await;
    app.set_the_clock("2026-11-23 12:00:00+00").await;
    let organisation = app.an_organisation_with(1).await;
    app.top_up(organisation, 2).await;
    let month = "2026-11-01".parse().unwrap();
    let read =
        async |most| statement::statement(&mut *app.db().await, organisation, month, most).await;
    assert_eq!(read(2).await.unwrap().lines.len(), 2);
    let error = read(1).await.unwrap_err().to_string();
    assert!(error.contains("more than 1 rows"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_was_queued_again_has_not_failed_any_more() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    hand.fail_all(hand.claim(3).await).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let numbers = async || {
        let (_, event) = site.get(&format!("/v1/events/{event}"), &token).await;
        let queue = &event["queues"][0];
        ["failed", "waiting", "processed"].map(|of| queue[of].as_i64().unwrap())
    };
    assert_eq!(numbers().await, [3, 1, 0]);

    let failed = failures::list(&mut *app.db().await, event, Filter::default(), 2).await;
    let two: Vec<_> = failed.unwrap().iter().map(|failure| failure.photo).collect();
    app.retry(event, &two).await;

    assert_eq!(numbers().await, [1, 3, 0]);
    hand.succeed_all(hand.claim(9).await).await;
    assert_eq!(numbers().await, [1, 0, 3], "four photos, whatever became of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_in_goes_on_to_where_they_wanted_to_go() {
    let app = App::new().await;
    app.a_person("staff@photogate.example", Role::Staff, None).await;
    let site = Site::of(&app).await;
    let stranger = Visitor::stranger();
    assert_eq!(
        stranger.leads(&site, "/queues?state=held").await,
        "/login?to=%2Fqueues%3Fstate%3Dheld"
    );
    let log_in = async |to: &str| {
        let form = [("email", "staff@photogate.example"), ("password", PASSWORD), ("to", to)];
        let answer = stranger.client.post(site.url("/login")).form(&form).send().await.unwrap();
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(log_in("/queues?state=held").await, "/queues?state=held");
    for elsewhere in
        ["https://evil.example/", "//evil.example/", "/\\evil.example", "/\t/evil.example", ""]
    {
        assert_eq!(log_in(elsewhere).await, "/", "{elsewhere}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_left_is_logged_out_and_kept_out() {
    let app = App::new().await;
    let club = app.an_organisation_with(1).await;
    let elsewhere = app.an_organisation_with(1).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    let site = Site::of(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    assert_eq!(anna.get(&site, "/credits").await, 200);
    let person = app.count("SELECT max(person_id) FROM person").await;
    let path = format!("/v1/people/{person}");
    let change = async |token: &str, change| {
        let request = site.ask(Method::PATCH, &path, token).json(&change);
        answered(request).await.0.as_u16()
    };
    let stranger = app.a_token(Role::Organiser, Some(elsewhere)).await;
    assert_eq!(change(&stranger, json!({ "disabled": true })).await, 404);
    let staff = app.a_token(Role::Staff, None).await;
    let beside = app.a_token(Role::Organiser, Some(club)).await;
    assert_eq!(change(&beside, json!({ "disabled": false })).await, 403, "only staff");

    assert_eq!(change(&staff, json!({ "disabled": true })).await, 200);

    assert_eq!(anna.get(&site, "/credits").await, 303, "asked to log in");
    let form = [("email", "anna@club.example"), ("password", PASSWORD)];
    let log_in = async || {
        let answer = anna.client.post(site.url("/login")).form(&form).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(log_in().await, 401);
    assert_eq!(change(&staff, json!({ "disabled": false })).await, 200);
    assert_eq!(log_in().await, 303);
    assert_eq!(app.count("SELECT count(*) FROM audit_log WHERE action = 'person.change'").await, 2);
}
