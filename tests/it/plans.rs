//! How many rows the gate's statements read. The number must not depend on what PostgreSQL's
//! statistics say, nor on how much there was before. Rows are counted, not time.

use std::collections::HashMap;

use photogate::{
    ids::{EventId, Operation, OrganisationId},
    ledger::{
        history::{self, Page},
        statement,
    },
    queue::{claim, enqueue, overview, skips, status, timeline},
    telemetry::metrics,
};
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use crate::support::App;

/// A transaction whose reads are counted.
struct Counted<'a> {
    tx: Transaction<'a, Postgres>,
    before: HashMap<String, i64>,
}

impl<'a> Counted<'a> {
    async fn begin(db: &'a mut PgConnection) -> Self {
        let mut tx = db.begin().await.unwrap();
        let before = rows_read(&mut tx).await;
        Self { tx, before }
    }

    /// The rows of a table that the transaction has read so far.
    async fn rows_of(&mut self, table: &str) -> i64 {
        let now = rows_read(&mut self.tx).await;
        now.get(table).unwrap_or(&0) - self.before.get(table).unwrap_or(&0)
    }
}

/// The rows of each table that this connection has read, since PostgreSQL last collected them.
async fn rows_read(db: &mut PgConnection) -> HashMap<String, i64> {
    let rows = sqlx::query_as(
        "SELECT relname::text, seq_tup_read + coalesce(idx_tup_fetch, 0)
         FROM pg_stat_xact_user_tables WHERE schemaname = 'photogate'",
    );
    rows.fetch_all(db).await.unwrap().into_iter().collect()
}

fn keys(name: &str, photos: usize) -> Vec<String> {
    (0..photos).map(|n| format!("{name}/{n}")).collect()
}

async fn queue(db: &mut PgConnection, event: EventId, name: &str, photos: usize) {
    let jobs = enqueue::jobs(&keys(name, photos)).unwrap();
    let operation = Operation::PhotoProcessing;
    enqueue::enqueue(db, event, operation, &jobs, "anna").await.unwrap();
}

/// So many jobs that the index by photo is one level deeper than the one by queue. With statistics
/// that know of two queues, PostgreSQL takes the other index for a third queue.
async fn two_old_events(app: &App, organisation: OrganisationId) {
    for _ in 0..2 {
        let old = app.an_event_of(organisation).await;
        for part in 0..3 {
            queue(&mut *app.db().await, old, &format!("old/{part}"), 10_000).await;
        }
    }
    app.owner_runs("ANALYZE photogate.job; ANALYZE photogate.photo; ANALYZE photogate.queue").await;
}

/// Found: with statistics of few queues, each photo of a new event read the event's whole queue.
#[tokio::test]
async fn an_enqueue_reads_few_jobs_for_each_photo_whatever_the_statistics_say() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    two_old_events(&app, organisation).await;
    // New connections have no plans yet.
    let app = app.reconnected().await;
    let event = app.an_event_of(organisation).await;
    for part in ["a", "b"] {
        queue(&mut *app.db().await, event, part, 2_000).await;
    }

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    queue(&mut counted.tx, event, "c", 1_000).await;
    queue(&mut counted.tx, event, "a", 1_000).await;
    let jobs = enqueue::jobs(&keys("b", 1_000)).unwrap();
    enqueue::plan(&mut counted.tx, event, Operation::PhotoProcessing, &jobs, false).await.unwrap();

    let read = counted.rows_of("job").await;
    assert!(read <= 3 * 3_000, "{read} jobs were read for 3,000 photos");
    let read = counted.rows_of("photo").await;
    assert!(read <= 3 * 3_000, "{read} photos were read for 3,000 photos");
}

#[tokio::test]
async fn skip_and_retry_read_few_rows_for_each_photo_whatever_the_statistics_say() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(1).await;
    two_old_events(&app, organisation).await;
    // New connections have no plans yet.
    let app = app.reconnected().await;
    let event = app.an_event_of(organisation).await;
    queue(&mut *app.db().await, event, "a", 5_000).await;
    let photos: Vec<_> =
        sqlx::query_scalar("SELECT photo_id FROM photo WHERE event_id = $1 LIMIT 500")
            .bind(event.0)
            .fetch_all(&mut *app.db().await)
            .await
            .unwrap();
    let photos: Vec<_> = photos.into_iter().map(photogate::ids::PhotoId).collect();

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    let operation = Operation::PhotoProcessing;
    skips::skip(&mut counted.tx, event, operation, &photos, "anna").await.unwrap();
    photogate::queue::retry::retry(&mut counted.tx, event, operation, &photos, false, "anna")
        .await
        .unwrap();

    for table in ["job", "photo"] {
        let read = counted.rows_of(table).await;
        assert!(read <= 4 * 500, "{read} rows of {table} were read for 500 photos");
    }
}

