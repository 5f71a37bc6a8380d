//! Counts the blocks of the database's cache that a claim of 64 photos reads. The number must not
//! grow with the amount of other data.

use std::time::Instant;

use photogate::ids::{EventId, OrganisationId};
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    Figures,
    ground::{Ground, club, fund, queue, register, settle},
    median, round,
};

/// Number of claims that are counted; the result is their median.
const CLAIMS: usize = 10;

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!("\n# Blocks read by a claim of 64\n");
    println!("| other data | blocks |");
    println!("|---|---|");
    let (url, pool) = ground.database(2).await?;
    let mut owner = PgConnection::connect(&url).await?;
    let (organisation, event) = club(&pool, 3_000_000).await?;
    let mut queued = 0;
    for (name, jobs) in [("1e3", 1_000), ("1e5", 100_000), ("1e6", 1_000_000)] {
        queue(&pool, event, jobs - queued).await?;
        queued = jobs;
        tell(
            figures,
            &format!("claim_blocks_{name}"),
            &format!("{jobs} jobs"),
            blocks(&pool, &mut owner).await?,
        );
        // Replaces the jobs that the measurement has settled.
        queue(&pool, event, (CLAIMS + 3) * 64).await?;
    }
    ledger(&mut owner, organisation, 100_000).await?;
    tell(figures, "claim_blocks_ledger_1e5", "a ledger of 10^5", blocks(&pool, &mut owner).await?);
    ledger(&mut owner, organisation, 10_000_000).await?;
    tell(figures, "claim_blocks_ledger_1e7", "a ledger of 10^7", blocks(&pool, &mut owner).await?);
    held(&url, &pool, &mut owner, event, figures).await?;

    let (url, pool) = ground.database(2).await?;
    let mut owner = PgConnection::connect(&url).await?;
    let (_, busy) = club(&pool, 1_000_000).await?;
    queue(&pool, busy, 20_000).await?;
    tell(figures, "claim_blocks_events_1", "1 event", blocks(&pool, &mut owner).await?);
    paused_events(&pool, &mut owner, 1_000).await?;
    tell(
        figures,
        "claim_blocks_events_1e3",
        "1,000 events, all but one paused",
        blocks(&pool, &mut owner).await?,
    );
    paused_events(&pool, &mut owner, 9_000).await?;
    tell(
        figures,
        "claim_blocks_events_1e4",
        "10,000 events, all but one paused",
        blocks(&pool, &mut owner).await?,
    );
    Ok(())
}

/// Claims and settlements of one photo each, while a snapshot is held.
const CYCLES: usize = 20_000;

/// Measures what a held snapshot costs: the blocks that a claim of 64 reads, and the time of a claim
/// and settlement of one photo.
async fn held(
    url: &str,
    pool: &PgPool,
    owner: &mut PgConnection,
    event: EventId,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut old = PgConnection::connect(url).await?;
    let mut snapshot = old.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    sqlx::query("SELECT 1 FROM photogate.account").execute(&mut *snapshot).await?;
    queue(pool, event, CYCLES).await?;
    let times = cycles(pool).await?;
    tell(
        figures,
        "claim_blocks_snapshot_held",
        &format!("the same, and a snapshot held for {CYCLES} claims"),
        blocks(pool, owner).await?,
    );
    snapshot.rollback().await?;
    let (first, last) = (&times[..1_000], &times[CYCLES - 1_000..]);
    let (first, last) = (median(first.to_vec()), median(last.to_vec()));
    println!(
        "\nA claim and settlement of one photo, with a snapshot held: {first:.2} ms at first, \
         {last:.2} ms after {CYCLES}\n"
    );
    figures.insert("cycle_ms_snapshot_held_first".into(), round(first));
    figures.insert("cycle_ms_snapshot_held_last".into(), round(last));
    println!("| other data | blocks |");
    println!("|---|---|");
    Ok(())
}

