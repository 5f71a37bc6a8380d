//! photogate: a background job worker for event photos, gated by credit.
//!
//! Each module below is one subject, and its doc comment says what is in it. A photo goes through
//! `queue`, `worker` and `sandbox`. Every credit that it costs is recorded in `ledger`.

#![cfg_attr(
    not(feature = "serve"),
    allow(dead_code, unused_imports, reason = "the program uses more than the gate needs")
)]

pub mod queue; // the photos that wait, and why they do not run
pub mod worker; // claims photos, has them processed, and settles them
#[cfg(feature = "vision")]
pub mod sandbox; // the child processes that decode and look at photos
pub mod ledger; // every movement of credits
pub mod catalog; // organisations, events, photos, and the findings on photos
pub mod access; // people, tokens, roles, and the audit log
pub mod changes; // what photogate says to the outside: the feed and webhooks

pub mod commands; // every change that a person or a program can request
#[cfg(feature = "serve")]
pub mod serve; // HTTP: the API and the pages
#[cfg(feature = "serve")]
pub mod cli; // the command line
#[cfg(feature = "serve")]
pub mod doctor; // whether everything is there that photogate needs

pub mod notify; // Redis: wake-ups and live progress
pub mod telemetry; // logs, metrics, traces
#[cfg(feature = "serve")]
pub mod rig; // private servers for the demo, tests and benchmarks; the drill

mod bounded; // lists and maps that are bounded while they are read
pub mod config;
pub mod cursor;
pub mod database;
pub mod ids;
mod spreadsheet; // cells of CSV files
