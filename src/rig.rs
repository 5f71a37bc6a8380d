//! The rig: what the demo, tests, benchmarks and drills run on. `services` starts private
//! PostgreSQL and Redis servers; `drill` makes them and the workers fail.

pub mod drill;
pub mod services;
