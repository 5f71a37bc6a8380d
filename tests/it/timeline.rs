//! The timeline of an event: each row is written in the transaction that causes it.

use photogate::{
    access::{Caller, Role},
    catalog::events,
    commands::NewHold,
    ids::{EventId, Operation},
    queue::{
        holds, skips,
        timeline::{self, Cause, Entry, Kind, Stop},
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    App, Hand, code_of, photogate,
    site::{Site, answered},
};

async fn of(app: &App, event: EventId) -> Vec<Entry> {
    let mut entries = timeline::list(&mut *app.db().await, event, None, 10_000).await.unwrap();
    entries.reverse();
    entries
}

/// Oldest first.
async fn kinds(app: &App, event: EventId) -> Vec<(Kind, Option<Cause>)> {
    of(app, event).await.into_iter().map(|entry| (entry.kind, entry.cause)).collect()
}

async fn succeed_all(hand: &Hand<'_>, most: usize) {
    for reservation in hand.claim(most).await {
        assert!(hand.succeed(reservation).await);
    }
}

#[tokio::test]
async fn a_run_is_queued_started_and_finished_and_a_top_up_lets_it_go_on() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(2).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;

    succeed_all(&hand, 9).await;
    let credited = app.top_up(organisation, 5).await;
    succeed_all(&hand, 9).await;
    assert!(hand.claim(9).await.is_empty());

    let entries = of(&app, event).await;
    let told: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.cause)).collect();
    assert_eq!(
        told,
        [
            (Kind::Queued, None),
            (Kind::Started, None),
            (Kind::Paused, Some(Cause::Spent)),
            (Kind::Resumed, Some(Cause::TopUp)),
            (Kind::Finished, None),
            (Kind::Drained, None),
        ]
    );
    assert_eq!((entries[0].run, entries[0].photos), (Some(run.run), Some(3)));
    assert_eq!(entries[0].actor.as_deref(), Some("pipeline@club.example"));
    assert_eq!((entries[1].run, entries[4].run), (Some(run.run), Some(run.run)));
    assert_eq!(entries[4].photos, Some(3));
    // The pause names the reservation of the last credit, and its end the top-up.
    let last = app
        .count(
            "SELECT transaction_id FROM ledger WHERE movement = 'reserve' \
                          ORDER BY entry LIMIT 1 OFFSET 1",
        )
        .await;
    assert_eq!(entries[2].transaction.map(|id| id.0), Some(last));
    assert_eq!(entries[3].transaction.map(|id| id.0), Some(credited.transaction.0));
    assert!(entries.iter().all(|entry| entry.operation == Some(Operation::PhotoProcessing)));
    assert!(entries.is_sorted_by_key(|entry| entry.at));
}

/// A pause and what caused it are one transaction: both, or neither.
#[tokio::test]
async fn a_row_is_in_the_transaction_that_causes_it() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 2).await;
    app.a_worker().await.claim(2).await;

    let together = app
        .count(
            "SELECT count(*) FROM timeline t JOIN queue q USING (event_id, operation)
             JOIN account a ON a.organisation_id = q.organisation_id
             WHERE t.kind = 'paused' AND t.xmin = q.xmin AND a.xmin = q.xmin",
        )
        .await;
    assert_eq!(together, 1);
    let with_the_use = app
        .count(
            "SELECT count(*) FROM timeline t JOIN usage u ON u.run_id = t.reference
             WHERE t.kind = 'started' AND t.xmin = u.xmin",
        )
        .await;
    assert_eq!(with_the_use, 1);
    let with_the_run = app
        .count(
            "SELECT count(*) FROM timeline t JOIN run r ON r.run_id = t.reference
             WHERE t.kind = 'queued' AND t.xmin = r.xmin",
        )
        .await;
    assert_eq!(with_the_run, 1);
}

