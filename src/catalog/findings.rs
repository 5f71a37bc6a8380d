//! Writes findings to the database and reads them. The photo's ID is the key: writing the findings
//! of a photo twice has the same result as writing them once.

#[cfg(feature = "vision")]
pub(crate) mod embeddings;
mod kinds;
mod results;
#[cfg(feature = "vision")]
mod write;

#[cfg(feature = "vision")]
pub use kinds::Content;
pub use kinds::Findings;
pub use results::{Found, of_event};
#[cfg(feature = "vision")]
pub(crate) use write::write;

/// Without the work on photos there are no findings to write.
#[cfg(not(feature = "vision"))]
pub(crate) fn write(
    _: &mut sqlx::PgConnection,
    _: crate::queue::claim::Incarnation,
    _: &[(crate::ids::JobId, &Findings)],
) -> impl Future<Output = sqlx::Result<()>> {
    std::future::ready(Ok(()))
}
