//! Organisations, their events, the photos of the events, and the findings on these photos.

pub mod events;
pub mod findings;
pub mod organisations;
pub mod photo_store;
pub mod photos;
pub mod search;
pub mod start_list;