/// A budget pauses and resumes, too, and is told with its figures.
#[tokio::test]
async fn a_budget_says_what_it_did() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 2).await;
    let set = async |cap: Option<i64>, floor: i64| {
        sqlx::query("SELECT set_budget($1, $2, $3, 'anna@club.example')")
            .bind(event.0)
            .bind(cap)
            .bind(floor)
            .execute(&mut *app.db().await)
            .await
            .unwrap();
    };

    set(Some(1), 0).await;
    set(Some(4), 1).await;
    succeed_all(&hand, 9).await;
    set(None, 0).await;

    let entries = of(&app, event).await;
    let told: Vec<_> = entries[2..].iter().map(|one| (one.kind, one.cause)).collect();
    let budget = (Kind::Budget, None);
    let resumed = (Kind::Resumed, Some(Cause::Budget));
    assert_eq!(
        told,
        [
            budget,
            (Kind::Paused, Some(Cause::Budget)),
            budget,
            resumed,
            (Kind::Paused, Some(Cause::Spent)),
            budget,
            resumed,
        ]
    );
    let figures: Vec<_> = entries
        .iter()
        .filter(|one| one.kind == Kind::Budget)
        .map(|one| (one.cap, one.floor, one.operation, one.actor.as_deref()))
        .collect();
    let anna = Some("anna@club.example");
    let wanted = [(Some(1), 0), (Some(4), 1), (None, 0)];
    assert_eq!(figures, wanted.map(|(cap, floor)| (cap, Some(floor), None, anna)));
    assert_eq!(entries[3].budget_change, entries[2].budget_change);
    assert_eq!(entries[8].budget_change, entries[7].budget_change);
    assert_eq!(entries[4].to_string(), "budget: at most 4 credits, 1 are kept");
    assert_eq!(entries[7].to_string(), "the budget was taken away");
}

/// What the hot path pays: nothing.
#[tokio::test]
async fn a_claim_and_a_settlement_that_begin_and_end_nothing_write_no_row() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(100).await;
    app.queue(event, "ok", 50).await;
    let hand = app.a_worker().await;
    let mut first = hand.claim(10).await;
    let before = of(&app, event).await.len();

    for _ in 0..3 {
        let next = hand.claim(10).await;
        for reservation in first.drain(..) {
            assert!(hand.succeed(reservation).await);
        }
        first = next;
    }
    // Nor do those after which no photo is in flight, as long as some wait.
    for reservation in first.drain(..) {
        assert!(hand.fail(reservation).await);
    }

    assert_eq!(of(&app, event).await.len(), before);
    assert_eq!(app.processing(event).await.waiting, 10);
}

#[tokio::test]
async fn a_refund_an_adjustment_and_a_hold_say_what_they_did() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    app.queue(event, "ok", 9).await;
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(2).await;
    app.top_up(organisation, -1).await;
    let failed = claimed.remove(0);
    let job = failed.job();
    hand.fail(failed).await;
    let hold = app.hold(event, "ops@photogate.example").await;
    holds::lift(&mut *app.db().await, hold, "ops@photogate.example").await.unwrap();
    let until = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let new = NewHold { operation: Some(Operation::PhotoProcessing), note: String::new(), until };
    let staff = Caller::trusted("staff@photogate.example");
    let short = app.commands().hold(&staff, event, &new).await.unwrap().holds[0];
    app.owner_runs("UPDATE photogate.hold SET until = now() - interval '1 s' WHERE until > now()")
        .await;
    sqlx::query("SELECT expire_holds()").execute(&mut *app.db().await).await.unwrap();
    events::flag_deleted(&mut *app.db().await, event, "anna@club.example").await.unwrap();

    let entries = of(&app, event).await;
    let own: Vec<_> =
        entries.iter().filter(|one| one.operation == Some(Operation::PhotoProcessing)).collect();
    let told: Vec<_> = own[2..].iter().map(|one| (one.kind, one.cause, one.hold)).collect();
    let last = own.last().unwrap().hold;
    assert_eq!(
        told,
        [
            (Kind::Paused, Some(Cause::Adjustment), None),
            (Kind::Resumed, Some(Cause::Refund), None),
            (Kind::Held, None, Some(hold)),
            (Kind::Lifted, None, Some(hold)),
            (Kind::Resumed, Some(Cause::Lift), Some(hold)),
            (Kind::Held, None, Some(short)),
            (Kind::Lifted, Some(Cause::Expiry), Some(short)),
            (Kind::Resumed, Some(Cause::Expiry), Some(short)),
            (Kind::Deleted, None, last),
        ]
    );
    let actors: Vec<_> = own[2..].iter().map(|one| one.actor.as_deref()).collect();
    let (ops, anna) = (Some("ops@photogate.example"), Some("anna@club.example"));
    let staff = Some("staff@photogate.example");
    assert_eq!(actors, [None, None, ops, ops, None, staff, None, None, anna]);
    assert_eq!(own[3].transaction, Some(job), "the photo whose credit came back");
    // Its other queue was held for good, too.
    assert_eq!(entries.iter().filter(|one| one.kind == Kind::Deleted).count(), 2);
    let (kept, sentence) = (entries.len(), own[3].to_string());
    assert_eq!(sentence, format!("goes on: a credit came back (transaction {job})"));
    assert_eq!(app.count("SELECT count(*) FROM timeline").await, i64::try_from(kept).unwrap());
}

