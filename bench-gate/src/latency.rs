//! Measures the time from the answer to a top-up to the first claim.

use std::time::Duration;

use photogate::{
    config::Config,
    database,
    ids::OrganisationId,
    notify::wake::Wake,
    worker::{Stop, Worker, rehearsal::Rehearsal},
};
use sqlx::PgPool;

use crate::{
    Figures,
    ground::{Ground, club, fund, queue},
    round,
};

pub(crate) async fn measure(ground: &mut Ground, figures: &mut Figures) -> anyhow::Result<()> {
    println!("\n# From top-up to first claim\n");
    println!("| | p50 ms | p99 ms |");
    println!("|---|---|---|");
    for (name, redis, rounds) in
        [("", Some(ground.services.redis.url()), 300), ("_without_redis", None, 100)]
    {
        let (url, pool) = ground.database(2).await?;
        let (organisation, event) = club(&pool, 1).await?;
        queue(&pool, event, rounds + 10).await?;
        let config = Config {
            database_url: url.clone(),
            redis_url: redis.clone(),
            slots: 2,
            ..Config::default()
        };
        let stop = Stop::default();
        let working = {
            let (pool, stop) = (database::connect(&url, 5).await?, stop.clone());
            tokio::spawn(Worker::new(&config, pool, Rehearsal)?.run(stop))
        };
        let wake = Wake::open(redis.as_deref())?;
        let mut waits = Vec::new();
        for number in 0..rounds {
            until_paused(&pool, organisation).await?;
            // Waits, so that each round begins at another moment of the worker's poll.
            tokio::time::sleep(Duration::from_millis(5 + number as u64 * 7 % 97)).await;
            fund(&pool, organisation, 1, &format!("round-{number}")).await?;
            let answered =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
            wake.send().await;
            until_paused(&pool, organisation).await?;
            let claimed: f64 = sqlx::query_scalar(
                "SELECT extract(epoch FROM max(at))::float8 FROM ledger
                 WHERE organisation_id = $1 AND movement = 'reserve'",
            )
            .bind(organisation.0)
            .fetch_one(&pool)
            .await?;
            waits.push(1e3 * (claimed - answered).max(0.0));
        }
        stop.drain.cancel();
        working.await??;
        waits.sort_by(f64::total_cmp);
        let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        println!(
            "| {} | {p50:.1} | {p99:.1} |",
            if redis.is_some() { "with Redis" } else { "without" }
        );
        figures.insert(format!("top_up_to_claim_p50_ms{name}"), round(p50));
        figures.insert(format!("top_up_to_claim_p99_ms{name}"), round(p99));
    }
    Ok(())
}

/// Waits until the organisation has no available credits: all photos that it can pay for are
/// claimed.
async fn until_paused(pool: &PgPool, organisation: OrganisationId) -> anyhow::Result<()> {
    loop {
        let available: i64 =
            sqlx::query_scalar("SELECT available FROM account WHERE organisation_id = $1")
                .bind(organisation.0)
                .fetch_one(pool)
                .await?;
        if available == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
