//! What Redis is for: wake-ups and live progress. Without it everything works, only later.

pub mod progress;
pub mod wake;
