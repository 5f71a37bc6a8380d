//! Private PostgreSQL and Redis servers for the demo, tests and benchmarks; and the drill, which
//! makes them fail.

pub mod drill;
pub mod services;