/// Found: one photo that is skipped made a claim read all skips that were ever made.
#[tokio::test]
async fn a_claim_reads_the_skips_of_its_own_positions_only() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(100).await;
    queue(&mut *app.db().await, event, "a", 20).await;
    two_old_events(&app, organisation).await;
    let photo = app.photo_of(event).await;
    let operation = Operation::PhotoProcessing;
    skips::skip(&mut *app.db().await, event, operation, &[photo], "anna").await.unwrap();
    app.owner_runs(
        "INSERT INTO photogate.stretch (queue_id, from_position, to_position, kind, actor)
         SELECT 9999, n, n, 'skipped', 'anna' FROM generate_series(1, 4000, 2) n",
    )
    .await;
    app.owner_runs("ANALYZE photogate.stretch").await;
    let app = app.reconnected().await;
    let hand = app.a_worker().await;

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    let claimed =
        claim::claim(&mut counted.tx, hand.me, 50, OrganisationId(0), false).await.unwrap();

    assert_eq!(claimed.len(), 50);
    let read = counted.rows_of("stretch").await;
    assert!(read <= 20, "{read} skips were read");
    counted.tx.rollback().await.unwrap();
    app.owner_runs("DELETE FROM photogate.stretch WHERE queue_id = 9999").await;
}

/// Found: an enqueue counted what waits over all queues that the organisation ever had.
#[tokio::test]
async fn an_enqueue_reads_no_queue_in_which_nothing_waits() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(1).await;
    sqlx::query(
        "SELECT count(create_event($1, 'Old', true, false, 'anna')) FROM generate_series(1, 2000)",
    )
    .bind(organisation.0)
    .execute(&mut *app.db().await)
    .await
    .unwrap();
    app.owner_runs("ANALYZE photogate.queue; ANALYZE photogate.queue_tail").await;

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    queue(&mut counted.tx, event, "a", 1).await;

    for table in ["queue", "queue_tail", "event"] {
        let read = counted.rows_of(table).await;
        assert!(read <= 20, "{read} rows of {table} were read");
    }
}

/// Found: the counts of an event were sums over all its runs.
#[tokio::test]
async fn the_counts_of_an_event_do_not_read_its_runs() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1_000).await;
    for n in 0..300 {
        queue(&mut *app.db().await, event, &format!("{n}"), 1).await;
    }
    let hand = app.a_worker().await;
    let mut claimed = hand.claim(200).await;
    hand.fail(claimed.pop().unwrap()).await;
    hand.succeed_all(claimed).await;
    app.owner_runs("ANALYZE photogate.usage; ANALYZE photogate.run").await;

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    let queues = status::of_event(&mut counted.tx, event).await.unwrap();

    assert_eq!((queues[0].processed, queues[0].failed, queues[0].waiting), (199, 1, 100));
    for table in ["usage", "run"] {
        let read = counted.rows_of(table).await;
        assert!(read <= 4, "{read} rows of {table} were read");
    }
}

#[tokio::test]
async fn a_page_of_a_timeline_reads_neither_other_events_nor_what_was_long_ago() {
    let app = App::new().await;
    let (_, other) = app.an_event_with(1).await;
    let organisation = app.an_organisation_with(1).await;
    let decide = "INSERT INTO photogate.timeline (organisation_id, kind, actor, decided, at)
                  SELECT o, 'weight', 'anna', '{}', $1::timestamptz
                  FROM generate_series(1, 5) o, generate_series(1, 2000) n";
    let long_ago = chrono::Utc::now() - chrono::TimeDelta::days(9);
    let mut owner = app.as_owner().await;
    sqlx::query(decide).bind(long_ago).execute(&mut owner).await.unwrap();
    let event = app.an_event_of(organisation).await;
    let read = async |app: &App, expected: usize| {
        let mut db = app.db().await;
        let mut counted = Counted::begin(&mut db).await;
        let page = timeline::list(&mut counted.tx, event, None, 20).await.unwrap();
        assert_eq!(page.len(), expected);
        counted.rows_of("timeline").await
    };

    let young = app.reconnected().await;
    assert_eq!(read(&young, 0).await, 0, "they are older than the event");
    sqlx::query(decide).bind(chrono::Utc::now()).execute(&mut owner).await.unwrap();
    for n in 0..30 {
        queue(&mut *young.db().await, event, &format!("own/{n}"), 1).await;
        queue(&mut *young.db().await, other, &format!("other/{n}"), 1).await;
    }
    let first = read(&young, 20).await;
    assert!(first <= 30 + 20, "{first} rows were read: without statistics, all of the event's own");
    young.owner_runs("ANALYZE photogate.timeline; ANALYZE photogate.event").await;
    let large = young.reconnected().await;
    let later = read(&large, 20).await;
    assert!(later <= 50, "{later} rows were read");
}

