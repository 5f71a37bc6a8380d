//! Everybody's share of the service: who asks for too much is refused, and others do not notice.

use std::time::Duration;

use photogate::{
    access::{Caller, Role},
    catalog::organisations,
    ids::{EventId, OrganisationId},
};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::json;
use sqlx::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    App,
    browser::PASSWORD,
    site::{Site, Visitor, answered},
};

/// An organisation with an event and a token.
async fn a_club(app: &App) -> (OrganisationId, EventId, String) {
    let (organisation, event) = app.an_event_with(1_000).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    (organisation, event, token)
}

async fn get(site: &Site, path: &str, token: &str) -> Response {
    site.ask(Method::GET, path, token).send().await.expect("the service answers")
}

/// The statuses of so many requests, sent at once.
async fn rush(site: &Site, path: &str, token: &str, requests: usize) -> Vec<u16> {
    let asked = (0..requests).map(|_| async { get(site, path, token).await.status().as_u16() });
    futures::future::join_all(asked).await
}

fn refused(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 429).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_above_its_rate_is_told_when_to_come_again_and_others_are_answered() {
    let mut app = App::new().await;
    (app.config.requests_per_second, app.config.requests_at_once) = (20, 64);
    let site = Site::of(&app).await;
    let (organisation, event, loud) = a_club(&app).await;
    let colleague = app.a_token(Role::Organiser, Some(organisation)).await;
    let (_, other_event, other) = a_club(&app).await;
    let path = format!("/v1/events/{event}");

    // Half of the organisation's rate, and after a rest twice as much: 20 at once.
    let statuses = rush(&site, &path, &loud, 60).await;
    let mut last = get(&site, &path, &loud).await;
    while last.status() == 200 {
        last = get(&site, &path, &loud).await;
    }

    assert!((30..=40).contains(&refused(&statuses)), "{statuses:?}");
    assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = last.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(get(&site, &path, &colleague).await.status(), 200);
    let path = format!("/v1/events/{other_event}");
    assert_eq!(refused(&rush(&site, &path, &other, 10).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_above_its_rate_is_refused_whatever_the_token() {
    let mut app = App::new().await;
    (app.config.requests_per_second, app.config.requests_at_once) = (20, 64);
    let site = Site::of(&app).await;
    let (organisation, event, first) = a_club(&app).await;
    let mut tokens = vec![first];
    for _ in 0..3 {
        tokens.push(app.a_token(Role::Organiser, Some(organisation)).await);
    }
    let path = format!("/v1/events/{event}");

    let all = tokens.iter().map(|token| rush(&site, &path, token, 20));
    let statuses = futures::future::join_all(all).await.concat();

    // 80 were sent, 40 may be answered at once, and a few more while it lasts.
    assert!((25..=40).contains(&refused(&statuses)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_tokens_is_refused_before_the_database_is_asked() {
    let mut app = App::new().await;
    app.config.requests_per_second_of_address = 10;
    let site = Site::of(&app).await;
    let (_, _, known) = a_club(&app).await;
    assert_eq!(get(&site, "/v1/events", &known).await.status(), 200);

    let guesses = (0..40).map(|n| {
        let site = &site;
        async move { get(site, "/v1/events", &format!("pg_{n}")).await.status().as_u16() }
    });
    let statuses = futures::future::join_all(guesses).await;

    assert!(refused(&statuses) >= 15, "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert_eq!(get(&site, "/v1/events", &known).await.status(), 200, "from the same address");
}

/// Somebody keeps a queue of the organisation locked, and its pipelines go on sending. Found: each
/// token had places of its own to wait in, and so 15 tokens took all places of the service.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_take_only_the_share_of_their_organisation() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (club, stuck, loud) = a_club(&app).await;
    let (other_club, other_event, other) = a_club(&app).await;
    for (club, under) in [(club, "club/"), (other_club, "other/")] {
        organisations::set_photos_under(&mut *app.db().await, club, under).await.unwrap();
    }
    app.queue(stuck, "ok", 1).await;
    let mut owner = app.as_owner().await;
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("SELECT FROM queue_tail FOR UPDATE").execute(&mut *lock).await.unwrap();
    let body = |key: &str| json!({ "operation": "photo_processing", "keys": [key] });
    let mut tokens = vec![loud];
    for _ in 0..29 {
        tokens.push(app.a_token(Role::Pipeline, Some(club)).await);
    }
    let hanging: Vec<_> = (0..1_200)
        .map(|n| {
            let path = format!("/v1/events/{stuck}/runs");
            let token = &tokens[n % tokens.len()];
            let request =
                site.ask(Method::POST, &path, token).json(&body(&format!("club/{n}.jpg")));
            tokio::spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) })
        })
        .collect();
    app.until_somebody_waits_for_a_lock().await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    // Others read, and write.
    let path = format!("/v1/events/{other_event}");
    assert_eq!(refused(&rush(&site, &path, &other, 20).await), 0);
    let path = format!("/v1/events/{other_event}/runs?dry_run=true");
    let mut dry = body("other/a.jpg");
    dry["dry_run"] = true.into();
    assert_eq!(site.post(&path, &other, dry).await.0, 200);
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    assert!(app.count(waiting).await <= 2, "connections that wait for the lock");

    lock.rollback().await.unwrap();
    let answers = futures::future::join_all(hanging).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    assert!(statuses.contains(&202), "{statuses:?}");
    assert!(statuses.iter().all(|status| [202, 429].contains(status)), "{statuses:?}");
}

/// Found: 64 half-sent logins kept everybody else from logging in.
#[tokio::test(flavor = "multi_thread")]
async fn logins_that_are_sent_by_half_keep_nobody_out() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    let mut halves = Vec::new();
    for _ in 0..100 {
        let mut half = TcpStream::connect(site.address).await.unwrap();
        let head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\
                    content-type: application/x-www-form-urlencoded\r\n\r\nemail=";
        half.write_all(head.as_bytes()).await.unwrap();
        halves.push(half);
    }

    Visitor::logged_in(&site, "anna@club.example").await;

    let large = [("email", "anna@club.example"), ("password", &*PASSWORD.repeat(1_000))];
    let refused = site.client.post(site.url("/login")).form(&large).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_bounded_while_they_are_read() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (_, event, token) = a_club(&app).await;
    let path = format!("/v1/events/{event}/runs");
    let keys = vec!["a"; 10_001];
    let skip = format!("/v1/events/{event}/skip");
    let photos = vec![uuid::Uuid::nil(); 10_001];

    let (status, problem) =
        site.post(&path, &token, json!({ "operation": "ai_rotation", "keys": keys })).await;
    let (skipped, _) =
        site.post(&skip, &token, json!({ "operation": "ai_rotation", "photos": photos })).await;

    assert_eq!((status, skipped), (422.try_into().unwrap(), 422.try_into().unwrap()));
    assert!(problem["detail"].as_str().unwrap().contains("10000"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_opens_no_more_streams_than_its_share() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (organisation, _, _) = a_club(&app).await;
    let (_, other_event, other) = a_club(&app).await;
    let path = format!("/v1/organisations/{organisation}/live");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let token = app.a_token(Role::Organiser, Some(organisation)).await;
        for _ in 0..17 {
            streams.push(get(&site, &path, &token).await);
        }
    }

    let open = streams.iter().filter(|stream| stream.status() == 200).count();

    assert_eq!(open, 50);
    let path = format!("/v1/events/{other_event}/live");
    assert_eq!(get(&site, &path, &other).await.status(), 200);
}

/// Found: a connection on which half a request had come was kept for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_no_whole_request_comes_is_ended() {
    let mut app = App::new().await;
    app.config.idle_seconds = 1;
    let site = Site::of(&app).await;
    let mut half = TcpStream::connect(site.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-half: ").await.unwrap();

    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), half.read_to_end(&mut said)).await;

    assert!(ended.is_ok(), "it is still open");
}

/// A try to log in from an address, through a proxy.
async fn try_from(site: &Site, address: &str, email: &str, password: &str) -> u16 {
    let form = [("email", email), ("password", password)];
    let client = Visitor::stranger().client;
    let sent = client.post(site.url("/login")).header("x-forwarded-for", address).form(&form);
    sent.send().await.expect("the service answers").status().as_u16()
}

/// A service behind a proxy, and somebody who can log in.
async fn behind_a_proxy(app: &mut App) -> Site {
    app.config.behind_https = true;
    let organisation = app.an_organisation_with(0).await;
    app.a_person("anna@club.example", Role::Organiser, Some(organisation)).await;
    Site::of(app).await
}

/// Found: 500 tries from 51 networks locked an account for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_locked_out_by_others() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    for network in 0..60 {
        for _ in 0..2 {
            let address = format!("10.0.{network}.1");
            try_from(&site, &address, "anna@club.example", "a wrong password").await;
        }
    }

    // The last of them: on a slow machine, the first may have got a try back.
    let again = try_from(&site, "10.0.59.1", "anna@club.example", PASSWORD).await;
    let owner = try_from(&site, "192.0.2.7", "anna@club.example", PASSWORD).await;

    assert_eq!((again, owner), (429, 303));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_of_the_service_count_tries_together() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    let other = Site::of(&app).await;
    let mut statuses = Vec::new();
    for turn in 0..12 {
        let site = if turn % 2 == 0 { &site } else { &other };
        statuses.push(try_from(site, "10.0.0.1", "anna@club.example", "a wrong password").await);
    }
    assert_eq!((&statuses[..10], &statuses[10..]), (&[401; 10][..], &[429; 2][..]));

    // 90 seconds bring one try back, for this account and this network.
    let mut owner = app.as_owner().await;
    sqlx::query("UPDATE login_try SET at = at - interval '3 minutes'")
        .execute(&mut owner)
        .await
        .unwrap();
    let later = try_from(&site, "10.0.0.1", "anna@club.example", "a wrong password").await;
    let soon = try_from(&site, "10.0.0.1", "anna@club.example", "a wrong password").await;
    assert_eq!((later, soon), (401, 429));
}

