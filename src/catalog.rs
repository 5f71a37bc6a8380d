//! Organisations, their events, the events' photos, and what was seen on them.

pub mod events;
pub mod findings;
pub mod organisations;
pub mod photo_store;
pub mod photos;
pub mod search;
pub mod start_list;