#[tokio::test]
async fn an_old_snapshot_is_told_whoever_holds_it() {
    let app = App::new().await;
    assert!(metrics::oldest_snapshot(&app.pool).await.unwrap() < 60.0);
    let mut other = app.as_owner().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM photogate.account")
        .execute(&mut other)
        .await
        .unwrap();

    app.until("it is seen", async || metrics::oldest_snapshot(&app.pool).await.unwrap() > 0.2)
        .await;
}

/// The blocks that a statement reads, and all that its functions do.
async fn blocks(db: &mut PgConnection, statement: &str) -> i64 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
    let plan: sqlx::types::Json<serde_json::Value> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_one(db).await.unwrap();
    let plan = &plan.0[0]["Plan"];
    ["Shared Hit Blocks", "Shared Read Blocks"]
        .map(|kind| plan[kind].as_i64().unwrap())
        .iter()
        .sum()
}

/// Found: each claim read all versions of the rows of its account and queue. As long as somebody
/// holds a snapshot, none of them can be removed.
#[tokio::test]
async fn a_held_snapshot_does_not_make_the_gate_read_more() {
    const CYCLES: usize = 1_500;
    let app = App::new().await;
    let (_, event) = app.an_event_with(10_000).await;
    let key = app.a_worker().await.me.key();
    let mut old = app.as_owner().await;
    let mut snapshot = old.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT FROM account").execute(&mut *snapshot).await.unwrap();
    let mut db = app.db().await;
    let mut read = Vec::new();
    for cycle in 0..CYCLES {
        if cycle == 100 {
            // Nothing is in flight now. With statistics that say so, the stored plan of a
            // settlement read the whole index.
            app.owner_runs("VACUUM ANALYZE photogate.in_flight").await;
        }
        let enqueue = format!(
            "SELECT enqueue({event}, 'photo_processing', '{{photo-{cycle}}}', \
             ARRAY[gen_random_uuid()], 'anna')"
        );
        let claim = format!("SELECT claim('{key}', 1, 0, false)");
        let (enqueue, claim) = (blocks(&mut db, &enqueue).await, blocks(&mut db, &claim).await);
        blocks(&mut db, &format!("SELECT heartbeat('{key}', '1 minute')")).await;
        let job = app.count("SELECT max(job_id) FROM in_flight").await;
        let settle = format!(
            "SELECT settle('{key}', '{{{job}}}', '{{1}}', '{{processed}}', '{{NULL}}', '{{NULL}}')"
        );
        read.push([enqueue, claim, blocks(&mut db, &settle).await]);
    }
    snapshot.rollback().await.unwrap();

    let median = |cycles: &[[i64; 3]], of: usize| {
        let mut sorted: Vec<_> = cycles.iter().map(|cycle| cycle[of]).collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    // From the beginning on: little more than was measured (76, 77, 74), so that no higher start hides. Each
    // run has one photo, so each cycle says that it is queued, started and finished (timeline, changes).
    let early: Vec<_> = (0..3).map(|of| median(&read[50..100], of)).collect();
    assert!(
        early.iter().zip([80, 90, 80]).all(|(read, most)| *read <= most),
        "{early:?} blocks at first"
    );
    for (of, name) in ["enqueue", "claim", "settle"].iter().enumerate() {
        // At first, indexes grow from one level to two: that is no old version that is read.
        let (first, last) = (median(&read[450..500], of), median(&read[CYCLES - 50..], of));
        assert!(last <= first + first / 4, "{name} read {first} blocks, and later {last}");
    }
}

/// The list of events reads the queues of one page, however many events there are.
#[tokio::test]
async fn a_page_of_events_reads_the_queues_of_its_own_events_only() {
    let app = App::new().await;
    let (organisation, _) = app.an_event_with(1).await;
    sqlx::query(
        "SELECT count(create_event($1, 'Old', true, false, 'anna')) FROM generate_series(1, 3000)",
    )
    .bind(organisation.0)
    .execute(&mut *app.db().await)
    .await
    .unwrap();
    app.owner_runs(
        "ANALYZE photogate.event; ANALYZE photogate.queue; ANALYZE photogate.queue_head; \
         ANALYZE photogate.queue_tail; ANALYZE photogate.queue_settled",
    )
    .await;
    let app = app.reconnected().await;

    let mut db = app.db().await;
    let mut counted = Counted::begin(&mut db).await;
    let which =
        overview::Which { organisation: Some(organisation), most: 51, ..Default::default() };
    assert_eq!(overview::list(&mut counted.tx, which).await.unwrap().len(), 51);

    for table in ["event", "queue", "queue_head", "queue_tail", "queue_settled"] {
        let read = counted.rows_of(table).await;
        assert!(read <= 300, "{read} rows of {table} were read for 51 events");
    }
}

/// So many runs of one photo on each of the first ten days of October, which were charged and refunded.
pub async fn ten_days_of_runs(app: &App, event: EventId, runs: i64) {
    let mut owner = app.as_owner().await;
    let insert = "WITH q AS (
             SELECT * FROM queue WHERE event_id = $1 AND operation = 'photo_processing'),
         r AS (
             INSERT INTO run (run_id, organisation_id, event_id, queue_id, actor, retry, asked, queued,
                              first_position)
             OVERRIDING SYSTEM VALUE
             SELECT 1000000 + 100000 * $1 + n, organisation_id, event_id, queue_id, 'anna', false, 1, 1, n
             FROM q, generate_series(1, 10 * $2) n RETURNING run_id, organisation_id, queue_id,
                 (first_position - 1) / $2 AS day)
         INSERT INTO usage (run_id, day, organisation_id, queue_id, claimed, refunded,
                            first_claimed_at, last_claimed_at, claimed_entry,
                            first_refunded_at, last_refunded_at, refunded_entry)
         SELECT run_id, DATE '2026-10-01' + day::int, organisation_id, queue_id, 1, 1,
                at, at, 1, at, at, 1
         FROM r, LATERAL (SELECT timestamptz '2026-10-01 12:00+02' + day * interval '1 day' AS at) a";
    sqlx::query(insert).bind(event.0).bind(runs).execute(&mut owner).await.unwrap();
}

