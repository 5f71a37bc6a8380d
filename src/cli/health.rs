//! `photogate health`: asks a worker or a service on this machine whether it works. It is for health
//! checks of containers, which have no other program to ask with.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::Utc;

use super::{End, output::say};
use crate::{config::Config, telemetry::LEASE_RENEWED};

/// Longest time for the answer. A service asks its database for two seconds.
const ANSWER_MAX: Duration = Duration::from_secs(4);

#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Ends with 0 if it works, and with 1 and the reason if it does not. Needs no database."
)]
pub(super) enum Health {
    /// Asks the service at `listen` whether it and its database answer
    Service,
    /// Asks the worker at `metrics_listen` whether it renews its lease and claims photos
    Worker,
}

impl Health {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<End> {
        match self {
            Self::Service => {
                let (status, said) = ask(config.listen, "/readyz").await?;
                if !status.is_success() {
                    bail!("the service is not ready: {}", said.trim_end());
                }
                if said.trim_end() != "ready" {
                    say!("{}", said.trim_end());
                }
            }
            Self::Worker => {
                let address = config.metrics_listen.context(
                    "the worker is asked where it serves metrics: set metrics_listen, for example \
                     to 127.0.0.1:9464",
                )?;
                let (_, said) = ask(address, "/metrics").await?;
                must_work(&said, Utc::now().timestamp(), config.lease_seconds)?;
            }
        }
        Ok(End::Ok)
    }
}

async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let address = SocketAddr::new(on_this_machine(address.ip()), address.port());
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
    let answer = client.get(format!("http://{address}{path}")).send().await;
    let answer = answer.with_context(|| format!("nobody answers on {address}"))?;
    Ok((answer.status(), answer.text().await?))
}

/// Where a server is asked that listens on this address.
fn on_this_machine(listens: IpAddr) -> IpAddr {
    match listens {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listens,
    }
}

/// Reads the metrics of a worker. An error says why it does no work.
fn must_work(metrics: &str, now: i64, lease_seconds: u64) -> anyhow::Result<()> {
    let values = |name: &'static str| {
        metrics.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            Some((labels, value.parse::<f64>().ok()?))
        })
    };
    let Some((_, renewed)) = values(LEASE_RENEWED).next() else {
        bail!("the worker has no lease yet: it has not reached the database");
    };
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    let silent = now.saturating_sub(renewed as i64);
    if silent > i64::try_from(lease_seconds)? {
        bail!("the worker has not renewed its lease for {silent} s: does the database answer?");
    }
    if let Some((labels, _)) = values("photogate_claims_stopped").find(|(_, value)| *value > 0.0) {
        let reason = labels.split('"').nth(1).unwrap_or("see its log");
        bail!("the worker claims no photos: {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(metrics: &str) -> String {
        must_work(metrics, 1_000, 5).map_or_else(|error| error.to_string(), |()| "works".into())
    }

    #[test]
    fn a_worker_works_if_its_lease_is_new_and_it_claims() {
        let renewed = "# TYPE photogate_lease_renewed_timestamp_seconds gauge\n\
                       photogate_lease_renewed_timestamp_seconds 995\n";
        assert_eq!(said(renewed), "works");
        assert!(said(&renewed.replace("995", "994")).contains("for 6 s"));
        assert!(said("").contains("no lease yet"));
        let stopped = "photogate_claims_stopped{reason=\"store_unavailable\"}";
        assert_eq!(said(&format!("{renewed}{stopped} 0")), "works");
        assert!(said(&format!("{renewed}{stopped} 1")).ends_with(": store_unavailable"));
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1")]
        {
            assert_eq!(on_this_machine(listens.parse().unwrap()), asked.parse::<IpAddr>().unwrap());
        }
    }
}
