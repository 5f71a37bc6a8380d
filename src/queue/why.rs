//! Explains why a photo, an event or an organisation does not go on: a chain of causes, in the
//! order in which they must be removed, and the one action that helps.

mod answer;
mod of_photo;
mod of_queues;
mod of_workers;

pub use answer::{Cause, Remedy, Why};
pub use of_photo::photo;
pub use of_queues::{event, organisation};
