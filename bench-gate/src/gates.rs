//! Compares the gate, as SQL functions without a worker, with a naive gate: two transactions per
//! photo.

use std::time::{Duration, Instant};

use photogate::ids::OrganisationId;
use sqlx::{PgConnection, PgPool, Row};

use crate::{
    Figures,
    ground::{Cost, Ground, club, fund, queue, register, settle},
    median, round,
};

/// Number of rounds. Each gate is measured once in a round.
const ROUNDS: usize = 3;
/// Length of one measurement.
const ROUND: Duration = Duration::from_secs(2);
/// Length of the work before each measurement, which is not counted.
///
/// After a checkpoint, PostgreSQL logs each page whole the first time. A measurement that included
/// this would show how many pages a design has, not what it costs until the next checkpoint.
const WARM_UP: Duration = Duration::from_secs(1);
/// Photos per second that no gate reaches on the machines of this benchmark. Enough photos are
/// queued for this rate, so that the fastest gate does not run out of them.
const TOO_FAST: usize = 100_000;

/// A gate to measure.
#[derive(Clone, Copy, PartialEq)]
enum Gate {
    /// The naive gate: two transactions per photo.
    Naive,
    /// Photogate's gate, with claims of this many photos.
    Claims(i32),
    /// Photogate's gate without the hash chain, to measure what the chain costs.
    Unsealed(i32),
    /// The same, where each organisation has three alerts and a webhook, to measure what these cost.
    /// The webhook hears which photos are settled, or everything else.
    Told { batch: i32, photos: bool },
}

/// The gates to measure. 1,024 photos is the largest claim of a worker.
const GATES: [Gate; 9] = [
    Gate::Naive,
    Gate::Claims(64),
    Gate::Claims(1024),
    Gate::Unsealed(64),
    Gate::Unsealed(1024),
    Gate::Told { batch: 64, photos: false },
    Gate::Told { batch: 1024, photos: false },
    Gate::Told { batch: 64, photos: true },
    Gate::Told { batch: 1024, photos: true },
];

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    print_header();
    for (name, organisations, connections) in
        [("hot_1", 1, 1), ("hot_8", 1, 8), ("hot_32", 1, 32), ("orgs_1000", 1000, 8)]
    {
        let (url, pool) = ground.database(connections + 2).await?;
        let mut owner = <PgConnection as sqlx::Connection>::connect(&url).await?;
        prepare_naive(&mut owner, organisations).await?;
        let mut events = Vec::new();
        for _ in 0..organisations {
            events.push(club(&pool, 1).await?);
        }
        let mut results: [Vec<Cost>; GATES.len()] = Default::default();
        for number in 0..ROUNDS {
            let seconds = (WARM_UP + ROUND).as_secs() as usize;
            refill(&pool, &events, (GATES.len() - 1) * TOO_FAST * seconds / 2).await?;
            ground.settle_down().await?;
            // The order changes in each round, because the first gate after a checkpoint is slower.
            for turn in 0..GATES.len() {
                let at = (turn + number) % GATES.len();
                seal(&mut owner, GATES[at]).await?;
                tell(&mut owner, GATES[at]).await?;
                let cost = cost_of(ground, &pool, connections, GATES[at], organisations).await?;
                results[at].push(cost);
            }
        }
        report(name, &results, figures);
    }
    Ok(())
}

fn print_header() {
    println!(
        "\n# The gate and a naive gate (SELECT … FOR UPDATE, two transactions per photo), \
         {ROUNDS} rounds of {ROUND:?} each, in turn\n"
    );
    println!(
        "| | naive photos/s | n = 64 | n = 1024 | ratio 64 | ratio 1024 \
         | server CPU ms per 1,000: naive, 64, 1024 | the same without the hash chain: 64, 1024 \
         | with three alerts and a webhook: 64, 1024 | that hears photos: 64, 1024 \
         | fsyncs per photo: naive, 64, 1024 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
}

/// Switches the hash chain on, or off for a gate without it.
async fn seal(owner: &mut PgConnection, gate: Gate) -> anyhow::Result<()> {
    let sealed = if matches!(gate, Gate::Unsealed(_)) { "DISABLE" } else { "ENABLE" };
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "ALTER TABLE photogate.ledger {sealed} TRIGGER ledger_is_sealed"
    )))
    .execute(owner)
    .await?;
    Ok(())
}

