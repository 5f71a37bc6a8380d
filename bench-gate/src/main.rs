//! The gate's speed beside that of what a user would pick instead: one run, interleaved, ratios. `make bench-gate`.
//!
//! Ends with a line of JSON. Rates go up and down with the machine and its load; ratios of the same run do much less.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it cannot go on"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod flat;
mod gates;
mod ground;
mod latency;
mod workers;

use std::collections::BTreeMap;

use ground::Ground;

/// What the last line holds.
type Figures = BTreeMap<String, f64>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut ground = Ground::prepare().await?;
    let mut figures = Figures::new();
    // All, or those that are named: make bench-gate ARGS='workers latency'.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("gates") {
        gates::measure(&mut ground, &mut figures).await?;
    }
    if wanted("workers") {
        workers::measure(&mut ground, &mut figures).await?;
    }
    if wanted("latency") {
        latency::measure(&mut ground, &mut figures).await?;
    }
    if wanted("flat") {
        flat::measure(&mut ground, &mut figures).await?;
    }
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// To three digits.
fn round(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi(2 - value.abs().log10().floor() as i32);
    (value * unit).round() / unit
}