/// Found: whoever logged in with a token shared one count with everybody who did.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_one_office_do_not_lock_each_other_out() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    for _ in 0..20 {
        assert_eq!(try_from(&site, "10.0.0.1", "", "pg_wrong").await, 401);
    }
    let organisation = app.an_organisation_with(0).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;

    assert_eq!(try_from(&site, "10.0.0.1", "", &token).await, 303);
}

/// Found: a live stream went on for minutes after its token was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_ends_with_its_token() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (_, event, token) = a_club(&app).await;
    let mut stream = get(&site, &format!("/v1/events/{event}/live"), &token).await;
    assert!(stream.chunk().await.unwrap().is_some());

    app.owner_runs("UPDATE photogate.token SET revoked_at = now()").await;

    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert!(ended.is_ok(), "it is still open");
}

/// Found: a stranger could write an account name that was the name of another count.
#[tokio::test(flavor = "multi_thread")]
async fn no_account_name_is_the_name_of_another_count() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    for name in ["anna@club.example from 192.0.2.7", "from 192.0.2.7 account anna@club.example"] {
        for _ in 0..12 {
            try_from(&site, "10.0.0.1", name, "a wrong password").await;
        }
    }

    assert_eq!(try_from(&site, "192.0.2.7", "anna@club.example", PASSWORD).await, 303);
}

