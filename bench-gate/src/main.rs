//! Compares the speed of the gate with the alternatives that a user might choose. `make bench-gate`
//! runs it.
//!
//! All candidates are measured in turn within one run, and compared by ratios. Rates depend on the
//! machine and its load; ratios within one run depend on them much less. The last line of the
//! output is JSON.

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

mod books;
mod flat;
mod gates;
mod ground;
mod latency;
mod stream;
mod workers;

use std::collections::BTreeMap;

use ground::Ground;

/// The figures by name, as in the last line of the output.
type Figures = BTreeMap<String, f64>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut ground = Ground::prepare().await?;
    let mut figures = Figures::new();
    // Without arguments all parts are measured; otherwise the named ones:
    // make bench-gate ARGS='workers latency'.
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
    if wanted("stream") {
        stream::measure(&mut ground, &mut figures).await?;
    }
    if wanted("flat") {
        flat::measure(&mut ground, &mut figures).await?;
    }
    if wanted("books") {
        books::measure(&mut ground, &mut figures).await?;
    }
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// The median of the values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value rounded to three significant digits.
fn round(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi(2 - value.abs().log10().floor() as i32);
    (value * unit).round() / unit
}
