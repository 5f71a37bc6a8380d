//! Measures the full check of the books: of everything, and of what has moved since the last one.

use std::time::{Duration, Instant};

use photogate::{
    ledger::reconcile::{self, Since},
    queue::claim,
};
use sqlx::PgPool;

use crate::{
    Figures,
    ground::{Ground, club, queue, register, settle},
    median, round,
};

/// Photos that are processed between two checks.
const DAY: usize = 10_000;
/// Photos in a claim, and in a settlement.
const BATCH: i32 = 1_000;

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!("\n# The full check of the books\n");
    println!("| photos before | everything | 10,000 new photos |");
    println!("|---|---|---|");
    let (_, pool) = ground.database(2).await?;
    let (_, event) = club(&pool, 3_000_000).await?;
    let mut there = 0;
    let hour = Duration::from_secs(3600);
    let me = claim::register(&mut *pool.acquire().await?, "checker", 1, hour).await?;
    for (name, history) in [("1e4", 10_000), ("1e5", 100_000), ("1e6", 1_000_000)] {
        queue(&pool, event, history - there).await?;
        process(&pool, history - there).await?;
        let all = check(&pool, Since::Start).await?;
        check(&pool, Since::LastCheck(me)).await?;
        let mut new = Vec::new();
        for _ in 0..3 {
            queue(&pool, event, DAY).await?;
            process(&pool, DAY).await?;
            new.push(check(&pool, Since::LastCheck(me)).await?);
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
    let key = register(&mut db).await?;
    let mut left = i64::try_from(photos)?;
    while left > 0 {
        let jobs: Vec<i64> = sqlx::query_scalar("SELECT r_job FROM claim($1, $2, 0, false)")
            .bind(key)
            .bind(BATCH)
            .fetch_all(&mut *db)
            .await?;
        left -= i64::try_from(jobs.len())?;
        settle(&mut db, key, &jobs).await?;
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