/// One customer of a provider has many networks.
#[tokio::test(flavor = "multi_thread")]
async fn networks_of_one_customer_are_counted_together() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    let mut owner = app.as_owner().await;
    sqlx::query(
        "INSERT INTO login_try VALUES (sha256('wide 2001:db8:7::'), 501, clock_timestamp())",
    )
    .execute(&mut owner)
    .await
    .unwrap();

    let same = try_from(&site, "2001:db8:7:1::1", "anna@club.example", PASSWORD).await;
    let other = try_from(&site, "2001:db8:8:1::1", "anna@club.example", PASSWORD).await;

    assert_eq!((same, other), (429, 303));
}

/// Found: a neighbour with a few IPv4 addresses of the same /24 could lock an owner out, and logins
/// that succeeded counted against the wider network.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_are_not_one_customer_and_logins_that_succeed_do_not_count() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    let mut owner = app.as_owner().await;
    sqlx::query("INSERT INTO login_try VALUES (sha256('wide 192.0.2.0'), 501, clock_timestamp())")
        .execute(&mut owner)
        .await
        .unwrap();
    assert_eq!(try_from(&site, "192.0.2.7", "anna@club.example", PASSWORD).await, 303);

    assert_eq!(try_from(&site, "2001:db8:7:1::1", "anna@club.example", PASSWORD).await, 303);
    let tries = "SELECT tries::float8 FROM login_try WHERE who = sha256('wide 2001:db8:7::')";
    let tries: f64 = sqlx::query_scalar(tries).fetch_one(&mut owner).await.unwrap();
    assert!(tries < 0.5, "{tries}");
}

/// Found: after the clock had been put back, a first try counted as too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_put_back_locks_nobody_out() {
    let mut app = App::new().await;
    let site = behind_a_proxy(&mut app).await;
    assert_eq!(try_from(&site, "192.0.2.7", "anna@club.example", "a wrong password").await, 401);
    let mut owner = app.as_owner().await;
    sqlx::query("UPDATE login_try SET at = at + interval '400 days'")
        .execute(&mut owner)
        .await
        .unwrap();

    assert_eq!(try_from(&site, "192.0.2.7", "anna@club.example", PASSWORD).await, 303);
}

