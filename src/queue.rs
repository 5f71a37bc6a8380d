//! The queues: photos are enqueued, and claimed for one credit each. A person can hold a queue,
//! retry failed photos, and ask why a photo does not run.

pub mod claim;
pub mod enqueue;
pub mod failures;
pub mod follow_ups;
pub mod holds;
pub mod overview;
pub mod pulse;
pub mod retry;
pub mod runs;
pub mod schedules;
pub mod skips;
pub mod status;
pub mod timeline;
pub mod totals;
pub mod undo;
pub mod why;
