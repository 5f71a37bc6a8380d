//! Organisations, their events, the photos of the events, and the findings on these photos.

#[cfg(feature = "vision")]
pub mod archive;
pub mod away;
pub mod corrections;
pub mod erasures;
pub mod events;
pub mod finders;
pub mod findings;
pub mod key;
pub mod organisations;
#[cfg(feature = "vision")]
pub mod photo_store;
pub mod photos;
pub mod quality;
#[cfg(feature = "vision")]
pub mod reconsider;
#[cfg(feature = "vision")]
pub mod search;
pub mod start_list;
pub mod uploads;
