//! The full check of the books: it finds what is wrong, in slices, and goes on where it ended.

use std::collections::{BTreeSet, HashMap};

use photogate::{
    ids::{EventId, OrganisationId},
    ledger::reconcile::{self, Check, Since},
};
use sqlx::PgConnection;

use crate::support::App;

/// An organisation with something of everything: photos that are processed, failed, in flight, and
/// waiting.
async fn an_app_with_books() -> App {
    let app = App::new().await;
    let (_, event) = app.an_event_with(50).await;
    app.queue(event, "ok", 12).await;
    let hand = app.a_worker().await;
    for _ in 0..2 {
        let mut claimed = hand.claim(4).await;
        hand.fail(claimed.remove(0)).await;
        claimed.pop();
        hand.succeed_all(claimed).await;
    }
    app
}

async fn check(db: &mut PgConnection, since: Since) -> Vec<Check> {
    // Slices as small as links.
    reconcile::full(db, since, 1).await.unwrap()
}

/// The next check by a worker.
async fn check_on(app: &App, size: i64) -> Vec<Check> {
    check_by(app, &mut *app.db().await, size).await
}

async fn check_by(app: &App, db: &mut PgConnection, size: i64) -> Vec<Check> {
    let since = Since::LastCheck(app.a_worker().await.me);
    reconcile::full(db, since, size).await.unwrap()
}

/// The invariants that do not hold.
fn broken(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.violations > 0).map(|check| check.invariant).collect()
}

const MOVED_WITHOUT_ENTRY: &str = "UPDATE account SET available = available - 1, spent = spent + 1";
const DUPLICATE_OF_NOTHING: &str =
    "UPDATE outcome SET state = 'duplicate', same_as = 77 WHERE state = 'failed'";