/// Gives each organisation three alerts and a webhook, or takes them away.
async fn tell(owner: &mut PgConnection, gate: Gate) -> anyhow::Result<()> {
    sqlx::raw_sql(
        "SET search_path = photogate;
         SELECT remove_webhook(webhook_id) FROM webhook;
         SELECT remove_alert(alert_id) FROM alert WHERE organisation_id > 0",
    )
    .execute(&mut *owner)
    .await?;
    if let Gate::Told { photos, .. } = gate {
        sqlx::query(
            "SELECT add_alert(organisation_id, 'low_balance', 10, 'bench'),
                    add_alert(organisation_id, 'time_to_zero', 1, 'bench'),
                    add_alert(organisation_id, 'failures', 5, 'bench'),
                    add_webhook(organisation_id, 'https://club.example', ARRAY(
                        SELECT t FROM unnest(enum_range(NULL::change_type)) t
                        WHERE $1 OR t <> 'photo.processed'), decode(repeat('00', 32), 'hex'), 'bench')
             FROM account",
        )
        .bind(photos)
        .execute(owner)
        .await?;
    }
    Ok(())
}

/// Measures one round of a gate, after a warm-up.
async fn cost_of(
    ground: &mut Ground,
    pool: &PgPool,
    connections: u32,
    gate: Gate,
    organisations: usize,
) -> anyhow::Result<Cost> {
    let organisations = i64::try_from(organisations)?;
    run(pool, connections, gate, organisations, WARM_UP).await?;
    let before = ground.meter().await?;
    let done = run(pool, connections, gate, organisations, ROUND).await?;
    let after = ground.meter().await?;
    let waiting: i64 = sqlx::query_scalar(
        "SELECT sum(tail - head)::bigint FROM queue_head JOIN queue_tail USING (queue_id)",
    )
    .fetch_one(pool)
    .await?;
    anyhow::ensure!(waiting > 0, "no photos are left to claim: raise TOO_FAST");
    Ok(before.cost_until(&after, done))
}

/// Prints a row of the table, and keeps its figures.
fn report(name: &str, results: &[Vec<Cost>; GATES.len()], figures: &mut Figures) {
    let of = |what: fn(&Cost) -> f64| {
        results.each_ref().map(|costs| round(median(costs.iter().map(what).collect())))
    };
    let rate = of(|cost| cost.rate);
    let cpu = of(|cost| cost.server);
    let syncs = of(|cost| cost.syncs);
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.1}x | {:.1}x | {}, {}, {} | {}, {} | {}, {} | {}, {} \
         | {}, {}, {} |",
        rate[0],
        rate[1],
        rate[2],
        rate[1] / rate[0],
        rate[2] / rate[0],
        cpu[0],
        cpu[1],
        cpu[2],
        cpu[3],
        cpu[4],
        cpu[5],
        cpu[6],
        cpu[7],
        cpu[8],
        syncs[0],
        syncs[1],
        syncs[2]
    );
    figures.insert(format!("{name}_vs_naive"), round(rate[2] / rate[0]));
    figures.insert(format!("{name}_vs_naive_n64"), round(rate[1] / rate[0]));
    figures.insert(format!("{name}_cpu_ms_per_1000"), cpu[2]);
    figures.insert(format!("{name}_cpu_ms_per_1000_naive"), cpu[0]);
    figures.insert(format!("{name}_cpu_of_the_chain"), round(cpu[2] / cpu[4] - 1.0));
    figures.insert(format!("{name}_cpu_of_the_chain_n64"), round(cpu[1] / cpu[3] - 1.0));
    figures.insert(format!("{name}_cpu_of_a_webhook_n64"), round(cpu[5] / cpu[1] - 1.0));
    figures.insert(format!("{name}_cpu_of_a_webhook"), round(cpu[6] / cpu[2] - 1.0));
    figures.insert(format!("{name}_cpu_of_telling_photos_n64"), round(cpu[7] / cpu[1] - 1.0));
    figures.insert(format!("{name}_cpu_of_telling_photos"), round(cpu[8] / cpu[2] - 1.0));
    figures.insert(format!("{name}_fsyncs_per_photo"), syncs[2]);
}

/// Queues this many photos, spread over the events, and adds twice as many credits.
async fn refill(
    pool: &PgPool,
    events: &[(OrganisationId, photogate::ids::EventId)],
    photos: usize,
) -> anyhow::Result<()> {
    let each = photos / events.len();
    for (organisation, event) in events {
        let key = format!("{}", uuid::Uuid::new_v4());
        fund(pool, *organisation, 2 * each, &key).await?;
        queue(pool, *event, each).await?;
    }
    Ok(())
}

