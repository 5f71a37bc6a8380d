//! Every promise, as a sentence, against a real PostgreSQL, a real Redis and real models.

#![allow(unreachable_pub, reason = "the words of the tests are for all of them")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_methods, reason = "a child process gets the PATH of its parent")]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a closure names what it looks at")]

mod support;

mod access;
mod alerts;
mod api_docs;
mod architecture;
mod archive;
mod audit;
mod auto_top_up;
mod books;
mod changes;
mod chain;
mod chart;
mod cli;
mod clock;
mod commands;
mod compose;
mod contention;
mod corrections;
mod deployment;
mod doctor;
mod drill;
mod duplicates;
mod erasures;
mod event_pages;
mod every_page;
mod eyes;
mod failover;
mod find;
mod follow_ups;
mod following;
mod forecast;
mod gate;
mod history;
mod intake;
mod interleave;
mod ledger;
mod live;
mod mail;
mod managed;
mod model;
mod operator;
mod outages;
mod own_work;
mod paces;
mod pages;
mod payments;
mod pause;
mod photo_store;
mod photos;
mod pipelines;
mod plans;
mod pool;
mod pooler;
mod probes;
mod purchases;
mod reconcile;
mod reconsider;
mod repeats;
mod restored;
mod runs;
mod schedules;
mod schema;
mod search;
mod serve;
mod shares;
mod settle;
mod staff;
mod store_logins;
mod statement_files;
mod spending;
mod tables;
mod timeline;
mod top_ups;
mod traces;
mod transport;
mod undecided;
mod upgrade;
mod uploads;
mod webhooks;
mod worker;
