//! photogate: a background job worker for event photos, gated by credit.
//!
//! Each room below is one subject; its first page says what is in it. A photo travels through `queue`, `worker` and
//! `sandbox`, and every credit it costs is in `ledger`.

pub mod queue; // what waits, and why it does not run
pub mod worker; // claims, works, settles
pub mod sandbox; // the processes that look at photos, and nothing else
pub mod ledger; // where every credit went
pub mod catalog; // organisations, events, their photos, and what was seen on them
pub mod access; // who may do what, and who did what

pub mod commands; // every write that a person or a program can ask for, once
pub mod serve; // HTTP: the API and the pages
pub mod cli; // the command line

pub mod notify; // Redis: wake-ups and live progress
pub mod telemetry; // logs, metrics, traces
pub mod rig; // private servers for the demo, tests and benchmarks, and the drill

pub mod config;
pub mod database;
pub mod ids;