/// Creates the tables of the naive gate: accounts, jobs with a state, and a ledger.
async fn prepare_naive(owner: &mut PgConnection, organisations: usize) -> anyhow::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "CREATE SCHEMA naive;
         CREATE TABLE naive.account (organisation_id bigint PRIMARY KEY, available bigint NOT NULL,
                                     reserved bigint NOT NULL, spent bigint NOT NULL)
                WITH (fillfactor = 10);
         CREATE TABLE naive.job (job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                                 organisation_id bigint NOT NULL,
                                 state text NOT NULL DEFAULT 'queued')
                WITH (fillfactor = 50);
         CREATE INDEX ON naive.job (job_id) WHERE state = 'queued';
         CREATE TABLE naive.ledger (job_id bigint, movement text, at timestamptz DEFAULT now(),
                                    PRIMARY KEY (job_id, movement));
         INSERT INTO naive.account SELECT n, 1000000, 0, 0 \
                FROM generate_series(1, {organisations}) n;
         INSERT INTO naive.job (organisation_id)
                SELECT 1 + n % {organisations} FROM generate_series(1, 100000) n;
         GRANT USAGE ON SCHEMA naive TO photogate_app;
         GRANT ALL ON ALL TABLES IN SCHEMA naive TO photogate_app;
         ANALYZE naive.job"
    )))
    .execute(owner)
    .await?;
    Ok(())
}

/// Works with one gate for this time. Returns the number of photos that were settled.
async fn run(
    pool: &PgPool,
    connections: u32,
    gate: Gate,
    organisations: i64,
    time: Duration,
) -> anyhow::Result<usize> {
    let until = Instant::now() + time;
    let tasks = (0..connections).map(|number| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut db = pool.acquire().await?;
            // Each connection begins with another organisation.
            let cursor = i64::from(number) * organisations / i64::from(connections);
            match gate {
                Gate::Naive => naive(&mut db, until).await,
                Gate::Claims(batch) | Gate::Unsealed(batch) | Gate::Told { batch, .. } => {
                    ours(&mut db, until, batch, cursor).await
                }
            }
        })
    });
    let mut done = 0;
    for task in futures::future::join_all(tasks.collect::<Vec<_>>()).await {
        done += task??;
    }
    Ok(done)
}

/// Works with the naive gate. Returns the number of photos that were settled.
async fn naive(db: &mut PgConnection, until: Instant) -> anyhow::Result<usize> {
    let mut done = 0;
    while Instant::now() < until {
        let mut tx = sqlx::Connection::begin(&mut *db).await?;
        let job: Option<(i64, i64)> = sqlx::query_as(
            "SELECT job_id, organisation_id FROM naive.job
             WHERE state = 'queued' ORDER BY job_id LIMIT 1 FOR UPDATE SKIP LOCKED",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some((job, organisation)) = job else { return Ok(done) };
        let available: i64 = sqlx::query_scalar(
            "SELECT available FROM naive.account WHERE organisation_id = $1 FOR UPDATE",
        )
        .bind(organisation)
        .fetch_one(&mut *tx)
        .await?;
        anyhow::ensure!(available > 0, "no credits are available");
        for write in [
            "UPDATE naive.account SET available = available - 1, reserved = reserved + 1
             WHERE organisation_id = $2 AND $1 > 0",
            "UPDATE naive.job SET state = 'running' WHERE job_id = $1 AND $2 > 0",
            "INSERT INTO naive.ledger (job_id, movement) SELECT $1, 'reserve' WHERE $2 > 0",
        ] {
            sqlx::query(write).bind(job).bind(organisation).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let mut tx = sqlx::Connection::begin(&mut *db).await?;
        // Lock the job before the account, as above. Another order could deadlock.
        sqlx::query("UPDATE naive.job SET state = 'done' WHERE job_id = $1")
            .bind(job)
            .execute(&mut *tx)
            .await?;
        sqlx::query("SELECT 1 FROM naive.account WHERE organisation_id = $1 FOR UPDATE")
            .bind(organisation)
            .execute(&mut *tx)
            .await?;
        for write in [
            "UPDATE naive.account SET reserved = reserved - 1, spent = spent + 1
             WHERE organisation_id = $2 AND $1 > 0",
            "INSERT INTO naive.ledger (job_id, movement) SELECT $1, 'commit' WHERE $2 > 0",
        ] {
            sqlx::query(write).bind(job).bind(organisation).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        done += 1;
    }
    Ok(done)
}

/// Works with photogate's gate. Returns the number of photos that were settled.
async fn ours(
    db: &mut PgConnection,
    until: Instant,
    batch: i32,
    mut cursor: i64,
) -> anyhow::Result<usize> {
    let key = register(db).await?;
    let mut done = 0;
    while Instant::now() < until {
        let rows = sqlx::query("SELECT r_job, r_organisation FROM claim($1, $2, $3, false)")
            .bind(key)
            .bind(batch)
            .bind(cursor)
            .fetch_all(&mut *db)
            .await?;
        cursor = rows.iter().map(|row| row.get::<i64, _>(1)).max().unwrap_or(0);
        let jobs: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        if jobs.is_empty() {
            continue;
        }
        settle(db, key, &jobs).await?;
        done += jobs.len();
    }
    Ok(done)
}
