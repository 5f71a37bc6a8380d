//! Metrics, for Prometheus.

use std::{net::SocketAddr, time::Duration};

use chrono::Utc;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::LEASE_RENEWED;
use crate::{
    catalog::archive,
    changes::mailboxes,
    ledger::credits,
    queue::{schedules, totals},
};

/// The address for Prometheus cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on metrics_listen = {address} ({reason}): \
     choose another port, or remove this setting"
)]
pub struct MetricsError {
    address: SocketAddr,
    reason: String,
}

/// The metrics and their descriptions, except those of the books. Labels never hold IDs or names:
/// these metrics are for dashboards.
const MEANINGS: &[(&str, &str)] = &[
    (
        "photogate_claimed_photos_total",
        "Photos claimed by this worker; one credit was reserved for each",
    ),
    (
        "photogate_settled_photos_total",
        "Photos settled by this worker, by state; undecided ones are refunded, too; fenced: another \
         worker owned the photo by then",
    ),
    ("photogate_claim_duration_seconds", "Duration of a claim, including adoptions"),
    ("photogate_settle_duration_seconds", "Duration of a settlement, including all waiting"),
    ("photogate_work_duration_seconds", "Time to read, process and write one photo"),
    ("photogate_leases_lost_total", "Worker incarnations of this process that were declared dead"),
    (
        "photogate_claims_locked_out_total",
        "Claims of this worker that found every queue with photos locked, and were repeated",
    ),
    (
        "photogate_claims_late_total",
        "Claims of this worker that found photos after a pause of more than 5 ms that no wake-up ended",
    ),
    (
        "photogate_claims_stopped",
        "1 while this worker claims nothing because something that all photos need is away, by reason",
    ),
    (LEASE_RENEWED, "Time at which this worker renewed its lease last"),
    (
        "photogate_store_unavailable",
        "1 while the photo store does not work for this service, since its start",
    ),
    ("photogate_photos", "Photos in all queues, by kind: waiting, in_progress"),
    ("photogate_paused_queues", "Queues that are stopped, by kind: held, no_credits, budget"),
    (
        "photogate_funded_backlog_photos",
        "Photos that workers could claim now; use it to scale the number of workers",
    ),
    (
        "photogate_oldest_funded_seconds",
        "Waiting time of the oldest photo that could be claimed now; 0 if there is none",
    ),
    (
        "photogate_schedule_late_seconds",
        "How long the scheduled photos that are late the longest should have been queued; 0 if none are late",
    ),
    (
        "photogate_mail_waits_seconds",
        "How long the e-mail has waited that waits longest, but for addresses that are not well; 0 if none",
    ),
    (
        "photogate_credits",
        "Credits of all organisations, by kind: available, reserved for photos in progress, spent",
    ),
    (
        "photogate_clock_is_implausible",
        "1 while nothing is booked because the clock of the database seems to have jumped",
    ),
    (
        "photogate_oldest_snapshot_seconds",
        "Age of the oldest snapshot in the database: no old version of a row is removed meanwhile",
    ),
    (
        "photogate_archives_in_trouble",
        "Archives with files that are missing or changed, or that could not go on the last time",
    ),
    ("photogate_logins_total", "Tries to log in, by outcome: logged_in, refused, throttled"),
    ("photogate_http_request_duration_seconds", "Duration of an HTTP request, by status"),
];

/// Serves the metrics of this process to Prometheus, over HTTP.
///
/// # Errors
/// When the address cannot be used.
pub fn answer_prometheus(address: SocketAddr) -> Result<(), MetricsError> {
    let buckets = |buckets: &[f64]| buckets.to_vec();
    let (short, long) = (
        buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
        buckets(&[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]),
    );
    let trouble = |error: BuildError| MetricsError { address, reason: error.to_string() };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Full("photogate_work_duration_seconds".into()), &long)
        .map_err(trouble)?
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &short)
        .map_err(trouble)?
        .install()
        .map_err(trouble)?;
    for (name, meaning) in MEANINGS {
        metrics::describe_gauge!(*name, *meaning);
    }
    metrics::describe_gauge!(
        "photogate_books_drift",
        "Rows that broke an invariant at the last check of the books, by kind of check; \
         anything but 0 is an alarm"
    );
    metrics::describe_gauge!(
        "photogate_books_checked_timestamp_seconds",
        metrics::Unit::Seconds,
        "Time of the last check of the books by any worker"
    );
    Ok(())
}