const FOLLOWS_NOTHING: &str =
    "INSERT INTO follow_up SELECT queue_id, photo_id, 1, queue_id, 99, 99, 'x', 'new' FROM job";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn every_invariant_can_break_and_is_found_in_whatever_slice_it_is() {
    let mut every = BTreeSet::from(["ledger_is_append_only"]); // tests/it/ledger.rs
    let mut known = BTreeSet::new();
    for (change, invariant) in [
        (MOVED_WITHOUT_ENTRY, "accounts_match_their_chains"),
        (MOVED_WITHOUT_ENTRY, "ledger_adds_up"),
        (
            "DELETE FROM in_flight WHERE job_id = (SELECT min(job_id) FROM in_flight)",
            "reserved_is_in_flight",
        ),
        ("UPDATE queue SET paused_since = now()", "paused_means_no_credit"),
        ("UPDATE queue SET paused_since = now()", "timeline_tells_pauses"),
        (
            "INSERT INTO budget SELECT min(event_id), min(organisation_id), 0, 0, 0 FROM event",
            "budgets_are_kept",
        ),
        ("UPDATE account SET steered = true", "budgets_are_kept"),
        ("UPDATE worker SET gone_at = now()", "the_gone_hold_nothing"),
        ("UPDATE in_flight SET job_id = -job_id", "flights_are_reserved"),
        ("UPDATE queue SET held = true", "held_means_a_hold_stands"),
        ("UPDATE queue SET drained = true", "drained_is_empty"),
        ("UPDATE queue_head SET not_waiting = 1", "stretches_are_counted"),
        ("UPDATE ledger SET movement = 'commit' WHERE movement = 'refund'", "ledger_adds_up"),
        ("DELETE FROM ledger WHERE entry = 3", "entries_have_no_gap"),
        ("DELETE FROM ledger WHERE entry = 1", "entries_have_no_gap"),
        ("UPDATE ledger SET entry = 1000 WHERE entry = 9", "entries_have_no_gap"),
        ("UPDATE ledger SET at = at - interval '1 day' WHERE entry = 4", "instants_never_decrease"),
        ("UPDATE top_up SET amount = amount + 1", "double_entry"),
        ("UPDATE top_up SET amount = amount + 1", "top_ups_are_booked"),
        (
            "INSERT INTO top_up SELECT -1, organisation_id, kind, amount, actor, note, 'twice' \
             FROM top_up",
            "top_ups_are_booked",
        ),
        (
            "DROP INDEX outcome_charged_once; UPDATE outcome SET photo_id = (SELECT photo_id FROM \
             outcome WHERE state = 'processed' LIMIT 1)",
            "charged_once",
        ),
        (
            "INSERT INTO ledger SELECT job_id, 1, 'commit', organisation_id, 1000, 1, 1, now() \
             FROM in_flight LIMIT 1",
            "entries_have_no_gap",
        ),
        ("DELETE FROM ledger WHERE leg = 1 AND entry = 6", "reservations_close_once"),
        (
            "UPDATE ledger SET transaction_id = -1 WHERE leg = 1 AND entry = 6",
            "reservations_close_once",
        ),
        ("DELETE FROM outcome WHERE state = 'failed'", "outcomes_are_booked"),
        ("DELETE FROM ledger WHERE leg = 1 AND movement = 'refund'", "outcomes_are_booked"),
        (
            "UPDATE outcome SET state = 'processed', reason = NULL WHERE state = 'failed'",
            "outcomes_are_booked",
        ),
        (
            "INSERT INTO attempt SELECT job_id, attempt, worker_id, now(), now(), 'crash' \
             FROM outcome LIMIT 1",
            "late_workers_change_nothing",
        ),
        ("UPDATE top_up SET shown_at = shown_at - interval '1 day'", "top_ups_are_booked"),
        ("DELETE FROM queue_settled", "queues_count_their_photos"),
        (
            "INSERT INTO usage SELECT run_id, '2001-01-01', organisation_id, queue_id FROM usage",
            "queues_count_their_photos",
        ),
        ("UPDATE job SET run_id = 77 WHERE position = 2", "no_job_is_lost"),
        (FOLLOWS_NOTHING, "no_job_is_lost"),
        ("UPDATE outcome SET run_id = 77 WHERE state = 'failed'", "outcomes_are_booked"),
        ("UPDATE usage SET claimed = claimed + 1", "history_adds_up"),
        ("UPDATE usage SET claimed_entry = 2", "history_adds_up"),
        ("UPDATE usage SET refunded_entry = 2", "history_adds_up"),
        ("UPDATE usage SET refunded = refunded + 1", "queues_count_their_photos"),
        ("UPDATE month SET funded = 7, available = 7", "months_add_up"),
        ("UPDATE month SET month = month + interval '1 month'", "months_add_up"),
        ("UPDATE link SET available = available + 1 WHERE first_entry = 2", "chains_are_whole"),
        ("DELETE FROM link WHERE first_entry = 2", "chains_are_whole"),
        ("UPDATE link SET worker_id = 77 WHERE first_entry = 2", "chains_are_whole"),
        ("DELETE FROM job WHERE position = 2", "no_job_is_lost"),
        ("DELETE FROM job WHERE position = 12", "no_job_is_lost"),
        ("UPDATE job SET position = 13 WHERE position = 12", "no_job_is_lost"),
        ("UPDATE queue_head SET head = head + 1", "no_job_is_lost"),
        ("UPDATE queue_head SET head = head - 1 WHERE head > 0", "no_job_is_lost"),
        ("UPDATE queue_settled SET committed = committed + 1", "queues_count_their_photos"),
        ("UPDATE queue_head SET claimed = claimed + 1", "queues_count_their_photos"),
        (DUPLICATE_OF_NOTHING, "duplicates_were_paid_for"),
        ("UPDATE queue_settled SET undecided = 1 WHERE refunded > 0", "queues_count_their_photos"),
        ("UPDATE usage SET undecided = 1 WHERE refunded > 0", "history_adds_up"),
        (
            "INSERT INTO archive_queue SELECT queue_id, 1, 11, 0, 0, 0, 0, 0, 0, 0 FROM queue",
            "archives_keep_the_books",
        ),
    ] {
        let mut app = an_app_with_books().await;
        app.audited = false;
        assert_eq!(broken(&check(&mut *app.db().await, Since::Start).await), [""; 0]);
        app.tamper(change).await;

        let from_the_start = check(&mut *app.db().await, Since::Start).await;
        let from_the_last = check_on(&app, 1).await;
        let at_once = reconcile::full(&mut *app.db().await, Since::Start, 1000).await.unwrap();

        for checks in [&from_the_start, &from_the_last, &at_once] {
            assert!(broken(checks).contains(&invariant), "{change}: {:?}", broken(checks));
        }
        every.insert(invariant);
        known.extend(from_the_start.iter().map(|check| check.invariant));
    }
    assert_eq!(every, known, "each invariant needs a change here that breaks it");
}