/// A top-up that meets a queue which somebody has locked leaves it to a later claim.
#[tokio::test]
async fn a_queue_that_is_resumed_later_says_what_made_it_due() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    hand.claim(5).await;
    assert!(app.is_out_of_credit(event).await);
    let lock = app.another_holds_the_queue_of(event).await;
    let due = app.top_up(organisation, 1).await;
    let late = app.top_up(organisation, 1).await;
    assert_ne!(due.transaction, late.transaction);
    assert_eq!(kinds(&app, event).await.last(), Some(&(Kind::Paused, Some(Cause::Spent))));
    drop(lock);
    app.until("the lock is gone", async || {
        app.count("SELECT count(*) FROM (SELECT FROM queue FOR UPDATE SKIP LOCKED) s").await == 2
    })
    .await;

    assert_eq!(hand.claim(1).await.len(), 1);

    let last = of(&app, event).await.pop().unwrap();
    assert_eq!((last.kind, last.cause), (Kind::Resumed, Some(Cause::TopUp)));
    assert_eq!(last.transaction.map(|id| id.0), Some(due.transaction.0), "the first one");
    assert_eq!(app.count("SELECT count(*) FROM resume_cause").await, 0);
}

/// A run ends once, however its photos end.
#[tokio::test]
async fn a_run_ends_when_its_last_photos_are_skipped_and_again_if_they_are_put_back() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(9).await;
    let run = app.queue(event, "ok", 3).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 1).await;
    let ids: Vec<photogate::ids::PhotoId> =
        sqlx::query_scalar("SELECT photo_id FROM photo ORDER BY key")
            .fetch_all(&mut *app.db().await)
            .await
            .unwrap();
    let finished = async || {
        let entries = of(&app, event).await;
        let ends = entries.iter().filter(|one| one.kind == Kind::Finished);
        ends.map(|one| (one.run.unwrap(), one.photos.unwrap())).collect::<Vec<_>>()
    };
    let processing = Operation::PhotoProcessing;

    skips::skip(&mut *app.db().await, event, processing, &ids[1..2], "anna").await.unwrap();
    assert_eq!(finished().await, [], "one waits");
    skips::skip(&mut *app.db().await, event, processing, &ids[2..], "anna").await.unwrap();
    assert_eq!(finished().await, [(run.run, 1)]);
    skips::restore(&mut *app.db().await, event, processing, &ids[1..2], "anna").await.unwrap();
    succeed_all(&hand, 9).await;

    let runs: Vec<_> = finished().await.into_iter().map(|(run, _)| run).collect();
    assert_eq!(runs.len(), 2, "{:?}", of(&app, event).await);
    // A run of which nothing was ever claimed has not started, and so does not end.
    let (_, another) = app.an_event_with(9).await;
    app.queue(another, "ok", 1).await;
    let photo = app.photo_of(another).await;
    skips::skip(&mut *app.db().await, another, processing, &[photo], "anna").await.unwrap();
    let kinds: Vec<_> = kinds(&app, another).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Queued, Kind::Drained]);
}

