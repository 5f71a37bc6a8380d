//! What waits, and why it does not run: photos are enqueued, claimed with a credit each, held, failed, and asked about.

pub mod claim;
pub mod enqueue;
pub mod failures;
pub mod holds;
pub mod runs;
pub mod status;
pub mod why;