#[tokio::test]
async fn what_is_wrong_is_found_again_by_the_next_check_until_it_is_right() {
    let mut app = an_app_with_books().await;
    app.audited = false;
    let db = &mut *app.db().await;
    app.tamper("UPDATE usage SET claimed = claimed + 1").await;

    for _ in 0..2 {
        let checks = check_on(&app, 1).await;
        assert_eq!(broken(&checks), ["history_adds_up", "queues_count_their_photos"]);
    }
    app.tamper("UPDATE usage SET claimed = claimed - 1").await;
    for _ in 0..2 {
        assert_eq!(broken(&check_on(&app, 1).await), [""; 0]);
    }

    assert_eq!(app.count("SELECT entries FROM ledger_checked").await, 15);
    let marks = "SELECT sum(head * 10000 + tail * 100 + settled)::bigint FROM queue_checked";
    assert_eq!(app.count(marks).await, 8_12_06);
    // What was checked is not read again.
    app.tamper("DELETE FROM link WHERE first_entry = 2").await;
    assert_eq!(broken(&check_on(&app, 1).await), [""; 0]);
    assert_eq!(broken(&check(db, Since::Start).await), ["chains_are_whole"]);
}

/// Found: a slice that was right moved the mark over the slice before it, which was not.
#[tokio::test]
async fn a_mark_does_not_pass_a_slice_in_which_something_is_wrong() {
    let mut app = an_app_with_books().await;
    app.audited = false;
    app.tamper("DELETE FROM outcome WHERE job_id = (SELECT min(job_id) FROM outcome)").await;

    for _ in 0..3 {
        let checks = check_on(&app, 1).await;
        assert_eq!(broken(&checks), ["no_job_is_lost", "outcomes_are_booked"]);
    }

    assert!(app.count("SELECT entries FROM ledger_checked").await < 7);
    // A mark moves only from where it stands.
    let me = app.a_worker().await.me;
    sqlx::query("SELECT mark_ledgers_checked($1, '{1}', '{14}', '{15}')")
        .bind(me.key())
        .execute(&mut *app.db().await)
        .await
        .unwrap();
    assert!(app.count("SELECT entries FROM ledger_checked").await < 7);
}

/// Found: what went back behind its mark was never seen.
#[tokio::test]
async fn a_head_or_tail_that_goes_back_behind_its_mark_is_found() {
    for change in [
        "UPDATE queue_head SET head = head - 1 WHERE head > 0",
        "UPDATE queue_tail SET tail = tail - 1 WHERE tail > 0",
    ] {
        let mut app = an_app_with_books().await;
        app.audited = false;
        assert_eq!(broken(&check_on(&app, 100).await), [""; 0]);
        app.tamper(change).await;

        for _ in 0..2 {
            assert!(broken(&check_on(&app, 100).await).contains(&"no_job_is_lost"), "{change}");
        }
    }
}