/// A month that begins while a run is at work begins no run, and ends none.
#[tokio::test]
async fn a_run_over_the_end_of_a_month_starts_once_and_ends_once() {
    let app = App::new().await;
    app.set_the_clock("2030-01-31 22:59:59Z").await;
    let (_, event) = app.an_event_with(9).await;
    app.queue(event, "ok", 4).await;
    let hand = app.a_worker().await;
    let mut first = hand.claim(2).await;
    app.set_the_clock("2030-01-31 23:00:01Z").await;
    let second = hand.claim(2).await;
    for reservation in second {
        hand.succeed(reservation).await;
    }
    assert_eq!(
        kinds(&app, event).await.iter().filter(|(kind, _)| *kind == Kind::Finished).count(),
        0,
        "two are in flight since January"
    );
    for reservation in first.drain(..) {
        hand.succeed(reservation).await;
    }

    assert_eq!(app.count("SELECT count(*) FROM usage").await, 2, "two months");
    let kinds: Vec<_> = kinds(&app, event).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Queued, Kind::Started, Kind::Finished]);
}

/// Whatever happens in whatever order, the rows say how the runs and queues stand. (That they say
/// which are paused is an invariant.)
#[tokio::test]
async fn in_random_histories_each_run_starts_and_ends_as_the_timeline_says() {
    use rand::{Rng, SeedableRng};
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(3).await;
    let hand = app.a_worker().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(16);
    let mut in_hand = Vec::new();
    for step in 0..300 {
        match random.random_range(0..8) {
            0 => {
                app.queue(event, &format!("ok-{step}"), random.random_range(1..5)).await;
            }
            1 | 2 => in_hand.extend(hand.claim(random.random_range(1..6)).await),
            3 => {
                for _ in 0..random.random_range(0..=in_hand.len()) {
                    let one = in_hand.swap_remove(random.random_range(0..in_hand.len()));
                    if random.random_bool(0.3) {
                        hand.fail(one).await
                    } else {
                        hand.succeed(one).await
                    };
                }
            }
            4 => {
                app.top_up(organisation, random.random_range(1..3)).await;
            }
            5 => {
                let act = if random.random_bool(0.5) { "cancel_run" } else { "put_run_first" };
                sqlx::query(sqlx::AssertSqlSafe(format!(
                    "SELECT {act}(run_id, 'anna') FROM run ORDER BY md5(run_id::text || '{step}') LIMIT 1"
                )))
                .execute(&mut *app.db().await)
                .await
                .unwrap();
            }
            6 => {
                // Refused, where it cannot be taken back any more.
                let _ = sqlx::query("SELECT undo((SELECT max(undo_id) FROM undo WHERE undone_at IS NULL), 'anna', '1 hour')")
                    .execute(&mut *app.db().await)
                    .await;
            }
            _ => {
                let photo: Option<photogate::ids::PhotoId> = sqlx::query_scalar(
                    "SELECT photo_id FROM job ORDER BY md5(photo_id::text || $1::text) LIMIT 1",
                )
                .bind(step)
                .fetch_optional(&mut *app.db().await)
                .await
                .unwrap();
                let operation = Operation::PhotoProcessing;
                let photos: Vec<_> = photo.into_iter().collect();
                let db = &mut *app.db().await;
                if random.random_bool(0.7) {
                    skips::skip(db, event, operation, &photos, "anna").await.unwrap();
                } else {
                    skips::restore(db, event, operation, &photos, "anna").await.unwrap();
                }
            }
        }
        let wrong = app
            .count(
                "SELECT count(*) FROM run r
                 CROSS JOIN LATERAL (
                     SELECT coalesce(sum(claimed), 0) AS claimed,
                            coalesce(sum(committed + refunded), 0) AS settled
                     FROM usage u WHERE u.run_id = r.run_id) u
                 CROSS JOIN LATERAL (
                     SELECT CASE WHEN r.undone_at IS NULL THEN skipped_of_run(r) ELSE r.queued END AS n) s
                 CROSS JOIN LATERAL (
                     SELECT count(*) FILTER (WHERE t.kind = 'started') AS started,
                            max(t.photos) FILTER (WHERE t.kind = 'finished') AS finished
                     FROM timeline t WHERE t.reference = r.run_id
                         AND t.kind IN ('started', 'finished')) t
                 WHERE t.started <> (u.claimed > 0)::int
                    OR (u.settled > 0 AND u.settled + s.n = r.queued)
                       AND t.finished IS DISTINCT FROM u.settled
                    OR u.settled + s.n < r.queued AND t.finished >= u.settled AND s.n = 0",
            )
            .await;
        assert_eq!(wrong, 0, "after step {step}");
    }
    assert!(app.count("SELECT count(*) FROM timeline WHERE kind = 'finished'").await > 10);
    assert!(app.count("SELECT count(*) FROM timeline WHERE kind = 'resumed'").await > 3);
}