/// The time between two counts of the queues.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Counts queues and credits for Prometheus, until `stop` is cancelled.
pub async fn count_queues(database: PgPool, stop: CancellationToken) {
    let mut tick = tokio::time::interval(COUNT_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let totals = async { totals::totals(&mut *database.acquire().await?, None).await };
        let credits = async { credits::of_all(&mut *database.acquire().await?).await };
        match credits.await {
            Ok(all) => {
                gauge("photogate_credits", "available", all.available.0);
                gauge("photogate_credits", "reserved", all.reserved.0);
                gauge("photogate_credits", "spent", all.spent.0);
            }
            Err(error) => tracing::warn!(%error, "the credits could not be counted"),
        }
        match totals.await {
            Ok(totals) => {
                let paused = "photogate_paused_queues";
                gauge(paused, "held", totals.held);
                gauge(paused, "no_credits", totals.no_credits);
                gauge(paused, "budget", totals.budget);
                let photos = "photogate_photos";
                gauge(photos, "waiting", totals.waiting);
                gauge(photos, "in_progress", totals.in_progress);
                metrics::gauge!("photogate_funded_backlog_photos").set(to_f64(totals.funded));
                let waited =
                    totals.oldest_funded.map_or(0, |since| (Utc::now() - since).num_seconds());
                metrics::gauge!("photogate_oldest_funded_seconds").set(to_f64(waited.max(0)));
            }
            Err(error) => tracing::warn!(%error, "the queues could not be counted"),
        }
        let late = async { schedules::seconds_late(&mut *database.acquire().await?).await };
        match late.await {
            Ok(seconds) => metrics::gauge!("photogate_schedule_late_seconds").set(seconds),
            Err(error) => tracing::warn!(%error, "the schedules could not be looked at"),
        }
        let mail = async { mailboxes::seconds_waiting(&mut *database.acquire().await?).await };
        match mail.await {
            Ok(seconds) => metrics::gauge!("photogate_mail_waits_seconds").set(seconds),
            Err(error) => tracing::warn!(%error, "the e-mail that waits could not be looked at"),
        }
        let archives = async { archive::in_trouble(&mut *database.acquire().await?).await };
        match archives.await {
            Ok(archives) => metrics::gauge!("photogate_archives_in_trouble").set(to_f64(archives)),
            Err(error) => tracing::warn!(%error, "the archives could not be looked at"),
        }
        match is_clock_plausible(&database).await {
            Ok(is) => metrics::gauge!("photogate_clock_is_implausible").set(f64::from(!is)),
            Err(error) => tracing::warn!(%error, "the clock could not be checked"),
        }
        match oldest_snapshot(&database).await {
            Ok(seconds) => metrics::gauge!("photogate_oldest_snapshot_seconds").set(seconds),
            Err(error) => tracing::warn!(%error, "the oldest snapshot could not be found"),
        }
    }
}

/// Returns the age of the oldest snapshot in the database, in seconds.
///
/// # Errors
/// When the database has trouble.
pub async fn oldest_snapshot(database: &PgPool) -> sqlx::Result<f64> {
    sqlx::query_scalar!(r#"SELECT oldest_snapshot_seconds() AS "seconds!""#)
        .fetch_one(database)
        .await
}

async fn is_clock_plausible(database: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT is_clock_plausible() AS "is!""#).fetch_one(database).await
}

fn gauge(name: &'static str, kind: &'static str, value: i64) {
    metrics::gauge!(name, "kind" => kind).set(to_f64(value));
}

#[expect(clippy::cast_precision_loss, reason = "a count of photos is exact up to 2^53")]
fn to_f64(count: i64) -> f64 {
    count as f64
}