/// Claims and settles single photos. Returns the milliseconds of each cycle.
async fn cycles(pool: &PgPool) -> anyhow::Result<Vec<f64>> {
    let mut db = pool.acquire().await?;
    sqlx::raw_sql("SET synchronous_commit = off").execute(&mut *db).await?;
    let key = register(&mut db).await?;
    let mut times = Vec::with_capacity(CYCLES);
    for _ in 0..CYCLES {
        let began = Instant::now();
        let job: i64 = sqlx::query_scalar("SELECT r_job FROM claim($1, 1, 0, false)")
            .bind(key)
            .fetch_one(&mut *db)
            .await?;
        settle(&mut db, key, &[job]).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Prints one row of the table, and keeps the figure.
fn tell(figures: &mut Figures, name: &str, around: &str, blocks: f64) {
    println!("| {around} | {blocks:.0} |");
    figures.insert(name.to_owned(), round(blocks));
}

/// Returns the median number of blocks that a claim reads. Each claim is settled before the next
/// one.
///
/// `EXPLAIN (ANALYZE, BUFFERS)` counts the blocks, and includes everything that the function
/// `claim` does inside.
async fn blocks(pool: &PgPool, owner: &mut PgConnection) -> anyhow::Result<f64> {
    sqlx::raw_sql("SET search_path = photogate").execute(&mut *owner).await?;
    let vacuum = "VACUUM ANALYZE account, queue, queue_head, queue_tail, queue_settled, in_flight, \
                  link, worker, usage, job, ledger";
    sqlx::raw_sql(vacuum).execute(&mut *owner).await?;
    let mut db = pool.acquire().await?;
    let key = register(&mut db).await?;
    let mut seen = Vec::new();
    for claim in 0..CLAIMS + 2 {
        let explain = format!(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM claim('{key}', 64, 0, false)"
        );
        let plan: serde_json::Value = {
            let text: sqlx::types::Json<serde_json::Value> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_one(&mut *db).await?;
            text.0
        };
        let top = &plan[0]["Plan"];
        anyhow::ensure!(
            top["Actual Rows"].as_f64() == Some(64.0),
            "claimed {}",
            top["Actual Rows"]
        );
        let read = |what: &str| top[what].as_f64().unwrap_or_default();
        // The first two claims are not counted, because they fill the connection's caches.
        if claim >= 2 {
            seen.push(read("Shared Hit Blocks") + read("Shared Read Blocks"));
        }
        let jobs: Vec<i64> =
            sqlx::query_scalar("SELECT job_id FROM in_flight").fetch_all(&mut *db).await?;
        settle(&mut db, key, &jobs).await?;
    }
    Ok(median(seen))
}

/// Fills the ledger up to this number of old rows.
async fn ledger(
    owner: &mut PgConnection,
    organisation: OrganisationId,
    rows: i64,
) -> anyhow::Result<()> {
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM photogate.ledger WHERE entry < 0")
        .fetch_one(&mut *owner)
        .await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "SET session_replication_role = replica; SET synchronous_commit = off;
         INSERT INTO photogate.ledger
                SELECT -n, 0, 'top_up', {organisation}, -n, 1, NULL, now() - interval '1 year'
                FROM generate_series({there} + 1, {rows}) n;
         SET session_replication_role = origin"
    )))
    .execute(&mut *owner)
    .await?;
    Ok(())
}

/// Creates events whose queues are paused: photos wait, and their organisation has no credits.
async fn paused_events(pool: &PgPool, owner: &mut PgConnection, events: i64) -> anyhow::Result<()> {
    let (poor, _): (OrganisationId, EventId) = club(pool, 1).await?;
    fund(pool, poor, 1, "2").await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "SET search_path = photogate; SET synchronous_commit = off;
         SELECT count(create_event({poor}, 'Paused', false, false, 'cli'))
                FROM generate_series(1, {events});
         WITH filled AS (
             UPDATE queue_tail t SET tail = 1 FROM queue q
             WHERE q.queue_id = t.queue_id AND q.organisation_id = {poor} AND tail = 0
             RETURNING t.queue_id)
         UPDATE queue SET drained = false, paused_since = now()
                WHERE queue_id IN (SELECT queue_id FROM filled)"
    )))
    .execute(owner)
    .await?;
    Ok(())
}