#[tokio::test]
async fn nobody_writes_or_changes_a_row_by_hand() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 1).await;
    for statement in
        ["UPDATE timeline SET actor = 'eve'", "DELETE FROM timeline", "TRUNCATE timeline"]
    {
        let refused =
            sqlx::raw_sql(statement).execute(&mut app.as_owner().await).await.unwrap_err();
        assert_eq!(code_of(&refused).as_deref(), Some("PG005"), "{statement}: {refused}");
        crate::support::refused_for_want_of_privilege(&mut *app.db().await, statement).await;
    }
    let insert = "INSERT INTO timeline (organisation_id, event_id, operation, kind)
                  VALUES (1, 1, 'ai_rotation', 'paused')";
    crate::support::refused_for_want_of_privilege(&mut *app.db().await, insert).await;
    assert_eq!(kinds(&app, event).await, [(Kind::Queued, None)]);
}

#[tokio::test]
async fn the_picture_shows_when_the_queue_was_stopped_also_before_its_first_entry() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 5).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 1).await;
    app.hold(event, "ops").await;
    app.queue(event, "more", 1).await;
    app.top_up(organisation, 1).await;
    let entries = timeline::list(&mut *app.db().await, event, None, 100).await.unwrap();
    let now = chrono::Utc::now();
    let lanes = async |entries: &[Entry]| {
        timeline::lanes(&mut *app.db().await, event, entries, now).await.unwrap()
    };

    let whole = lanes(&entries).await;
    assert_eq!(whole.len(), 1, "nothing has happened to AI Rotation");
    let bands: Vec<_> = whole[0].bands.iter().map(|band| band.stop).collect();
    assert_eq!(bands, [Stop::Held, Stop::Paused]);
    let at = |kind: Kind| entries.iter().find(|one| one.kind == kind).unwrap().at;
    assert_eq!(
        (whole[0].bands[1].from, whole[0].bands[1].to),
        (at(Kind::Paused), at(Kind::Resumed))
    );
    assert_eq!(whole[0].bands[0].to, now, "the hold stands");
    assert_eq!(whole[0].marks.len(), 3);

    // The newest two entries alone: it was paused when the second run was queued.
    let page = &entries[..2];
    assert_eq!((page[0].kind, page[1].kind), (Kind::Resumed, Kind::Queued));
    let late = lanes(page).await;
    assert_eq!((late[0].bands[1].from, late[0].bands[1].to), (page[1].at, page[0].at));
    assert_eq!(late[0].bands[0].from, page[1].at, "it begins with the picture");
    assert!(lanes(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn api_page_and_command_line_tell_the_same() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    app.queue(event, "ok", 2).await;
    let hand = app.a_worker().await;
    succeed_all(&hand, 2).await;
    app.top_up(organisation, 1).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Organiser, Some(organisation)).await;
    let path = format!("/v1/events/{event}/timeline");

    let (status, whole) = answered(site.ask(Method::GET, &path, &token)).await;
    assert_eq!(status, 200);
    let told: Vec<_> = whole["items"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(told, ["resumed", "paused", "started", "queued"]);
    assert_eq!(whole["items"][0]["cause"], "top_up");
    assert_eq!(whole["next"], Value::Null);
    // In pages.
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{path}?limit=3{after}");
        let (_, page) = answered(site.ask(Method::GET, &path, &token)).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(json!(paged), whole["items"]);

    let output = app.says(&["events", "timeline", &event.to_string(), "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), whole["items"]);
    let csv = app.says(&["events", "timeline", &event.to_string(), "--csv"]);
    let rows: Vec<_> = csv.lines().collect();
    assert!(rows[0].starts_with("id,at,operation,kind,actor,"), "{csv}");
    assert!(rows[1].contains(",resumed,,goes on: top-up (transaction"), "{csv}");
    assert_eq!(rows.len(), 5);
    let missing = photogate(&app.config, &["events", "timeline", "99"]);
    assert_eq!(missing.status.code(), Some(4));
}
