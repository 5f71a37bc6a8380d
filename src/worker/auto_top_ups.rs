//! A task of the worker. Every two seconds it looks for organisations whose credits run low and that
//! have an automatic top-up, and buys for them.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{database, ids::OrganisationId, ledger::auto_top_up, notify::wake::Wake};

/// How often a worker looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Buys what is due, until stopped. Several workers do it at the same time, and each purchase is
/// made once.
pub(super) async fn watch(pool: PgPool, wake: Wake, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if let Some(Err(error)) = stop.run_until_cancelled(buy_what_is_due(&pool, &wake)).await {
            tracing::warn!(%error, "automatic top-ups could not be looked for");
        }
    }
}

/// One purchase for one organisation after the other. Where it was not enough, the next look buys
/// again: nobody waits for an organisation that buys many times.
async fn buy_what_is_due(pool: &PgPool, wake: &Wake) -> sqlx::Result<()> {
    let mut db = pool.acquire().await?;
    let mut last = OrganisationId(0);
    while let Some(organisation) = auto_top_up::next_due(&mut db, last).await? {
        last = organisation;
        match auto_top_up::buy(&mut db, organisation).await {
            Ok(done) => {
                if done.bought {
                    tracing::info!(%organisation, "an automatic top-up has bought, or asked");
                }
                if done.resumed {
                    wake.send().await;
                }
            }
            // Somebody has the account: the next look tries again.
            Err(error) if database::is_code(&error, database::LOCKED) => {}
            Err(error) if error.as_database_error().is_some() => {
                tracing::warn!(%organisation, %error, "an automatic top-up could not buy yet");
                auto_top_up::put_off(&mut db, organisation).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
