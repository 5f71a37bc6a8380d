//! How people and programs come in, and how their access ends.

use photogate::access::Role;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    App,
    browser::{Browser, DESK, PASSWORD},
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
    assert_eq!(page.matches(">127.0.0.1</td>").count(), 3, "{page}");
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

/// Makes a link, and returns its path.
async fn a_link(site: &Site, token: &str, path: &str, new: Value) -> String {
    let (status, made) = site.post(path, token, new).await;
    assert_eq!(status, 201, "{made}");
    made["link"].as_str().unwrap().to_owned()
}

/// Opens a link and chooses a password. The status, and what the page says.
async fn choose(site: &Site, link: &str, password: &str) -> (u16, String) {
    let form = [("new", password)];
    let answer = Visitor::stranger().client.post(site.url(link)).form(&form).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn log_in(site: &Site, email: &str, password: &str) -> u16 {
    let form = [("email", email), ("password", password)];
    let sent = Visitor::stranger().client.post(site.url("/login")).form(&form);
    sent.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_invited_chooses_the_password_and_the_link_works_once() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(app.an_organisation_with(0).await)).await;
    let new = json!({ "email": " Anna@club.example", "role": "finance" });
    let first = a_link(&site, &organiser, "/v1/people", new.clone()).await;
    let link = a_link(&site, &organiser, "/v1/people", new).await;
    assert_eq!(choose(&site, &first, PASSWORD).await.0, 404, "the later link takes its place");
    let (_, open) = site.get("/v1/invitations", &organiser).await;
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    assert_eq!(open["items"][0]["email"], "anna@club.example");
    let secret = link.strip_prefix("/invitation/").unwrap();
    assert!(!open.to_string().contains(secret), "{open}");
    let page = Visitor::stranger().text(&site, &link).await;
    assert!(page.contains("anna@club.example"), "{page}");
    let (weak, page) = choose(&site, &link, "password1234").await;
    assert!(weak == 422 && page.contains("easy to guess"), "{page}");

    let (status, page) = choose(&site, &link, PASSWORD).await;

    assert!(status == 200 && page.contains("The password is saved"), "{page}");
    assert_eq!(log_in(&site, "anna@club.example", PASSWORD).await, 303);
    assert_eq!(choose(&site, &link, "another battery horse").await.0, 404);
    let kept: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM invitation i WHERE strpos(i::text, $1) > 0) \
         + (SELECT count(*) FROM audit_log l WHERE strpos(l::text, $1) > 0)",
    )
    .bind(secret)
    .fetch_one(&mut app.as_owner().await)
    .await
    .unwrap();
    assert_eq!(kept, 0, "only a hash of the secret is kept");
    let (_, trail) = site.get("/v1/audit-log", &organiser).await;
    let actions: Vec<_> =
        trail["items"].as_array().unwrap().iter().map(|one| one["action"].as_str()).collect();
    assert_eq!(
        actions,
        [Some("person.create"), Some("person.invite"), Some("person.invite")],
        "{trail}"
    );
    assert_eq!(trail["items"][0]["actor"], "anna@club.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_two_use_at_once_works_for_one() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let said = app.says(&["people", "password", "anna@club.example"]);
    let link = said.trim();
    let words = ["another battery horse", "seven thick quilts"];

    let (one, other) = tokio::join!(choose(&site, link, words[0]), choose(&site, link, words[1]));

    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404]);
    let works = usize::from(other.0 == 200);
    assert_eq!(log_in(&site, "anna@club.example", words[works]).await, 303);
    assert_eq!(log_in(&site, "anna@club.example", words[1 - works]).await, 401);
}

