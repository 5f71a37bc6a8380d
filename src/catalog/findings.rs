//! Writes findings to the database and reads them. The photo's ID is the key: writing the findings
//! of a photo twice has the same result as writing them once.

mod columns;
mod kinds;
mod results;
mod write;

pub use kinds::Findings;
pub use results::{Found, of_event};
pub(crate) use write::write;
