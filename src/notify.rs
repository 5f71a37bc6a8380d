//! Wake-ups and live progress over Redis. Without Redis everything works, but with a delay.

mod channel;
pub mod progress;
pub mod wake;
