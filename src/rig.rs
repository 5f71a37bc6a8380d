//! Private PostgreSQL and Redis servers for the demo, tests and benchmarks, and the drill that kills them.

pub mod drill;
pub mod services;