/// Found: after a clock that had been in the future, no check was due until then.
#[tokio::test]
async fn a_check_of_the_future_does_not_keep_the_next_ones_waiting() {
    let app = App::new().await;
    let me = app.a_worker().await.me;
    let begin = async || {
        sqlx::query_scalar::<_, Option<i64>>("SELECT begin_reconciliation($1, 'full', '1 day')")
            .bind(me.key())
            .fetch_one(&mut *app.db().await)
            .await
            .unwrap()
    };
    let check = begin().await.unwrap();
    let end = sqlx::query("SELECT end_reconciliation($1, $2, 0, NULL)").bind(me.key()).bind(check);
    end.execute(&mut *app.db().await).await.unwrap();
    assert_eq!(begin().await, None);

    app.owner_runs("UPDATE reconciliation SET started_at = now() + interval '20 days'").await;

    assert!(begin().await.is_some());
}

/// The rows of each table that were read, by this connection and by those that have told it.
async fn rows_read(db: &mut PgConnection) -> HashMap<String, i64> {
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    // A connection tells what it has read at the end of a statement. PostgreSQL 14 cannot be asked
    // for it: it tells twice a second at most, and reads what it was told up to half a second ago.
    // The first pause tells, the second makes what was told old enough.
    let tell = if version < 150_000 {
        "SELECT pg_sleep(0.6)"
    } else {
        "SELECT pg_stat_force_next_flush()"
    };
    for _ in 0..2 {
        sqlx::query(tell).execute(&mut *db).await.unwrap();
    }
    let rows = sqlx::query_as(
        "SELECT relname::text, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
         FROM pg_stat_user_tables WHERE schemaname = 'photogate'",
    );
    rows.fetch_all(db).await.unwrap().into_iter().collect()
}

async fn process(app: &App, event: EventId, photos: usize, name: &str) {
    app.queue(event, name, photos).await;
    let hand = app.a_worker().await;
    let mut left = photos;
    while left > 0 {
        let claimed = hand.claim(500).await;
        left -= claimed.len();
        hand.succeed_all(claimed).await;
    }
}

/// Found on PostgreSQL 18: to find jobs after a queue's tail, it read the jobs of all queues.
#[tokio::test]
async fn a_check_reads_what_has_moved_and_not_the_history() {
    let app = App::new().await;
    let (organisation, old) = app.an_event_with(10_000).await;
    process(&app, old, 4_000, "ok").await;
    app.owner_runs("ANALYZE").await;
    let other: OrganisationId = app.an_organisation_with(1_000).await;
    let events = [app.an_event_of(organisation).await, app.an_event_of(other).await];
    let db = &mut *app.db().await;
    let begin = rows_read(db).await;
    let size = reconcile::SLICE;
    assert_eq!(broken(&check_by(&app, db, size).await), [""; 0]);
    let first = rows_read(db).await;

    for event in events {
        process(&app, event, 50, "ok").await;
    }
    let before = rows_read(db).await;
    assert_eq!(broken(&check_by(&app, db, size).await), [""; 0]);
    let after = rows_read(db).await;

    for table in ["ledger", "link", "outcome", "job", "usage"] {
        let read = after[table] - before[table];
        // 100 photos have 200 entries. A dozen invariants look at each entry a few times.
        assert!(read < 6_000, "{read} rows of {table} were read for 100 photos");
    }
    assert!(first["ledger"] - begin["ledger"] > 40_000, "the first check reads everything");
}

/// Found on PostgreSQL 18: for each day of each run, all days were compared with all entries, because
/// the planner expected one of each. It did not end within five minutes.
#[tokio::test]
async fn a_check_of_many_small_runs_compares_none_with_all_others() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(2_000).await;
    for run in 0..2_000 {
        app.queue(event, &format!("ok/{run}"), 1).await;
    }
    let hand = app.a_worker().await;
    for _ in 0..4 {
        hand.succeed_all(hand.claim(500).await).await;
    }
    let db = &mut *app.db().await;
    // The worst plan: each join that can be a nested loop is one.
    sqlx::raw_sql(
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_memoize = off",
    )
    .execute(&mut *db)
    .await
    .unwrap();

    assert_eq!(broken(&check_by(&app, db, reconcile::SLICE).await), [""; 0]);

    assert_eq!(app.count("SELECT sum(committed) FROM usage").await, 2_000);
}