/// Found: each page of 10,000 rows sorted the rest of the month, so a month of 720,000 rows took minutes.
/// And an event without rows was looked for in all rows of its organisation.
#[tokio::test]
async fn a_statement_reads_each_row_once_and_an_event_only_its_own() {
    let mut app = App::new().await;
    app.set_the_clock("2026-10-01T00:00:00Z").await;
    let (organisation, event) = app.an_event_with(1).await;
    app.set_the_clock("2026-11-10T08:00:00Z").await;
    ten_days_of_runs(&app, event, 1_500).await;
    let (few, none) = (app.an_event_of(organisation).await, app.an_event_of(organisation).await);
    ten_days_of_runs(&app, few, 2).await;
    let october: chrono::NaiveDate = "2026-10-01".parse().unwrap();

    for statistics in ["", "ANALYZE photogate.usage; ANALYZE photogate.run"] {
        app.owner_runs(statistics).await;
        app = app.reconnected().await;
        let mut db = app.db().await;
        let mut counted = Counted::begin(&mut db).await;
        // As a statement reads them: two rows of the history for each of `usage`, and one for the top-up.
        let mut lines = 0;
        for day in october.iter_days().take(31) {
            let page = Page { day: Some(day), most: i64::MAX, ..Page::default() };
            lines += history::history(&mut counted.tx, organisation, page).await.unwrap().len();
        }
        assert_eq!(lines, 2 * 15_020 + 1);
        let read = counted.rows_of("usage").await;
        assert!(read <= 2 * 15_020 + 1_000, "{read} rows of usage were read for {lines} lines");
        let runs = counted.rows_of("run").await;
        assert!(runs <= 2 * 15_020 + 1_000, "{runs} runs were read for {lines} lines");

        for (event, rows) in [(none, 0), (few, 40)] {
            let page = Page { event: Some(event), ..Page::default() };
            let found = history::history(&mut counted.tx, organisation, page).await.unwrap();
            assert_eq!(found.len(), rows);
        }
        let read = counted.rows_of("usage").await - read;
        assert!(read <= 200, "{read} rows of usage were read for an event with few");
        let db = &mut *app.db().await;
        let statement = statement::statement(db, organisation, october, usize::MAX).await;
        assert_eq!(statement.unwrap().lines.len(), lines);
    }
    app.owner_runs("DELETE FROM photogate.usage; DELETE FROM photogate.run").await;
}
