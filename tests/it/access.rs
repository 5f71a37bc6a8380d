//! How people and programs come in, and how their access ends.

use photogate::access::Role;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    App,
    browser::PASSWORD,
    site::{Site, Visitor},
};

/// An organiser, and the service.
async fn a_club_with_anna(app: &App) -> Site {
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    Site::of(app).await
}

/// Somebody logs in with a browser that says that it is this.
async fn with_browser(site: &Site, browser: &str) -> Visitor {
    let visitor = Visitor::stranger();
    let form = [("email", "anna@club.example"), ("password", PASSWORD)];
    let sent = visitor.client.post(site.url("/login")).header(header::USER_AGENT, browser);
    let answer = sent.form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    visitor
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_where_they_are_logged_in_and_end_it() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let lost = with_browser(&site, "a <b>lost</b> phone").await;
    let lost_session = app.count("SELECT max(session_id) FROM session").await;
    let anna = with_browser(&site, &"x".repeat(5_000)).await;
    let others = [Visitor::logged_in(&site, "anna@club.example").await, lost];
    app.a_person("eve@photogate.example", Role::Finance, None).await;
    let eve = Visitor::logged_in(&site, "eve@photogate.example").await;

    let page = anna.text(&site, "/account").await;
    assert!(page.contains("“a &lt;b&gt;lost&lt;/b&gt; phone”"), "{page}");
    assert!(page.contains(&format!("“{}”", "x".repeat(200))), "{page}");
    assert_eq!(page.matches("<td>127.0.0.1</td>").count(), 3, "{page}");
    let one = format!("/account/sessions/{lost_session}/end");
    assert_eq!(eve.post(&site, &one, &[]).await, 404, "not hers");
    assert_eq!(others[1].get(&site, "/events").await, 200);

    assert_eq!(anna.post(&site, &one, &[]).await, 303);

    assert_eq!(others[1].get(&site, "/events").await, 303, "asked to log in");
    assert_eq!(others[0].get(&site, "/events").await, 200);
    assert_eq!(anna.post(&site, "/account/sessions/end", &[]).await, 303);
    assert_eq!(others[0].get(&site, "/events").await, 303);
    assert_eq!((anna.get(&site, "/events").await, eve.get(&site, "/account").await), (200, 200));
    let told = "SELECT count(*) FROM audit_log WHERE action = 'session.end'";
    assert_eq!(app.count(told).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_in_which_nobody_asks_for_anything() {
    let mut app = App::new().await;
    app.config.session_idle_minutes = 10;
    let site = a_club_with_anna(&app).await;
    let event = app.an_event_of(photogate::ids::OrganisationId(1)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let seen = "SELECT extract(epoch FROM clock_timestamp() - last_seen_at)::bigint / 60
                FROM session";
    let ago = async |minutes: &'static str| app.owner_runs(minutes).await;

    ago("UPDATE session SET last_seen_at = last_seen_at - interval '9 minutes'").await;
    let live = anna.client.get(site.url(&format!("/events/{event}/live"))).send().await.unwrap();
    assert_eq!((live.status().as_u16(), app.count(seen).await), (200, 9), "a stream is no person");
    assert_eq!((anna.get(&site, "/events").await, app.count(seen).await), (200, 0));
    ago("UPDATE session SET last_seen_at = last_seen_at - interval '11 minutes'").await;

    assert_eq!(anna.get(&site, "/events").await, 303, "asked to log in");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_session_ends_when_there_are_too_many() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let token = app.a_token(Role::Staff, None).await;
    let log_in = async |form: &[(&str, &str)]| {
        let visitor = Visitor::stranger();
        let answer = visitor.client.post(site.url("/login")).form(form).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        visitor
    };
    let anna = [("email", "anna@club.example"), ("password", PASSWORD)];
    for form in [&anna[..], &[("password", token.as_str())]] {
        let oldest = log_in(form).await;
        let next = log_in(form).await;
        app.owner_runs(
            "INSERT INTO session (hash, person_id, token_id, expires_at, address, browser)
             SELECT sha256(gen_random_uuid()::text::bytea), person_id, token_id, expires_at, '', ''
             FROM (SELECT * FROM session ORDER BY session_id DESC LIMIT 1) newest,
                  generate_series(1, 18)",
        )
        .await;
        assert_eq!(oldest.get(&site, "/events").await, 200, "there may be 20");

        let newest = log_in(form).await;

        assert_eq!(oldest.get(&site, "/events").await, 303, "asked to log in");
        assert_eq!(
            (next.get(&site, "/events").await, newest.get(&site, "/events").await),
            (200, 200)
        );
    }
    assert_eq!(app.count("SELECT count(*) FROM session").await, 40);
}

/// The password is changed while somebody logs in with the old one.
#[tokio::test(flavor = "multi_thread")]
async fn no_session_begins_with_a_password_that_was_changed_meanwhile() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let mut owner = app.as_owner().await;
    sqlx::raw_sql("BEGIN; UPDATE person SET password = 'another'")
        .execute(&mut owner)
        .await
        .unwrap();
    let client = Visitor::stranger().client;
    let form = [("email", "anna@club.example"), ("password", PASSWORD)];
    let sent = client.post(site.url("/login")).form(&form);
    let logging_in = tokio::spawn(async move { sent.send().await.unwrap().status().as_u16() });
    app.until_somebody_waits_for_a_lock().await;

    sqlx::raw_sql("COMMIT").execute(&mut owner).await.unwrap();

    assert_eq!(logging_in.await.unwrap(), 401);
    assert_eq!(app.count("SELECT count(*) FROM session").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_and_its_sessions_end_with_it() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(app.an_organisation_with(0).await)).await;
    let new = json!({ "name": "a summer", "role": "pipeline", "expires_in_days": 90 });
    let (status, made) = site.post("/v1/tokens", &organiser, new.clone()).await;
    assert_eq!(status, 201);
    for days in [0, 731] {
        let mut new = new.clone();
        new["expires_in_days"] = days.into();
        let (status, no) = site.post("/v1/tokens", &organiser, new).await;
        assert_eq!(
            (status.as_u16(), &no["errors"][0]["pointer"]),
            (422, &json!("/expires_in_days"))
        );
    }
    let days = "SELECT string_agg(extract(days FROM expires_at - created_at)::text, ' '
                                  ORDER BY token_id) = '364 89' FROM token";
    let kept = sqlx::query_scalar::<_, bool>(days).fetch_one(&mut app.as_owner().await).await;
    assert!(kept.unwrap(), "created a moment after the transaction began");
    let secret = made["secret"].as_str().unwrap();
    let visitor = Visitor::stranger();
    let form = [("password", secret)];
    let log_in = async || {
        let answer = visitor.client.post(site.url("/login")).form(&form).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!((log_in().await, visitor.get(&site, "/events").await), (303, 200));
    assert_eq!(site.get("/v1/events", secret).await.0, 200);

    app.owner_runs("UPDATE token SET expires_at = now() WHERE name = 'a summer'").await;

    assert_eq!(site.get("/v1/events", secret).await.0, 401);
    assert_eq!((visitor.get(&site, "/events").await, log_in().await), (303, 401));
    let (_, listed) = site.get("/v1/tokens", &organiser).await;
    assert!(listed["items"][0]["expires_at"].is_string(), "{listed}");
    assert!(app.says(&["tokens", "list"]).contains("Expires"));
    let made = app.says(&["tokens", "create", "x", "--role", "staff", "--expires-in-days", "3"]);
    let soon = "SELECT count(*) FROM token WHERE expires_at < now() + interval '4 days'";
    assert_eq!((made.starts_with("pg_"), app.count(soon).await), (true, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_has_a_hundred_tokens_and_those_that_are_over_do_not_count() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(app.an_organisation_with(0).await)).await;
    app.owner_runs(
        "INSERT INTO token (hash, hint, name, role, organisation_id, created_by, expires_at)
         SELECT sha256(n::text::bytea), 'pg_', n, 'pipeline', 1, 'test', now() + interval '1 day'
         FROM generate_series(1, 98) n",
    )
    .await;
    let create = async || {
        let new = json!({ "name": "one more", "role": "pipeline" });
        let (status, said) = site.post("/v1/tokens", &organiser, new).await;
        (status.as_u16(), said["code"].clone())
    };
    assert_eq!(create().await, (201, Value::Null));

    assert_eq!(create().await, (409, json!("too_many_tokens")));

    app.owner_runs("UPDATE token SET expires_at = now() WHERE name = '7'").await;
    assert_eq!(create().await.0, 201);
    assert_eq!(create().await.0, 409);
    app.owner_runs("UPDATE token SET revoked_at = now() WHERE name = '8'").await;
    assert_eq!(create().await.0, 201);
    let staff = app.a_token(Role::Staff, None).await;
    let new = json!({ "name": "of photogate", "role": "operator" });
    assert_eq!(site.post("/v1/tokens", &staff, new).await.0, 201, "no organisation's");
}

/// The numbers that a list has, page by page.
async fn page_by_page(site: &Site, path: &str, token: &str) -> Vec<Vec<i64>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = site.get(&format!("{path}?limit=2{after}"), token).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        pages.push(items.iter().map(|item| item["id"].as_i64().unwrap()).collect());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_tokens_are_listed_page_by_page() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (club, other) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    let organiser = app.a_token(Role::Organiser, Some(club)).await;
    for n in 0..3 {
        app.a_token(Role::Pipeline, Some(club)).await;
        app.a_token(Role::Pipeline, Some(other)).await;
        app.a_person(&format!("{n}@club.example"), Role::Finance, Some(club)).await;
        app.a_person(&format!("{n}@other.example"), Role::Finance, Some(other)).await;
    }

    assert_eq!(page_by_page(&site, "/v1/tokens", &organiser).await, [vec![6, 4], vec![2, 1]]);
    assert_eq!(page_by_page(&site, "/v1/people", &organiser).await, [vec![5, 3], vec![1]]);
    let over = site.ask(Method::GET, "/v1/people?limit=201", &organiser).send().await.unwrap();
    assert_eq!(over.status(), 422);
}
