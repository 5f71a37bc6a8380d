//! Wake-ups and live progress over Redis. Without Redis everything works, but with a delay.

pub mod progress;
pub mod wake;
