//! photogate: a background job worker for event photos, gated by credit.
//!
//! In the order a photo travels:

pub mod intake; // a photo is queued
pub mod gate; // a batch is claimed, and with it paid for
pub mod queue; // apalis drives the work
pub mod work; // the photo is looked at
pub mod pool; // in a process that has nothing else
pub mod settle; // the credit is earned or given back
pub mod sweep; // what a dead worker left is picked up
pub mod worker; // all of it, in one process

// The nouns.
pub mod credits;
pub mod event;
pub mod photos;
pub mod findings;
pub mod ids;
pub mod organisation;
pub mod runs;
pub mod start_list; // who runs

// The money, as people see it.
pub mod top_up; // credit comes in
pub mod books; // where every credit went

// The organiser's questions.
pub mod search;

// The operator's questions.
pub mod failures;
pub mod hold;
pub mod queues;
pub mod why;

// Who asks, and what they did.
pub mod access;
pub mod deeds;

// The edges.
pub mod cli;
pub mod config;
pub mod database;
pub mod models;
pub mod photo_store;
pub mod progress;
pub mod rehearsal;
pub mod serve; // HTTP: the API and the pages
pub mod drill;
pub mod services;
pub mod telemetry;
pub mod traces;
pub mod wake;
