//! The drill, in short, and that it would notice.

use std::{process::Output, time::Duration};

use photogate::{
    access::Caller,
    changes::{Type, feed},
    database::{self, DatabaseError},
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        spending::{self, Budget, Pace},
    },
    rig::drill::{Drill, Expected, Heard, Tally, Told, tally},
};
use serde_json::json;

use crate::support::{App, a_database_of_somebody_else, photogate, place, stderr, stdout};

/// Runs `photogate drill` with these arguments, in a place of its own.
fn drill(app: &App, name: &str, arguments: &str) -> Output {
    let place = place(name);
    let place = ["--json", "--place", place.to_str().unwrap()];
    let arguments: Vec<_> =
        ["drill"].into_iter().chain(arguments.split(' ')).chain(place).collect();
    photogate(&app.config, &arguments)
}

/// The tally is the last line that a drill prints.
fn last_line(output: &Output) -> Tally {
    let printed = stdout(output);
    let line = printed.lines().last().unwrap_or_else(|| panic!("{}", stderr(output)));
    serde_json::from_str(line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_workers_servers_and_connections_die() {
    let app = App::new().await;

    // Two versions that follow, which are the same program: their workers take over from each other.
    let next = env!("CARGO_BIN_EXE_photogate");
    let arguments =
        format!("--jobs 3000 --kills 10 --seed 7 --upgrade-to {next} --upgrade-to {next}");
    let output = drill(&app, "drill", &arguments);

    let said = stderr(&output);
    let tally = last_line(&output);
    assert!(output.status.success() && tally.is_clean(), "{tally:?}\n{said}");
    assert_eq!((tally.jobs, tally.kills, tally.seed), (3000, 10, 7));
    // A slow machine also sees lines before, which tell how far it is.
    let sum = said.lines().find(|line| line.starts_with("10 kills")).expect(&said);
    for struck in ["PostgreSQL crashed", "cut", "2 upgrades", "late settles refused", "budgets set"]
    {
        assert!(sum.contains(struck), "{said}");
    }
    assert!(
        !sum.contains(" 0 freezes") && !sum.contains(" 0 times") && !sum.contains(" 0 late"),
        "{said}"
    );
    let reached = [tally.caps_reached, tally.floors_reached, tally.in_flight_reached];
    assert!(!reached.contains(&0), "nothing was tested: {tally:?}");
    assert!(tally.causes > 3000 && tally.calls > 0, "webhooks said nothing: {tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_of_somebody_elses_it_makes_a_database_and_drops_it() {
    let app = App::new().await;
    let server = a_database_of_somebody_else().await;

    let arguments = format!("--jobs 300 --kills 2 --server {server}");
    let output = drill(&app, "drill-elsewhere", &arguments);

    let tally = last_line(&output);
    assert!(tally.is_clean(), "{}", stderr(&output));
    assert_eq!((tally.jobs, tally.kills), (300, 2), "there was a drill");
    let left =
        app.count("SELECT count(*) FROM pg_database WHERE datname LIKE 'photogate_drill%'").await;
    assert_eq!(left, 0);
}

/// A drill that went well, in small: four photos. No more could be claimed: the event may use four
/// credits, four photos may be in flight, and the other six credits are kept for another event.
async fn a_calm_app() -> (App, Drill, Told) {
    let app = App::new().await;
    let (drill, told) = a_small_drill(&app, 4).await;
    (app, drill, told)
}

/// All its photos but one are processed.
async fn a_small_drill(app: &App, photos: usize) -> (Drill, Told) {
    let (organisation, event) = app.an_event_with(10).await;
    app.commands().feed_photos(&Caller::trusted("anna"), organisation, true).await.unwrap();
    let other = app.an_event_of(organisation).await;
    let mut db = app.db().await;
    let cap = Budget { cap: Some(Credits(4)), floor: Credits(0) };
    let floor = Budget { cap: None, floor: Credits(6) };
    for (event, budget) in [(event, cap), (other, floor)] {
        spending::set_budget(&mut db, event, budget, "anna").await.unwrap();
    }
    let pace = Pace { in_flight_max: Some(4), ..Pace::default() };
    spending::set_pace(&mut db, organisation, None, pace, "drill").await.unwrap();
    drop(db);
    app.queue(event, "ok", photos).await;
    let hand = app.a_worker().await;
    for (number, reservation) in hand.claim(photos).await.into_iter().enumerate() {
        if number == 0 {
            hand.fail(reservation).await
        } else {
            hand.succeed(reservation).await
        };
    }
    let drill = Drill {
        jobs: photos,
        kills: 0,
        seed: 1,
        workers: 1,
        place: place("never"),
        server: None,
        upgrades: Vec::new(),
    };
    let expected = Expected { photos, funded: vec![(organisation, 10)] };
    (drill, Told { expected, ..Told::default() })
}

#[tokio::test]
async fn the_tally_sees_each_kind_of_harm() {
    type Count = fn(&Tally) -> i64;
    let (app, drill, told) = a_calm_app().await;
    let calm = tally(&app.pool, &drill, &told).await.unwrap();
    assert!(calm.is_clean(), "{calm:?}");
    assert_eq!((calm.caps_reached, calm.floors_reached, calm.in_flight_reached), (1, 1, 1));

    let harms: [(&str, Count); 11] = [
        ("DELETE FROM job WHERE position = 2", |tally| tally.lost),
        ("DELETE FROM outcome WHERE state = 'failed'", |tally| tally.lost),
        (
            "INSERT INTO ledger SELECT transaction_id + 1000000, leg, movement, organisation_id, \
             entry + 1000, amount, worker_id FROM ledger WHERE movement = 'commit';
             INSERT INTO job SELECT queue_id, position + 1000, job_id + 1000000, photo_id, run_id, \
                 1 FROM job",
            |tally| tally.charged_twice,
        ),
        (
            "INSERT INTO in_flight SELECT job_id, 1, queue_id, run_id, photo_id, 1, 1, 0, 0, now() \
             FROM job LIMIT 1",
            |tally| tally.stuck,
        ),
        ("UPDATE queue_tail SET tail = tail + 1 WHERE tail > 0", |tally| tally.stranded),
        (
            "INSERT INTO attempt SELECT job_id, attempt, worker_id, now(), now(), 'worker_gone' \
             FROM outcome LIMIT 1",
            |tally| tally.late_settles_accepted,
        ),
        ("UPDATE budget_change SET cap = 3 WHERE cap = 4", |tally| tally.caps_exceeded),
        ("UPDATE budget_change SET floor = 7 WHERE floor = 6", |tally| tally.floors_violated),
        ("UPDATE pace SET in_flight_max = 3", |tally| tally.in_flight_exceeded),
        ("UPDATE account SET available = available + 1, funded = funded + 1", |tally| tally.drift),
        ("UPDATE link SET hash = sha256('x') WHERE first_entry = 1", |tally| tally.drift),
    ];
    for (harm, count) in harms {
        let (mut app, drill, told) = a_calm_app().await;
        app.audited = false;
        app.tamper(harm).await;

        let tally = tally(&app.pool, &drill, &told).await.unwrap();

        assert!(count(&tally) > 0 && !tally.is_clean(), "{harm}: {tally:?}");
    }

    let funded_twice = Told {
        expected: Expected { photos: 4, funded: vec![(OrganisationId(1), 5)] },
        ..told.clone()
    };
    assert_eq!(tally(&app.pool, &drill, &funded_twice).await.unwrap().drift, 1);
    let stood_still = Told { upgrades_missed: 2, ..told.clone() };
    let seen = tally(&app.pool, &drill, &stood_still).await.unwrap();
    assert_eq!((seen.upgrades_missed, seen.is_clean()), (2, false));
    let alarmed = Told { alarms: 2, late_accepted: 1, ..told };
    let seen = tally(&app.pool, &drill, &alarmed).await.unwrap();
    assert_eq!((seen.drift, seen.late_settles_accepted), (2, 1));
}

/// Found: after several upgrades, the program that drives a drill refused to count.
#[tokio::test]
async fn the_books_are_counted_also_if_the_schema_serves_the_drill_no_more() {
    let (mut app, drill, told) = a_calm_app().await;
    app.audited = false;
    let url = &app.config.database_url;
    let books = database::connect_for(url, 1, Duration::from_secs(60)).await.unwrap();
    drop(books.acquire().await.unwrap());
    app.owner_runs("UPDATE functions_applied SET version = '99.1.0', serves = '99.0.0'").await;
    // Those of the drill were cut, too.
    app.owner_runs(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let refused = database::connect(url, 1).await.unwrap_err();
    assert!(matches!(refused, DatabaseError::TooOld { .. }), "{refused}");

    let tally = tally(&books, &drill, &told).await.unwrap();

    assert!(tally.is_clean(), "{tally:?}");
    assert_eq!(tally.caps_reached, 1);
}

#[tokio::test]
async fn the_tally_sees_what_webhooks_leave_out_or_say_wrongly() {
    let app = App::new().await;
    let (drill, told) = a_small_drill(&app, 4).await;
    let organisation = told.expected.funded[0].0;
    let said = {
        let db = &mut *app.db().await;
        feed::number(db, organisation).await.unwrap();
        feed::list(db, organisation, 0, &Type::ALL, 1000).await.unwrap()
    };
    let calls: Vec<_> = said
        .into_iter()
        .map(|(id, change)| Heard {
            organisation,
            id,
            kind: change.kind.code().to_owned(),
            subject: change.subject,
            data: change.data,
            is_signed: true,
        })
        .collect();
    let seen = async |calls: &[Heard]| {
        let told = Told { heard: Some(calls.to_vec()), ..told.clone() };
        let tally = tally(&app.pool, &drill, &told).await.unwrap();
        (tally.changes_lost, tally.changes_untrue, tally.changes_out_of_order)
    };
    let at = |kind: &str| calls.iter().position(|call| call.kind == kind).unwrap();

    assert_eq!(seen(&calls).await, (0, 0, 0), "{calls:?}");
    assert!(seen(&[]).await.0 >= 8, "photos, entries and top-ups");
    let mut some = calls.clone();
    some.remove(at("run.queued"));
    assert_eq!(seen(&some).await.0, 2, "the change, and its number");
    let mut twice = calls.clone();
    twice.push(twice[0].clone());
    assert_eq!(seen(&twice).await, (0, 0, 0), "it may come again");
    let finished = at("run.finished");
    let mut early = calls.clone();
    let call = early.remove(finished);
    early.insert(at("run.queued"), call);
    assert!(seen(&early).await.2 > 0, "{early:?}");
    let photos = at("photo.processed");
    let wrong = |change: fn(&mut Heard)| {
        let mut calls = calls.clone();
        change(&mut calls[photos]);
        calls
    };
    let dropped = wrong(|call| {
        call.data["photos"].as_array_mut().unwrap().remove(0);
    });
    assert_eq!(seen(&dropped).await, (1, 0, 0));
    let other = wrong(|call| call.data["photos"][0]["state"] = json!("crashed"));
    assert_eq!(seen(&other).await, (1, 1, 0));
    let forged = wrong(|call| call.is_signed = false);
    assert_eq!(seen(&forged).await, (0, 1, 0));
    let mut more = calls.clone();
    let id = 1 + i64::try_from(calls.len()).unwrap();
    more.push(Heard { id, subject: "runs/77".into(), ..calls[finished].clone() });
    assert_eq!(seen(&more).await, (0, 1, 0));
}

#[tokio::test]
async fn the_tally_sees_a_gate_that_keeps_to_nothing_that_was_decided() {
    let mut app = App::new().await;
    app.audited = false;
    app.owner_runs(
        "CREATE OR REPLACE FUNCTION photogate.spendable(p_organisations bigint[])
         RETURNS TABLE (r_organisation bigint, r_event bigint, r_spendable bigint, r_cap_left bigint,
                        r_floor_left bigint, r_free bigint) LANGUAGE sql STABLE AS $$
             SELECT organisation_id, NULL::bigint, available, NULL::bigint, 0::bigint, available
             FROM photogate.account WHERE organisation_id = ANY (p_organisations) $$;
         CREATE OR REPLACE FUNCTION photogate.rooms(p_organisation bigint)
         RETURNS TABLE (r_event bigint, r_room bigint, r_by text) LANGUAGE sql STABLE AS $$
             SELECT NULL::bigint, NULL::bigint, NULL::text WHERE false $$",
    )
    .await;

    let (drill, told) = a_small_drill(&app, 6).await;

    let seen = tally(&app.pool, &drill, &told).await.unwrap();
    assert_eq!((seen.caps_exceeded, seen.floors_violated, seen.in_flight_exceeded), (2, 2, 2));
}
