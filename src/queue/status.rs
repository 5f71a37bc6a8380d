//! The state of the queues, for lists and pages.

mod listing;
mod queue;
mod read;

pub use listing::{Filter, Place, Sort, list};
pub use queue::{Queue, State};
pub use read::{of_event, with_numbers};