/// Found: only JSON had a limit of time to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let app = App::new().await;
    let site = Site::of(&app).await;
    let (_, event, token) = a_club(&app).await;
    let mut half = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "PUT /v1/events/{event}/start-list HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n12"
    );
    half.write_all(head.as_bytes()).await.unwrap();

    let mut said = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(25), half.read_exact(&mut said)).await;

    read.expect("it is given up before the answer must be there").unwrap();
    assert_eq!(&said, b"HTTP/1.1 400");
}

/// Photos that wait without credits cost their organisation nothing, and the database room.
#[tokio::test(flavor = "multi_thread")]
async fn photos_that_wait_unpaid_and_events_have_an_end() {
    let mut app = App::new().await;
    (app.config.unpaid_photos_max, app.config.events_max) = (5, 2);
    let (organisation, event) = app.an_event_with(1).await;
    let (other, elsewhere) = app.an_event_with(0).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Staff, None).await;
    let queue = async |event: EventId, from: usize, to: usize| {
        let keys: Vec<_> = (from..to).map(|n| format!("rehearsal/ok/{n}")).collect();
        let body = json!({ "operation": "photo_processing", "keys": keys });
        let (status, answer) = site.post(&format!("/v1/events/{event}/runs"), &token, body).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = || (409, "limit_reached".to_owned());

    assert_eq!(queue(event, 0, 6).await.0, 202, "one is paid for, five are not");
    assert_eq!(queue(event, 6, 7).await, refused());
    assert_eq!(queue(event, 0, 6).await.0, 202, "what is there already costs nothing");
    assert_eq!(queue(elsewhere, 0, 5).await.0, 202, "others have their own");
    app.top_up(organisation, 1).await;
    assert_eq!(queue(event, 6, 7).await.0, 202);

    let create = async |organisation: OrganisationId| {
        let body = json!({ "name": "Gala", "organisation": organisation });
        site.post("/v1/events", &token, body).await.0.as_u16()
    };
    assert_eq!((create(organisation).await, create(organisation).await), (201, 409));
    assert_eq!(create(other).await, 201);
    app.commands().delete_event(&Caller::trusted("anna"), event).await.unwrap();
    assert_eq!(create(organisation).await, 201, "a deleted one counts no more");
    let next = EventId(app.count("SELECT max(event_id) FROM event").await);
    assert_eq!(queue(next, 0, 5).await.0, 202, "nor do its photos");
}

/// Found: lists of 199,000 numbers, sent by eight at once, kept others waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_list_that_is_too_long_is_refused_and_the_old_one_stays() {
    let mut app = App::new().await;
    app.config.start_list_max = 3;
    let (_, event) = app.an_event_with(0).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Staff, None).await;
    let put = async |list: &'static str| {
        let path = format!("/v1/events/{event}/start-list");
        answered(site.ask(Method::PUT, &path, &token).body(list)).await
    };

    assert_eq!(put("1\n2\n3\n2\n").await.0, 200, "a number counts once");
    let (status, answer) = put("1\n2\n3\n4\n").await;

    assert_eq!(status, 422, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("more than 3 numbers"), "{answer}");
    let listed = "SELECT cardinality(numbers)::bigint FROM start_list";
    assert_eq!(app.count(listed).await, 3);
}

/// Found: a neighbour whose tries were refused used up those of the whole /48 network.
#[tokio::test]
async fn a_try_that_is_refused_does_not_count_for_others() {
    let app = App::new().await;
    let count = async |sql: &'static str| app.count(sql).await;
    let tries = "SELECT count(*) FILTER (WHERE NOT may_log_in('wide', 'narrow', '')) \
                 FROM generate_series(1, 60)";
    assert_eq!(count(tries).await, 10, "50 were not refused");

    let wide = "SELECT round(tries)::bigint FROM login_try \
                WHERE who = sha256(convert_to('wide wide', 'UTF8'))";
    assert_eq!(count(wide).await, 50);
    let account = "SELECT count(*) FILTER (WHERE may_log_in('w', 'n', 'CODE anna')) \
                   FROM generate_series(1, 40)";
    assert_eq!(count(account).await, 10);
    let counted = "SELECT round(tries)::bigint FROM login_try \
                   WHERE who = sha256(convert_to('account CODE anna', 'UTF8'))";
    assert_eq!(count(counted).await, 10, "not the thirty that were refused");
}
