//! Measures the full check of the books: of everything, and of what has moved since the last one.

use std::time::Instant;

use photogate::ledger::reconcile::{self, Since};
use sqlx::PgPool;

use crate::{
    Figures,
    ground::{Ground, club, queue},
    median, round,
};

/// Photos that are processed between two checks.
const DAY: usize = 10_000;
/// Photos in a claim, and in a settlement.
const BATCH: i64 = 1_000;

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!("\n# The full check of the books\n");
    println!("| photos before | everything | 10,000 new photos |");
    println!("|---|---|---|");
    let (_, pool) = ground.database(2).await?;
    let (_, event) = club(&pool, 3_000_000).await?;
    let mut there = 0;
    for (name, history) in [("1e4", 10_000), ("1e5", 100_000), ("1e6", 1_000_000)] {
        queue(&pool, event, history - there).await?;
        process(&pool, history - there).await?;
        let all = check(&pool, Since::Start).await?;
        check(&pool, Since::LastCheck).await?;
        let mut new = Vec::new();
        for _ in 0..3 {
            queue(&pool, event, DAY).await?;
            process(&pool, DAY).await?;
            new.push(check(&pool, Since::LastCheck).await?);
        }
        there = history + 3 * DAY;
        let new = median(new);
        println!("| {history} | {all:.2} s | {new:.2} s |");
        figures.insert(format!("books_all_s_{name}"), round(all));
        figures.insert(format!("books_new_s_{name}"), round(new));
    }
    Ok(())
}

/// Claims and settles all photos that wait.
async fn process(pool: &PgPool, photos: usize) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    sqlx::raw_sql("SET synchronous_commit = off").execute(&mut *db).await?;
    let name = uuid::Uuid::new_v4().to_string();
    let worker: i64 = sqlx::query_scalar("SELECT register_worker($1, 1, '1 hour')")
        .bind(name)
        .fetch_one(&mut *db)
        .await?;
    let mut left = i64::try_from(photos)?;
    while left > 0 {
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT r_job FROM claim($1, $2, 0, false)")
            .bind(worker)
            .bind(BATCH)
            .fetch_all(&mut *db)
            .await?;
        left -= i64::try_from(jobs.len())?;
        sqlx::query(
            "SELECT settle($1, $2, array_fill(1, ARRAY[n]), array_fill('processed'::outcome_state, ARRAY[n]),
                           array_fill(NULL::text, ARRAY[n]), array_fill(NULL::text, ARRAY[n]))
             FROM (SELECT cardinality($2::bigint[]) AS n) c",
        )
        .bind(worker)
        .bind(jobs)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// Checks the books, and returns the seconds.
async fn check(pool: &PgPool, since: Since) -> anyhow::Result<f64> {
    let mut db = pool.acquire().await?;
    let began = Instant::now();
    let checks = reconcile::full(&mut db, since, reconcile::SLICE).await?;
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(checks.iter().all(|check| check.violations == 0), "{checks:?}");
    Ok(seconds)
}