/// Found: `POST /v1/people` told which addresses have an account in other organisations.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_does_not_tell_who_has_an_account_elsewhere() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (club, other) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    app.a_person("there@club.example", Role::Finance, Some(club)).await;
    app.a_person("there@other.example", Role::Finance, Some(other)).await;
    let organiser = app.a_token(Role::Organiser, Some(club)).await;
    let invite = async |token: &str, email: &str| {
        let new = json!({ "email": email, "role": "finance", "organisation": club });
        let (status, said) = site.post("/v1/people", token, new).await;
        (status.as_u16(), said)
    };
    let names = |said: &Value| said.as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    let (status, elsewhere) = invite(&organiser, "there@other.example").await;
    let (nowhere_status, nowhere) = invite(&organiser, "new@other.example").await;

    assert_eq!((status, nowhere_status), (201, 201));
    assert_eq!(names(&elsewhere), names(&nowhere));
    let known = |(status, said): (u16, Value)| (status, said["code"].clone());
    assert_eq!(known(invite(&organiser, "there@club.example").await), (409, json!("known")));
    let staff = app.a_token(Role::Staff, None).await;
    assert_eq!(known(invite(&staff, "there@other.example").await), (409, json!("known")));
    let link = elsewhere["link"].as_str().unwrap();
    assert!(Visitor::stranger().text(&site, link).await.contains("Choose a password"));
    let (status, page) = choose(&site, link, PASSWORD).await;
    assert!(status == 409 && page.contains("has an account already"), "{page}");
    assert_eq!(app.count("SELECT count(*) FROM person").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_when_it_is_withdrawn_or_old_and_with_the_access_of_its_maker() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (club, other) = (app.an_organisation_with(0).await, app.an_organisation_with(0).await);
    let organiser = app.a_token(Role::Organiser, Some(club)).await;
    let id = app.count("SELECT max(token_id) FROM token").await;
    let stranger = app.a_token(Role::Organiser, Some(other)).await;
    let staff = app.a_token(Role::Staff, None).await;
    let link_of = async |token: &str, email: &str| {
        let new = json!({ "email": email, "role": "finance", "organisation": club });
        a_link(&site, token, "/v1/people", new).await
    };
    let withdraw = async |token: &str| {
        let newest = app.count("SELECT max(invitation_id) FROM invitation").await;
        let path = format!("/v1/invitations/{newest}");
        site.ask(Method::DELETE, &path, token).send().await.unwrap().status().as_u16()
    };

    let withdrawn = link_of(&organiser, "a@club.example").await;
    assert_eq!(withdraw(&stranger).await, 404);
    assert_eq!(choose(&site, &withdrawn, "short").await.0, 422, "it still works");
    assert_eq!(withdraw(&organiser).await, 204);
    let kept = link_of(&staff, "b@club.example").await;
    let old = link_of(&staff, "c@club.example").await;
    app.owner_runs("UPDATE invitation SET expires_at = now() WHERE email = 'c@club.example'").await;
    let of_token = link_of(&organiser, "d@club.example").await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    let of_anna = link_of(&staff, "e@club.example").await;
    app.owner_runs(
        "UPDATE invitation SET created_by = 'anna@club.example' WHERE email = 'e@club.example'",
    )
    .await;
    let revoke = site.ask(Method::DELETE, &format!("/v1/tokens/{id}"), &staff);
    assert_eq!(revoke.send().await.unwrap().status(), 204);
    app.says(&["people", "disable", "anna@club.example"]);

    for link in [&withdrawn, &old, &of_token, &of_anna] {
        assert_eq!(choose(&site, link, PASSWORD).await.0, 404);
    }
    assert_eq!(choose(&site, &kept, PASSWORD).await.0, 200);
    let told = "SELECT count(*) FROM audit_log WHERE action = 'person.withdraw'";
    assert_eq!(app.count(told).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_make_a_link_for_a_forgotten_password_and_nobody_else_does() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let staff = app.a_token(Role::Staff, None).await;
    let beside = app.a_token(Role::Organiser, Some(photogate::ids::OrganisationId(1))).await;
    let path = "/v1/people/1/password-link";
    assert_eq!(site.post(path, &beside, Value::Null).await.0, 403, "and then log in as anna");
    let first = a_link(&site, &staff, path, Value::Null).await;
    let said = app.says(&["people", "password", "anna@club.example"]);
    let link = said.trim();
    assert_eq!(choose(&site, &first, PASSWORD).await.0, 404, "the later link takes its place");
    let anna = Visitor::logged_in(&site, "anna@club.example").await;

    assert_eq!(choose(&site, link, "another battery horse").await.0, 200);

    assert_eq!(anna.get(&site, "/events").await, 303, "her sessions end");
    assert_eq!(log_in(&site, "anna@club.example", PASSWORD).await, 401);
    assert_eq!(log_in(&site, "anna@club.example", "another battery horse").await, 303);
    assert_eq!(choose(&site, link, PASSWORD).await.0, 404, "a link works once");
    let open = a_link(&site, &staff, path, Value::Null).await;
    let disable = site.ask(Method::PATCH, "/v1/people/1", &staff);
    disable.json(&json!({ "disabled": true })).send().await.unwrap();
    assert_eq!(choose(&site, &open, PASSWORD).await.0, 404, "not for who was locked out");
    let (status, no) = site.post(path, &staff, Value::Null).await;
    assert_eq!((status.as_u16(), &no["code"]), (409, &json!("disabled")));
    let password = json!({ "password": "another battery horse" });
    let set = site.ask(Method::PATCH, "/v1/people/1", &staff).json(&password);
    assert_eq!(set.send().await.unwrap().status(), 422, "nobody sets the password of another");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_has_a_thousand_people_and_open_invitations() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let organiser = app.a_token(Role::Organiser, Some(app.an_organisation_with(0).await)).await;
    app.owner_runs(
        "INSERT INTO person (email, password, role, organisation_id)
         SELECT n || '@club.example', '!', 'finance', 1 FROM generate_series(1, 999) n",
    )
    .await;
    let invite = async |email: &str| {
        let new = json!({ "email": email, "role": "finance" });
        let (status, said) = site.post("/v1/people", &organiser, new).await;
        (status.as_u16(), said["code"].clone())
    };
    assert_eq!(invite("anna@club.example").await.0, 201);
    assert_eq!(invite("anna@club.example").await.0, 201, "in place of the first");

    assert_eq!(invite("bert@club.example").await, (409, json!("too_many_people")));

    app.says(&["people", "disable", "7@club.example"]);
    assert_eq!(invite("bert@club.example").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_person_comes_in_by_a_link_from_the_command_line() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let said = app.says(&["people", "add", "staff@photogate.example", "--role", "staff"]);
    let link = said.trim();
    let listed = app.says(&["people", "invitations"]);
    assert!(listed.contains("staff@photogate.example") && listed.contains("a new account"));
    app.says(&["people", "add", "wrong@photogate.example", "--role", "staff"]);
    app.says(&["people", "withdraw", "2"]);
    assert!(!app.says(&["people", "invitations"]).contains("wrong@photogate.example"));

    assert_eq!(choose(&site, link, PASSWORD).await.0, 200);

    assert_eq!(log_in(&site, "staff@photogate.example", PASSWORD).await, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_are_tried_first_are_refused_with_what_to_do() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    for weak in ["password1234", "anna and her cats", "we like photogate", "qwertyuiop123"] {
        let key = anna.form_key(&site).await;
        let form = [("form_key", key.as_str()), ("present", PASSWORD), ("new", weak)];
        let sent = anna.client.post(site.url("/account/password")).form(&form).send().await;
        let page = sent.unwrap().text().await.unwrap();
        assert!(page.contains("easy to guess") && page.contains("four or five words"), "{page}");
    }
    assert_eq!(log_in(&site, "anna@club.example", PASSWORD).await, 303, "it is still the old one");
}

const STAFF: &str = "staff@photogate.example";

/// A service that asks for second factors, and staff without one.
async fn a_site_with_staff(app: &mut App) -> Site {
    app.config.second_factor_required = true;
    app.a_person(STAFF, Role::Staff, None).await;
    Site::of(app).await
}

/// The code that the person's app shows so many steps from now.
async fn code(app: &App, steps: i64) -> String {
    let secret: Vec<u8> = sqlx::query_scalar("SELECT secret FROM second_factor")
        .fetch_one(&mut app.as_owner().await)
        .await
        .unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret.as_slice()).build_noncompliant();
    let at = chrono::Utc::now().timestamp() + 30 * steps;
    totp.generate(at.try_into().unwrap()).to_string()
}

/// Sends a form of a page, with its key. The status, where it leads to, and what is answered.
async fn send(
    visitor: &Visitor,
    site: &Site,
    (page, path): (&str, &str),
    field: (&str, &str),
) -> (u16, String, String) {
    let form = visitor.text(site, page).await;
    let key = form.split("name=\"form_key\" value=\"").nth(1).expect("a form");
    let form = [("form_key", key.split('"').next().unwrap()), field, ("to", "/queues")];
    let answer = visitor.client.post(site.url(path)).form(&form).send().await.unwrap();
    let leads = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
    (answer.status().as_u16(), leads.unwrap_or_default(), answer.text().await.unwrap())
}

const SETUP: &str = "/account/second-factor";
const BEGIN: (&str, &str) = (SETUP, "/account/second-factor/begin");
const CONFIRM: (&str, &str) = (SETUP, "/account/second-factor/confirm");
const CODE: (&str, &str) = ("/login/code", "/login/code");

/// Staff set up the second factor. The session, and the recovery codes.
async fn set_up(app: &App, site: &Site) -> (Visitor, Vec<String>) {
    let staff = Visitor::logged_in(site, STAFF).await;
    let (status, leads, said) = send(&staff, site, BEGIN, ("present", PASSWORD)).await;
    assert_eq!((status, leads.as_str()), (303, SETUP), "{said}");
    let (status, _, said) = send(&staff, site, CONFIRM, ("code", &code(app, 0).await)).await;
    assert_eq!(status, 200, "{said}");
    let codes = said.split("<li><code>").skip(1).map(|rest| rest.split('<').next().unwrap());
    (staff, codes.map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_set_up_a_second_factor_before_they_see_anything() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let organisation = app.an_organisation_with(0).await;
    for (email, role, of, needs) in [
        ("ops@photogate.example", Role::Operator, None, true),
        ("finance@club.example", Role::Finance, Some(organisation), true),
        ("anna@club.example", Role::Organiser, Some(organisation), false),
    ] {
        app.a_person(email, role, of).await;
        let visitor = Visitor::logged_in(&site, email).await;
        assert_eq!(visitor.get(&site, "/credits").await, if needs { 303 } else { 200 }, "{email}");
        assert_eq!(visitor.get(&site, SETUP).await, 200, "{email} may");
    }
    let staff = Visitor::logged_in(&site, STAFF).await;
    let other = Visitor::logged_in(&site, STAFF).await;
    for path in ["/queues", "/account", "/organisations", "/events/1/live"] {
        assert!(staff.leads(&site, path).await.starts_with(SETUP), "{path}");
    }
    let path = "/account/sessions/end";
    let (_, leads, _) = send(&staff, &site, (SETUP, path), ("present", PASSWORD)).await;
    assert_eq!((leads.as_str(), other.get(&site, SETUP).await), (SETUP, 200), "and do nothing");
    let (status, _, said) = send(&staff, &site, BEGIN, ("present", "a wrong password")).await;
    assert!(status == 422 && said.contains("not your present password"), "{said}");

    send(&staff, &site, BEGIN, ("present", PASSWORD)).await;
    let shown = staff.text(&site, SETUP).await;
    assert!(shown.contains("<svg") && shown.contains("aria-label=\"QR code"), "{shown}");
    let secret: Vec<u8> = sqlx::query_scalar("SELECT secret FROM second_factor")
        .fetch_one(&mut app.as_owner().await)
        .await
        .unwrap();
    let text = totp_rs::Secret::from(secret.as_slice()).to_base32();
    assert!(shown.replace(' ', "").contains(&text), "{shown}");
    let (status, ..) = send(&staff, &site, CONFIRM, ("code", "000000")).await;
    assert_eq!((status, staff.get(&site, "/queues").await), (422, 303), "a wrong code");
    let (status, _, said) = send(&staff, &site, CONFIRM, ("code", &code(&app, 0).await)).await;

    assert_eq!((status, said.matches("<li><code>").count()), (200, 10), "{said}");
    assert_eq!(staff.get(&site, "/queues").await, 200);
    assert_eq!(other.leads(&site, "/queues").await, "/login?to=%2Fqueues", "it has ended");
    assert!(!staff.text(&site, SETUP).await.replace(' ', "").contains(&text), "not shown again");
    let (status, ..) = send(&staff, &site, (SETUP, BEGIN.1), ("present", PASSWORD)).await;
    assert_eq!(status, 409, "not set up anew by a browser that was left open");
    assert_eq!(app.count("SELECT count(*) FROM recovery_code").await, 10);
    let told = "SELECT count(*) FROM audit_log WHERE action = 'person.second_factor'";
    assert_eq!(app.count(told).await, 1);
    let workers = "SELECT count(*) FROM pg_class
                   WHERE relname IN ('second_factor', 'recovery_code', 'invitation', 'session')
                     AND has_any_column_privilege('photogate_worker', oid, 'SELECT')";
    assert_eq!(app.count(workers).await, 0, "no worker can read any of it");
}

/// As people do it; the screenshots show that the browser draws the QR code.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_set_up_and_used_in_a_browser() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let browser = Browser::open(&site, "second-factor", DESK).await;
    let password = async |field: &str| browser.write(field, PASSWORD).await;
    browser.go("/login?to=/workers").await;
    browser.write("input[name=email]", STAFF).await;
    password("input[name=password]").await;
    browser.press("Log in").await;
    browser.sees("Your role needs it.").await;
    password("input[name=present]").await;
    browser.press("Set it up").await;
    browser.sees("Scan this with the app").await;
    browser.keep("setup").await;
    browser.write("input[name=code]", &code(&app, 0).await).await;
    browser.press("Confirm").await;
    browser.sees("each of these codes").await;
    browser.keep("codes").await;
    browser.press("I have kept them").await;
    browser.press("Log out").await;

    browser.go("/login?to=/workers").await;
    browser.write("input[name=email]", STAFF).await;
    password("input[name=password]").await;
    browser.press("Log in").await;
    browser.sees("The code of your app").await;
    browser.keep("code").await;
    browser.write("input[name=code]", &code(&app, 1).await).await;
    browser.press("Log in").await;

    browser.sees("Workers").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_alone_lets_nobody_in() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let (staff, _) = set_up(&app, &site).await;
    let stranger = Visitor::stranger();
    let form = [("email", STAFF), ("password", PASSWORD), ("to", "/workers")];
    let answer = stranger.client.post(site.url("/login")).form(&form).send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/login/code?to=%2Fworkers");
    for path in ["/queues", "/account", SETUP, "/credits/live"] {
        assert!(stranger.leads(&site, path).await.starts_with("/login/code"), "{path}");
    }
    let (_, leads, _) = send(&stranger, &site, (CODE.0, "/account/password"), ("new", "x")).await;
    assert_eq!(leads, "/login/code", "and do nothing");
    assert_eq!(send(&stranger, &site, CODE, ("code", "000000")).await.0, 401);
    // Who only knows the password ends no session of the owner.
    app.owner_runs(
        "INSERT INTO session (hash, person_id, expires_at, address, browser, awaits_code)
         SELECT sha256(gen_random_uuid()::text::bytea), person_id, expires_at, '', '', true
         FROM session, generate_series(1, 20) WHERE awaits_code",
    )
    .await;
    let late = Visitor::logged_in(&site, STAFF).await;
    assert_eq!(app.count("SELECT count(*) FROM session WHERE awaits_code").await, 20);
    assert_eq!(staff.get(&site, "/queues").await, 200);
    assert_eq!(staff.text(&site, "/account").await.matches("this browser").count(), 1);

    let (status, leads, _) = send(&late, &site, CODE, ("code", &code(&app, 1).await)).await;

    assert_eq!((status, leads.as_str()), (303, "/queues"));
    assert_eq!(late.get(&site, "/queues").await, 200);
    app.owner_runs("UPDATE session SET created_at = created_at - interval '11 minutes'").await;
    let too_late = Visitor::logged_in(&site, STAFF).await;
    app.owner_runs(
        "UPDATE session SET created_at = created_at - interval '11 minutes' WHERE awaits_code",
    )
    .await;
    assert_eq!(too_late.leads(&site, CODE.0).await, "/login?to=%2Flogin%2Fcode");
    assert_eq!(late.get(&site, "/queues").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_lets_in_once_and_no_older_one_after_it() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    set_up(&app, &site).await;
    let next = code(&app, 1).await;
    let mut statuses = Vec::new();
    for code in [code(&app, -4).await, code(&app, 4).await, next.clone(), next, code(&app, 0).await]
    {
        let visitor = Visitor::logged_in(&site, STAFF).await;
        statuses.push(send(&visitor, &site, CODE, ("code", &code)).await.0);
    }

    assert_eq!(statuses, [401, 401, 303, 401, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_not_guessed_from_one_network_or_from_everywhere() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    set_up(&app, &site).await;
    let visitor = Visitor::logged_in(&site, STAFF).await;
    for _ in 0..10 {
        assert_eq!(send(&visitor, &site, CODE, ("code", "000000")).await.0, 401);
    }
    let next = code(&app, 1).await;
    assert_eq!(send(&visitor, &site, CODE, ("code", &next)).await.0, 429, "from this network");

    app.owner_runs(
        "DELETE FROM login_try;
         INSERT INTO login_try
         VALUES (sha256('account CODE staff@photogate.example'), 101, clock_timestamp())",
    )
    .await;
    assert_eq!(send(&visitor, &site, CODE, ("code", &next)).await.0, 429, "from everywhere");
    app.owner_runs("DELETE FROM login_try").await;
    assert_eq!(send(&visitor, &site, CODE, ("code", &next)).await.0, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_code_lets_in_once() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let (_, codes) = set_up(&app, &site).await;
    let mut statuses = Vec::new();
    for code in [&codes[3].to_uppercase().replace('-', " "), &codes[3], &codes[4]] {
        let visitor = Visitor::logged_in(&site, STAFF).await;
        statuses.push(send(&visitor, &site, CODE, ("code", code)).await.0);
    }

    assert_eq!(statuses, [303, 401, 303]);
    let told = "SELECT count(*) FROM audit_log
                WHERE action = 'person.recovery_code' AND detail->>'left' IN ('9', '8')";
    assert_eq!(app.count(told).await, 2);
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM recovery_code r WHERE strpos(r::text, $1) > 0")
            .bind(codes[0].replace('-', ""))
            .fetch_one(&mut app.as_owner().await)
            .await
            .unwrap();
    assert_eq!(kept, 0, "only hashes are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_reset_a_second_factor_that_is_lost() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let (staff, _) = set_up(&app, &site).await;
    let token = app.a_token(Role::Staff, None).await;
    let (_, people) = site.get("/v1/people", &token).await;
    assert_eq!(people["items"][0]["has_second_factor"], true);
    let path = "/v1/people/1/second-factor";
    let reset = site.ask(Method::DELETE, path, &token).send().await.unwrap();

    assert_eq!(reset.status(), 204);
    assert!(staff.leads(&site, "/queues").await.starts_with("/login?"), "the sessions end");
    assert_eq!(site.ask(Method::DELETE, path, &token).send().await.unwrap().status(), 404);
    set_up(&app, &site).await;
    assert!(app.says(&["people", "list"]).contains("yes"));
    app.says(&["people", "reset-second-factor", STAFF]);
    assert!(
        Visitor::logged_in(&site, STAFF).await.leads(&site, "/queues").await.starts_with(SETUP)
    );
    assert_eq!(app.count("SELECT count(*) FROM recovery_code").await, 0);
    let told = "SELECT count(*) FROM audit_log WHERE action = 'person.second_factor_reset'";
    assert_eq!(app.count(told).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_token_needs_no_second_factor() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let token = app.a_token(Role::Staff, None).await;
    let visitor = Visitor::stranger();
    let form = [("password", token.as_str())];
    visitor.client.post(site.url("/login")).form(&form).send().await.unwrap();

    assert_eq!(visitor.get(&site, "/queues").await, 200);
    assert_eq!(visitor.get(&site, SETUP).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn organisers_invite_people_and_make_tokens_on_pages() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let other = app.an_organisation_with(0).await;
    app.a_person("eve@other.example", Role::Organiser, Some(other)).await;
    let anna = Visitor::logged_in(&site, "anna@club.example").await;
    let sent = async |path: &str, fields: &[(&str, &str)]| {
        let key = anna.form_key(&site).await;
        let form: Vec<_> = fields.iter().copied().chain([("form_key", key.as_str())]).collect();
        anna.client.post(site.url(path)).form(&form).send().await.unwrap().text().await.unwrap()
    };
    let invited = [("email", "bert@club.example"), ("role", "finance")];
    let page = sent("/people/invite", &invited).await;
    let link = page.split(&site.url("/invitation/")).nth(1).expect("a whole link");
    let link = format!("/invitation/{}", link.split('"').next().unwrap());
    assert!(page.contains("href=\"mailto:bert%40club.example?subject="), "{page}");
    assert_eq!(choose(&site, &link, PASSWORD).await.0, 200);
    assert!(anna.text(&site, "/people").await.contains("bert@club.example"));
    assert!(!anna.text(&site, "/people").await.contains("eve@other.example"));
    sent("/people/invite", &[("email", "carl@club.example"), ("role", "finance")]).await;
    assert!(anna.text(&site, "/people").await.contains("Open links"));
    assert_eq!(anna.post(&site, "/people/invitations/2/withdraw", &[]).await, 303);
    assert!(!anna.text(&site, "/people").await.contains("carl@club.example"));
    assert_eq!(anna.get(&site, "/people/2/disable").await, 404, "not hers");
    assert_eq!(anna.post(&site, "/people/2/disable", &[]).await, 404, "not hers");
    assert!(anna.text(&site, "/people/3/disable").await.contains("Only staff can enable"));
    let disabled = "SELECT count(*) FROM person WHERE disabled_at IS NOT NULL";
    assert_eq!(app.count(disabled).await, 0, "asked only");
    assert_eq!(anna.post(&site, "/people/3/disable", &[]).await, 303);
    assert_eq!(anna.post(&site, "/people/3/enable", &[]).await, 403, "only staff");
    assert_eq!(anna.post(&site, "/people/1/password", &[]).await, 403, "only staff");

    let new = [("name", "uploads"), ("role", "pipeline"), ("expires_in_days", "30")];
    let page = sent("/tokens", &new).await;
    let secret =
        format!("pg_{}", page.split("value=\"pg_").nth(1).unwrap().split('"').next().unwrap());
    assert_eq!(site.get("/v1/events", &secret).await.0, 200);
    let soon = "SELECT count(*) FROM token WHERE expires_at < now() + interval '31 days'";
    assert_eq!(app.count(soon).await, 1);
    assert!(anna.text(&site, "/tokens").await.contains("uploads"));
    assert!(anna.text(&site, "/tokens/1/revoke").await.contains("nobody can take that back"));
    assert_eq!(site.get("/v1/events", &secret).await.0, 200, "asked only");
    assert_eq!(anna.post(&site, "/tokens/1/revoke", &[]).await, 303);
    assert_eq!(site.get("/v1/events", &secret).await.0, 401);

    for _ in 0..50 {
        app.a_token(Role::Pipeline, Some(photogate::ids::OrganisationId(1))).await;
    }
    app.owner_runs("UPDATE token SET name = token_id::text").await;
    let first = anna.text(&site, "/tokens").await;
    let next = first.split("rel=\"next\" href=\"").nth(1).expect("a next page");
    let next = next.split('"').next().unwrap().replace("&amp;", "&");
    assert!(!first.contains(">1</td>"), "{first}");
    assert!(anna.text(&site, &next).await.contains(">1</td>"), "{next}");
}

/// Found: whoever knew the password could plant a secret, which the owner then confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_confirmed_only_where_it_was_begun() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let somebody = Visitor::logged_in(&site, STAFF).await;
    assert_eq!(send(&somebody, &site, BEGIN, ("present", PASSWORD)).await.0, 303);
    let planted = code(&app, 0).await;
    let owner = Visitor::logged_in(&site, STAFF).await;

    let page = owner.text(&site, SETUP).await;

    assert!(page.contains("Your present password") && !page.contains("QR code"), "{page}");
    let confirm = (SETUP, CONFIRM.1);
    assert_eq!(send(&owner, &site, confirm, ("code", &planted)).await.0, 422);
    let told = "SELECT count(*) FROM audit_log WHERE action = 'person.second_factor_begin'";
    assert_eq!(app.count(told).await, 1);
    // Nor later, by whoever sits at that browser.
    app.owner_runs("UPDATE photogate.second_factor SET begun_at = now() - interval '11 minutes'")
        .await;
    assert!(!somebody.text(&site, SETUP).await.contains("QR code"));
    assert_eq!(app.count("SELECT count(confirmed_at) FROM second_factor").await, 0);
}

/// What was copied before the code is worth nothing after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_new_secret_after_the_code() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    let (_, codes) = set_up(&app, &site).await;
    let hash = "SELECT ('x' || substr(encode(hash, 'hex'), 1, 15))::bit(60)::bigint FROM session
                ORDER BY session_id DESC LIMIT 1";
    let visitor = Visitor::logged_in(&site, STAFF).await;
    let before = app.count(hash).await;

    assert_eq!(send(&visitor, &site, CODE, ("code", &codes[0])).await.0, 303);

    assert_ne!(app.count(hash).await, before);
    assert_eq!(visitor.get(&site, "/queues").await, 200);
}

/// Found: a token that somebody had made for herself outlived her access.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_keeps_no_way_in() {
    let app = App::new().await;
    let site = a_club_with_anna(&app).await;
    let club = photogate::ids::OrganisationId(1);
    let hers = app.a_token(Role::Organiser, Some(club)).await;
    app.owner_runs("UPDATE photogate.token SET created_by = 'anna@club.example'").await;
    let new = |role: &str| json!({ "name": "next", "role": role, "organisation": 1 });
    let next = site.post("/v1/tokens", &hers, new("organiser")).await.1;
    let next = next["secret"].as_str().unwrap().to_owned();
    let uploads = site.post("/v1/tokens", &next, new("pipeline")).await.1;
    let uploads = uploads["secret"].as_str().unwrap().to_owned();

    app.says(&["people", "disable", "anna@club.example"]);

    for token in [&hers, &next] {
        assert_eq!(site.get("/v1/events", token).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(site.get("/v1/events", &uploads).await.0, StatusCode::OK, "uploads go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_session_of_staff_keeps_its_owner_not_out() {
    let mut app = App::new().await;
    let site = a_site_with_staff(&mut app).await;
    app.config.second_factor_required = false;
    let (staff, _) = set_up(&app, &site).await;

    assert_eq!(staff.post(&site, "/people/1/password", &[]).await, 403);
    assert_eq!(staff.post(&site, "/people/1/second-factor", &[]).await, 403);
}

/// A request may have been sent before its sender was locked out, and come to its end after.
#[tokio::test]
async fn nobody_makes_a_link_after_their_access_has_ended() {
    let app = App::new().await;
    let club = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(club)).await;
    let anna = photogate::access::Caller {
        actor: "anna@club.example".into(),
        role: Role::Organiser,
        organisation: Some(club),
    };
    app.says(&["people", "disable", "anna@club.example"]);
    let new = json!({ "email": "ben@club.example", "role": "finance", "organisation": club });
    let new = serde_json::from_value(new).unwrap();

    let refused = app.commands().invite(&anna, &new).await.unwrap_err();

    assert!(refused.to_string().contains("your access has ended"), "{refused}");
}
